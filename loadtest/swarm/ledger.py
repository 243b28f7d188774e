"""The worker's account: every planned turn is counted from the schedule to the stored row.

For an open run planned = started + given up (dropped, not reached), and once all has drained started = finished.
The collector counts stored rows on its side; the analysis compares the two.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

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
