"""Change points: since which run of a long series does a figure have another level?

E-divisive means (Matteson and James, arXiv 1306.4933) with a t-test instead of permutations, so that the same history
gives the same answer, in windows, with a weak threshold first and the strict one at the end (Hunter, arXiv 2301.03034;
Apache Otava, whose package would bring cloud clients and older numpy with it). For figures that are compared by ratio
all of this is done on logarithms. A change may be seen only some runs after it came: use the gate for tonight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import special

from loadtest.analysis.frames import Floats
from loadtest.analysis.run_figures import Metric

RUNS_MIN = 10  # fewer say nothing of a level
P_MAX = 0.001
WEAK_FACTOR = 10  # points are first taken at so many times P_MAX, then the weakest are given up one by one
MAGNITUDE_MIN = 0.05  # of the level before, or in points for a share
WINDOWS: tuple[int, ...] = (
    50,
    20,
)  # runs, each moved on by half of itself; in the short ones a level that comes and goes is one step


class ChangePoint(NamedTuple):
    """`at` is the first run of the new level, in the series as given. `shift` is relative, or in points.

    `before` and `after` are the levels of the two stretches: geometric means, or means of shares.
    """

    at: int
    before: float
    after: float
    shift: float
    p_value: float
    worse: bool


def change_points(values: Sequence[float | None], metric: Metric) -> list[ChangePoint]:
    """The change points of one figure over runs in the order of time, earliest first.

    Runs without the figure, and those whose percentile lies among the failed turns, are passed over; with fewer than
    RUNS_MIN others there are none.
    """
    ratio = metric.scale == "ratio"
    told = [(i, v) for i, v in enumerate(values) if v is not None and math.isfinite(v) and (v > 0 or not ratio)]
    if len(told) < RUNS_MIN:
        return []
    series = np.array([math.log(v) if ratio else v for _, v in told])
    found = []
    for start, index, end in _strong(series, _weak(series)):
        before, after = float(series[start:index].mean()), float(series[index:end].mean())
        if ratio:
            shift, before, after = math.expm1(after - before), math.exp(before), math.exp(after)
        else:
            shift = after - before
        worse = (shift > 0) == (metric.better == "lower")
        p_value = t_test(series[start:index], series[index:end])
        found.append(ChangePoint(told[index][0], before, after, shift, p_value, worse))
    return found


def best_split(series: Floats) -> tuple[int, float]:
    """The split of a series at which the energy statistic is largest: (first index of the right part, its value).

    Q(t) = t (n - t) / n * (2 mean|X - Y| - mean|X - X'| - mean|Y - Y'|), the means over distinct pairs. (0, 0.0) when
    there is no split with two values on each side.
    """
    n = len(series)
    if n < 4:
        return 0, 0.0
    distances = np.abs(np.subtract.outer(series, series))
    total = np.zeros((n + 1, n + 1))
    total[1:, 1:] = distances.cumsum(axis=0).cumsum(axis=1)
    left = np.arange(2, n - 1)
    right = n - left
    inside_left = total[left, left] / (left * (left - 1))
    inside_right = (total[n, n] - 2 * total[left, n] + total[left, left]) / (right * (right - 1))
    across = (total[left, n] - total[left, left]) / (left * right)
    energy = left * right / n * (2 * across - inside_left - inside_right)
    best = int(np.argmax(energy))
    return int(left[best]), float(energy[best])


def t_test(left: Floats, right: Floats) -> float:
    """Student's two-sided p-value with pooled variance; 1.0 where there are too few values.

    Two different constants have p = 0: there is no scatter that could explain the step.
    """
    freedom = len(left) + len(right) - 2
    if freedom < 1 or not len(left) or not len(right):
        return 1.0
    step = float(right.mean() - left.mean())
    scatter = float(((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum())
    level = max(abs(float(left.mean())), abs(float(right.mean())))
    if scatter <= (1e-12 * level) ** 2 * (freedom + 2):  # what is left is rounding
        return 0.0 if abs(step) > 1e-12 * level else 1.0
    error = math.sqrt(scatter / freedom * (1 / len(left) + 1 / len(right)))
    return float(2 * special.stdtr(freedom, -abs(step) / error))


def _weak(series: Floats) -> list[int]:
    """Points of every window at the weak threshold, in order."""
    found: set[int] = set()
    for window in WINDOWS:
        for start in range(0, max(1, len(series) - window // 2), window // 2):
            found |= {start + point for point in _divide(series[start : start + window])}
    return sorted(found)


def _divide(series: Floats) -> list[int]:
    """Split where the energy is largest, as long as the best split is significant; then its parts likewise."""
    points: list[int] = []
    while True:
        edges = [0, *points, len(series)]
        splits = []
        for start, end in pairwise(edges):
            at, energy = best_split(series[start:end])
            splits.append((energy, start, start + at, end))
        energy, start, at, end = max(splits)
        if energy <= 0 or t_test(series[start:at], series[at:end]) > WEAK_FACTOR * P_MAX:
            return points
        points = sorted([*points, at])


def _strong(series: Floats, points: list[int]) -> list[tuple[int, int, int]]:
    """(start, point, end) of the points that hold beside their neighbours: the weakest is given up until all do."""
    while True:
        edges = [0, *points, len(series)]
        stretches = list(zip(edges[:-2], edges[1:-1], edges[2:], strict=True))
        if not stretches:
            return []
        p_values = [t_test(series[start:at], series[at:end]) for start, at, end in stretches]
        steps = [abs(float(series[at:end].mean() - series[start:at].mean())) for start, at, end in stretches]
        weakest = int(np.argmax(p_values))
        if p_values[weakest] <= P_MAX:
            weakest = int(np.argmin(steps))
            if steps[weakest] >= math.log1p(MAGNITUDE_MIN):  # 0.0488: for shares a little less than 5 points
                return stretches
        points = [point for place, point in enumerate(points) if place != weakest]
