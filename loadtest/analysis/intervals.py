"""Confidence intervals of percentiles for turns that depend on each other.

Turns of one conversation are alike, and so are turns of one minute. Both are looked for in the share of turns above
the percentile, which is all that decides how well a percentile is known (Woodruff 1952): its variance is that of
clusters, counted two ways, by conversation and by time block, with what both count taken out once (Cameron, Gelbach
and Miller 2011). Over the variance of independent turns that is the *design effect*, and n over it the *effective n*.
Time blocks are 30 s long, and every doubling of that which leaves at least ten; the length at which the interval is
widest is taken, with Student's t for so few blocks.

Two intervals, nominally 95 %, both between order statistics, so that the scale does not matter and a failed turn
(+inf) is a value like any other: a bound that falls among failures is +inf.
- *order statistics*: the binomial ranks (`quantiles.rank_interval`) of the effective n;
- *block bootstrap*: whole conversations, in the block in which they began, are drawn with their block; 2,000 times,
  fixed seed; percentile method, with levels expanded for few blocks (Hesterberg 2015).
The wider one, in observed values between its bounds, is the headline. Where the effective n has no interval, none is
given. What these intervals cover is measured in docs/intervals.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from loadtest.analysis.frames import Floats, Ints
from loadtest.quantiles import rank_interval

CONFIDENCE = 0.95
BLOCK_S = 30.0
BLOCKS_MIN = 10
CLUSTERS_DRAWN_MAX = 512  # more are drawn in groups: a replicate of 100,000 single conversations tells nothing more
REPLICATES = 2000
# Replicates are told apart by so many order statistics around the percentile; each bound is rounded outwards to one of
# them. Up to about a thousand turns in reach of the percentile that is exact.
GRID = 1024
_GRID_REACH = 8.0  # standard errors to either side
_SEED = 20_220_901
ORDER, BOOTSTRAP = "order statistics", "block bootstrap"


class Interval(NamedTuple):
    """Between which values a percentile lies. `low` and `high` are None where `withheld` says why there is none.

    `high` (and `low`) may be +inf: among the failed turns. `method` is the wider of the two intervals; `blocks_s` is
    the length of the time blocks, or None when the turns span too short a time for ten of them: then only
    conversations are clusters, and what changes from minute to minute is not in the interval.
    """

    low: float | None
    high: float | None
    n: int
    n_effective: float
    method: str
    blocks_s: float | None
    withheld: str = ""


class Clusters(NamedTuple):
    """Who belongs together, one entry per turn. Made once for all metrics of the same rows."""

    conversation: Ints  # codes 0 .. C-1
    blocks: tuple[tuple[float, Ints, Ints, Ints], ...]  # (length in s, time block, piece = both, block of the start)

    @classmethod
    def of(cls, conversations: npt.ArrayLike | pd.Series[Any], due_s: Floats) -> Clusters:
        """`conversations` names the conversation of each turn (any hashable), `due_s` when it was due, in seconds."""
        codes = pd.factorize(np.asarray(conversations))[0].astype(np.int64)
        due = np.asarray(due_s, dtype=np.float64)
        if not len(due):
            return cls(codes, ())
        elapsed = due - due.min()
        began = np.full(int(codes.max()) + 1, np.inf)
        np.minimum.at(began, codes, elapsed)
        blocks = []
        length = max(BLOCK_S, float(elapsed.max()) / CLUSTERS_DRAWN_MAX)
        # A last block that is mostly empty would count as one: the span is cut into equal ones of about the length.
        while (count := round(float(elapsed.max()) / length)) >= BLOCKS_MIN:
            width = float(elapsed.max()) / count
            at = np.minimum((elapsed / width).astype(np.int64), count - 1)
            start = np.minimum((began / width).astype(np.int64), count - 1)
            single = len(began) == len(codes)  # conversations of one turn: each is its own piece
            piece = codes if single else pd.factorize(codes * count + at)[0].astype(np.int64)
            blocks.append((length, at, piece, start[codes]))
            length *= 2
        return cls(codes, tuple(blocks))

    def keep(self, mask: npt.NDArray[np.bool_]) -> Clusters:
        """Those of some of the turns."""
        if mask.all():
            return self
        return Clusters(self.conversation[mask], tuple((s, a[mask], b[mask], c[mask]) for s, a, b, c in self.blocks))


class _Design(NamedTuple):
    """How much the turns depend on each other at one percentile."""

    effect: float  # variance over that of independent turns; at least 1
    expansion: float  # Student's t over the normal deviate, for the number of clusters
    blocks_s: float | None
    drawn: Ints  # cluster of each turn, for the bootstrap


def interval(
    values: Floats, conversations: npt.ArrayLike | pd.Series[Any], due_s: Floats, q: float, seed: int = _SEED
) -> Interval:
    """The 95 % interval of percentile `q` (0 to 1) of `values`; NaN is absent, +inf a failed turn. See `intervals`."""
    return intervals(values, Clusters.of(conversations, due_s), (q,), seed)[0]


def intervals(values: Floats, clusters: Clusters, levels: Sequence[float], seed: int = _SEED) -> list[Interval]:
    """The intervals of several percentiles of one metric; ten million turns take a few seconds."""
    present = ~np.isnan(values)
    kept, order = clusters.keep(present), np.argsort(values[present])
    ordered = values[present][order]
    return [_interval(ordered, order, kept, q, seed) for q in levels]


def design_effect(misses: npt.NDArray[np.bool_], clusters: Clusters) -> float:
    """By how much fewer independent turns would tell the share of `misses` as well; at least 1. See `slo_passes`."""
    return _design(misses, clusters).effect if len(misses) else 1.0


def _interval(ordered: Floats, order: Ints, clusters: Clusters, q: float, seed: int) -> Interval:
    n = len(ordered)
    if not n:
        return Interval(None, None, 0, 0.0, "", None, "no values")
    above = np.empty(n, dtype=np.bool_)
    above[order] = _above(ordered, q)
    design = _design(above, clusters)
    n_effective = n / design.effect
    independent = int(n_effective / design.expansion**2)
    ranks = rank_interval(independent, q, CONFIDENCE)
    if ranks is None:
        return Interval(None, None, n, n_effective, "", design.blocks_s, f"effective sample too small ({independent})")
    by_order = _spread_ranks(ranks, independent, n)
    by_bootstrap = _bootstrap_ranks(design.drawn[order], n, q, design, seed)
    low, high = max((by_order, by_bootstrap), key=lambda bounds: bounds[1] - bounds[0])
    method = ORDER if (low, high) == by_order else BOOTSTRAP
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]), n, n_effective, method, design.blocks_s)


def _above(ordered: Floats, q: float) -> npt.NDArray[np.bool_]:
    """Which of the sorted values lie above percentile q; of tied ones at the top, which are as high as it."""
    at = ordered[max(1, math.ceil(q * len(ordered) * (1 - 1e-12))) - 1]
    above: npt.NDArray[np.bool_] = ordered > at
    return above if above.any() else ordered >= at


def _design(misses: npt.NDArray[np.bool_], clusters: Clusters) -> _Design:
    """The block length at which the interval is widest."""
    n = len(misses)
    residual = misses - misses.mean()
    independent = float(residual @ residual)
    by_conversation, conversations = _variance(residual, clusters.conversation)
    if not independent:
        return _Design(1.0, 1.0, None, clusters.conversation)
    if not clusters.blocks:
        effect = max(1.0, by_conversation / independent) if conversations > 1 else float(n)
        return _Design(effect, _expansion(conversations), None, clusters.conversation % CLUSTERS_DRAWN_MAX)
    found = []
    for length_s, block, piece, start in clusters.blocks:
        by_time, blocks = _variance(residual, block)
        both, _ = _variance(residual, piece)
        variance = max(independent, by_conversation, by_time, by_conversation + by_time - both)
        found.append(_Design(variance / independent, _expansion(blocks), length_s, start))
    return max(found, key=lambda each: each.effect * each.expansion**2)


def _variance(residual: Floats, cluster: Ints) -> tuple[float, int]:
    """Variance of the sum of residuals when whole clusters are drawn, and how many clusters there are."""
    sums = np.bincount(cluster, weights=residual)
    count = int(np.count_nonzero(np.bincount(cluster)))
    return float(sums @ sums) * count / max(1, count - 1), count


def _expansion(clusters: int) -> float:
    """Student's t over the normal deviate: how much wider an interval from so few clusters must be."""
    upper = 1 - (1 - CONFIDENCE) / 2
    return float(special.stdtrit(max(1, clusters - 1), upper) / special.ndtri(upper))


