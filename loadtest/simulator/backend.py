"""What the stats backend tells: rows rebuilt at fixed instants, and timestamp lists as they are at the moment.

The faults of snapshots live here. They change what is told and never what is remembered: the pipeline's own stats
stay right, so a fault can be switched on without any other decision noticing.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from loadtest.simulator.agenda import Agenda
from loadtest.simulator.faults import Faults
from loadtest.simulator.nodes import Node
from loadtest.simulator.reputation import NodeStats, Reputation
from loadtest.simulator.tasks import SECOND_NS

LATE_S = 600
RESET_S = 1800
SKEW_S = 90
TOO_HIGH = 1.1

COUNTERS = ("create_counter", "prepare_counter", "precommit_counter", "commit_counter")
POINTS = (
    "global_ping_point",
    "request_point",
    "create_point",
    "prepare_point",
    "start_point",
    "precommit_point",
    "commit_point",
    "end_point",
    "correctness_point",
)


class Backend:
    """`rows` is the leaderboard as last rebuilt; `refreshes` counts how often. Periods are divided by `speed`."""

    def __init__(
        self,
        agenda: Agenda,
        nodes: Sequence[Node],
        stats: Mapping[str, NodeStats],
        faults: Faults,
        refresh_s: float,
        speed: float,
    ) -> None:
        self._agenda = agenda
        self._stats = stats
        self._faults = faults
        self._refresh_ns = round(refresh_s / speed * SECOND_NS)
        self._late_ns = round(LATE_S / speed * SECOND_NS)
        self._reset_ns = round(RESET_S / speed * SECOND_NS)
        node_ids = [node.node_id for node in nodes]

        def keys(name: str) -> set[str]:
            struck = faults.victims(name, node_ids)
            return {node.key for node in nodes if node.node_id in struck}

        self._wrong, self._late, self._missing = keys("wrong-counters"), keys("late-counters"), keys("missing-node")
        self._recased, self._reset, self._skewed = (
            keys("address-case-change"),
            keys("counter-reset"),
            keys("clock-skew"),
        )
        self._began_ns = agenda.now_ns
        self._reset_count = 0
        self._bases: dict[str, NodeStats] = {}  # counters of a reset node when they last began again
        self._old: deque[tuple[int, dict[str, NodeStats]]] = deque()  # rows of late nodes, oldest first
        self.rows: list[NodeStats] = []
        self.refreshes = 0
        self._refresh()

    def _refresh(self) -> None:
        self.refreshes += 1
        now_ns = self._agenda.now_ns
        self._remember(now_ns)
        if not self.rows or not self._faults.strikes("stale-snapshot", str(self.refreshes)):
            self.rows = [self._row(key, row) for key, row in self._stats.items() if key not in self._missing]
        self._agenda.at(now_ns + self._refresh_ns, self._refresh)

    def _remember(self, now_ns: int) -> None:
        if self._late:
            self._old.append((now_ns, {key: copy.copy(self._stats[key]) for key in self._late}))
            while len(self._old) > 1 and self._old[1][0] <= now_ns - self._late_ns:
                self._old.popleft()
        resets = (now_ns - self._began_ns) // self._reset_ns
        if resets > self._reset_count:
            self._reset_count = resets
            self._bases = {key: copy.copy(self._stats[key]) for key in self._reset}

    def _row(self, key: str, row: NodeStats) -> NodeStats:
        told = copy.copy(self._old[0][1][key] if key in self._late else row)
        if key in self._bases:
            for name in (*COUNTERS, *POINTS, "ping_counter"):
                setattr(told, name, max(0, getattr(told, name) - getattr(self._bases[key], name)))
        if key in self._wrong:
            for name in COUNTERS:
                setattr(told, name, math.ceil(TOO_HIGH * getattr(told, name)))
        if key in self._skewed:
            told.last_active += SKEW_S
        if key in self._recased and self.refreshes % 2 == 0:
            told.miner = "0x" + told.miner[2:].upper()
        return told

    def lists(self, key: str, reputation: Reputation) -> dict[str, dict[str, list[int]]] | None:
        """Timestamp lists of a node, or None: the backend does not know it."""
        if key in self._missing:
            return None
        until_s = (self._agenda.now_ns - self._late_ns) // SECOND_NS if key in self._late else None
        return reputation.shape(until_s, SKEW_S if key in self._skewed else 0)

    def leaderboard(self, variant: str) -> list[object]:
        """Rows as `/leaderboard` gives them."""
        if variant == "devnet5":
            return list(self.rows)
        return [{**msgspec.to_builtins(row), **_devnet7(row)} for row in self.rows]


def _devnet7(row: NodeStats) -> dict[str, object]:
    """The two objects DevNet7 adds. Their fields are known, their meaning is our guess: commits stand in."""
    return {
        "qualitative": {"totalScore": row.commit_point},
        "quantitive": {
            "point": row.commit_point,
            "totalCount": row.commit_counter,
            "normalCount": row.commit_point,
            "abnormalCount": row.commit_counter - row.commit_point,
            "lastValidated": row.last_active,
        },
    }
