"""Small run folders written by hand: every instant is given in seconds or milliseconds of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from loadtest.analysis.batches import request_batches
from loadtest.analysis.frames import to_frame
from loadtest.analysis.snapshots import Snapshots
from loadtest.quantiles import LogHistogram
from loadtest.records import NodeSnapshot, RequestRecord, TaskRecord, TruthRecord
from loadtest.runfolder import table_of, write_manifest, write_part

T0_NS = 5_000_000_000_000  # master's monotonic clock at t0
WALL_MINUS_MONO_NS = 1_790_000_000_123_456_789
NODE_A, NODE_B, NODE_C = "0x" + "a" * 40, "0x" + "b" * 40, "0x" + "c" * 40


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def wall(run_s: float) -> int:
    """Unix nanoseconds of a second of the run."""
    return T0_NS + ns(run_s) + WALL_MINUS_MONO_NS


def turn(
    seq: int,
    at_s: float = 6.0,
    *,
    lag_ms: float = 1.0,
    ttft_ms: float | None = 100.0,
    e2e_ms: float | None = 500.0,
    chunks_ms: Sequence[float] = (),
    offset_ns: int = 0,
    **changes: Any,
) -> RequestRecord:
    """A good streamed answer that was due `at_s` into the run; `offset_ns` is its worker's clock offset."""
    scheduled = T0_NS + ns(at_s) - offset_ns
    sent = scheduled + ns(lag_ms / 1e3)
    chunks = tuple(ns(each / 1e3) for each in chunks_ms)
    gaps = LogHistogram()
    for before, after in pairwise(chunks):
        gaps.add(after - before)
    first = None if ttft_ms is None else sent + ns(ttft_ms / 1e3)
    done = None if e2e_ms is None else sent + ns(e2e_ms / 1e3)
    fields: dict[str, Any] = {
        "run": "r1",
        "worker": 0,
        "seq": seq,
        "arrival": seq,
        "conversation": f"c{seq}",
        "turn": 0,
        "turns_planned": 1,
        "persona": "quick",
        "target": "main",
        "route": "cortensor",
        "model": "default",
        "session": "7",
        "client_reference": f"r1-0-{seq}",
        "phase": "measure",
        "scheduled_ns": scheduled,
        "prompt_tokens_planned": 50,
        "output_tokens_max": 100,
        "stream": True,
        "outcome": "ok",
        "http_status": 200,
        "counted_tokens": 41,
        "text_sha256": f"text{seq}",
        "task_id": str(seq),
        "sent_ns": sent,
        "sent_last_ns": sent,
        "first_content_ns": first,
        "last_content_ns": done if first is not None else None,
        "done_ns": done,
        "clock_offset_ns": offset_ns,
        "content_chunks": len(chunks) or 41,
        "choice_chunks": len(chunks) or 41,
        "last_choice_ns": done if first is not None else None,
        "stream_end": "done_marker",
        "chunk_ns": chunks,
        "chunk_bound_ns": tuple(1000 for _ in chunks),
        "itl_keys": tuple(sorted(gaps.counts)),
        "itl_counts": tuple(gaps.counts[key] for key in sorted(gaps.counts)),
        "reads": 10,
        "reads_kernel": 9,
        "first_content_bound_ns": 200_000,
        "arrival_bound_ns_p50": 100_000,
        "arrival_bound_ns_max": 400_000,
    }
    return RequestRecord(**{**fields, **changes})


def failed(
    seq: int, outcome: str, at_s: float = 6.0, *, waited_ms: float | None = 1000.0, **changes: Any
) -> RequestRecord:
    """A turn that was sent and gave nothing; `waited_ms` until we knew."""
    quiet = {"counted_tokens": None, "text_sha256": None, "task_id": None, "content_chunks": 0, "http_status": None}
    return turn(seq, at_s, ttft_ms=None, e2e_ms=waited_ms, outcome=outcome, **{**quiet, **changes})


def unsent(seq: int, outcome: str, at_s: float = 6.0, **changes: Any) -> RequestRecord:
    """A turn that never left: dropped, not reached, or lost before it was sent."""
    nothing = {"sent_ns": None, "sent_last_ns": None, "first_content_bound_ns": None}
    bounds = {"arrival_bound_ns_p50": None, "arrival_bound_ns_max": None, "reads": 0, "reads_kernel": 0}
    return failed(seq, outcome, at_s, waited_ms=None, **{**nothing, **bounds, **changes})


def task(task_id: str, miners: Sequence[str] = (), texts: Sequence[str] = (), **changes: Any) -> TaskRecord:
    fields: dict[str, Any] = {
        "target": "main",
        "session": "7",
        "task_id": task_id,
        "client_reference": "",
        "looked_up_wall_ns": wall(60),
        "complete": True,
        "assigned": tuple(miners),
        "miners": tuple(miners),
        "result_sha256": tuple(texts),
    }
    return TaskRecord(**{**fields, **changes})


