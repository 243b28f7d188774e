"""One `locust` of the harness in the background: started, watched, and ended by its process id."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from conftest import Ended, locust_command

END_S = 60


@contextmanager
def started(*options: str, runs_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Locust, ended by process id whatever the test does."""
    process = subprocess.Popen(
        locust_command(runs_dir, *options),
        # A shell ignores Ctrl-C for what it runs in the background, and so would everything started from there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
            child.kill()
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=END_S)


def rows_stored(runs_dir: Path) -> bool:
    return any(runs_dir.glob("*/requests/part-*.parquet"))


def end(process: subprocess.Popen[str], runs_dir: Path) -> Ended:
    out, err = process.communicate(timeout=150)
    print(err[-6000:])
    return Ended(process.returncode, out, err, runs_dir)
