"""Two small groups of figures: are they shifted, by how much, and how sure is that? By ranks, exact for any ties.

Made for a handful of runs a side, where nothing is known of the distribution. Values may be +-inf: ranks need only an
order. Sources: Mann and Whitney 1947 (test), Hodges and Lehmann 1963 (shift, and its interval by inverting the test),
Benjamini and Hochberg 1995 (many tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from loadtest.analysis.frames import Floats

CONFIDENCE = 0.95
_NEAR = 1e-9  # probabilities are sums of floats


class Shift(NamedTuple):
    """How far `after` lies above `before`. The interval is None where so few values allow none."""

    shift: float
    interval: tuple[float, float] | None


def mann_whitney_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Two-sided p-value: how often a random split of the same values has rank sums at least as uneven.

    Exact over all splits, with mid-ranks for ties: 6 v 6 apart from each other give 2/924. 1.0 for an empty side.
    """
    if not before or not after:
        return 1.0
    doubled = np.rint(2 * rankdata([*before, *after])).astype(int)
    chances = _rank_sums(tuple(sorted(doubled.tolist())), len(after))
    middle = len(after) * (len(doubled) + 1)  # of doubled ranks
    away = abs(int(doubled[len(before) :].sum()) - middle)
    sums = np.arange(len(chances))
    return float(min(1.0, chances[np.abs(sums - middle) >= away].sum()))


def hodges_lehmann(before: Sequence[float], after: Sequence[float], confidence: float = CONFIDENCE) -> Shift:
    """The median of all differences after - before, with the interval that the exact test would not reject.

    Without ties the interval covers at least `confidence`; with ties it does so and more. Two infinite values
    differ by 0. ValueError for an empty side.
    """
    if not before or not after:
        raise ValueError("a shift needs values on both sides")
    with np.errstate(invalid="ignore"):
        pairs = np.subtract.outer(np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64))
    pairs = np.sort(np.where(np.isnan(pairs), 0.0, pairs).ravel())
    left_out = _pairs_left_out(len(before), len(after), confidence)
    interval = None if left_out is None else (float(pairs[left_out]), float(pairs[len(pairs) - 1 - left_out]))
    return Shift(_median(pairs), interval)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for their number: those at or below q are found with a false discovery rate of q."""
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    least = 1.0
    for rank in range(len(p_values), 0, -1):
        place = order[rank - 1]
        least = min(least, p_values[place] * len(p_values) / rank)
        corrected[place] = least
    return [float(each) for each in corrected]


def _median(ordered: Floats) -> float:
    low, high = float(ordered[(len(ordered) - 1) // 2]), float(ordered[len(ordered) // 2])
    if low == high or (low == -np.inf and high == np.inf):
        return low if low == high else 0.0
    return (low + high) / 2


@lru_cache(maxsize=256)
def _rank_sums(doubled: tuple[int, ...], size: int) -> Floats:
    """P(sum = s) of `size` of the doubled ranks drawn without replacement, for s = 0 .. their total."""
    # Ways to reach each sum with k of the first ranks. The sums of a row are divided by its number of subsets at
    # the end; as floats they are exact to 1e-15 of themselves, which is all that a p-value needs.
    ways = np.zeros((size + 1, sum(doubled) + 1))
    ways[0, 0] = 1.0
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    chances: Floats = ways[size] / ways[size].sum()
    return chances


@lru_cache(maxsize=256)
def _pairs_left_out(before: int, after: int, confidence: float) -> int | None:
    """How many of the smallest differences lie outside the interval; None when the whole range is not enough."""
    sums = _rank_sums(tuple(range(2, 2 * (before + after) + 1, 2)), after)[::2]
    lowest = after * (after + 1) // 2
    at_most = np.cumsum(sums[lowest : lowest + before * after + 1])  # P(U <= u)
    outside = int(np.sum(at_most <= (1 - confidence) / 2 + _NEAR))
    return outside - 1 if outside else None
