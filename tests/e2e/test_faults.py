"""What happens when something breaks: a stop with requests in flight, Ctrl-C, a router that dies."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import Ended, Network, assert_complete, locust_command, wait_for

from loadtest.traffic.profile import load_profile

pytestmark = pytest.mark.long
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


def slow_profile(folder: Path, tokens: int) -> str:
    """Ten seconds of arrivals whose answers take much longer than that."""
    text = load_profile("smoke").text
    text = text.replace('{ dist = "uniform", min = 4, max = 12 }', f'{{ dist = "fixed", value = {tokens} }}')
    path = folder / "slow.toml"
    path.write_text(text.replace("timeout_s = 15.0", "timeout_s = 120.0").replace("stream = false", "stream = true"))
    return str(path)


def test_stop_without_a_drain_cancels_what_is_in_flight(network: Network, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    profile = slow_profile(tmp_path, tokens=4000)
    options = ("--headless", "--processes", "2", "--profile", profile, "-t", "8s", "-s", "0", "--host", network.url)
    with started(*options, runs_dir=runs_dir) as process:
        result = end(process, runs_dir)
    assert result.code in (0, 3, 4)
    assert_complete(result, workers=2)
    outcomes = Counter(result.rows()["outcome"].to_pylist())
    assert outcomes["cancelled"] > 0 and not outcomes["lost"]
    cancelled = [row for row in result.rows().to_pylist() if row["outcome"] == "cancelled"]
    assert any(row["content_chunks"] > 0 for row in cancelled), "what had arrived by then is kept"


@pytest.mark.parametrize("mode", ["standalone", "distributed"])
def test_ctrl_c_leaves_a_complete_run_folder(network: Network, tmp_path: Path, mode: str) -> None:
    runs_dir = tmp_path / "runs"
    processes = ("--processes", "2") if mode == "distributed" else ()
    options = ("--headless", *processes, "--profile", "demo", "-u", "100", "--host", network.url)
    with started(*options, runs_dir=runs_dir) as process:
        wait_for("the first rows", lambda: rows_stored(runs_dir))
        process.send_signal(signal.SIGINT)
        result = end(process, runs_dir)
    assert result.code in (0, 3, 4)
    assert_complete(result, workers=2 if mode == "distributed" else 1)
    assert result.manifest()["stopped_early_s"] is not None


def test_a_router_that_dies_is_counted_not_fatal(network: Network, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    options = ("--headless", "--profile", "demo", "-t", "15s", "-u", "100", "--host", network.url)
    with started(*options, runs_dir=runs_dir) as process:
        wait_for("the first rows", lambda: rows_stored(runs_dir))
        network.stop()
        result = end(process, runs_dir)
    assert result.code in (3, 4), "the objective of good answers is missed"
    assert_complete(result, workers=1)
    assert result.summary()["account"]["outcomes"]["connect_error"] > 0
