"""Starts a swarm of one machine: a Locust master and its workers as processes of their own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest.processes import end, signals_go_to

WORKERS_CONNECT_S = 60
WORKER_END_S = 15


def locustfile() -> Path:
    """Our locustfile: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    beside = package.parent / "locustfile.py"
    return beside if beside.exists() else package / "locustfile.py"


def run_swarm(
    profile: str,
    host: str,
    workers: int,
    runs_dir: Path,
    run_id: str,
    options: Sequence[str],
    limit_s: float | None = None,
    on_signal: Callable[[int], object] = lambda _: None,
) -> int:
    """Run a headless swarm to its end and return the master's exit code. Its log lines go to standard error.

    After `limit_s` all its processes are ended and subprocess.TimeoutExpired is raised. Without it we wait: every wait
    of the master has a deadline of its own. `on_signal` is told the number of a signal that came to us meanwhile.
    """
    port = free_port()
    locust = [sys.executable, "-m", "locust", "-f", str(locustfile())]
    command = [*locust, "--headless", "--master", "--master-bind-port", str(port), "--only-summary"]
    command += ["--expect-workers", str(workers), "--expect-workers-max-wait", str(WORKERS_CONNECT_S)]
    command += ["--profile", profile, "--host", host, "--runs-dir", str(runs_dir), "--run-id", run_id, *options]
    # Locust's tables go to a file: the caller prints one of its own from the summary.
    command += ["--json-file", str(runs_dir / run_id / "locust")]
    master = _start(command)
    started: list[subprocess.Popen[bytes]] = []

    def forward(number: int) -> None:
        """To the master, which drains its workers, joins and reports; a second one cuts the drain."""
        on_signal(number)
        master.send_signal(number)

    try:
        with signals_go_to(forward):
            for _ in range(workers):
                command = [*locust, "--worker", "--master-port", str(port), "--loglevel", "WARNING"]
                started.append(_start([*command, "--runs-dir", str(runs_dir)]))
            return master.wait(timeout=limit_s)
    finally:
        if master.poll() is None:
            end(master, WORKER_END_S)
        # Workers end by themselves soon after their master.
        for process in [master, *started]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=WORKER_END_S)
            end(process, WORKER_END_S)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """In a process group of its own: a terminal's Ctrl-C comes to us, and from us to the master."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, process_group=0)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