def _spread_ranks(ranks: tuple[int, int], independent: int, n: int) -> tuple[int, int]:
    """Ranks among `independent` turns as ranks among n: rank l of m stands for the share l / (m + 1)."""
    low = math.floor(ranks[0] / (independent + 1) * (n + 1) * (1 + 1e-12))
    high = math.ceil(ranks[1] / (independent + 1) * (n + 1) * (1 - 1e-12))
    return max(1, low), min(n, high)


def _bootstrap_ranks(drawn: Ints, n: int, q: float, design: _Design, seed: int) -> tuple[int, int]:
    """Ranks between which the replicates' percentiles lie. `drawn` is the cluster of each turn, in order of values."""
    occurs = np.bincount(drawn) > 0
    cluster, count = (np.cumsum(occurs) - 1)[drawn], int(occurs.sum())
    grid = _grid(n, q, design.effect)
    if count < 2:
        return 1, n
    # below[k, j]: turns of cluster k among the first grid[j].
    step = np.repeat(np.arange(len(grid) + 1), np.diff(grid, prepend=0, append=n))  # how many of the grid lie before
    counted = np.bincount(cluster * (len(grid) + 1) + step, minlength=count * (len(grid) + 1))
    below = counted.reshape(count, -1).cumsum(axis=1)[:, : len(grid)].astype(np.float64)
    sizes = np.bincount(cluster, minlength=count).astype(np.float64)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES).astype(np.float64)
    wanted = np.ceil(q * (times @ sizes) * (1 - 1e-12))
    # The first order statistic of the grid up to which the replicate has its nearest rank.
    found = np.sort((times @ below < wanted[:, None]).sum(axis=1))
    z = float(special.ndtri(1 - (1 - CONFIDENCE) / 2)) * design.expansion * math.sqrt(count / (count - 1))
    tail = float(special.ndtr(-z))
    first = max(1, math.floor(tail * REPLICATES)) - 1
    low, high = int(found[first]), int(found[REPLICATES - 1 - first])
    return (int(grid[low - 1]) + 1 if low else 1), (int(grid[high]) if high < len(grid) else n)


def _grid(n: int, q: float, effect: float) -> Ints:
    """Ranks, ascending, in reach of percentile q."""
    reach = _GRID_REACH * math.sqrt(effect * q * (1 - q) * n) + 2
    first, last = max(1, math.floor(q * n - reach)), min(n, math.ceil(q * n + reach))
    return np.unique(np.linspace(first, last, min(GRID, last - first + 1)).astype(np.int64))
