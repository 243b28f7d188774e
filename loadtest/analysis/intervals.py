"""Confidence intervals of percentiles for turns that depend on each other.

Turns of one conversation are alike, and so are turns of one minute. Both are looked for in the share of turns above
the percentile, which is all that decides how well a percentile is known (Woodruff 1952): its variance is that of
clusters, counted two ways, by conversation and by time block, with what both count taken out once (Cameron, Gelbach
and Miller 2011). Over the variance of independent turns that is the *design effect*, and n over it the *effective n*.
What is alike across the border of two blocks is missing; twice the variance at one length less that at half the length
makes up for it.
Time blocks are 30 s long, and every doubling of that which leaves at least ten; the length at which the interval is
widest is taken, with Student's t for so few blocks.

Two intervals, nominally 95 %, both between order statistics, so that the scale does not matter and a failed turn
(+inf) is a value like any other: a bound that falls among failures is +inf.
- *order statistics*: the binomial ranks (`bounds.rank_intervals`) of the effective n;
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

from loadtest.analysis.bounds import rank_intervals
from loadtest.analysis.frames import Floats

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
    """Who belongs together. Made once for all metrics of the same rows; everything else streams over it.

    Rows are sorted by conversation and within it by time block; a *piece* is one conversation in one block.
    """

    order: npt.NDArray[np.int32]  # rows, sorted
    pieces: npt.NDArray[np.intp]  # where each piece begins in that order
    conversations: npt.NDArray[np.intp]  # where each conversation begins among the pieces
    block: npt.NDArray[np.int16]  # of each piece; the finest ones
    began: npt.NDArray[np.int16]  # of each sorted row: the block in which its conversation began
    lengths: tuple[_Length, ...]  # none when the rows span less than ten blocks

    @classmethod
    def of(cls, conversations: npt.ArrayLike | pd.Series[Any], due_s: Floats) -> Clusters:
        """`conversations` names the conversation of each turn (any hashable), `due_s` when it was due, in seconds."""
        codes = _codes(np.asarray(conversations))
        due = np.asarray(due_s, dtype=np.float64)
        nothing = np.empty(0, dtype=np.intp)
        if not len(due):
            return cls(nothing.astype(np.int32), nothing, nothing, *2 * (nothing.astype(np.int16),), ())
        first_s, span_s = float(due.min()), float(due.max() - due.min())
        finest_s = max(BLOCK_S, span_s / CLUSTERS_DRAWN_MAX)
        # A last block that is mostly empty would count as one: the span is cut into equal ones of about that length.
        count = max(1, round(span_s / finest_s))
        at = np.minimum((due - first_s) * (count / span_s if span_s else 0.0), count - 1).astype(np.int64)
        key = codes * count + at
        order = np.argsort(key, kind="stable").astype(np.int32)
        pieces = _starts(key[order])
        piece_key = key[order[pieces]]
        block, conversation = (piece_key % count).astype(np.int16), piece_key // count
        of_conversation = _starts(conversation)
        sizes = np.diff(np.append(pieces[of_conversation], len(due)))
        began = np.repeat(block[of_conversation], sizes)
        lengths: list[_Length] = []
        while count >> len(lengths) >= BLOCKS_MIN:
            length = _Length(finest_s * (1 << len(lengths)), len(lengths), count >> len(lengths), nothing)
            coarse = np.stack([conversation, length.of(block)])
            changes = np.append(True, (coarse[:, 1:] != coarse[:, :-1]).any(axis=0))
            lengths.append(length._replace(pieces=np.flatnonzero(changes)))
        return cls(order, pieces, of_conversation, block, began, tuple(lengths))


class _Length(NamedTuple):
    """Time blocks of one length: 2 ** `doubled` of the finest ones, `blocks` in all; what is left joins the last."""

    seconds: float
    doubled: int
    blocks: int
    pieces: npt.NDArray[np.intp]  # where each piece of this length begins among the finest pieces

    def of(self, block: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The block of this length that each of the finest ones belongs to."""
        coarse: npt.NDArray[np.int64] = np.minimum(block.astype(np.int64) >> self.doubled, self.blocks - 1)
        return coarse


class _Design(NamedTuple):
    """How much the turns depend on each other at one percentile."""

    effect: float  # variance over that of independent turns; at least 1
    expansion: float  # Student's t over the normal deviate, for the number of clusters
    length: _Length | None


class _Sorted(NamedTuple):
    """The values of one metric in the order of the clusters, and sorted by themselves without the absent ones."""

    values: Floats
    present: npt.NDArray[np.bool_] | None  # None: all
    ordered: Floats


def interval(
    values: Floats, conversations: npt.ArrayLike | pd.Series[Any], due_s: Floats, q: float, seed: int = _SEED
) -> Interval:
    """The 95 % interval of percentile `q` (0 to 1) of `values`; NaN is absent, +inf a failed turn. See `intervals`."""
    return intervals(values, Clusters.of(conversations, due_s), (q,), seed)[0]


