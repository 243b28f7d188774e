"""The bucket bounds of OpenTelemetry's GenAI conventions, and our log-bucket histograms put into such buckets.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md (status: Development).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

from loadtest.quantiles import LogHistogram, midpoint

# 0.01 s doubling to 81.92 s by the convention; the last two are ours, for a network that answers in minutes.
DURATION_BOUNDS_S = tuple(round(0.01 * 2**k, 2) for k in range(16))
# The harness's own errors lie far below that; the bounds of fitness are 0.05 s and 0.02 s.
ERROR_BOUNDS_S = (0.000_625, 0.001_25, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
TOKEN_BOUNDS = tuple(4**k for k in range(14))


@cache
def _index(key: int, bounds_s: tuple[float, ...]) -> int:
    return bisect_left(bounds_s, midpoint(key) / 1e9)


def cumulative(values_ns: LogHistogram, bounds_s: tuple[float, ...]) -> tuple[list[int], float]:
    """Counts at or below each bound and in all, and the sum in seconds.

    A log bucket is 2 % wide and goes where its middle is, so a value within 1 % of a bound may be counted on its other
    side, and the sum is within 1 %. The same value always goes the same way: counts and sum only grow.
    """
    counts = [0] * (len(bounds_s) + 1)
    total_s = 0.0
    for key, count in values_ns.counts.items():
        counts[_index(key, bounds_s)] += count
        total_s += count * midpoint(key) / 1e9
    return running(counts), total_s


def running(counts: Sequence[int]) -> list[int]:
    """Each count with all before it."""
    sums, total = [], 0
    for count in counts:
        total += count
        sums.append(total)
    return sums


class TokenCounts:
    """How many requests had so many tokens, in the convention's buckets, and the exact sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(TOKEN_BOUNDS) + 1)
        self.sum = 0

    def add(self, tokens: int) -> None:
        self.counts[bisect_left(TOKEN_BOUNDS, tokens)] += 1
        self.sum += tokens


def bound_text(bound: float) -> str:
    """As Prometheus writes the value of `le`."""
    return "+Inf" if math.isinf(bound) else str(bound if bound != int(bound) else float(bound))
