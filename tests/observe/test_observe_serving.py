"""What live.json tells of nodes and tasks: the right node, true sums, stages, and never too long a file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from made_rows import made_row

from loadtest import observed, runfolder
from loadtest.analysis.attribution import attribute
from loadtest.analysis.looked import lookups_of
from loadtest.clock import wall_ns
from loadtest.observe.lookups import RETRY_NS, Lookups
from loadtest.observe.parse import TaskFacts
from loadtest.observe.rows import COLUMNS, Row
from loadtest.observe.serving import Served, Serving, serving_node, stage_of
from loadtest.observe.store import LiveNodes, write_live
from loadtest.observed import Observed, ObservedNode, fitting
from loadtest.records import NodeSnapshot, RequestRecord, TaskRecord

MS = 1_000_000
S = 1_000 * MS
NODES = ("0xaa", "0xbb", "0xcc")
TEXTS = ("a" * 64, "b" * 64, "c" * 64)


def row(**fields: Any) -> Row:
    whole = Row("r", "router", "12", "5", TEXTS[0], 3_000 * MS, 0, "ok", "", True, 1_000 * MS, 1_200 * MS, 2_200 * MS)
    return whole._replace(counted_tokens=51, **fields)


def facts(**fields: Any) -> TaskFacts:
    whole: dict[str, Any] = {"task_id": "5", "complete": True, "status": 4, "created_s": 100, "finished_s": 113}
    whole |= {"assigned": ("0xaa",), "miners": ("0xaa",), "result_sha256": (TEXTS[0],)}
    return TaskFacts(**(whole | fields))


def drawn(rng: random.Random, i: int) -> tuple[RequestRecord, TaskFacts | None]:
    """A request of a random fate, and what its look-up told, if there was one."""
    assigned = tuple(rng.sample(NODES, rng.randint(0, 3)))
    miners = tuple(rng.sample(NODES, rng.randint(0, 3)))
    told = TaskFacts(
        task_id=str(i),
        complete=rng.random() < 0.6,
        status=None,
        created_s=None,
        finished_s=None,
        assigned=assigned,
        miners=miners,
        result_sha256=tuple(rng.choice(TEXTS) for _ in miners),
    )
    record = made_row(
        i,
        target="router",
        session="12",
        task_id=str(i),
        outcome=rng.choice(["ok", "ok", "ok", "truncated", "client_timeout"]),
        text_sha256=rng.choice([*TEXTS, None]),
        node_hint=rng.choice([None, None, "0xDD "]),
        sent_ns=1,
    )
    return record, told if rng.random() < 0.8 else None


def test_a_node_is_named_as_the_analysis_names_it(tmp_path: Path) -> None:
    rng = random.Random(8)
    cases = [drawn(rng, i) for i in range(2_000)]
    tasks = [
        TaskRecord(
            target=record.target,
            session=record.session or "",
            task_id=record.task_id or "",
            client_reference=record.client_reference,
            looked_up_wall_ns=1,
            complete=told.complete,
            assigned=told.assigned,
            miners=told.miners,
            result_sha256=told.result_sha256,
        )
        for record, told in cases
        if told is not None
    ]
    runfolder.write_part(tmp_path / "requests" / "1.parquet", [record for record, _ in cases], RequestRecord)
    runfolder.write_part(tmp_path / "tasks" / "1.parquet", tasks, TaskRecord)
    rows = attribute(
        runfolder.read_table(tmp_path, "requests"), lookups_of(runfolder.read_table(tmp_path, "tasks"))
    ).rows
    decided = [None if node != node else node for node in rows["node"]]
    ours = [serving_node(Row(*(getattr(record, name) for name in COLUMNS)), told) for record, told in cases]
    assert ours == decided
    assert len({*ours}) == 5, "every node, the hint and nobody occur"


def test_sums_of_one_node() -> None:
    serving = Serving()
    good = row()
    for each in (
        good,
        good._replace(first_content_ns=1_400 * MS),
        row(outcome="truncated"),
        row(outcome="cancelled", error_kind="after_chunks"),
        row(outcome="ok", stream=False, first_content_ns=None, last_content_ns=None),
    ):
        serving.came(each, will_be_looked_up=True)
        serving.decided(each, facts())
    serving.came(row(sent_ns=None, outcome="dropped"), will_be_looked_up=False)
    serving.came(row(node_hint=None), will_be_looked_up=False)
    served = serving.nodes["0xaa"]
    assert (serving.requests, serving.known, serving.looked_up) == (6, 5, 5)
    assert (served.requests, served.failures, served.ttft.total(), served.e2e.total()) == (5, 1, 2, 3)
    assert served.tokens_per_s() == pytest.approx(100 / 1.8, rel=1e-3)  # 50 and 50 tokens in 1.0 and 0.8 s
    assert served.e2e.quantile(0.5) == pytest.approx(2_000 * MS, rel=0.01)


def test_names_without_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.observe.serving.NODES_MAX", 10)
    serving = Serving()
    for i in range(50):
        serving.came(row(node_hint=f"node-{i}"), will_be_looked_up=False)
    assert (len(serving.nodes), serving.known, serving.requests) == (10, 10, 50)


@pytest.mark.parametrize(
    ("status", "finished_s", "stage"),
    [(0, None, 0), (3, None, 3), (4, None, 4), (None, 9, 4), (None, None, None), (7, None, None), (-1, None, None)],
)
def test_stages_are_the_documented_ones(status: int | None, finished_s: int | None, stage: int | None) -> None:
    assert stage_of(facts(status=status, finished_s=finished_s)) == stage


def test_tasks_move_through_the_stages_and_none_is_lost() -> None:
    def body(status: int, finished: bool = False) -> dict[str, Any]:
        told = {"assigned_miners": ["0xaa", "0xbb"], "results": {"data": ["hello"], "miners": ["0xaa"]}}
        return {**told, "status": status, "created_at": 100} | ({"finished_at": 117} if finished else {})

    found = Lookups(seed=7, share_max=1.0, grace_ns=10 * S, routes={"router": "cortensor"})
    found.offer([row(client_reference="a", task_id="1"), row(client_reference="b", task_id="2")], 0)
    now = 13 * S
    for status in (1, 2):
        lookup = found.take(now)
        assert lookup is not None
        assert found.answered(lookup, body(status), "", "", now, now) is None
        now += S // 10
    now += RETRY_NS
    lookup = found.take(now)
    assert lookup is not None and lookup.stage == 1
    assert found.answered(lookup, body(4, finished=True), "", "", now, now) is not None
    pipeline = found.pipeline(now)
    stages = {stage.stage: stage for stage in pipeline.stages}
    assert pipeline.tasks == 2 and [stages[name].reached for name in observed.STAGES] == [2, 2, 2, 1, 1]
    assert [stages[name].now for name in observed.STAGES] == [0, 0, 1, 0, 0]
    assert stages["precommitted"].oldest_s == pytest.approx((now - S) / S, abs=0.1)
    assert stages["acked"].seen_s_p50 == pytest.approx(12.0, rel=0.02)  # first seen at 13 s, sent at 1 s
    assert (pipeline.ended, pipeline.took_s_p50) == (1, pytest.approx(17, rel=0.01))
    found.give_up("the run is over", now)
    assert {stage.stage: stage.left for stage in found.pipeline(now).stages} == {
        "queued": 0, "acked": 0, "precommitted": 1, "committed": 0, "completed": 1
    }  # fmt: skip


def snapshot(node: str, good: int) -> NodeSnapshot:
    return NodeSnapshot(
        source="leaderboard",
        node=node,
        node_as_seen=node,
        observed_wall_ns=wall_ns(),
        precommit_points=good,
        precommit_counter=1000,
    )


@pytest.mark.parametrize("name", ["0x{:040x}", "<script>alert({})</script>" + "\u0000\u20ac" * 40])
@pytest.mark.parametrize("nodes", [500, 5_000])
def test_the_file_stays_small_and_says_what_it_leaves_out(tmp_path: Path, nodes: int, name: str) -> None:
    serving, live = Serving(), LiveNodes()
    live.add(snapshot(name.format(i), 100 + i % 900) for i in range(nodes))
    for i in range(nodes):
        serving.nodes[name.format(i)] = Served()
        for _ in range(i % 7 + (i == 3) * 50):
            serving.nodes[name.format(i)].take(row())
    table = live.table(serving, wall_ns())
    shown = fitting(table)
    write_live(
        tmp_path,
        Observed(
            schema_version=2,
            written_wall_ns=wall_ns(),
            state="running",
            nodes_known=len(table),
            nodes_left_out=len(table) - len(shown),
            nodes=shown,
        ),
    )
    size = (tmp_path / observed.FILE).stat().st_size
    print(f"{nodes} nodes: {size} bytes, {len(shown)} shown")
    assert size < observed.BYTES_MAX
    read = observed.read(tmp_path)
    assert read is not None and read.nodes == shown and read.nodes_left_out == nodes - len(shown)
    assert shown[0].node == name.format(3) and shown[0].requests == 53
    lowest = sorted(node.lowest_rate or 0 for node in table)[:20]
    assert sorted(node.lowest_rate or 0 for node in shown)[:20] == lowest, "those of the lowest reputation are there"
    if nodes == 500 and name.startswith("0x"):
        assert len(shown) >= 400


def test_a_file_of_another_version_or_none_is_nothing(tmp_path: Path) -> None:
    assert observed.read(tmp_path) is None
    for text in ('{"schema_version": 1, "written_wall_ns": 5, "state": "running"}', "{", '{"schema_version": "x"}'):
        (tmp_path / observed.FILE).write_text(text)
        assert observed.read(tmp_path) is None
    assert ObservedNode(node="x").lowest_rate is None
