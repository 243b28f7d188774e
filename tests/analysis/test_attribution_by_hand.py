"""The attribution of arrays against one request at a time, on rows and look-ups that hypothesis makes up."""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis.attribution import attribute
from loadtest.analysis.looked import lookups_of
from loadtest.records import RequestRecord, TaskRecord
from loadtest.runfolder import arrow_schema

from .run_factory import NODE_A, NODE_B, NODE_C, task, turn

FEW = ("target", "session", "outcome", "error_kind", "node_hint")
NODES = (NODE_A, NODE_B, NODE_C)
texts = st.sampled_from(["x", "y", ""])
requests = st.fixed_dictionaries(
    {
        "target": st.sampled_from(["main", "other"]),
        "session": st.sampled_from(["7", "8", None]),
        "task_id": st.sampled_from(["1", "2", "10", None]),
        "client_reference": st.sampled_from(["r-1", "r-2", "r-10"]),
        "text_sha256": st.none() | texts,
        "outcome": st.sampled_from(["ok", "ok", "server_error", "truncated", "dropped", "not_reached", "lost"]),
        "sent_ns": st.sampled_from([5, 5, None]),
        "node_hint": st.sampled_from([None, None, "", f" {NODE_B.upper()}\n", "0xnew"]),
    }
)
nodes = st.lists(st.sampled_from([*NODES, NODE_A.upper()]), max_size=3)


@st.composite
def lookups(draw: st.DrawFn) -> TaskRecord:
    miners = draw(nodes)
    return task(
        draw(st.sampled_from(["1", "2", "10"])),
        miners,
        draw(st.lists(texts, min_size=max(0, len(miners) - 1), max_size=len(miners))),
        target=draw(st.sampled_from(["main", "other"])),
        session=draw(st.sampled_from(["7", "8", "9"])),
        client_reference=draw(st.sampled_from(["", "r-1", "r-2", "r-3"])),
        assigned=tuple(draw(nodes)),
        complete=draw(st.booleans()),
        looked_up_wall_ns=draw(st.integers(0, 3)),
        error=draw(st.sampled_from(["", "", "HTTP 404", "HTTP 404 " + "z" * 100])),
    )


def found_by_hand(row: RequestRecord, tasks: list[TaskRecord]) -> TaskRecord | None:
    """By id, else by reference; the last complete one of those that told something."""
    if row.outcome in ("dropped", "not_reached"):
        return None
    by_id = [t for t in tasks if (t.target, t.session, t.task_id) == (row.target, row.session, row.task_id)]
    by_reference = [t for t in tasks if t.client_reference == row.client_reference and t.target == row.target]
    for named in (by_id, by_reference):
        if named:  # `max` takes the first of equals, and of equals the last stored counts
            return max(reversed(named), key=lambda t: (t.error == "", t.complete, t.looked_up_wall_ns))
    return None


def attributed_by_hand(row: RequestRecord, tasks: list[TaskRecord]) -> tuple[list[Any], list[list[Any]]]:
    found = found_by_hand(row, tasks)
    assigned = {node.lower() for node in found.assigned} if found else set()
    gave = {node.lower() for node in found.miners} if found else set()
    results = zip(found.miners, found.result_sha256, strict=False) if found else ()
    equal = {node.lower() for node, text in results if text == row.text_sha256}
    everyone, told = assigned | gave, row.outcome == "ok" and row.text_sha256 is not None
    hint = (row.node_hint or "").strip().lower()
    node = source = confidence = reason = None
    if len(equal) == 1:
        node, source = min(equal), "lookup_text"
        confidence = "high" if gave == everyone else "medium"
    elif found and len(everyone) == 1 and (found.complete or len(assigned) == 1):
        node, source, confidence = min(everyone), "lookup_single", "medium"
    elif told and not equal and len(assigned) > 1 and len(everyone - gave) == 1:
        node, source, confidence = min(everyone - gave), "lookup_rest", "medium"
    elif hint:
        node, source, confidence = hint, "node_hint", "medium"
    else:
        reason = reason_by_hand(row, found, len(equal), bool(tasks))
    miners = [[each, each in assigned, each in gave, each == node] for each in sorted(everyone)]
    return [node, source, confidence, reason, found is not None], miners


def reason_by_hand(row: RequestRecord, found: TaskRecord | None, equal: int, any_task: bool) -> str:
    if row.outcome == "lost":
        return "lost with its worker"
    if row.sent_ns is None:
        return "not sent"
    if found and found.error:
        return f"look-up failed: {found.error[:80]}"
    if found and equal > 1:
        return "several miners gave the same text"
    if found:
        return "no miner's text matches" if found.complete else "task incomplete"
    if row.task_id is None:
        return "no task id" if row.outcome == "ok" else "failed before a task existed"
    return "not looked up (outside the look-up share)" if any_task else "no task was looked up"


def table(record: type[msgspec.Struct], rows: list[Any], *, by_number: bool = False) -> pa.Table:
    """Rows as they are read: in chunks, text of which there is little by number."""
    parts = []
    for part in (rows[:2], rows[2:]):
        columns = {name: [getattr(row, name) for row in part] for name in arrow_schema(record).names}
        made = pa.table(columns, schema=arrow_schema(record))
        for name in FEW if by_number else ():
            place = made.schema.get_field_index(name)
            made = made.set_column(place, name, made[name].dictionary_encode())
        parts.append(made)
    return pa.concat_tables(parts)


@settings(max_examples=200, deadline=None)
@given(st.lists(requests, max_size=8), st.lists(lookups(), max_size=6), st.booleans())
def test_equals_one_request_at_a_time(changes: list[dict[str, Any]], tasks: list[TaskRecord], by_number: bool) -> None:
    rows = [turn(seq, **each) for seq, each in enumerate(changes)]
    found = attribute(table(RequestRecord, rows, by_number=by_number), lookups_of(table(TaskRecord, tasks)))
    by_hand = [attributed_by_hand(row, tasks) for row in rows]
    cells = [[None if pd.isna(cell) else cell for cell in row] for row in found.rows.values.tolist()]
    assert cells == [cells for cells, _ in by_hand]
    assert found.miners.values.tolist() == [[at, *miner] for at, (_, all_) in enumerate(by_hand) for miner in all_]
