"""One cell of the table: one client, so many streams, a fresh server; and its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import zmq

from loadtest.clock import mono_ns
from stand import native
from stand.errors import CHUNKS, ITL_MS, TTFT_MS, Figures, figures_of
from stand.heard import Heard, of_c, of_ours, of_peer
from stand.task import Task, Told

BENCHMARKS = Path(__file__).resolve().parent.parent
# A little jitter, so that the streams do not beat in step, and lengths that differ, so that they do not end together.
PACE = ("--chunks", str(CHUNKS), "--ttft", str(TTFT_MS), "--itl", str(ITL_MS), "--jitter", "0.1", "--lenjit", "0.2")
AT_ONCE = ("--chunks", str(CHUNKS))
CLIENT_WAIT_S = 300.0
OVER_TLS = "-tls"  # ends the name of a client that is measured over TLS


class Cores(NamedTuple):
    server: int
    client: int


class Flow(NamedTuple):
    """One client's run against a server without delays."""

    chunks_per_s: float
    requests_per_s: float


def paced(client: str, streams: int, requests: int, cores: Cores) -> Figures:
    """Streams of 50 chunks/s, compared with the server's own log."""
    with tempfile.TemporaryDirectory(prefix="stand-") as name:
        folder = Path(name)
        authority, options = None, list(PACE)
        if client.endswith(OVER_TLS):
            authority, certificate = native.certificate(folder)
            options += ["--tls", str(certificate)]
        with native.serving(folder, cores.server, *options, "--logchunks") as server:
            busy_ns, began_ns = _busy(cores), mono_ns()
            told, heard = _run(client, folder, server.port, streams, requests, True, cores, authority)
            span_ns = mono_ns() - began_ns
            busy_ns = [after - before for before, after in zip(busy_ns, _busy(cores), strict=True)]
        served = native.read_truth(server.log)
        server_cpu_ns = int(server.totals["server_cpu_s"] * 1e9)
        own_ns = (server_cpu_ns, told.cpu_ns)
        others = [max(0.0, (busy - own) / span_ns) for busy, own in zip(busy_ns, own_ns, strict=True)]
        return figures_of(client, streams, told, heard, served, max(others))


def at_once(client: str, connections: int, requests: int, stream: bool, cores: Cores) -> Flow:
    """As fast as it goes: the server waits for nothing."""
    with tempfile.TemporaryDirectory(prefix="stand-") as name:
        with native.serving(Path(name), cores.server, *AT_ONCE) as server:
            told, heard = _run(client, Path(name), server.port, connections, requests, stream, cores)
        chunks = sum(len(each.arrivals_ns) for each in heard)
        seconds = told.elapsed_ns / 1e9
        return Flow(chunks / seconds, len(heard) / seconds)


def _busy(cores: Cores) -> list[int]:
    return [native.busy_ns(core) for core in cores]


def _run(
    client: str,
    folder: Path,
    port: int,
    streams: int,
    requests: int,
    stream: bool,
    cores: Cores,
    authority: Path | None = None,
) -> tuple[Told, list[Heard]]:
    """`authority` signs the server's certificate, when it speaks TLS."""
    if client == "c":
        return _run_c(folder, port, streams, requests, stream, cores)
    rows = folder / "rows"
    with _acknowledging() as collector:
        name, tls = client.removesuffix(OVER_TLS), authority is not None
        task = Task(name, cores.client, port, streams, requests, stream, str(rows), collector, tls)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)])}
        if authority is not None:
            environment["SSL_CERT_FILE"] = str(authority)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "stand.child", msgspec.json.encode(task).decode()],
            env=environment,
            stdout=subprocess.PIPE,
            timeout=CLIENT_WAIT_S,
            check=True,
        )
    told = msgspec.json.decode(done.stdout, type=Told)
    return told, of_ours(rows) if name == "ours" else of_peer(rows)


def _run_c(
    folder: Path, port: int, streams: int, requests: int, stream: bool, cores: Cores
) -> tuple[Told, list[Heard]]:
    prefix = folder / "c"
    done = subprocess.run(
        [
            str(native.build("cclient")),
            str(port),
            str(streams),
            str(streams * requests),
            str(int(stream)),
            "100",
            prefix,
        ],
        preexec_fn=lambda: native.pin(cores.client),
        stdout=subprocess.PIPE,
        timeout=CLIENT_WAIT_S,
        check=True,
    )
    said = json.loads(done.stdout)
    told = Told(int(said["cpu_s"] * 1e9), int(said["elapsed_s"] * 1e9), 0, said["peak_kb"], {})
    return told, of_c(prefix)


@contextmanager
def _acknowledging() -> Iterator[str]:
    """A collector that acknowledges every frame and stores none; it runs here, on the server's core."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    ending = threading.Event()

    def acknowledge() -> None:
        while not ending.is_set():
            if socket.poll(100):
                sender, _, name, offset, data = socket.recv_multipart()
                end = int.from_bytes(offset, "big") + len(data)
                socket.send_multipart([sender, b"A", name, end.to_bytes(8, "big")])

    thread = threading.Thread(target=acknowledge)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        ending.set()
        thread.join(10)
        context.destroy(linger=0)
