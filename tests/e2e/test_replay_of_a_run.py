"""A run replayed from its own folder: the same requests at the same instants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ended, Network, assert_complete, ended, locust_command

from loadtest.traffic.replay import Trace, TraceError


def test_a_run_folder_is_a_trace(network: Network, locust: Callable[..., Ended], tmp_path: Path) -> None:
    first = locust("--headless", "--profile", "smoke", "-t", "4s", "--host", network.url, "--no-observe")
    offered = [row for row in first.rows().to_pylist() if row["outcome"] != "not_reached"]
    trace = Trace.load(first.run)
    t0_ns = first.manifest()["t0_ns"]
    due_us = sorted((row["scheduled_ns"] - t0_ns) // 1000 for row in offered)
    assert trace.due_us == [at_us - due_us[0] for at_us in due_us] and len(due_us) > 8
    assert sorted(trace.prompt_tokens) == sorted(row["prompt_tokens_planned"] for row in offered)
    assert len(Trace.load(first.run, limit=3)) == 3

    runs_dir = tmp_path / "again"
    options = ["--headless", "--profile", "replay-azure", "--host", network.url, "--no-observe"]
    second = ended(locust_command(runs_dir, *options, "--trace", str(first.run), "--speed", "2"), runs_dir)
    assert_complete(second, workers=1)
    assert second.manifest()["trace"]["rows"] == len(offered) == second.rows().num_rows
    again_us = sorted(
        (at_ns - second.manifest()["t0_ns"]) // 1000 for at_ns in second.rows()["scheduled_ns"].to_pylist()
    )
    assert again_us == [at_us // 2 for at_us in trace.due_us]


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        Trace.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
