"""What a master and its collector cost: the reports and rows of simulated workers, through the code a run uses.

Run: PYTHONPATH=. python benchmarks/master.py. Each of N workers sends a report every 3 s with the quantiles of its last
turns, as Locust packs it, and its rows as spool frames. CPU only, one process, no sockets: what ZeroMQ and Locust's own
tables cost comes on top. The reference of the ratio is `json.loads` of the same rows, in the same run.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import msgpack
import msgspec
from stand.rows import a_row

from loadtest import spool
from loadtest.clock import cpu_ns
from loadtest.collector.rows import RowStore
from loadtest.records import RequestRecord
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import Clerk
from loadtest.swarm.tally import Tally

WORKERS = (16, 64, 256)
ROUNDS = 20  # reports of each worker, one minute of a run
TURNS_PER_REPORT = 100  # of one worker in 3 s: 1,000 streams of 30 s
CHUNKS = 100
ROWS = 4_000
ROW_CHUNKS = (10, 100, 1_000)
REPORT_S = 3.0


def report(worker: int, tally: Tally, ended: int) -> dict[str, Any]:
    """As WorkerRun.figures gives it."""
    ledger = {
        "arrivals": ended,
        "planned_turns": ended + 1000,
        "started_turns": ended + 1000,
        "in_flight": 1000,
        "outcomes": {"ok": ended},
    }
    return {
        "worker": worker,
        "run": "r",
        "final": False,
        "host": f"machine-{worker}",
        "pid": 1000 + worker,
        "until_us": 0,
        "clock_offset_ns": 1000,
        "clock_bound_ns": 400_000,
        "cpu_share_max": 0.5,
        "loop_overshoot_ms_p99": 1.2,
        "ledger": ledger,
        "prompt_tokens": tally.prompt_tokens,
        "output_tokens": tally.output_tokens,
        "tokens": tally.tokens(),
        "live": tally.delta(),
        "in_flight": 1000,
        "in_flight_answering": 900,
        "in_flight_oldest_ns": 10**10,
        "connections": 900,
        "connections_opened": 1000,
        "overshoot_ns_p50": 50_000,
        "overshoot_ns_p99": 1_200_000,
        "overshoot_ns_max": 4_000_000,
        "rows_overflowed": 0,
        "rows_refused": 0,
        "rows_spooled": ended,
        "rows_sent": ended,
        "rows_acknowledged": ended,
    }


def master_cost(workers: int, rows: list[RequestRecord]) -> tuple[float, float, float]:
    """CPU us for one report, CPU ms for one look at the standing (once a second), bytes of one report."""
    tallies = [Tally() for _ in range(workers)]
    messages = []
    for round_ in range(ROUNDS):
        for worker, tally in enumerate(tallies):
            for i in range(TURNS_PER_REPORT):
                tally.seen(rows[(round_ * 7919 + worker * 131 + i) % len(rows)])
            messages.append(msgpack.dumps(report(worker, tally, (round_ + 1) * TURNS_PER_REPORT)))
    with tempfile.TemporaryDirectory() as scratch:
        reports = Reports("r", range(workers))
        clerk = Clerk("r", reports, Path(scratch))
        before = cpu_ns()
        for message in messages:
            assert reports.take(msgpack.loads(message, strict_map_key=False))
        report_us = (cpu_ns() - before) / 1e3 / len(messages)
        assert not reports.mismatches and not reports.live.gaps
        before = cpu_ns()
        for _ in range(ROUNDS):
            clerk.standing(t0_ns=0, warmup_s=0, planned_s=60, ended=False, received=0, stored=0)
        look_ms = (cpu_ns() - before) / 1e6 / ROUNDS
    return report_us, look_ms, sum(map(len, messages)) / len(messages)


def collector_cost(rows: list[RequestRecord]) -> tuple[float, float, float]:
    """CPU us for one row from frame to Parquet, bytes of one row in the spool, CPU us of the reference."""
    entries = [spool.pack(spool.Started(row)) + spool.pack(spool.Finished(row)) for row in rows]
    frames, frame = [], b""
    for entry in entries:
        frame += entry
        if len(frame) > 256 << 10:
            frames.append(frame)
            frame = b""
    frames.append(frame)
    with tempfile.TemporaryDirectory() as scratch:
        store, at = RowStore(Path(scratch)), 0
        before = cpu_ns()
        for frame in frames:
            at = store.take("worker-0-1.spool", at, frame)
        store.flush()
        row_us = (cpu_ns() - before) / 1e3 / len(rows)
    texts = [msgspec.json.encode(row) for row in rows]
    before = cpu_ns()
    for text in texts:
        json.loads(text)
    return row_us, at / len(rows), (cpu_ns() - before) / 1e3 / len(rows)


def main() -> None:
    draw = random.Random(1)
    rows = [a_row(draw, seq, CHUNKS) for seq in range(ROWS)]
    print(f"{'workers':>8} {'us/report':>10} {'ms/look':>8} {'bytes/report':>13} {'share of a core':>16}")
    for workers in WORKERS:
        report_us, look_ms, size = master_cost(workers, rows)
        share = workers / REPORT_S * report_us / 1e6 + look_ms / 1e3
        print(f"{workers:8} {report_us:10.0f} {look_ms:8.2f} {size:13.0f} {100 * share:15.1f}%")
    print(f"\n{'chunks':>8} {'us/row':>10} {'bytes/row':>10} {'of json.loads':>14}   (collector)")
    for chunks in ROW_CHUNKS:
        some = [a_row(draw, seq, chunks) for seq in range(ROWS * 10 // max(chunks, 20))]
        row_us, row_bytes, json_us = collector_cost(some)
        print(f"{chunks:8} {row_us:10.0f} {row_bytes:10.0f} {row_us / json_us:14.2f}")


if __name__ == "__main__":
    main()
