"""summary.json is what plain pandas makes of the rows: of folders with every way to fail."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from recomputed import differences

from loadtest.analysis.join import join_run
from loadtest.analysis.summary import summarise
from loadtest.records import RequestRecord

from .run_factory import NODE_A, NODE_B, failed, task, turn, unsent, write_run

SLOS = [
    {"metric": "ttft_ms_p95", "limit": 400, "kind": "max"},
    {"metric": "e2e_ms_p50", "limit": 900, "kind": "max"},
    {"metric": "ok_share", "limit": 0.9, "kind": "min"},
]


def any_turn(seq: int, draw: random.Random, *, whole: bool) -> RequestRecord:
    """One turn of a bad day: good or bad, streamed or not, early or late, of one of two workers and targets."""
    at_s, worker = draw.uniform(0, 36), draw.randrange(2)
    changes: dict[str, Any] = {
        **{"worker": worker, "offset_ns": worker * 7_000_000_000, "turn": draw.choice((0, 0, 1))},
        **{"persona": draw.choice(("quick", "coder")), "target": draw.choice(("main", "other"))},
        **{"phase": "warmup" if at_s < 5 else "measure", "arrival": seq // 2, "connection_new": draw.random() < 0.2},
    }
    if draw.random() < 0.15 and not whole:
        outcome = draw.choice(("client_timeout", "server_error", "truncated", "router_timeout", "lost"))
        return failed(seq, outcome, at_s, waited_ms=draw.uniform(1, 9000), **changes)
    if draw.random() < 0.1 and not whole:
        return unsent(seq, draw.choice(("dropped", "not_reached")), at_s, **changes)
    if draw.random() < 0.08 and not whole:
        kind = draw.choice(("after_s", "after_chunks"))
        changes |= {"outcome": "cancelled", "error_kind": kind, "http_status": 200}
    ttft = draw.lognormvariate(5.3, 0.6)
    streamed = draw.random() < 0.8
    chunks = [ttft]
    for _ in range(draw.randrange(0, 9)):
        chunks.append(chunks[-1] + draw.lognormvariate(2.5, 1.0))
    changes["usage_completion_tokens"] = draw.choice((None, 0, 0, 17))
    changes["counted_tokens"] = draw.choice((None, 1, 30))
    if not streamed:
        return turn(seq, at_s, ttft_ms=None, e2e_ms=ttft * 3, stream=False, lag_ms=draw.uniform(0, 5), **changes)
    lag = draw.uniform(0, 5)
    return turn(seq, at_s, ttft_ms=ttft, e2e_ms=chunks[-1] + 5, chunks_ms=chunks, lag_ms=lag, **changes)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("whole", [False, True])
def test_the_summary_is_what_the_rows_say(tmp_path: Path, seed: int, whole: bool) -> None:
    draw = random.Random(seed)
    rows = [any_turn(seq, draw, whole=whole) for seq in range(500)]
    tasks = [task(str(row.seq), [draw.choice((NODE_A, NODE_B))], [f"text{row.seq}"]) for row in rows[::2]]
    run = write_run(tmp_path, rows, tasks, slos=SLOS, goodput={"ttft_ms": 300.0, "tpot_ms": 30.0, "e2e_ms": 900.0})
    join_run(run)
    summarise(run)
    assert differences(run) == []


def test_a_run_that_was_cut_to_its_steady_part(tmp_path: Path) -> None:
    draw = random.Random(9)
    rows = []
    for seq in range(1000):
        t = seq / 2
        slow = 5.0 if t < 80 else 1.0
        phase = "warmup" if t < 20 else "measure"
        ttft = slow * 100 * draw.lognormvariate(0, 0.3)
        rows.append(turn(seq, t, ttft_ms=ttft, e2e_ms=ttft + 50, phase=phase, chunks_ms=(ttft, ttft + 9)))
    run = write_run(tmp_path, rows, offered_s=500.0, warmup_s=20.0)
    join_run(run)
    assert summarise(run)["steady"]["from_s"] >= 80
    assert differences(run) == []


def test_a_summary_that_is_wrong_in_one_place_is_found(tmp_path: Path) -> None:
    """The recomputation is no mirror: it sees one figure changed."""
    run = write_run(tmp_path, [turn(seq, 5 + seq / 20) for seq in range(400)])
    join_run(run)
    summary = summarise(run)
    summary["latency"]["ttft_ms"]["response"]["p95"] += 0.01
    (run / "summary.json").write_text(json.dumps(summary))
    (found,) = differences(run)
    assert found.startswith("latency.ttft_ms.response.p95")
