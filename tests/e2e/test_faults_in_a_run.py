"""What happens when something breaks: a stop with requests in flight, Ctrl-C, a router that dies."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from conftest import Network, assert_complete, wait_for
from running import end, rows_stored, started

from loadtest.traffic.profile import load_profile

pytestmark = pytest.mark.long


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