def intervals(
    values: Floats, clusters: Clusters, levels: Sequence[float], seed: int = _SEED, *, ordered: Floats | None = None
) -> list[Interval]:
    """The intervals of several percentiles of one metric. Time and memory grow with n, not with n times 2,000.

    `ordered` are the present values, sorted, of a caller who has them: the sort is much of the work.
    """
    in_order = np.asarray(values, dtype=np.float64)[clusters.order]
    present = ~np.isnan(in_order)
    all_there = bool(present.all())
    if ordered is None:
        ordered = np.sort(in_order if all_there else in_order[present])
    found = _Sorted(in_order, None if all_there else present, ordered)
    return [_interval(found, clusters, q, seed) for q in levels]


def design_effect(
    misses: npt.NDArray[np.bool_], clusters: Clusters, present: npt.NDArray[np.bool_] | None = None
) -> float:
    """By how much fewer independent turns would tell the share of `misses` as well; at least 1. See `slo_passes`.

    `present` says which rows count; the others are no misses either.
    """
    if not len(misses) or (present is not None and not present.any()):
        return 1.0
    shown = None if present is None else present[clusters.order]
    return _design(misses[clusters.order], shown, clusters).effect


def _interval(found: _Sorted, clusters: Clusters, q: float, seed: int) -> Interval:
    ordered, n = found.ordered, len(found.ordered)
    if not n:
        return Interval(None, None, 0, 0.0, "", None, "no values")
    design = _design(_above(found, q), found.present, clusters)
    n_effective = n / design.effect
    blocks_s = None if design.length is None else design.length.seconds
    independent = int(n_effective / design.expansion**2)
    low_ranks, high_ranks = rank_intervals(np.array([independent]), q)
    ranks = int(low_ranks[0]), int(high_ranks[0])
    if not ranks[0]:
        return Interval(None, None, n, n_effective, "", blocks_s, f"effective sample too small ({independent})")
    by_order = _spread_ranks(ranks, independent, n)
    by_bootstrap = _bootstrap_ranks(found, clusters, q, design, seed)
    low, high = max((by_order, by_bootstrap), key=lambda bounds: bounds[1] - bounds[0])
    method = ORDER if (low, high) == by_order else BOOTSTRAP
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]), n, n_effective, method, blocks_s)


def _above(found: _Sorted, q: float) -> npt.NDArray[np.bool_]:
    """Which values lie above percentile q; where it is the largest there is, which are as high as it."""
    at = found.ordered[max(1, math.ceil(q * len(found.ordered) * (1 - 1e-12))) - 1]
    above: npt.NDArray[np.bool_] = found.values > at if at < found.ordered[-1] else found.values >= at
    return above


