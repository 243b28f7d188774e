"""Intervals of many cells at once: order statistics of a quantile, Wilson's of a share, Bonett and Wright's of a rank
correlation. All 95 %, two-sided, for independent values."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from loadtest.analysis.frames import Floats, Ints

_ALPHA = 0.05
_Z = float(special.ndtri(1 - _ALPHA / 2))


def rank_intervals(sizes: Ints, q: float) -> tuple[Ints, Ints]:
    """`quantiles.rank_interval` of every size: 1-based ranks that enclose quantile q, 0 and 0 where n is too small."""
    distinct, at = np.unique(np.asarray(sizes, dtype=np.int64), return_inverse=True)
    n = np.maximum(distinct, 1)
    lower, upper = _binomial_quantile(n, q, _ALPHA / 2), _binomial_quantile(n, q, 1 - _ALPHA / 2) + 1
    # Not by the ranks alone: with few values both ends may exist and enclose less than 95 %.
    found = (distinct > 0) & (1 - q**n - (1 - q) ** n >= 1 - _ALPHA) & (lower >= 1) & (upper <= n)
    return np.where(found, lower, 0)[at], np.where(found, upper, 0)[at]


def _binomial_quantile(n: Ints, p: float, level: float) -> Ints:
    """Smallest k with P(Binomial(n, p) <= k) >= level: the real inverse, rounded up, and checked one below."""
    k = np.ceil(special.bdtrik(level, n, p))
    below = np.maximum(k - 1, 0)
    found: Ints = np.where(special.bdtr(below, n, p) >= level, below, k).astype(np.int64)
    return found


def wilson(good: npt.NDArray[np.integer], n: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Wilson's score interval of good / n (Wilson 1927): inside [0, 1] also at 0 and at n. NaN where n is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share, z2 = good / n, _Z**2
        centre = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z * np.sqrt(share * (1 - share) / n + z2 / (4 * n.astype(np.float64) ** 2)) / (1 + z2 / n)
    low = np.where(good == 0, 0.0, np.maximum(0.0, centre - half))
    high = np.where(good == n, 1.0, np.minimum(1.0, centre + half))
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def bonett_wright(rho: float, n: int) -> tuple[float, float] | None:
    """Interval of a Spearman correlation: tanh(atanh(rho) -+ z sqrt((1 + rho^2 / 2) / (n - 3))).

    Bonett and Wright 2000. None below five pairs or where rho is not a number; +-1 has no spread by this formula.
    """
    if n < 5 or not math.isfinite(rho):
        return None
    if abs(rho) >= 1:
        return (rho, rho)
    half = _Z * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
