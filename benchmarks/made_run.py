"""A run folder of any number of turns, written from arrays a part at a time: what a long run leaves.

Every column of every table is filled as a collector and an observer fill it: parts of 20,000 turns, references and
hashes as long as real ones, a histogram of gaps in every good row (chunk lists are left out: a long run keeps them for
a sample, and neither join nor report reads them). One turn in ten is looked up (two nodes, one of which gave the text),
2 % fail, the first 5 % are warm-up. Both reputation series of 500 nodes are polled at a fixed period.

    python benchmarks/made_run.py FOLDER --rows 1000000
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO)]

from loadtest.records import NodeSnapshot, RequestRecord, TaskRecord  # noqa: E402
from loadtest.runfolder import arrow_schema, write_manifest, write_table  # noqa: E402

NODES, WORKERS, PART_ROWS, LOOKED_UP_EVERY = 500, 4, 20_000, 10
RUN = "20261125T140000Z-made"
T0_NS, WALL_MINUS_MONO_NS = 5_000_000_000_000, 1_790_000_000_123_456_789
SECOND_NS = 1_000_000_000
GAPS = 16  # distinct gaps of an answer
PERSONAS = ("quick-question", "long-context", "code-help", "role-play", "chat-de", "chat-short", "agent", "desktop-app")
TARGETS = ("north", "south")

Ints = npt.NDArray[np.int64]


def write_run(run: Path, rows: int, *, turns_per_s: float = 1000.0, poll_s: float = 60.0) -> None:
    """Write the folder; the same arguments give the same rows."""
    random = np.random.default_rng(7)
    names = pa.array([f"0x{random.integers(2**63):040x}" for _ in range(NODES)])
    speed = random.lognormal(0, 0.5, NODES)
    outcomes: dict[str, int] = {}
    for first in range(0, rows, PART_ROWS):
        row = np.arange(first, min(first + PART_ROWS, rows))
        requests, tasks = _part(row, rows, turns_per_s, names, speed, random)
        write_table(run / "requests" / f"rows-{first:012d}.parquet", requests)
        write_table(run / "tasks" / f"rows-{first:012d}.parquet", tasks)
        for each in pc.value_counts(requests["outcome"]).to_pylist():
            outcomes[each["values"]] = outcomes.get(each["values"], 0) + each["counts"]
    polls = np.arange(0, rows / turns_per_s, poll_s)
    for first in range(0, len(polls), 200):
        write_table(run / "snapshots" / f"polls-{first:08d}.parquet", _polls(polls[first : first + 200], names, random))
    write_manifest(run, _manifest(rows, turns_per_s, poll_s, outcomes))


def _part(
    row: Ints, rows: int, turns_per_s: float, names: pa.Array, speed: npt.NDArray[Any], random: np.random.Generator
) -> tuple[pa.Table, pa.Table]:
    n = len(row)
    good = random.random(n) >= 0.02
    node = random.integers(0, NODES, n)
    arrival, turn, session = row // 3, row % 3, arrival_session(row // 3)
    scheduled = T0_NS + (row * (SECOND_NS / turns_per_s)).astype(np.int64)
    sent = scheduled + random.integers(50_000, 1_500_000, n)
    ttft = (speed[node] * random.lognormal(19.0, 0.5, n)).astype(np.int64)
    tokens = random.integers(20, 400, n)
    first = sent + ttft
    last = first + (tokens * speed[node] * random.lognormal(16.8, 0.3, n)).astype(np.int64)
    texts, reference = _hashes(n, random), _joined(RUN, arrival, turn)
    ids = pa.array(row).cast(pa.string())
    failed = ~good
    done = np.where(good, last + 100_000, sent + 120 * SECOND_NS)
    opened = turn == 0
    gaps = 700 + random.integers(0, 12, n)[:, None] + np.arange(GAPS) * 7
    counts = np.maximum(1, tokens[:, None] // GAPS + np.zeros(GAPS, dtype=np.int64))
    given: dict[str, Any] = {
        "run": RUN,
        "worker": row % WORKERS,
        "seq": row // WORKERS,
        "arrival": arrival,
        "conversation": _joined("c", arrival, None),
        "turn": turn,
        "turns_planned": 3,
        "persona": pa.array(PERSONAS).take(pa.array(arrival % len(PERSONAS))),
        "target": pa.array(TARGETS).take(pa.array(arrival % 2)),
        "route": "cortensor",
        "model": "default",
        "session": pa.array(session).cast(pa.string()),
        "client_reference": reference,
        "phase": pa.array(["warmup", "measure"]).take(pa.array((row >= rows // 20).astype(np.int8))),
        "scheduled_ns": scheduled,
        "prompt_tokens_planned": random.integers(10, 4000, n),
        "output_tokens_max": tokens + 50,
        "stream": True,
        "outcome": pa.array(["router_timeout", "ok"]).take(pa.array(good.astype(np.int8))),
        "error_kind": pa.array(["nginx_504", ""]).take(pa.array(good.astype(np.int8))),
        "error_text": pa.array(["504 Gateway Time-out", ""]).take(pa.array(good.astype(np.int8))),
        "http_status": np.where(good, 200, 504),
        "finish_reason": _where(pa.array(["length"] * n), good),
        "stream_end": pa.array(["cut", "done_marker"]).take(pa.array(good.astype(np.int8))),
        "counted_tokens": pa.array(tokens, mask=failed),
        "bytes_sent": random.integers(500, 20_000, n),
        "bytes_received": random.integers(2_000, 90_000, n),
        "text_sha256": _where(texts, good),
        "task_id": ids,
        "connecting_ns": pa.array(sent - 300_000, mask=~opened),
        "connected_ns": pa.array(sent - 100_000, mask=~opened),
        "sent_ns": sent,
        "sent_last_ns": sent + 20_000,
        "headers_ns": pa.array(sent + ttft // 2, mask=failed),
        "first_chunk_ns": pa.array(first, mask=failed),
        "first_content_ns": pa.array(first, mask=failed),
        "first_visible_ns": pa.array(first, mask=failed),
        "last_content_ns": pa.array(last, mask=failed),
        "done_ns": done,
        "clock_offset_ns": (row % WORKERS) * 1_000,
        "content_chunks": np.where(good, tokens, 0),
        "itl_keys": _lists(gaps, good),
        "itl_counts": _lists(counts, good),
        "connection_new": opened,
        "reads": tokens + 3,
        "reads_kernel": tokens + 2,
        "chunks_coalesced": tokens // 50,
        "first_content_bound_ns": pa.array(random.integers(50_000, 1_500_000, n), mask=failed),
        "arrival_bound_ns_p50": random.integers(50_000, 900_000, n),
        "arrival_bound_ns_max": random.integers(900_000, 3_000_000, n),
        "choice_chunks": np.where(good, tokens + 1, 0),
        "last_choice_ns": pa.array(last, mask=failed),
    }
    looked = np.flatnonzero(row % LOOKED_UP_EVERY == 0)
    other = (node[looked] + 1 + random.integers(0, NODES - 1, len(looked))) % NODES
    pairs = names.take(pa.array(np.stack([node[looked], other], axis=1).ravel()))
    answers = pa.concat_arrays([given["text_sha256"].take(pa.array(looked)), _hashes(len(looked), random)])
    answers = answers.fill_null("").take(pa.array(np.arange(2 * len(looked)).reshape(2, -1).T.ravel()))
    starts = pa.array(np.arange(0, 2 * len(looked) + 1, 2, dtype=np.int32))
    at_s = (done[looked] + WALL_MINUS_MONO_NS) // SECOND_NS
    nodes = pa.ListArray.from_arrays(starts, pairs)
    of_tasks = {
        **{name: pa.array(given[name]).take(pa.array(looked)) for name in ("target", "session", "task_id")},
        "client_reference": reference.take(pa.array(looked)),
        "looked_up_wall_ns": done[looked] + WALL_MINUS_MONO_NS + 2 * SECOND_NS,
        "complete": True,
        "status": 4,
        "created_s": at_s - 3,
        "finished_s": at_s,
        "assigned": nodes,
        "miners": nodes,
        "result_sha256": pa.ListArray.from_arrays(starts, answers),
    }
    return _table(RequestRecord, given, n), _table(TaskRecord, of_tasks, len(looked))


def arrival_session(arrival: Ints) -> Ints:
    """Ten sessions on each of the two targets; task ids count through all of them."""
    return arrival % 20


def _polls(polls_s: npt.NDArray[np.float64], names: pa.Array, random: np.random.Generator) -> pa.Table:
    """Both series of every node, in whole polls: lifetime counters that grow, and windows of a hundred entries."""
    tables = []
    observed = T0_NS + WALL_MINUS_MONO_NS + (polls_s[:, None] * SECOND_NS).astype(np.int64) + np.arange(NODES) * 1003
    nodes = names.take(pa.array(np.tile(np.arange(NODES), len(polls_s))))
    n = observed.size
    counter = np.repeat(1000 + (polls_s / 60).astype(np.int64), NODES)
    share = np.tile(0.7 + 0.3 * np.arange(NODES) / NODES, len(polls_s))
    board = {"source": "leaderboard", "precommit_counter": counter, "commit_counter": counter}
    board |= {f"{stage}_points": (counter * share).astype(np.int64) for stage in ("precommit", "commit")}
    series: dict[str, Any] = {"source": "session-reputation", "precommit_all": 100, "commit_all": 100}
    series |= {f"{stage}_success": random.integers(60, 101, n) for stage in ("precommit", "commit")}
    for given in (board, series):
        given |= {"node": nodes, "node_as_seen": nodes, "observed_wall_ns": observed.ravel()}
        tables.append(_table(NodeSnapshot, given, n))
    return pa.concat_tables(tables)


def _table(record: Any, given: dict[str, Any], n: int) -> pa.Table:
    """The columns by the record's schema; a single value fills its column, a column that is not given is empty."""
    schema = arrow_schema(record)
    defaults: dict[str, Any] = {"error": "", "assigned": [], "client_reference": ""}
    columns = []
    for field in schema:
        value = given.get(field.name, defaults.get(field.name))
        if isinstance(value, (pa.Array, np.ndarray)):
            columns.append(pa.array(value).cast(field.type))
        elif value is None and not field.nullable:
            columns.append(_zeros(field.type, n))
        else:
            columns.append(pa.repeat(pa.scalar(value, type=field.type), n))
    return pa.table(columns, schema=schema)


