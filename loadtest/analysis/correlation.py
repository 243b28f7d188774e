"""Rank correlation, and its bootstrap over the units that were drawn.

A replicate is not re-sorted: with the values sorted once, the mid-rank of a value in a resample is a running sum of how
often each value was drawn. So thousands of replicates are a few passes over one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from loadtest.analysis.frames import Floats, Ints

Correlate = Callable[[Floats], Floats]

REPLICATES = 5000
SEED = 1  # the same run gives the same report
_CELLS_MAX = 4_000_000  # of one block of replicates
_TRIES_MIN = 0.5  # of the replicates that must have a correlation at all


def mid_ranks(values: Floats) -> Floats:
    """Ranks from 1, ties share the mean of theirs. +inf ranks above everything."""
    _, at, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranks: Floats = (ends - (sizes - 1) / 2)[at]
    return ranks


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rho; NaN with fewer than two pairs or where one side is constant."""
    if len(x) < 2:
        return math.nan
    return float(_correlations(mid_ranks(x)[None], mid_ranks(y)[None], np.ones((1, len(x))))[0])


def bootstrap(x: Floats, y: Floats, replicates: int = REPLICATES, seed: int = SEED) -> tuple[float, float] | None:
    """95 % percentile interval of Spearman's rho over the pairs; None where too many resamples are constant."""
    n = len(x)
    if n < 3:
        return None
    orders = [_Order(values) for values in (x, y)]

    def correlate(drawn: Floats) -> Floats:
        return _correlations(orders[0].ranks(drawn), orders[1].ranks(drawn), drawn)

    return _interval(correlate, n, replicates, seed)


def clustered(
    x: Floats, y: Floats, units: Ints, replicates: int = REPLICATES, seed: int = SEED
) -> tuple[float, float] | None:
    """95 % interval of the Pearson correlation of `x` and `y`, drawing whole units (codes 0 .. count-1).

    For what was ranked within its stratum before: a unit comes with all its strata.
    """
    count = int(units.max()) + 1 if len(units) else 0
    if count < 3:
        return None
    columns = [np.bincount(units, each, count) for each in (np.ones(len(x)), x, y, x * x, y * y, x * y)]

    def correlate(drawn: Floats) -> Floats:
        n, sx, sy, sxx, syy, sxy = (drawn @ column for column in columns)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = (sxx - sx**2 / n) * (syy - sy**2 / n)
            return np.where(spread > 1e-12, (sxy - sx * sy / n) / np.sqrt(np.maximum(spread, 0)), np.nan)

    return _interval(correlate, count, replicates, seed)


class _Order:
    """Values sorted once; `ranks` are those of every value in each resample."""

    def __init__(self, values: Floats) -> None:
        self._order = np.argsort(values, kind="stable")
        _, self._starts, self._sizes = np.unique(values[self._order], return_index=True, return_counts=True)

    def ranks(self, drawn: Floats) -> Floats:
        tied = np.add.reduceat(drawn[:, self._order], self._starts, axis=1)
        middle = np.cumsum(tied, axis=1) - (tied - 1) / 2
        ranks = np.empty_like(drawn)
        ranks[:, self._order] = np.repeat(middle, self._sizes, axis=1)
        return ranks


def _interval(correlate: Correlate, n: int, replicates: int, seed: int) -> tuple[float, float] | None:
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS_MAX // n)
    found = []
    for first in range(0, replicates, block):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(block, replicates - first)).astype(np.float64)
        found.append(correlate(drawn))
    rho = np.concatenate(found)
    rho = rho[~np.isnan(rho)]
    if len(rho) < _TRIES_MIN * replicates:
        return None
    low, high = np.quantile(rho, [0.025, 0.975])
    return float(low), float(high)


def _correlations(x: Floats, y: Floats, weights: npt.NDArray[np.float64]) -> Floats:
    """Weighted Pearson correlation of each row; NaN where one side is constant."""
    total = weights.sum(axis=1, keepdims=True)
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    xx, yy, xy = ((weights * a * b).sum(axis=1) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho: Floats = np.where((xx > 1e-9) & (yy > 1e-9), xy / np.sqrt(xx * yy), np.nan)
    return np.clip(rho, -1.0, 1.0)
