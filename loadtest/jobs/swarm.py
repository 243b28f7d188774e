"""Starts a swarm of one machine: a Locust master and its workers as processes of their own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.processes import end

WORKERS_CONNECT_S = 60
WORKER_END_S = 15


def locustfile() -> Path:
    """Our locustfile: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    beside = package.parent / "locustfile.py"
    return beside if beside.exists() else package / "locustfile.py"


def run_swarm(profile: str, host: str, workers: int, runs_dir: Path, run_id: str, options: Sequence[str]) -> int:
    """Run a headless swarm to its end and return the master's exit code. Its log lines go to standard error."""
    port = free_port()
    locust = [sys.executable, "-m", "locust", "-f", str(locustfile())]
    command = [*locust, "--headless", "--master", "--master-bind-port", str(port), "--only-summary"]
    command += ["--expect-workers", str(workers), "--expect-workers-max-wait", str(WORKERS_CONNECT_S)]
    command += ["--profile", profile, "--host", host, "--runs-dir", str(runs_dir), "--run-id", run_id, *options]
    # Locust's tables go to a file: the caller prints one of its own from the summary.
    command += ["--json-file", str(runs_dir / run_id / "locust")]
    master = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(workers):
            command = [*locust, "--worker", "--master-port", str(port), "--loglevel", "WARNING"]
            command += ["--runs-dir", str(runs_dir)]
            started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL))
        return master.wait()
    finally:
        # Workers end by themselves soon after their master.
        for process in [master, *started]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=WORKER_END_S)
            end(process, WORKER_END_S)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