def _zeros(kind: pa.DataType, n: int) -> pa.Array:
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], type=kind.value_type))
    return pa.repeat(pa.scalar("" if pa.types.is_string(kind) else 0).cast(kind), n)


def _lists(values: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]) -> pa.Array:
    sizes = np.where(kept, values.shape[1], 0)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[kept].ravel()))


def _joined(start: str, first: Ints, second: Ints | None) -> pa.Array:
    parts = [pa.array(first).cast(pa.string())] + ([] if second is None else [pa.array(second).cast(pa.string())])
    return pc.binary_join_element_wise(start, *parts, "" if second is None else ".")


def _hashes(n: int, random: np.random.Generator) -> pa.Array:
    digits = random.bytes(32 * n).hex().encode()
    offsets = np.arange(0, 64 * n + 1, 64, dtype=np.int32)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(digits))


def _where(values: pa.Array, kept: npt.NDArray[np.bool_]) -> pa.Array:
    return pc.if_else(pa.array(kept), values, pa.scalar(None, type=values.type))


def _manifest(rows: int, turns_per_s: float, poll_s: float, outcomes: dict[str, int]) -> dict[str, Any]:
    seconds = rows / turns_per_s
    worker = {"host": "h", "pid": 1, "clock_offset_ns": 0, "clock_bound_ns": 50_000, "cpu_share_max": 0.4}
    worker |= {"loop_overshoot_ms_p99": 1.5, "lost": False, "rows_overflowed": 0}
    target = {"route": "cortensor", "model": "", "stream": True}
    return {
        **{"schema_version": 1, "state": "recorded", "run": RUN, "seed": 1, "mode": "open", "users": 10_000},
        "started_wall_ns": T0_NS + WALL_MINUS_MONO_NS - 5 * SECOND_NS,
        "profile": {"name": "made", "source": "made", "hash": "0123456789abcdef", "text": ""},
        **{"encoding": "cl100k_base", "time_scale": 1.0, "history": "scripted", "trace": None, "t0_ns": T0_NS},
        **{"offered_s": seconds, "warmup_s": seconds / 20, "stopped_early_s": None},
        "clock": {"wall_minus_mono_ns": WALL_MINUS_MONO_NS, "bound_ns": 1000},
        "workers": [{"worker": each, **worker} for each in range(WORKERS)],
        "workers_expected": WORKERS,
        "targets": [{"name": name, "url": f"http://127.0.0.1:{5010 + i}", **target} for i, name in enumerate(TARGETS)],
        "host": "http://127.0.0.1:5010",
        "slos": [{"metric": "ttft_ms_p95", "limit": 2000, "kind": "max"}],
        "goodput": {"ttft_ms": 2000, "e2e_ms": 60_000},
        "observe": {"poll_s": poll_s, "grace_s": 2.0, "lookup_share_max": 0.1, "lookup_deadline_s": 30.0},
        "observed": True,
        "ledger": {"planned_turns": rows, "rows": rows, "outcomes": outcomes},
        "versions": {"python": "3.11"},
        "command": "locust",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns-per-s", type=float, default=1000.0)
    parser.add_argument("--poll-s", type=float, default=60.0)
    arguments = parser.parse_args()
    write_run(arguments.folder, arguments.rows, turns_per_s=arguments.turns_per_s, poll_s=arguments.poll_s)


if __name__ == "__main__":
    main()
