"""Is a load more than its target can serve? Seen from what waits and from the time to the first token.

After guidellm's detector: in a window of 30 to 120 s the slopes of requests in flight and of TTFT are both
significantly positive (t-interval). Two things are added, because near its capacity a healthy queue wanders like that
for minutes. Slopes are fitted to the means of ten parts of the window, not to single points, which are anything but
independent. And what waits must grow, with the same confidence, by more than 5 % of what is offered, which the search
for capacity does not tell apart either, and by more than two and a half standard deviations of the number of arrivals.
Simulated queues (tests/facts/test_saturation.py): no more than one alarm in 20 runs of ten minutes at 90 % of the
capacity, at 2 a second and above; always one at 125 %, in half of the runs within two minutes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

WINDOW_S_MIN = 30.0
WINDOW_S_MAX = 120.0
PARTS = 10
CONFIDENCE = 0.95
EXCESS_SHARE_MIN = 0.05
EXCESS_DEVIATIONS_MIN = 2.5


class Point(NamedTuple):
    """One look at a running load. `ttft_ms` is of the turns that ended since the last look, None without one."""

    at_s: float
    in_flight: float
    ttft_ms: float | None
    offered: float  # turns so far


class Saturated(NamedTuple):
    """What was seen: slopes are the lower bounds of their 95 % intervals."""

    since_s: float
    at_s: float
    in_flight_per_s: float
    ttft_ms_per_s: float

    @property
    def text(self) -> str:
        return (
            f"more than the target can serve: from second {self.since_s:.0f} to {self.at_s:.0f} requests in flight "
            f"rose by at least {self.in_flight_per_s:.3g} a second, TTFT by at least {self.ttft_ms_per_s:.3g} ms"
        )


class Watch:
    """Looks at points as they come, in order of time, and keeps those of the longest window."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque()

    def look(self, point: Point) -> Saturated | None:
        """Add a point; whether the load is saturated by now."""
        self._points.append(point)
        while self._points[-1].at_s - self._points[0].at_s > WINDOW_S_MAX:
            self._points.popleft()
        first, last = self._points[0], self._points[-1]
        span_s = last.at_s - first.at_s
        if span_s < WINDOW_S_MIN:
            return None
        waiting = slope_low([(each.at_s, each.in_flight) for each in self._points])
        ttft = slope_low([(each.at_s, each.ttft_ms) for each in self._points if each.ttft_ms is not None])
        offered = last.offered - first.offered
        excess = max(EXCESS_SHARE_MIN * offered, EXCESS_DEVIATIONS_MIN * math.sqrt(offered))
        if waiting * span_s <= excess or ttft <= 0:
            return None
        return Saturated(first.at_s, last.at_s, waiting, ttft)


def slope_low(points: Sequence[tuple[float, float]]) -> float:
    """The lower bound of the 95 % interval of the slope through the means of ten parts of time; -inf when unknown."""
    if not points:
        return -math.inf
    start, width = points[0][0], (points[-1][0] - points[0][0]) / PARTS
    parts: list[list[tuple[float, float]]] = [[] for _ in range(PARTS)]
    for at, value in points:
        parts[min(PARTS - 1, int((at - start) / width)) if width else 0].append((at, value))
    xs = [fmean(at for at, _ in part) for part in parts if part]
    ys = [fmean(value for _, value in part) for part in parts if part]
    n = len(xs)
    if n < PARTS // 2:
        return -math.inf
    x_mean, y_mean = fmean(xs), fmean(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    left = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope - t_quantile(1 - (1 - CONFIDENCE) / 2, n - 2) * math.sqrt(left / (n - 2) / spread)


def t_quantile(p: float, freedom: int) -> float:
    """Student's t by Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5): within 1 % from 3 degrees on."""
    z = NormalDist().inv_cdf(p)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3
