"""Nothing of a connection stays behind, however it ended."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import psutil
import pytest
from conftest import Running, launched
from test_simulator_stream import request

from loadtest.clock import Deadline

THREADS, ROUNDS = 20, 60
FAULTS = ("connection-reset=0.2", "reset-before-headers=0.1", "cut-stream=0.2", "gzip=0.2", "html-200=0.1")


def use(running: Running, number: int) -> None:
    """Ask on fresh connections; leave every third one in the middle of its answer."""
    for round_ in range(ROUNDS):
        body = {"prompt": "x", "max_tokens": 20, "stream": round_ % 2 == 0, "client_reference": f"{number}.{round_}"}
        with running.connect() as client:
            client.sendall(request("/api/v1/completions/11", body, "Connection: close"))
            try:
                while client.recv(65536) and round_ % 3:
                    pass
            except ConnectionResetError:
                continue


@pytest.mark.long
def test_descriptors_and_memory_come_back(tmp_path: Path) -> None:
    options = [option for fault in FAULTS for option in ("--fault", fault)]
    with launched(tmp_path, "--seed", "3", "--speed", "100", *options) as running:
        process = psutil.Process(running.process.pid)
        before = process.num_fds()
        sizes = []
        for _ in range(3):
            threads = [threading.Thread(target=use, args=(running, number)) for number in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            deadline = Deadline(10)
            while process.num_fds() > before and not deadline.over():
                with socket.create_connection(("127.0.0.1", running.port), timeout=5):
                    pass
            assert process.num_fds() <= before + 1  # the connection just closed may not be noticed yet
            sizes.append(process.memory_info().rss)
        assert running.stop() == 0
        assert len(running.truth_rows()) == 3 * THREADS * ROUNDS
    # 1,200 tasks are kept in each round by design, some 2 KB each; a connection left behind is 64 KB and more.
    assert sizes[2] - sizes[1] < 20 * 2**20
