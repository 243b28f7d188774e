"""Simulators to talk to: real processes on loopback."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
START_S = 20.0
STOP_S = 20.0


@dataclass
class Running:
    """A simulator that listens."""

    process: subprocess.Popen[str]
    port: int
    truth: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def truth_rows(self) -> list[dict[str, Any]]:
        from loadtest.runfolder import read_truth

        rows: list[dict[str, Any]] = read_truth(self.truth).to_pylist()
        return rows


Start = Callable[..., Running]


def _launch(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Running:
    truth = folder / "truth.parquet"
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.simulator", "--port", "0", "--truth", str(truth), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    line = process.stdout.readline() if ready else ""
    if not line.startswith("simulator listening on http://127.0.0.1:"):
        process.kill()
        process.wait()
        pytest.fail(f"the simulator did not start: {line!r}")
    return Running(process, int(line.rsplit(":", 1)[1]), truth)


def _end(running: Running) -> None:
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait(STOP_S)
    if running.process.stdout is not None:
        running.process.stdout.close()


@contextmanager
def launched(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[Running]:
    """A simulator for as long as a test, or a module's tests, want it."""
    running = _launch(folder, *arguments, env=env)
    try:
        yield running
    finally:
        _end(running)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a simulator of one's own: `start("--seed", "3", env={...})`."""
    started: list[Running] = []

    def launch(*arguments: str, env: dict[str, str] | None = None) -> Running:
        folder = tmp_path / f"simulator-{len(started)}"
        folder.mkdir()
        started.append(_launch(folder, *arguments, env=env))
        return started[-1]

    yield launch
    for running in started:
        _end(running)


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A fast one shared by tests that only ask."""
    running = _launch(tmp_path_factory.mktemp("simulator"), "--seed", "3", "--nodes", "24", "--speed", "20")
    yield running
    _end(running)