def board(node: str, at_s: float, percent: int = 90, **changes: Any) -> NodeSnapshot:
    """A leaderboard snapshot in which both success rates are `percent`."""
    counts = {"precommit_points": percent, "precommit_counter": 100, "commit_points": percent, "commit_counter": 100}
    fields: dict[str, Any] = {"source": "leaderboard", "node": node, "node_as_seen": node, **counts}
    return NodeSnapshot(**{**fields, "observed_wall_ns": wall(at_s), **changes})


def session_series(node: str, at_s: float, percent: int = 80) -> NodeSnapshot:
    counts = {"precommit_all": 100, "precommit_success": percent, "commit_all": 100, "commit_success": percent}
    return NodeSnapshot(
        source="session-reputation", node=node, node_as_seen=node, observed_wall_ns=wall(at_s), **counts
    )


def truth(row: RequestRecord, **changes: Any) -> TruthRecord:
    """What a simulator on the same machine saw: 50 us later, at the instants of the row otherwise."""
    assert row.sent_ns is not None and row.first_content_ns is not None and row.done_ns is not None
    received = row.sent_ns + 50_000
    fields: dict[str, Any] = {
        "client_reference": row.client_reference,
        "route": row.route,
        "session": row.session,
        "task_id": row.task_id,
        "received_ns": received,
        "first_written_ns": row.first_content_ns - 40_000,
        "done_ns": row.done_ns - 30_000,
        "chunk_ns": tuple(chunk - 90_000 for chunk in row.chunk_ns),
    }
    return TruthRecord(**{**fields, **changes})


def manifest(rows: Sequence[RequestRecord], **changes: Any) -> dict[str, Any]:
    """A manifest whose ledger agrees with the rows."""
    workers = sorted({row.worker for row in rows}) or [0]
    fields: dict[str, Any] = {
        "schema_version": 1,
        "state": "recorded",
        "run": "r1",
        "started_wall_ns": wall(-5),
        "profile": {"name": "demo", "source": "profiles/demo.toml", "hash": "0123456789abcdef", "text": ""},
        "seed": 1,
        "mode": "open",
        "encoding": "cl100k_base",
        "time_scale": 1.0,
        "history": "scripted",
        "offered_s": 35.0,
        "warmup_s": 5.0,
        "t0_ns": T0_NS,
        "stopped_early_s": None,
        "trace": None,
        "clock": {
            "wall_minus_mono_ns": WALL_MINUS_MONO_NS,
            "bound_ns": 1000,
            "wall_minus_mono_end_ns": WALL_MINUS_MONO_NS,
        },
        "workers": [
            {
                "worker": worker,
                "host": "h",
                "pid": 1,
                "clock_offset_ns": 0,
                "clock_bound_ns": 50_000,
                "cpu_share_max": 0.4,
                "loop_overshoot_ms_p99": 1.5,
                "lost": False,
                "rows_overflowed": 0,
            }
            for worker in workers
        ],
        "workers_expected": len(workers),
        "targets": [
            {"name": "main", "route": "cortensor", "url": "http://127.0.0.1:5010", "model": "", "stream": True}
        ],
        "host": "http://127.0.0.1:5010",
        "slos": [],
        "observe": {"poll_s": 5.0, "grace_s": 2.0, "lookup_share_max": 0.1, "lookup_deadline_s": 30.0},
        "ledger": {"planned_turns": len(rows), "rows": len(rows), "outcomes": dict(Counter(r.outcome for r in rows))},
        "users": 10,
        "versions": {"python": "3.11"},
        "command": "locust",
    }
    return {**fields, **changes}


def write_run(
    folder: Path,
    rows: Sequence[RequestRecord],
    tasks: Sequence[TaskRecord] = (),
    snapshots: Sequence[NodeSnapshot] = (),
    **changes: Any,
) -> Path:
    """A recorded run folder; requests in two parts, as a collector leaves them."""
    for old in folder.glob("*/*.parquet"):
        old.unlink()
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        if part:
            write_part(folder / "requests" / f"part-{number}.parquet", part, RequestRecord)
    if tasks:
        write_part(folder / "tasks" / "part-0.parquet", tasks, TaskRecord)
    if snapshots:
        write_part(folder / "snapshots" / "part-0.parquet", snapshots, NodeSnapshot)
    write_manifest(folder, manifest(rows, **changes))
    return folder


def frame(folder: Path, rows: Sequence[RequestRecord]) -> pd.DataFrame:
    """The rows as the analysis sees them: through a run folder and back."""
    return to_frame(pa.concat_tables(request_batches(write_run(folder, rows))))


def snapshots_of(rows: Sequence[NodeSnapshot]) -> Snapshots:
    """The rows as `read_snapshots` gives them."""
    return Snapshots.of([table_of(rows, NodeSnapshot)])
