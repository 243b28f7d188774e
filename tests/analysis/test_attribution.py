"""Request to node: every source, every reason, and the one-to-many table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from loadtest.analysis.attribution import Attribution, attribute
from loadtest.analysis.batches import request_batches
from loadtest.analysis.looked import lookups_of
from loadtest.records import RequestRecord, TaskRecord
from loadtest.runfolder import read_table

from .run_factory import NODE_A, NODE_B, NODE_C, failed, task, turn, unsent, wall, write_run


def attributed(folder: Path, rows: Sequence[RequestRecord], tasks: Sequence[TaskRecord]) -> Attribution:
    run = write_run(folder, rows, tasks)
    found = attribute(pa.concat_tables(request_batches(run)), lookups_of(read_table(run, "tasks")))
    return Attribution(*(each.astype({"node": "str"}) for each in found))


def one(folder: Path, row: RequestRecord, *tasks: TaskRecord) -> dict[str, Any]:
    cells = attributed(folder, [row], tasks).rows.iloc[0]
    return {name: None if pd.isna(cells[name]) else cells[name] for name in cells.index}


def found(node: str, source: str, confidence: str) -> dict[str, Any]:
    return {"node": node, "node_source": source, "node_confidence": confidence, "unattributed_reason": None}


@pytest.mark.parametrize(
    ("row", "tasks", "node", "source", "confidence"),
    [
        (turn(1), [task("1", [NODE_A, NODE_B], ["other", "text1"])], NODE_B, "lookup_text", "high"),
        (turn(1), [task("1", [NODE_A], ["text1"])], NODE_A, "lookup_text", "high"),
        (turn(1), [task("1", [NODE_A], ["debris"])], NODE_A, "lookup_single", "medium"),
        (failed(1, "router_timeout", task_id="1"), [task("1", assigned=(NODE_C,))], NODE_C, "lookup_single", "medium"),
        # An incomplete task is enough when the text is there.
        (
            turn(1),
            [task("1", [NODE_A], ["text1"], assigned=(NODE_A, NODE_B), complete=False)],
            NODE_A,
            "lookup_text",
            "medium",
        ),
        # Only compared with some of the assigned: one that never committed may have given the same text.
        (turn(1), [task("1", [NODE_A], ["text1"], assigned=(NODE_A, NODE_B))], NODE_A, "lookup_text", "medium"),
        # All others gave another text: the one that never committed answered.
        (turn(1), [task("1", [NODE_A], ["x"], assigned=(NODE_B, NODE_A))], NODE_B, "lookup_rest", "medium"),
        # The same miner twice is one miner.
        (turn(1), [task("1", [NODE_A, NODE_A], ["text1", "text1"])], NODE_A, "lookup_text", "high"),
        (turn(1, node_hint=f" {NODE_B.upper()} "), [], NODE_B, "node_hint", "medium"),
        # Proof goes before a claim.
        (turn(1, node_hint=NODE_B), [task("1", [NODE_A], ["text1"])], NODE_A, "lookup_text", "high"),
        (turn(1, node_hint=NODE_B), [task("1", [NODE_A, NODE_C], ["x", "y"])], NODE_B, "node_hint", "medium"),
        # Addresses are lower case however they came.
        (turn(1), [task("1", [NODE_A.upper()], ["text1"])], NODE_A, "lookup_text", "high"),
        # Without a task id the reference finds the task.
        (
            turn(1, task_id=None),
            [task("99", [NODE_A], ["text1"], client_reference="r1-0-1")],
            NODE_A,
            "lookup_text",
            "high",
        ),
    ],
)
def test_sources(
    tmp_path: Path, row: RequestRecord, tasks: list[TaskRecord], node: str, source: str, confidence: str
) -> None:
    cells = one(tmp_path, row, *tasks)
    del cells["looked_up"]
    assert cells == found(node, source, confidence)


OTHER = task("500", [NODE_C], ["x"])


@pytest.mark.parametrize(
    ("row", "tasks", "reason"),
    [
        (unsent(1, "dropped"), [OTHER], "not sent"),
        (unsent(1, "not_reached"), [OTHER], "not sent"),
        (failed(1, "connect_error", sent_ns=None), [OTHER], "not sent"),
        (failed(1, "lost"), [OTHER], "lost with its worker"),
        (failed(1, "server_error"), [OTHER], "failed before a task existed"),
        (turn(1, task_id=None), [OTHER], "no task id"),
        (turn(1), [OTHER], "not looked up (outside the look-up share)"),
        (turn(1), [], "no task was looked up"),
        (turn(1), [task("1", error="HTTP 404", complete=False)], "look-up failed: HTTP 404"),
        (turn(1), [task("1", [NODE_A], ["x"], assigned=(NODE_A, NODE_B, NODE_C), complete=False)], "task incomplete"),
        (turn(1), [task("1", [], [], assigned=(NODE_A, NODE_B), complete=False)], "task incomplete"),
        (turn(1), [task("1", [NODE_A], ["x"], assigned=(), complete=False)], "task incomplete"),
        # The only result is another miner's: one of two that did not commit answered.
        (turn(1), [task("1", [NODE_A], ["x"], assigned=(NODE_A, NODE_B, NODE_C))], "no miner's text matches"),
        # A cut text equals nobody's, so it rules nobody out.
        (
            turn(1, outcome="truncated"),
            [task("1", [NODE_A], ["x"], assigned=(NODE_A, NODE_B))],
            "no miner's text matches",
        ),
        (turn(1), [task("1", [NODE_A, NODE_B], ["text1", "text1"])], "several miners gave the same text"),
        (turn(1), [task("1", [NODE_A, NODE_B], ["x", "y"])], "no miner's text matches"),
        (turn(1, text_sha256=None), [task("1", [NODE_A, NODE_B], ["x", "y"])], "no miner's text matches"),
    ],
)
def test_reasons(tmp_path: Path, row: RequestRecord, tasks: list[TaskRecord], reason: str) -> None:
    cells = one(tmp_path, row, *tasks)
    assert cells["unattributed_reason"] == reason
    assert cells["node"] is None and cells["node_source"] is None and cells["node_confidence"] is None


def test_task_ids_count_per_session_and_target(tmp_path: Path) -> None:
    rows = [turn(0, task_id="1", session="7"), turn(1, task_id="1", session="8"), turn(2, task_id="1", target="other")]
    tasks = [
        task("1", [NODE_A], ["text0"], session="7"),
        task("1", [NODE_B], ["text1"], session="8"),
        task("1", [NODE_C], ["text2"], target="other"),
    ]
    assert attributed(tmp_path, rows, tasks).rows["node"].tolist() == [NODE_A, NODE_B, NODE_C]


def test_of_several_look_ups_the_complete_one_counts(tmp_path: Path) -> None:
    both = [
        task("1", [NODE_A, NODE_B], ["text1", "x"], looked_up_wall_ns=wall(10)),
        task("1", complete=False, looked_up_wall_ns=wall(20)),
        task("1", error="timeout", looked_up_wall_ns=wall(30)),
    ]
    for order in (both, both[::-1]):
        assert one(tmp_path, turn(1), *order)["node"] == NODE_A


def test_every_row_has_a_node_or_a_reason_in_its_own_place(tmp_path: Path) -> None:
    rows = [turn(0), unsent(1, "dropped"), turn(2), failed(3, "empty", task_id="3"), turn(4)]
    tasks = [task("4", [NODE_A], ["text4"]), task("0", [NODE_B], ["text0"]), task("3", [NODE_C], [""])]
    cells = attributed(tmp_path, rows, tasks).rows
    assert cells["node"].fillna("-").tolist() == [NODE_B, "-", "-", NODE_C, NODE_A]
    assert (cells["node"].isna() == cells["unattributed_reason"].notna()).all()
    assert cells["looked_up"].tolist() == [True, False, False, True, True]


def test_one_to_many(tmp_path: Path) -> None:
    tasks = [task("1", [NODE_B, NODE_A], ["text1", "x"], assigned=(NODE_A.upper(), NODE_B, NODE_C))]
    miners = attributed(tmp_path, [turn(0, task_id=None), turn(1)], tasks).miners
    assert miners.values.tolist() == [
        [1, NODE_A, True, True, False],
        [1, NODE_B, True, True, True],
        [1, NODE_C, True, False, False],
    ]
    assert miners.columns.tolist() == ["request", "node", "assigned", "gave_result", "returned"]


def test_a_miner_named_twice_is_one(tmp_path: Path) -> None:
    """Assigned twice and without a result: still the only one that can have served."""
    cells = attributed(tmp_path, [failed(1, "router_timeout", task_id="1")], [task("1", assigned=(NODE_A, NODE_A))])
    assert cells.rows["node"].tolist() == [NODE_A] and len(cells.miners) == 1


def test_nothing_at_all(tmp_path: Path) -> None:
    nothing = attributed(tmp_path, [], [])
    assert len(nothing.rows) == 0 and len(nothing.miners) == 0
