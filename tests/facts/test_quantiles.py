"""Quantiles: the histogram's 1 %, exact nearest ranks, and the intervals against exact binomial sums."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.quantiles import RELATIVE_ERROR, LogHistogram, bucket, midpoint, nearest_rank, rank_interval

durations_ns = st.integers(0, 10**13)  # up to three hours
shares = st.integers(0, 1000).map(lambda k: Fraction(k, 1000))


def filled(values: list[int]) -> LogHistogram:
    histogram = LogHistogram()
    for value in values:
        histogram.add(value)
    return histogram


def within_one_percent(estimate: float, exact: float) -> bool:
    return abs(estimate - exact) <= exact * RELATIVE_ERROR * (1 + 1e-9)


@given(st.integers(1, 2**63 - 1))
def test_a_bucket_stands_for_its_values_within_one_percent(value: int) -> None:
    assert within_one_percent(midpoint(bucket(value)), value)


def test_zero_has_a_bucket_of_its_own() -> None:
    assert bucket(0) == -1
    assert midpoint(-1) == 0.0
    assert bucket(1) == 0  # so no duration shares the key of zero
    assert filled([0, 0, 0, 5]).quantile(0.75) == 0.0


@given(st.lists(durations_ns, min_size=1, max_size=200), shares)
def test_the_histogram_is_within_one_percent_of_the_exact_quantile(values: list[int], q: Fraction) -> None:
    estimate = filled(values).quantile(float(q))
    assert estimate is not None
    assert within_one_percent(estimate, nearest_rank(sorted(values), float(q)))


@given(st.lists(st.lists(durations_ns, max_size=50), max_size=5))
def test_merging_is_the_same_as_adding_everything_to_one(parts: list[list[int]]) -> None:
    merged = LogHistogram()
    for part in parts:
        counts = filled(part).counts
        merged.merge(tuple(counts), tuple(counts.values()))
    whole = filled([value for part in parts for value in part])
    assert merged.counts == whole.counts
    assert merged.total() == sum(map(len, parts))


@given(st.lists(st.integers(-5, 2**63 - 1), max_size=50))
def test_adding_all_is_adding_each(values: list[int]) -> None:
    at_once = LogHistogram()
    at_once.add_all(values)
    assert at_once.counts == filled(values).counts


def test_a_copy_does_not_share_counts_and_uneven_lists_are_refused() -> None:
    counts = {3: 1}
    histogram = LogHistogram(counts)
    histogram.add(0)
    assert counts == {3: 1}
    with pytest.raises(ValueError, match="zip"):
        histogram.merge([1, 2], [1])


def test_an_empty_histogram_has_no_quantile() -> None:
    assert LogHistogram().total() == 0
    assert LogHistogram().quantile(0.5) is None


@given(st.lists(st.integers(), min_size=1, max_size=300), shares)
def test_nearest_rank_is_the_smallest_value_that_enough_do_not_exceed(values: list[int], q: Fraction) -> None:
    # The definition of the type 1 quantile, in exact arithmetic.
    enough = next(v for v in sorted(values) if Fraction(sum(x <= v for x in values), len(values)) >= q)
    assert nearest_rank(sorted(values), float(q)) == enough


@pytest.mark.parametrize(
    ("n", "q", "rank"),
    [(100, 0.5, 50), (100, 0.55, 55), (100, 0.07, 7), (101, 0.5, 51), (1000, 0.999, 999), (7, 0.0, 1), (7, 1.0, 7)],
)
def test_nearest_rank_by_hand(n: int, q: float, rank: int) -> None:
    # 0.55 * 100 and 0.07 * 100 lie just above the integer in floating point.
    assert nearest_rank(range(1, n + 1), q) == rank


def test_nearest_rank_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        nearest_rank([], 0.5)


# The median's ranks at n = 100 are those of Le Boudec's table ("Performance Evaluation", appendix A).
@pytest.mark.parametrize(
    ("n", "q", "ranks"),
    [
        (100, 0.5, (40, 61)),
        (100, 0.95, (90, 100)),
        (100, 0.99, None),
        (300, 0.5, (133, 168)),
        (300, 0.95, (277, 293)),
        (300, 0.99, None),
        (1000, 0.5, (469, 532)),
        (1000, 0.95, (936, 964)),
        (1000, 0.99, (983, 997)),
        (10_000, 0.99, (9880, 9920)),
    ],
)
def test_published_ranks(n: int, q: float, ranks: tuple[int, int] | None) -> None:
    assert rank_interval(n, q) == ranks


def exact_rank_interval(n: int, q: Fraction, alpha: Fraction = Fraction(1, 20)) -> tuple[int, int] | None:
    """Equal tails by definition, with integers: the tightest l, u in 1..n with each tail at most alpha / 2."""
    a, b = q.numerator, q.denominator
    weights = [math.comb(n, k) * a**k * (b - a) ** (n - k) for k in range(n + 1)]  # P(exactly k below), times b^n
    allowed = alpha / 2 * b**n
    # The quantile lies below the l-th value when fewer than l values lie below it: P(count <= l - 1) is the tail.
    lower = [rank for rank in range(1, n + 1) if sum(weights[:rank]) < allowed]
    upper = [rank for rank in range(1, n + 1) if sum(weights[rank:]) <= allowed]
    return (lower[-1], upper[0]) if lower and upper else None


@pytest.mark.parametrize("q", [Fraction(1, 2), Fraction(9, 10), Fraction(19, 20), Fraction(99, 100)])
def test_every_small_interval_agrees_with_exact_sums(q: Fraction) -> None:
    for n in [*range(1, 81), 120, 200]:
        assert rank_interval(n, float(q)) == exact_rank_interval(n, q), n


def test_large_intervals_agree_with_exact_sums() -> None:
    assert rank_interval(368, 0.99) == exact_rank_interval(368, Fraction(99, 100)) == (360, 368)
    assert rank_interval(367, 0.99) is exact_rank_interval(367, Fraction(99, 100)) is None
    assert rank_interval(1000, 0.5, confidence=0.99) == exact_rank_interval(1000, Fraction(1, 2), Fraction(1, 100))


@pytest.mark.parametrize(
    ("q", "some_interval", "equal_tails"), [(0.5, 6, 6), (0.9, 29, 36), (0.95, 59, 72), (0.99, 299, 368)]
)
def test_the_smallest_sample_with_an_interval(q: float, some_interval: int, equal_tails: int) -> None:
    # From `some_interval` values on, minimum to maximum covers the quantile with 95 %; equal tails need q^n <= 2.5 %.
    assert 1 - q**some_interval - (1 - q) ** some_interval >= 0.95
    assert 1 - q ** (some_interval - 1) - (1 - q) ** (some_interval - 1) < 0.95
    assert next(n for n in range(1, 400) if rank_interval(n, q)) == equal_tails
    assert all(rank_interval(n, q) for n in range(equal_tails, equal_tails + 50))


def test_no_values_no_interval() -> None:
    assert rank_interval(0, 0.5) is None


@pytest.mark.parametrize(("n", "q"), [(30, 0.5), (100, 0.95), (1000, 0.99)])
def test_the_interval_covers_the_true_quantile_as_often_as_it_says(n: int, q: float) -> None:
    ranks = rank_interval(n, q)
    assert ranks is not None
    lower, upper = ranks
    # Uniform values: the true quantile is q. The method assumes no shape, so one distribution stands for all.
    samples = np.sort(np.random.default_rng(20261122).random((4000, n)), axis=1)
    covered = np.mean((samples[:, lower - 1] <= q) & (q <= samples[:, upper - 1]))
    # 4000 trials: standard error 0.0034 at 95 %. Discreteness makes it cover more, never less.
    assert 0.95 - 3 * 0.0034 < covered < 0.985
    # Nothing tighter holds its word: one rank less at both ends falls below 95 %.
    tighter = np.mean((samples[:, lower] <= q) & (q <= samples[:, upper - 2]))
    assert tighter < 0.95
