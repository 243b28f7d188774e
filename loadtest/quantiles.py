"""Quantiles: a mergeable log-bucket histogram for the live path, exact order statistics for reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

RELATIVE_ERROR = 0.01
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LN_GAMMA = math.log(_GAMMA)
_ZERO_KEY = -1


def bucket(value: int) -> int:
    """Key of the bucket that holds a non-negative value; 0 has the key -1.

    Bucket k >= 0 covers (gamma^(k-1), gamma^k] with gamma = 1.01 / 0.99 (DDSketch), so `midpoint` is within 1 %.
    """
    if value <= 0:
        return _ZERO_KEY
    return math.ceil(math.log(value) / _LN_GAMMA - 1e-12)


def midpoint(key: int) -> float:
    """The value that stands for a bucket: within 1 % of everything in it."""
    if key == _ZERO_KEY:
        return 0.0
    return float(2 * _GAMMA**key / (_GAMMA + 1))


class LogHistogram:
    """Counts by log bucket. Adding, merging and quantiles; the relative error of every quantile is at most 1 %."""

    __slots__ = ("counts",)

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts) if counts else {}

    def add(self, value: int) -> None:
        key = bucket(value)
        self.counts[key] = self.counts.get(key, 0) + 1

    def add_all(self, values: Iterable[int]) -> None:
        """As `add` for each value, at half the cost: a stream has a hundred gaps and more."""
        counts = self.counts
        for value in values:
            key = math.ceil(math.log(value) / _LN_GAMMA - 1e-12) if value > 0 else _ZERO_KEY
            counts[key] = counts.get(key, 0) + 1

    def merge(self, keys: Iterable[int], counts: Iterable[int]) -> None:
        for key, count in zip(keys, counts, strict=True):
            self.counts[key] = self.counts.get(key, 0) + count

    def total(self) -> int:
        return sum(self.counts.values())

    def quantile(self, q: float) -> float | None:
        """Nearest-rank quantile to within 1 %, or None when empty."""
        total = self.total()
        if not total:
            return None
        rank = _rank(total, q)
        seen = 0
        for key in sorted(self.counts):
            seen += self.counts[key]
            if seen >= rank:
                return midpoint(key)
        raise AssertionError("unreachable: rank is within the total")


def nearest_rank(ordered: Sequence[float], q: float) -> float:
    """Exact quantile of sorted values by nearest rank (type 1), our convention everywhere."""
    if not ordered:
        raise ValueError("no values")
    return ordered[_rank(len(ordered), q) - 1]


def _rank(n: int, q: float) -> int:
    """Nearest rank, 1 to n: the smallest integer not below q * n.

    0.55 * 100 is 55.00000000000001 in floating point; without the factor it would be rank 56.
    """
    return max(1, math.ceil(q * n * (1 - 1e-12)))


def rank_interval(n: int, q: float, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks (1-based) of the order statistics that enclose quantile q, or None when n is too small.

    Binomial, two-sided, equal tails, no assumption on the distribution (Le Boudec); needs independent values.
    """
    alpha = 1 - confidence
    if n < 1 or 1 - q**n - (1 - q) ** n < confidence:
        return None
    lower = _binomial_quantile(n, q, alpha / 2)
    upper = _binomial_quantile(n, q, 1 - alpha / 2) + 1
    if lower < 1 or upper > n:
        return None
    return lower, upper


def _binomial_quantile(n: int, p: float, level: float) -> int:
    """Smallest k with P(Binomial(n, p) <= k) >= level."""
    log_p, log_q = math.log(p), math.log1p(-p)
    log_n = math.lgamma(n + 1)
    # Start 40 standard deviations below the mean: what lies further down adds less than 1e-300.
    start = max(0, int(n * p - 40 * math.sqrt(n * p * (1 - p)) - 1))
    total = 0.0
    for k in range(start, n + 1):
        total += math.exp(log_n - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q)
        if total >= level:
            return k
    return n
