"""The C programs: built with `cc` when their source is newer, pinned, started, stopped, and what they log."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

NATIVE = Path(__file__).resolve().parent.parent / "native"
STARTED_WAIT_S = 10.0
STOPPED_WAIT_S = 60.0

Instants = npt.NDArray[np.int64]


@dataclass(slots=True)
class Served:
    """One request as the server saw it, monotonic ns; each instant is the server's look just before its write."""

    received_ns: int
    first_ns: int
    last_ns: int
    chunk_ns: Instants


@dataclass(slots=True)
class Server:
    """A running server, and its log once it has been stopped."""

    port: int
    log: Path
    totals: dict[str, Any]


def build(name: str, *, tls: bool = False) -> Path:
    """The binary of `benchmarks/native/NAME.c`. CalledProcessError with the compiler's words when it does not build:
    with TLS it needs OpenSSL's headers (Debian's libssl-dev)."""
    source, binary = NATIVE / f"{name}.c", NATIVE / "build" / (f"{name}-tls" if tls else name)
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        binary.parent.mkdir(exist_ok=True)
        options = ["-DTLS", "-lssl", "-lcrypto"] if tls else []
        subprocess.run(["cc", "-O2", "-w", "-o", str(binary), str(source), "-lm", *options], check=True, timeout=120)
    return binary


def certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, certificate and key) for 127.0.0.1, signed by itself."""
    authority, key, both = folder / "ca.pem", folder / "key.pem", folder / "server.pem"
    asked = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=stand", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *asked, *named, "-keyout", str(key), "-out", str(authority)],
        check=True,
        timeout=60,
        capture_output=True,
    )
    both.write_text(authority.read_text() + key.read_text())
    return authority, both


def cores() -> tuple[int, int]:
    """The server's core (this process belongs there too) and the client's. Ask before anything is pinned."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pin(core: int) -> None:
    """Server and client have cores of their own, so that neither waits for the other."""
    os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def serving(folder: Path, core: int, *options: str) -> Iterator[Server]:
    """A fresh server on a free port of loopback; on leaving it is stopped and its log is written."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = Server(port, folder / "server", {})
    process = subprocess.Popen(
        [str(build("mocksse", tls="--tls" in options)), "--port", str(port), "--log", str(server.log), *options],
        preexec_fn=lambda: pin(core),
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for(port, process)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=STOPPED_WAIT_S)
    server.totals = json.loads(told)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(int(STARTED_WAIT_S * 100)):
        if process.poll() is not None:
            raise RuntimeError(f"mocksse ended with {process.returncode} on port {port}")
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    raise RuntimeError(f"mocksse does not listen on port {port} after {STARTED_WAIT_S:.0f} s")


def read_truth(log: Path) -> dict[str, Served]:
    """What the server served, by request id. Needs `--logchunks`."""
    pairs = np.fromfile(f"{log}.chunks", dtype=np.int64).reshape(-1, 2)
    by_request = split_by_first_column(pairs)
    served: dict[str, Served] = {}
    with Path(f"{log}.csv").open() as rows:
        for number, row in enumerate(csv.DictReader(rows)):
            chunks = by_request.get(number, pairs[:0, 1])
            served[row["id"]] = Served(int(row["t_req"]), int(row["t_first"]), int(row["t_last"]), chunks)
    return served


def split_by_first_column(pairs: Instants) -> dict[int, Instants]:
    """(request, instant) pairs in the order of events, as the instants of each request in that order."""
    order = np.argsort(pairs[:, 0], kind="stable")
    keys, starts = np.unique(pairs[order, 0], return_index=True)
    parts = np.split(pairs[order, 1], starts[1:])
    return {int(key): part for key, part in zip(keys, parts, strict=True)} if len(pairs) else {}


def busy_ns(core: int) -> int:
    """For how long a core has done anything at all, for whomever; what the hypervisor took from it included."""
    with Path("/proc/stat").open() as lines:
        fields = next(line.split() for line in lines if line.startswith(f"cpu{core} "))
    ticks = [int(field) for field in fields[1:9]]
    idle = ticks[3] + ticks[4]  # the latter waits for a disk
    return (sum(ticks) - idle) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
