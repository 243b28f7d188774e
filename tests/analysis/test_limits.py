"""What a run could not show is said, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis.join import join_run
from loadtest.analysis.summary import summarise
from loadtest.records import NodeSnapshot, RequestRecord, TaskRecord

from .run_factory import NODE_A, board, failed, session_series, task, turn, write_run


def limits(
    folder: Path,
    rows: list[RequestRecord] | None = None,
    tasks: list[TaskRecord] | None = None,
    snapshots: list[NodeSnapshot] | None = None,
    **changes: Any,
) -> list[str]:
    rows = [turn(i, 10) for i in range(4)] if rows is None else rows
    tasks = [task(str(i), [NODE_A], [f"text{i}"]) for i in range(len(rows))] if tasks is None else tasks
    snapshots = [board(NODE_A, 9), session_series(NODE_A, 9)] if snapshots is None else snapshots
    run = write_run(folder, rows, tasks, snapshots, **changes)
    join_run(run)
    found: list[str] = summarise(run)["limits"]
    return found


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"mode": "closed"}, "Closed mode"),
        ({"history": "scripted"}, "History is scripted"),
        ({"time_scale": 0.02}, "Think time was scaled by 0.02"),
        ({"targets": [{"name": "main"}]}, "One target only"),
        ({"stopped_early_s": 12.0}, "The run was stopped after 12 s of 35 s"),
        ({"rows": [turn(0, stream=False, ttft_ms=None)]}, "Nothing was streamed"),
        ({"rows": [turn(0), turn(1, ttft_ms=None)]}, "1 good answers came in one piece"),
        ({"rows": [turn(0), failed(1, "server_error")]}, "1 of 2 turns failed"),
        ({"rows": [turn(0), failed(1, "server_error")], "tasks": []}, "1 failed requests name no node"),
        ({"tasks": [task("0", [NODE_A], ["text0"])]}, "75 % of the sent requests have no task look-up"),
        ({"tasks": [task("0", [NODE_A], ["debris"])]}, "1 of 1 attributions are likely"),
        ({"snapshots": []}, "No request has a reputation"),
        ({"snapshots": [board(NODE_A, 9)]}, "No user-task reputation"),
    ],
)
def test_said_only_when_true(tmp_path: Path, changes: dict[str, Any], start: str) -> None:
    quiet: dict[str, Any] = {"history": "received", "targets": [{"name": "main"}, {"name": "other"}]}
    assert [each for each in limits(tmp_path / "said", **{**quiet, **changes}) if each.startswith(start)]
    assert not [each for each in limits(tmp_path / "quiet", **quiet) if each.startswith(start)]


def test_what_a_small_run_says(tmp_path: Path) -> None:
    said = limits(tmp_path)
    assert "p50 is withheld: 4 turns, and below 6 it has no interval." in said
    assert "1 nodes: a link of reputation and latency needs about 50." in said


def test_rough_between_an_interval_and_a_comparison(tmp_path: Path) -> None:
    said = limits(tmp_path, [turn(i, 10) for i in range(60)])
    assert "p95 is rough: 60 turns, and comparing it takes 300." in said


def test_checks_that_could_not_tell_say_what_they_would_need(tmp_path: Path) -> None:
    said = limits(tmp_path)
    checks = "shuffling, stickiness, starvation, choice by prompt length, choice by hour, choice by worker"
    start = f"Nothing is known of {checks}: it takes the nodes of each session"
    assert [each for each in said if each.startswith(start)]
