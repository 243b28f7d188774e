"""Percentiles of values some of which are censored. Nearest rank everywhere (`quantiles.nearest_rank`).

Arrays in: NaN is absent, +inf is censored (see `metrics`). Numbers out are rounded to 3 decimals and never
infinite: a percentile that falls among the censored is None and has a text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.analysis.frames import Floats
from loadtest.analysis.intervals import ORDER, Clusters, Interval, intervals
from loadtest.quantiles import LogHistogram, midpoint, rank_interval

LEVELS = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
SMALLEST_INTERVAL = {"p50": 6, "p95": 59, "p99": 299}  # below these no two-sided 95 % interval exists
SMALLEST_SAMPLE = {"p50": 100, "p95": 300, "p99": 1000}  # below these a figure is too rough to compare
ECDF_POINTS_MAX = 200


def number(value: float | None) -> float | None:
    """A float for JSON: 3 decimals, None for absent and censored."""
    return None if value is None or not math.isfinite(value) else round(float(value), 3)


def present(values: Floats) -> Floats:
    """The values that are there, sorted: what `describe` and `ecdf` both need."""
    ordered = values[~np.isnan(values)]
    ordered.sort()
    return ordered


def describe(
    values: Floats, waited: Floats | None = None, clusters: Clusters | None = None, *, ordered: Floats | None = None
) -> dict[str, Any]:
    """n, p50, p95, p99, max, their 95 % intervals and the number of censored values.

    A percentile is None with a text when it is censored ("> 120 s"), when n is below SMALLEST_INTERVAL, or when the
    effective n has no interval. `waited` (same rows) says how long a censored row took at the least, and sharpens the
    text; `clusters` says which rows belong together, without it all are independent. An interval whose upper bound lies
    among the censored is [low, None]. `ordered` are the `present` values, of a caller who has them.
    """
    if ordered is None:
        ordered = present(values)
    n, answered = len(ordered), _answered(ordered)
    found: dict[str, Any] = {
        "n": n,
        "max": number(float(ordered[answered - 1])) if answered else None,
        "censored": n - answered,
    }
    if clusters is None:
        bounds = [_independent(ordered, q) for _, q in LEVELS]
    else:
        bounds = intervals(values, clusters, [q for _, q in LEVELS], ordered=ordered)
    for (name, q), bound in zip(LEVELS, bounds, strict=True):
        value = quantile(ordered, q)
        few = f"n too small ({n} < {SMALLEST_INTERVAL[name]})" if n < SMALLEST_INTERVAL[name] else ""
        withheld = f"withheld: {bound.withheld}" if bound.withheld else ""
        beyond = more_than(_least(values, waited, q), found["max"]) if value == math.inf else ""
        found[name] = None if few or withheld else number(value)
        found[f"{name}_interval"] = None if few or withheld else _told(bound)
        found[f"{name}_n_effective"] = round(bound.n_effective)
        if withheld and not few:
            # For comparisons of runs, whose spread takes the interval's place: there a figure must not come and go.
            found[f"{name}_withheld"] = number(value)
        if few or beyond or withheld:
            found[f"{name}_text"] = (few or beyond or withheld) if n else "no values"
    return found


def describe_histogram(histogram: LogHistogram) -> dict[str, Any]:
    """The same shape for pooled gaps in ns, in ms and within 1 %.

    No intervals: the gaps of one answer are not independent, and which answer each is of is not kept.
    """
    found: dict[str, Any] = {"n": histogram.total(), "censored": 0}
    found["max"] = number(midpoint(max(histogram.counts)) / 1e6) if histogram.counts else None
    for name, q in LEVELS:
        value = histogram.quantile(q)
        found[name] = None if value is None else number(value / 1e6)
        found[f"{name}_interval"] = found[f"{name}_n_effective"] = None
        if value is None:
            found[f"{name}_text"] = "no values"
    return found


def quantile(ordered: Floats, q: float) -> float | None:
    """`quantiles.nearest_rank` of a sorted array; None when empty, +inf when censored."""
    return float(ordered[int(nearest_ranks(len(ordered), q)) - 1]) if len(ordered) else None


def present_quantile(values: Floats, q: float) -> float | None:
    """Quantile of an unsorted array without its absent values, for JSON."""
    return present_quantiles(values, (q,))[0]


def present_quantiles(values: Floats, levels: Sequence[float]) -> list[float | None]:
    """Several of them at the price of one."""
    found = values[~np.isnan(values)]
    if not len(found):
        return [None for _ in levels]
    places = [int(nearest_ranks(len(found), q)) - 1 for q in levels]
    found.partition(sorted(set(places)))
    return [number(float(found[place])) for place in places]


def grouped_quantile(groups: npt.NDArray[np.intp], count: int, values: Floats, q: float) -> Floats:
    """Nearest-rank quantile of `values` in each of `count` groups (codes 0 .. count-1, negative means none).

    Shape (count,); NaN for a group without values, +inf when the quantile is censored.
    """
    return grouped_quantiles(groups, count, values, (q,))[0]


def grouped_quantiles(
    groups: npt.NDArray[np.intp], count: int, values: Floats, levels: Sequence[float]
) -> list[Floats]:
    """Several of them from one sort."""
    ordered, sizes = sorted_groups(groups, count, values)
    filled = sizes > 0
    before = np.cumsum(sizes) - sizes
    found = []
    for q in levels:
        result = np.full(count, np.nan)
        result[filled] = ordered[(before + nearest_ranks(sizes, q) - 1)[filled]]
        found.append(result)
    return found


def sorted_groups(groups: npt.NDArray[np.integer], count: int, values: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """The present values, group after group and sorted within each, and how many each group has.

    Small integers are sorted in linear time and each group is then sorted by itself: a fifth of the time that one sort
    by (group, value) takes at ten million values.
    """
    keep = ~np.isnan(values) & (groups >= 0)
    codes, kept = groups[keep], values[keep]
    ordered = kept[np.argsort(codes.astype(np.uint16) if count <= 2**16 else codes, kind="stable")]
    sizes = np.bincount(codes, minlength=count)
    ends = np.cumsum(sizes)
    for group in np.flatnonzero(sizes > 1):
        ordered[ends[group] - sizes[group] : ends[group]].sort()
    return ordered, sizes


def ecdf(ordered: Floats) -> list[list[float]]:
    """At most 200 points (value, share of all values <= value) of `present` values; censored ones keep the top below 1.

    Ranks are spaced by powers from both ends, so that the first and the last percent are drawn as finely as the middle.
    """
    answered = _answered(ordered)
    ranks = _ranks(answered) if answered else []
    return [[round(float(ordered[r - 1]), 3), round(r / len(ordered), 6)] for r in ranks]


def ecdf_histogram(histogram: LogHistogram) -> list[list[float]]:
    """The ECDF of pooled gaps in ns as (ms, share)."""
    keys = sorted(histogram.counts)
    if not keys:
        return []
    shares = np.cumsum([histogram.counts[key] for key in keys]) / histogram.total()
    return [[round(midpoint(keys[r - 1]) / 1e6, 3), round(float(shares[r - 1]), 6)] for r in _ranks(len(keys))]


def nearest_ranks(sizes: int | npt.NDArray[np.integer], q: float) -> npt.NDArray[np.intp]:
    """The rank of quantile q in each size, 1-based: `quantiles.nearest_rank` for many sizes at once."""
    return np.maximum(1, np.ceil(q * np.asarray(sizes) * (1 - 1e-12))).astype(np.intp)


def _ranks(n: int) -> list[int]:
    if n <= ECDF_POINTS_MAX:
        return list(range(1, n + 1))
    steps = np.unique(np.geomspace(1, (n + 1) / 2, ECDF_POINTS_MAX // 2).astype(np.int64))
    return [int(r) for r in np.unique(np.concatenate([steps, n + 1 - steps]))]


def _answered(ordered: Floats) -> int:
    """How many of the sorted values are not censored."""
    return int(np.searchsorted(ordered, np.inf, side="left"))


def _least(values: Floats, waited: Floats | None, q: float) -> float:
    """The quantile of what each value is known to be at least: itself, the time waited, or +inf for an outright error.

    There must be a value.
    """
    least = values if waited is None else np.where(np.isinf(values) & ~np.isnan(waited), waited, values)
    least = least[~np.isnan(least)]
    place = int(nearest_ranks(len(least), q)) - 1
    least.partition(place)
    return float(least[place])


def _independent(ordered: Floats, q: float) -> Interval:
    """The interval of independent values; none is no reason to withhold what they say in the middle."""
    ranks = rank_interval(len(ordered), q)
    low, high = (float(ordered[rank - 1]) for rank in ranks) if ranks else (None, None)
    return Interval(low, high, len(ordered), len(ordered), ORDER, None)


def _told(bound: Interval) -> list[float | None] | None:
    """For JSON: a bound among the failed has no value, and an interval that lies there altogether is none."""
    if bound.low is None or not math.isfinite(bound.low):
        return None
    return [number(bound.low), number(bound.high)]


def more_than(waited_ms: float | None, longest_ms: float | None) -> str:
    """ "> 120 s": the larger of what was waited and the longest answer, rounded down so that the claim stays true."""
    least_ms = max(longest_ms or 0.0, waited_ms if waited_ms is not None and math.isfinite(waited_ms) else 0.0)
    if least_ms <= 0:
        return "no answer"
    step = 10.0 ** (math.floor(math.log10(least_ms)) - 2)
    return f"> {math.floor(least_ms / step + 1e-9) * step / 1e3:.3g} s"
