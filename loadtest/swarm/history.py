"""A run's course over time, for the page of charts: bounded, whatever the length of the run.

A point is what each worker's report brought once (they come every three seconds), and ends with the newest of them: a
grid of its own beside that of the reports would draw teeth into steady lines. Beyond POINTS_MAX neighbours are
merged, one pair with every new point, the oldest first, until all are twice as long and it begins again: so no single
look costs much. Merged quantiles are those of all turns of both points, since a point keeps its histograms.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from loadtest.records import NOT_SENT, Outcome
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import LEVELS, Standing
from loadtest.swarm.tally import Cells, Counts, Distribution, Place

STEP_S_MIN, STEP_S_MAX = 1.5, 6.0
POINTS_MAX = 500
SHOWN = ("ttft", "tpot", "e2e")
ALL = "all"
# What a row of `since` holds, in its order; the last is a list, beside the names of `failures`.
COLUMNS = (
    "n", "from_s", "to_s", "offered", "completed", "in_flight", "waiting", "oldest_s",
    *(f"{metric}_ms_{level}" for metric in SHOWN for level, _ in LEVELS),
    "failures",
)  # fmt: skip

Key = tuple[str, str]  # (ALL, ""), (target, "") for all of its sessions, or (target, session)


class Packed:
    """A distribution in a few hundred bytes, with the quantiles that are drawn."""

    __slots__ = ("censored", "counts", "keys", "quantiles_ms")

    def __init__(self, distribution: Distribution) -> None:
        self.keys = array("h", distribution.values.counts.keys())
        self.counts = array("I", distribution.values.counts.values())
        self.censored = distribution.censored
        self.quantiles_ms = [_shown(distribution.quantile_ms(q)) for _, q in LEVELS]

    def merged(self, other: Packed) -> Packed:
        both = Distribution()
        for part in (self, other):
            both.values.merge(part.keys, part.counts)
            both.censored += part.censored
        return Packed(both)


class Share:
    """One selection's part of a point: turns offered and ended in it, and what was in flight at its end."""

    __slots__ = ("distributions", "in_flight", "offered", "outcomes")

    def __init__(self) -> None:
        self.offered = self.in_flight = 0
        self.outcomes: Counter[str] = Counter()
        self.distributions: dict[str, Packed] = {}

    def merged(self, later: Share) -> Share:
        both = Share()
        both.offered, both.in_flight = self.offered + later.offered, later.in_flight
        both.outcomes = self.outcomes + later.outcomes
        for metric in {*self.distributions, *later.distributions}:
            mine, other = self.distributions.get(metric), later.distributions.get(metric)
            both.distributions[metric] = mine.merged(other) if mine and other else mine or other  # type: ignore[assignment]
        return both


class Point(msgspec.Struct, kw_only=True):
    n: int  # of the newest step in it; counts up
    from_s: float  # since t0
    to_s: float
    waiting: int  # at its end, of the whole swarm
    oldest_s: float  # the highest in it
    shares: dict[Key, Share]
    steps: int = 1

    def merged(self, later: Point) -> Point:
        return Point(
            n=later.n,
            from_s=self.from_s,
            to_s=later.to_s,
            waiting=later.waiting,
            oldest_s=max(self.oldest_s, later.oldest_s),
            shares={
                key: self.shares[key].merged(share) if key in self.shares else share
                for key, share in later.shares.items()
            },
            steps=self.steps + later.steps,
        )


