"""What the workers of one run have told the master, and the sums over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from loadtest.clock import mono_ns
from loadtest.records import NOT_SENT
from loadtest.swarm.ledger import Mismatch, worker_mismatches
from loadtest.swarm.tally import Merged

MISMATCHES_KEPT = 20
SILENCE_NS = 3_000_000_000  # heartbeats come every second; a longer silence is a hole worth showing
SILENCES_KEPT = 100  # of each worker


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the workers' last reports, so each worker's share is up to one report old."""

    arrivals: int
    planned_turns: int
    started_turns: int
    outcomes: dict[str, int]
    waiting: int  # in flight, no byte of the answer's body yet; of workers that are not lost
    answering: int
    oldest_s: float  # age of the oldest request in flight, 0 without one
    rows_spooled: int
    rows_sent: int
    rows_acknowledged: int
    prompt_tokens: int
    output_tokens: int

    @property
    def ended(self) -> int:
        """Turns that were sent and have ended."""
        return sum(n for outcome, n in self.outcomes.items() if outcome not in NOT_SENT)

    @property
    def in_flight(self) -> int:
        return self.waiting + self.answering


class Reports:
    """The last report of each worker, the live histograms of all of them, and who is lost. See `tally.Merged` for
    `keeps_fresh`."""

    def __init__(self, run: str, stripes: Iterable[int], *, keeps_fresh: bool = False) -> None:
        self._run = run
        self.stripes = sorted(stripes)
        self.latest: dict[int, dict[str, Any]] = {}
        self.lost: set[int] = set()
        self.live = Merged(keeps_fresh=keeps_fresh)
        self.mismatches: list[Mismatch] = []  # seen while the run was on
        self.silences: dict[int, list[tuple[int, int]]] = {}  # by worker: from, to; the latest ones
        self._heard_ns: dict[int, int] = {}
        self._reported_ns: dict[int, int] = {}
        self._ended_ns: dict[int, int] = {}
        self._began_ns = mono_ns()

    def take(self, report: dict[str, Any]) -> bool:
        """Take one worker's report; False for one that belongs to another run or was here before."""
        if report.get("run") != self._run:
            return False
        worker = report["worker"]
        self.heard(worker)
        if not self.live.take(worker, report["live"]):
            return False
        self.latest[worker] = report
        self._reported_ns[worker] = mono_ns()
        if report["final"]:
            self._ended_ns[worker] = mono_ns()
        if len(self.mismatches) < MISMATCHES_KEPT:
            self.mismatches += worker_mismatches(report)
        return True

    def heard(self, worker: int) -> None:
        """Some sign of life of a worker came: a report or a heartbeat."""
        now_ns, last_ns = mono_ns(), self._heard_ns.get(worker)
        if last_ns is not None and now_ns - last_ns > SILENCE_NS:
            silences = self.silences.setdefault(worker, [])
            silences.append((last_ns, now_ns))
            del silences[:-SILENCES_KEPT]
        self._heard_ns[worker] = now_ns

    def heard_ns(self, worker: int) -> int:
        """When it was heard last, or when the run began."""
        return self._heard_ns.get(worker, self._began_ns)

    def silent_s(self, worker: int) -> float:
        """How long nothing was heard of a worker."""
        return (mono_ns() - self.heard_ns(worker)) / 1e9

    def newest_ns(self) -> int | None:
        """When the newest report came."""
        return max(self._reported_ns.values(), default=None)

    def all_told_since(self, instant_ns: int) -> bool:
        """Whether each worker that still has something to tell has told it after this instant."""
        return all(self._reported_ns.get(worker, 0) > instant_ns for worker in self.waited_for())

    def is_final(self, worker: int) -> bool:
        return bool(self.latest.get(worker, {}).get("final"))

    def ended_ns(self, worker: int) -> int:
        """When its last word came."""
        return self._ended_ns[worker]

    def waited_for(self) -> list[int]:
        """Workers that are not lost and have not said their last word."""
        return [worker for worker in self.stripes if worker not in self.lost and not self.is_final(worker)]

    def totals(self) -> Totals:
        outcomes: Counter[str] = Counter()
        sums: Counter[str] = Counter()
        waiting = answering = oldest_ns = 0
        for worker, report in self.latest.items():
            ledger = report["ledger"]
            outcomes.update(ledger["outcomes"])
            sums.update({name: ledger[name] for name in ("arrivals", "planned_turns", "started_turns")})
            sums.update({name: report[name] for name in _SUMMED})
            if worker not in self.lost:
                answering += report["in_flight_answering"]
                waiting += max(0, ledger["in_flight"] - report["in_flight_answering"])
                # It has aged since the report was made.
                age_ns = report["in_flight_oldest_ns"]
                oldest_ns = max(oldest_ns, age_ns and age_ns + mono_ns() - self._reported_ns[worker])
        return Totals(
            outcomes=dict(outcomes),
            waiting=waiting,
            answering=answering,
            oldest_s=oldest_ns / 1e9,
            **{name: sums[name] for name in ("arrivals", "planned_turns", "started_turns", *_SUMMED)},
        )


_SUMMED = ("rows_spooled", "rows_sent", "rows_acknowledged", "prompt_tokens", "output_tokens")
