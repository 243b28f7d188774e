"""A lock file with the id of the process that holds it: of two that start, one works.

The kernel's lock on the open file decides (it ends with its process, however that ends), and the file's text says who
holds it. So a file that a killed process has left is never mistaken for a process at work, nor is a process that has
got the same id since.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.clock import Deadline

TAKEN_S = 1.0  # whoever only looks (`holder_of`) is gone long before


class Held(Exception):
    """Somebody else holds the lock. One line for the user."""


@contextmanager
def hold(path: Path) -> Iterator[str]:
    """Hold the lock; yields "" or, when a process that has died had left it, a line that says so. Held: taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = Deadline(TAKEN_S)
        while not _try(descriptor, fcntl.LOCK_EX):
            if deadline.over():
                holder = _text(descriptor) or "unknown"
                raise Held(f"{path}: process {holder} is at work here; wait until it has ended")
            time.sleep(0.05)
        left_by = _text(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield f"{path}: left by process {left_by}, which has ended without cleaning up" if left_by else ""
        finally:
            # Emptied and not removed: another may have opened it meanwhile, and would lock a file nobody else finds.
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder_of(path: Path) -> str | None:
    """The id of the process that holds the lock, or None: nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _try(descriptor, fcntl.LOCK_SH) else _text(descriptor) or "unknown"
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
