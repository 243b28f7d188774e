"""What a series of stored snapshots shows of itself: holes in time, missing nodes, counters that began again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from loadtest.clock import utc_text
from loadtest.records import HOLE_FACTOR, NodeSnapshot

LISTED_MAX = 200  # of holes, nodes and resets; all are counted
_COUNTERS = ("precommit_counter", "commit_counter", "prepare_counter", "create_counter", "ping_counter")
_SECOND = 1_000_000_000


class Hole(NamedTuple):
    """No leaderboard from one instant to the next for much longer than usual."""

    source: str
    from_wall_ns: int
    text: str


class _Node:
    """`counters` are of the instant `last_ns` and grow while rows of it come; `before` are of the one before."""

    __slots__ = ("before", "counters", "last_ns")

    def __init__(self, at_ns: int, counters: tuple[int, ...]) -> None:
        self.last_ns = at_ns
        self.counters = counters
        self.before: tuple[int, ...] = ()


class _Presence:
    """In how many leaderboards a node stood, from the first to the last of them."""

    __slots__ = ("boards", "first_ns", "last_ns", "newest_ns")

    def __init__(self, at_ns: int) -> None:
        self.boards = 1
        self.first_ns = self.last_ns = self.newest_ns = at_ns

    def add(self, at_ns: int) -> None:
        """Rows of one owner share an instant and follow each other."""
        self.boards += at_ns != self.newest_ns
        self.newest_ns = at_ns
        self.first_ns, self.last_ns = min(self.first_ns, at_ns), max(self.last_ns, at_ns)


class History:
    """Fed with the snapshots that are stored, those of earlier imports first. Holds an entry per node and instant."""

    def __init__(self) -> None:
        self._instants: set[int] = set()
        self._nodes: dict[str, _Node] = {}
        self._present: dict[str, _Presence] = {}
        self._series: dict[tuple[str, str], int] = {}  # when each node's lists were last told
        self._periods_s: Counter[int] = Counter()
        self._resets: list[str] = []
        self._reset_count = self._backward = 0

    def known(self, source: str, node: str, at_ns: int) -> None:
        """A row of an earlier import: its instant is no hole, and its node was there."""
        if source == "leaderboard":
            self._stood(node, at_ns)

    def _stood(self, node: str, at_ns: int) -> None:
        self._instants.add(at_ns)
        present = self._present.get(node)
        if present is None:
            self._present[node] = _Presence(at_ns)
        else:
            present.add(at_ns)

    def add(self, snapshot: NodeSnapshot) -> None:
        """Count one row. Reputation is asked node by node: of it only the usual period is known."""
        at_ns = snapshot.observed_wall_ns
        if snapshot.source != "leaderboard":
            key = snapshot.source, snapshot.node
            if key in self._series:
                self._periods_s[abs(at_ns - self._series[key]) // _SECOND] += 1
            self._series[key] = at_ns
            return
        self._stood(snapshot.node, at_ns)
        counters = tuple(getattr(snapshot, name) or 0 for name in _COUNTERS)
        node = self._nodes.get(snapshot.node)
        if node is None:
            self._nodes[snapshot.node] = _Node(at_ns, counters)
        elif at_ns == node.last_ns:  # another row of the same owner: they are one
            node.counters = tuple(a + b for a, b in zip(node.counters, counters, strict=True))
        elif at_ns < node.last_ns:
            self._backward += 1  # resets are seen in order of time only
        else:
            self._see_reset(snapshot.node, node)
            node.last_ns, node.before, node.counters = at_ns, node.counters, counters

    def _see_reset(self, name: str, node: _Node) -> None:
        fallen = [each for each, old, new in zip(_COUNTERS, node.before, node.counters, strict=False) if new < old]
        if fallen:
            self._reset_count += 1
            if len(self._resets) < LISTED_MAX:
                self._resets.append(f"{name} at {utc_text(node.last_ns)}: {', '.join(fallen)}")

    def period_s(self) -> float:
        """The longer of the usual periods: of leaderboards, and of one node's reputation."""
        of_series = median(self._periods_s.elements()) if self._periods_s else 0
        return max(self.usual_ns() / _SECOND, float(of_series))

    def usual_ns(self) -> int:
        """The median time from one leaderboard to the next; 0 for fewer than two."""
        gaps = [later - at for at, later in pairwise(sorted(self._instants))]
        return int(median(gaps)) if gaps else 0

    def holes(self) -> list[Hole]:
        instants = sorted(self._instants)
        gaps = [(at, later - at) for at, later in pairwise(instants)]
        usual_ns = self.usual_ns()
        usual = f"usual are {usual_ns / _SECOND:,.0f} s"
        return [
            Hole("leaderboard", at + usual_ns, f"no leaderboard for {gap / _SECOND:,.0f} s, {usual}")
            for at, gap in gaps
            if gap > HOLE_FACTOR * usual_ns
        ]

    def findings(self) -> dict[str, Any]:
        """For the account; call once, at the end."""
        for name, node in self._nodes.items():
            self._see_reset(name, node)
        instants = sorted(self._instants)
        missing = {}
        for name, present in self._present.items():
            due = bisect_right(instants, present.last_ns) - bisect_left(instants, present.first_ns)
            if due > present.boards:
                missing[name] = due - present.boards
        worst = sorted(missing.items(), key=lambda each: (-each[1], each[0]))[:LISTED_MAX]
        holes = self.holes()
        return {
            "leaderboards": len(instants),
            "nodes": len(self._present),
            "first": utc_text(instants[0]) if instants else None,
            "last": utc_text(instants[-1]) if instants else None,
            "usual_period_s": self.period_s(),
            "holes": len(holes),
            "holes_listed": [f"{utc_text(hole.from_wall_ns)}: {hole.text}" for hole in holes[:LISTED_MAX]],
            "nodes_missing_in_between": len(missing),
            "nodes_missing_listed": dict(worst),
            "counter_resets": self._reset_count,
            "counter_resets_listed": self._resets,
            "rows_out_of_order": self._backward,
        }