def _design(misses: npt.NDArray[np.bool_], present: npt.NDArray[np.bool_] | None, clusters: Clusters) -> _Design:
    """At the block length at which the interval is widest. Rows in the order of the clusters."""
    missed = np.add.reduceat(misses, clusters.pieces, dtype=np.int64)
    if present is None:
        sizes = np.diff(np.append(clusters.pieces, len(misses)))
    else:
        sizes = np.add.reduceat(present, clusters.pieces, dtype=np.int64)
    n, total = int(sizes.sum()), int(missed.sum())
    independent = total * (1 - total / n)
    residual = missed - (total / n) * sizes
    people = int(np.count_nonzero(np.add.reduceat(sizes, clusters.conversations)))
    if not independent:
        return _Design(1.0, 1.0, clusters.lengths[0] if clusters.lengths else None)
    by_conversation = _variance(np.add.reduceat(residual, clusters.conversations), people)
    if not clusters.lengths:
        effect = max(1.0, by_conversation / independent) if people > 1 else float(n)
        return _Design(effect, _expansion(people - 1), None)
    finest = np.bincount(clusters.block, weights=residual)
    filled = np.bincount(clusters.block, weights=sizes)
    names = np.arange(len(finest))
    found = []
    shorter = math.inf
    for length in clusters.lengths:
        sums = np.bincount(length.of(names), weights=finest)
        blocks = int(np.count_nonzero(np.bincount(length.of(names), weights=filled)))
        by_time = _variance(sums, blocks)
        both = by_conversation
        if len(length.pieces) > len(clusters.conversations):
            both = _variance(np.add.reduceat(residual, length.pieces), people)
        # What blocks cut apart is missing from their variance, half as much at twice the length: so it goes on to here.
        # That is less certain than a variance, by about a third of the blocks.
        for of_time, freedom in ((by_time, blocks - 1), (2 * by_time - shorter, 2 * (blocks - 1) // 3)):
            if of_time >= by_time:
                variance = max(independent, by_conversation, of_time, by_conversation + of_time - both)
                found.append(_Design(variance / independent, _expansion(freedom), length))
        shorter = by_time
    return max(found, key=lambda each: each.effect * each.expansion**2)


def _variance(sums: npt.NDArray[Any], clusters: int) -> float:
    """Variance of the sum of residuals when whole clusters are drawn."""
    return float(sums @ sums) * clusters / max(1, clusters - 1)


def _expansion(freedom: int) -> float:
    """Student's t over the normal deviate: how much wider an interval from so few clusters, less one, must be."""
    upper = 1 - (1 - CONFIDENCE) / 2
    return float(special.stdtrit(max(1, freedom), upper) / special.ndtri(upper))


def _spread_ranks(ranks: tuple[int, int], independent: int, n: int) -> tuple[int, int]:
    """Ranks among `independent` turns as ranks among n: rank l of m stands for the share l / (m + 1)."""
    low = math.floor(ranks[0] / (independent + 1) * (n + 1) * (1 + 1e-12))
    high = math.ceil(ranks[1] / (independent + 1) * (n + 1) * (1 - 1e-12))
    return max(1, low), min(n, high)


def _bootstrap_ranks(found: _Sorted, clusters: Clusters, q: float, design: _Design, seed: int) -> tuple[int, int]:
    """Ranks between which the replicates' percentiles lie, when whole clusters are drawn."""
    n = len(found.ordered)
    drawn = _drawn(clusters, design.length)
    count = int(drawn.max()) + 1
    if count < 2:
        return 1, n
    grid = _grid(n, q, design.effect)
    before, below, sizes = _below(found, drawn, count, found.ordered[grid - 1])
    rng = np.random.default_rng(seed)
    times = rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES).astype(np.float64)
    wanted = np.ceil(q * (times @ sizes) * (1 - 1e-12))
    # The first value of the grid up to which the replicate has its nearest rank; -1 for one before all of them.
    reached = np.sort((times @ below < wanted[:, None]).sum(axis=1) - (times @ before >= wanted))
    z = float(special.ndtri(1 - (1 - CONFIDENCE) / 2)) * design.expansion * math.sqrt(count / (count - 1))
    first = max(1, math.floor(float(special.ndtr(-z)) * REPLICATES)) - 1
    low, high = int(reached[first]), int(reached[REPLICATES - 1 - first])
    low_rank = 1 if low < 0 else int(grid[0]) if low == 0 else int(grid[low - 1]) + 1
    return low_rank, (int(grid[max(0, high)]) if high < len(grid) else n)


def _drawn(clusters: Clusters, length: _Length | None) -> npt.NDArray[Any]:
    """What is drawn together, for each row in the order of the clusters: the block its conversation began in.

    Without blocks it is the conversation, or a group of them.
    """
    if length is not None:
        return length.of(clusters.began) if length.doubled else clusters.began
    sizes = np.diff(np.append(clusters.pieces[clusters.conversations], len(clusters.order)))
    groups = np.arange(len(sizes)) % CLUSTERS_DRAWN_MAX
    return np.repeat(groups, sizes)


def _below(found: _Sorted, drawn: npt.NDArray[Any], count: int, thresholds: Floats) -> tuple[Floats, Floats, Floats]:
    """How many values of each cluster lie below all thresholds, (count,); are at most each threshold, (count,
    thresholds); and how many it has, (count,).

    Only the values between the lowest and the highest threshold are looked up: of ten million some ten thousand.
    """
    sizes = np.bincount(drawn if found.present is None else drawn[found.present], minlength=count)
    low = found.values < thresholds[0]
    inside = np.flatnonzero((found.values <= thresholds[-1]) & ~low)
    step = np.searchsorted(thresholds, found.values[inside], side="left")
    wide = len(thresholds)
    counted = np.bincount(drawn[inside].astype(np.int64) * wide + step, minlength=count * wide).reshape(count, wide)
    before = np.bincount(drawn[low], minlength=count)
    below = before[:, None] + counted.cumsum(axis=1)
    return before.astype(np.float64), below.astype(np.float64), sizes.astype(np.float64)


def _grid(n: int, q: float, effect: float) -> npt.NDArray[np.int64]:
    """Ranks, ascending, in reach of percentile q."""
    reach = _GRID_REACH * math.sqrt(effect * q * (1 - q) * n) + 2
    first, last = max(1, math.floor(q * n - reach)), min(n, math.ceil(q * n + reach))
    return np.unique(np.linspace(first, last, min(GRID, last - first + 1)).astype(np.int64))


def _codes(names: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Small numbers for names; numbers that are small already stay as they are."""
    if names.dtype.kind in "iu" and len(names):
        low, high = int(names.min()), int(names.max())
        if high - low <= 8 * len(names) + 1_000:
            return names.astype(np.int64) - low
    return pd.factorize(names)[0].astype(np.int64)


def _starts(ordered: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
