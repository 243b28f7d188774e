"""The account: every planned turn is counted from the schedule to the stored row, by the worker and by the master.

    planned -> started -> finished, by outcome -> spooled -> sent -> acknowledged   the worker counts
                                                                 received -> stored   the collector counts

Dropped and not reached turns finish without having been started. The sums that must hold at any instant are checked
with every report, those that must hold in the end when the collector has closed its account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from loadtest.records import NOT_SENT, Outcome


class Ledger:
    """Counts of one worker for one run. `next_seq` numbers its rows without gaps."""

    def __init__(self) -> None:
        self._seq = -1
        self.arrivals = 0
        self.planned_turns = 0
        self.started_turns = 0
        self.outcomes: Counter[str] = Counter()

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def arrival(self, turns: int) -> None:
        """An arrival came due, with this many planned turns."""
        self.arrivals += 1
        self.planned_turns += turns

    def started(self) -> None:
        self.started_turns += 1

    def ended(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def in_flight(self) -> int:
        """Requests sent and not yet ended."""
        return self.started_turns - sum(n for outcome, n in self.outcomes.items() if Outcome(outcome) not in NOT_SENT)

    def figures(self) -> dict[str, Any]:
        return {
            "arrivals": self.arrivals,
            "planned_turns": self.planned_turns,
            "started_turns": self.started_turns,
            "in_flight": self.in_flight(),
            "outcomes": dict(self.outcomes),
        }


class Mismatch(NamedTuple):
    """A sum that does not hold: by how many turns or rows, and in words."""

    figure: int
    text: str


def worker_mismatches(report: Mapping[str, Any]) -> list[Mismatch]:
    """What does not add up in one worker's report. All its counts are of one instant."""
    ledger, who = report["ledger"], f"worker {report['worker']}"
    finished, in_flight = sum(ledger["outcomes"].values()), ledger["in_flight"]
    kept = report["rows_spooled"] + report["rows_refused"]
    found = [
        _differ(finished, kept, f"{who}: {finished} turns ended, {kept} rows were written or refused by the disk"),
        _less(ledger["planned_turns"], finished + in_flight, f"{who}: more turns ended or in flight than planned"),
        _less(in_flight, report["in_flight"], f"{who}: the reactor has more in flight than the ledger"),
        _less(report["rows_spooled"], report["rows_sent"], f"{who}: more rows sent than spooled"),
        _less(report["rows_sent"], report["rows_acknowledged"], f"{who}: more rows acknowledged than sent"),
    ]
    if report["final"]:
        planned = ledger["planned_turns"]
        found.append(_differ(planned, finished, f"{who}: {planned} turns planned, {finished} ended"))
    return [mismatch for mismatch in found if mismatch is not None]


def final_mismatches(
    reports: Iterable[Mapping[str, Any]], lost: Iterable[int], account: Mapping[str, Any]
) -> list[Mismatch]:
    """What does not add up between the workers' last reports and the collector's account, and within each report.

    Of a lost worker only what it was known to have handed over can be asked for.
    """
    told, gone = list(reports), set(lost)
    found = [each for report in told if report["worker"] not in gone for each in worker_mismatches(report)]
    made_up = account["open_rows"] + account["filled_rows"]
    if gone:
        handed = sum(report["rows_acknowledged"] for report in told)
        stored = account["rows"] - made_up
        more = _less(stored, handed, f"collector: {handed} rows acknowledged, {stored} stored")
        return found if more is None else [*found, more]
    spooled = sum(report["rows_spooled"] for report in told)
    if any(report["rows_refused"] for report in told):
        # What a full disk refused is stored as lost, whatever it was: only what was spooled can be asked for.
        stored = account["rows"] - made_up
        differ = _differ(spooled, stored, f"collector: {spooled} rows spooled, {stored} of them stored")
        return found if differ is None else [*found, differ]
    row_sum = _differ(spooled, account["rows"], f"collector: {spooled} rows spooled, {account['rows']} stored")
    found += [] if row_sum is None else [row_sum]
    by_outcome: Counter[str] = Counter()
    for report in told:
        by_outcome.update(report["ledger"]["outcomes"])
    for outcome in sorted({*by_outcome, *account["outcomes"]}):
        ended, stored = by_outcome[outcome], account["outcomes"].get(outcome, 0)
        differ = _differ(ended, stored, f"collector: {ended} turns ended as {outcome}, {stored} are stored so")
        found += [] if differ is None else [differ]
    return found


def _differ(one: int, other: int, text: str) -> Mismatch | None:
    return None if one == other else Mismatch(abs(one - other), text)


def _less(one: int, other: int, text: str) -> Mismatch | None:
    """`one` must be `other` at the least."""
    return None if one >= other else Mismatch(other - one, f"{text} ({other} against {one})")
