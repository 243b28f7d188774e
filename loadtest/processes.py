"""Processes of ours: ended by process id, with deadlines; and those that stand back behind the load."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NICENESS = 10


def stand_back() -> None:
    """Let whoever generates or answers load on this machine run first; called by processes that can wait.

    A parent that was started with real-time priority hands it on, and beside that niceness has no meaning: Parquet
    written so held the loop of a worker on the same core for up to 9 ms.
    """
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


@contextmanager
def signals_go_to(take: Callable[[int], object]) -> Iterator[None]:
    """Ctrl-C and SIGTERM go to `take`, by their number, and afterwards to whoever had them before."""

    def taken(number: int, _: FrameType | None) -> None:
        take(number)

    before = {number: signal.signal(number, taken) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(process: subprocess.Popen[Any], seconds: float) -> None:
    """Ask a process to end, wait so long, then kill it. Nothing happens to one that has ended."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=seconds)
