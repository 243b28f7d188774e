"""A run that is watched from outside: its start, and what the kernel says of its processes."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.clock import Deadline, mono_ns

READY_S = 90.0


@dataclass
class Look:
    """CPU seconds, resident memory and open descriptors of one process at one instant."""

    at_ns: int
    cpu_s: float
    rss_mb: float
    descriptors: int

    @classmethod
    def at(cls, process: psutil.Process) -> Look:
        times = process.cpu_times()
        rss_mb = process.memory_info().rss / 2**20
        return cls(mono_ns(), times.user + times.system, rss_mb, process.num_fds())

    def share_until(self, later: Look) -> float:
        """CPU used from this look to a later one, as a share of one core."""
        return (later.cpu_s - self.cpu_s) / ((later.at_ns - self.at_ns) / 1e9)


def start_of(runs: Path, process: subprocess.Popen[bytes]) -> int:
    """t0 of the run that `process` begins in the folder `runs`, monotonic ns, as soon as it is fixed."""
    deadline = Deadline(READY_S)
    while not deadline.over() and process.poll() is None:
        time.sleep(0.1)
        for path in runs.glob("*/manifest.json"):
            t0_ns = json.loads(path.read_text())["t0_ns"]
            if t0_ns is not None:
                return int(t0_ns)
    raise SystemExit("the run did not start")


def sleep_until(at_ns: int) -> None:
    time.sleep(max(0.0, (at_ns - mono_ns()) / 1e9))
