"""A run as /metrics shows it, from real tallies and reports, for tests of the exposition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtest.records import RequestRecord, Target
from loadtest.swarm.ledger import Ledger
from loadtest.swarm.prometheus import Watched
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import Clerk
from loadtest.swarm.tally import Tally

TARGETS = (
    Target(name="chat", route="openai-chat", model="m-1", url="http://127.0.0.1:8081"),
    Target(name="router", route="cortensor", url="http://127.0.0.1:5010"),
)


class MadeWorker:
    """One worker's books, as WorkerRun keeps them, without its requests."""

    def __init__(self, worker: int, run: str = "r-1", host: str = "box") -> None:
        self.worker, self.run, self.host = worker, run, host
        self.tally, self.ledger = Tally(), Ledger()

    def ends(self, record: RequestRecord) -> None:
        self.ledger.arrival(1)
        if record.sent_ns is not None:
            self.ledger.started()
        self.ledger.ended(record.outcome)
        self.tally.seen(record)

    def report(self, **changes: Any) -> dict[str, Any]:
        rows = sum(self.ledger.outcomes.values())
        return {
            "worker": self.worker,
            "run": self.run,
            "final": False,
            "host": self.host,
            "pid": 1000 + self.worker,
            "clock_bound_ns": 400_000,
            "cpu_share_max": 0.3,
            "loop_overshoot_ms_p99": 1.25,
            "overshoot_ns_p50": 50_000,
            "overshoot_ns_p99": 1_250_000,
            "overshoot_ns_max": 4_000_000,
            "connections": 3,
            "connections_opened": 5,
            "ledger": self.ledger.figures(),
            "prompt_tokens": self.tally.prompt_tokens,
            "output_tokens": self.tally.output_tokens,
            "tokens": self.tally.tokens(),
            "live": self.tally.delta(),
            "in_flight": self.ledger.in_flight(),
            "in_flight_answering": 0,
            "in_flight_oldest_ns": 0,
            "rows_overflowed": 0,
            "rows_refused": 0,
            "rows_spooled": rows,
            "rows_sent": rows,
            "rows_acknowledged": rows,
            **changes,
        }


def watched(reports: Reports, folder: Path, *, run: str = "r-1", **changes: Any) -> Watched:
    """How the run stands, as MasterRun gives it."""
    standing = Clerk(run, reports, folder).standing(
        t0_ns=0, warmup_s=0, planned_s=1e12, ended=False, received=0, stored=0
    )
    one = Watched(
        standing=standing, reports=reports, targets=TARGETS, profile="made", profile_hash="0f", mode="open", seed=7
    )
    return one._replace(**changes)