class History:
    """The points of one run. Call `take` every second, with reports that keep what is fresh (`tally.Merged`)."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._n = 0
        self._counts: dict[Key, tuple[int, Counter[str]]] = {}  # offered and outcomes up to now
        self._sweep = 0  # what stands before this point is as long as it may be
        self._steps_max = 2

    def take(self, standing: Standing, reports: Reports, t0_ns: int, *, last: bool = False) -> None:
        """Add a point if every worker has told something new, if that takes too long, or if it is the `last`."""
        newest_ns = reports.newest_ns()
        if newest_ns is None or newest_ns <= t0_ns:
            return
        begun_s = self.points[-1].to_s if self.points else 0.0
        to_s = (newest_ns - t0_ns) / 1e9
        told = reports.all_told_since(t0_ns + int(begun_s * 1e9))
        if to_s <= begun_s or (
            not last and not ((told and to_s - begun_s >= STEP_S_MIN) or to_s - begun_s >= STEP_S_MAX)
        ):
            return
        self._n += 1
        shares = self._shares(reports.live.places)
        for key, cell in _selected(reports.live.take_fresh()).items():
            if key in shares:
                shares[key].distributions = {metric: Packed(d) for metric, d in cell.items() if d.n()}
        totals = standing.totals
        point = Point(
            n=self._n,
            from_s=begun_s,
            to_s=to_s,
            waiting=totals.waiting,
            oldest_s=totals.oldest_s,
            shares=shares,
        )
        self.points.append(point)
        if len(self.points) > POINTS_MAX:
            self._merge_a_pair()

    def keys(self) -> list[Key]:
        """What can be selected: all, each target, each of its sessions."""
        return sorted(self._counts, key=lambda key: (key[0] != ALL, key))

    def failures(self, key: Key) -> list[str]:
        """The outcomes but `ok` that a selection has seen, in the order of the closed set."""
        _, outcomes = self._counts.get(key, (0, Counter()))
        return [outcome.value for outcome in Outcome if outcome != Outcome.OK and outcomes[outcome]]

    def since(self, n: int, key: Key) -> list[list[Any]]:
        """The rows of a selection whose number is above `n`, in the order of COLUMNS. A quantile among failed turns is
        -1, one without turns None."""
        names = self.failures(key)
        return [list(_row(point, key, names)) for point in self.points if point.n > n]

    def _shares(self, places: Mapping[Place, Counts]) -> dict[Key, Share]:
        now: dict[Key, Counts] = {}
        for place, counts in list(places.items()):
            for key in _keys_of(place):
                now.setdefault(key, Counts()).add(counts.started, counts.outcomes)
        shares = {}
        for key, counts in now.items():
            offered, outcomes = self._counts.get(key, (0, Counter()))
            share = shares[key] = Share()
            share.offered = counts.offered - offered
            share.in_flight = max(0, counts.started - counts.ended)
            share.outcomes = counts.outcomes - outcomes
            self._counts[key] = (counts.offered, counts.outcomes)
        return shares

    def _merge_a_pair(self) -> None:
        """Merge the oldest neighbours that make no more than `_steps_max` steps; double it when there are none left."""
        points = self.points
        while points[self._sweep].steps + points[self._sweep + 1].steps > self._steps_max:
            self._sweep += 1
            if self._sweep + 1 == len(points):
                self._sweep, self._steps_max = 0, self._steps_max * 2
        first, second = points[self._sweep : self._sweep + 2]
        points[self._sweep : self._sweep + 2] = [first.merged(second)]


def _keys_of(place: Place) -> tuple[Key, ...]:
    target, session = place
    return ((ALL, ""), (target, ""), (target, session)) if session else ((ALL, ""), (target, ""))


def _selected(cells: Cells) -> dict[Key, dict[str, Distribution]]:
    """The fresh distributions of every selection, both cohorts together: a chart of time needs no cut."""
    found: dict[Key, dict[str, Distribution]] = {}
    for (target, session, _), cell in cells.items():
        for key in _keys_of((target, session)):
            mine = found.setdefault(key, {metric: Distribution() for metric in SHOWN})
            for metric in SHOWN:
                mine[metric].add(cell[metric])
    return found


def _row(point: Point, key: Key, failures: list[str]) -> Iterator[Any]:
    share = point.shares.get(key) or Share()
    ended = sum(n for outcome, n in share.outcomes.items() if outcome not in NOT_SENT)
    whole = key == (ALL, "")
    yield from (point.n, round(point.from_s, 1), round(point.to_s, 1), share.offered, ended, share.in_flight)
    # Of these the reports tell the sum over all targets only.
    yield from (point.waiting, round(point.oldest_s, 1)) if whole else (None, None)
    for metric in SHOWN:
        packed = share.distributions.get(metric)
        yield from packed.quantiles_ms if packed is not None else [None] * len(LEVELS)
    yield [share.outcomes[outcome] for outcome in failures]


def _shown(value_ms: float | None) -> float | None:
    """Four digits are more than the histogram knows; JSON has no infinity."""
    if value_ms is None:
        return None
    return -1.0 if math.isinf(value_ms) else float(f"{value_ms:.4g}")
