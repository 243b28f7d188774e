"""Stops a run that can only fail: its target is saturated, or more turns missed a limit than the plan can bear.

For `loadtest capacity`, whose steps above the capacity need not be waited for. Looked at on the master with every
standing, so what it knows is up to three seconds old. Only the measured cohort counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from loadtest.quantiles import bucket, midpoint
from loadtest.records import Outcome, Phase
from loadtest.saturation import Point, Watch
from loadtest.swarm.guard import Stop
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import Standing, offered_turns
from loadtest.swarm.tally import Distribution

LOOK_S = 3.0  # as often as workers report
_METRICS = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_ms": "e2e"}


class MissesMax(msgspec.Struct, frozen=True, kw_only=True):
    """At most so many measured turns may fail, be dropped, or take longer than the limit."""

    metric: str
    limit_ms: float  # inf: only those that failed
    count: int

    @classmethod
    def read(cls, text: str) -> MissesMax:
        """From "ttft_ms:2000:151". ValueError with one line."""
        parts = text.split(":")
        try:
            metric, limit_ms, count = parts[0], float(parts[1]), int(parts[2])
        except (IndexError, ValueError):
            metric, limit_ms, count = "", 0.0, 0
        if len(parts) != 3 or metric not in _METRICS or not limit_ms > 0 or count < 0:
            raise ValueError(f"--misses-max {text}: write METRIC:MS:COUNT with {', '.join(_METRICS)}, ttft_ms:2000:151")
        return cls(metric=metric, limit_ms=limit_ms, count=count)


class Hopeless:
    """Of one run. `look` is for every standing; it says at most once why to stop."""

    def __init__(self, *, saturated: bool, misses: Sequence[MissesMax], reports: Reports) -> None:
        self._watch = Watch() if saturated else None
        self._misses = misses
        self._reports = reports
        self._looked_s = -math.inf
        self._dropped_before: int | None = None  # in the warm-up
        self._seen = (0.0, 0)  # sum in ms and count of the latencies at the last look

    def look(self, standing: Standing) -> Stop | None:
        if (self._watch is None and not self._misses) or standing.state != "measuring":
            return None
        if standing.elapsed_s - self._looked_s < LOOK_S:
            return None
        self._looked_s = standing.elapsed_s
        measured = self._reports.live.of(Phase.MEASURE)
        return self._too_many(standing, measured) or self._saturated(standing, measured)

    def _too_many(self, standing: Standing, measured: dict[str, Distribution]) -> Stop | None:
        dropped = standing.totals.outcomes.get(Outcome.DROPPED, 0)
        if self._dropped_before is None:
            self._dropped_before = dropped
        for rule in self._misses:
            missed = dropped - self._dropped_before + over(measured[_METRICS[rule.metric]], rule.limit_ms)
            if missed > rule.count:
                what = f"{missed} turns failed or took longer than {rule.limit_ms:g} ms ({rule.metric})"
                text = f"{what}, more than {rule.count} cannot be made up for"
                return Stop(rule="misses", figure=missed, limit=rule.count, text=text)
        return None

    def _saturated(self, standing: Standing, measured: dict[str, Distribution]) -> Stop | None:
        if self._watch is None:
            return None
        totals = standing.totals
        point = Point(standing.elapsed_s, totals.in_flight, self._latency_ms(standing, measured), offered_turns(totals))
        found = self._watch.look(point)
        if found is None:
            return None
        return Stop(rule="saturated", figure=found.in_flight_per_s, limit=0.0, text=found.text)

    def _latency_ms(self, standing: Standing, measured: dict[str, Distribution]) -> float | None:
        """Mean TTFT of what ended since the last look; E2E without streams; without any, how long the oldest waits."""
        values = measured["ttft" if measured["ttft"].n() else "e2e"].values
        total = sum(midpoint(key) * count for key, count in values.counts.items()) / 1e6
        count = values.total()
        before, self._seen = self._seen, (total, count)
        if count > before[1]:
            return (total - before[0]) / (count - before[1])
        return standing.totals.oldest_s * 1e3 if standing.totals.in_flight else None


def over(distribution: Distribution, limit_ms: float) -> int:
    """How many failed or took longer than the limit; those within the 1 % of its bucket are given the benefit."""
    if math.isinf(limit_ms):
        return distribution.censored
    last = bucket(round(limit_ms * 1e6))
    return distribution.censored + sum(count for key, count in distribution.values.counts.items() if key > last)
