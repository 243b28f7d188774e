"""The test, the shift and its interval, against brute force and another library."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadtest.analysis.ranks import benjamini_hochberg, hodges_lehmann, mann_whitney_p

SMALL = st.lists(st.integers(0, 5).map(float) | st.just(math.inf), min_size=1, max_size=5)


@given(SMALL, SMALL)
def test_p_is_the_share_of_all_splits_that_are_as_uneven(before: list[float], after: list[float]) -> None:
    pooled = stats.rankdata(before + after)
    middle = len(after) * (len(pooled) + 1) / 2
    away = abs(pooled[len(before) :].sum() - middle)
    splits = [abs(sum(each) - middle) for each in itertools.combinations(pooled, len(after))]
    expected = sum(each >= away - 1e-9 for each in splits) / len(splits)
    assert mann_whitney_p(before, after) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (6, 6), (6, 30), (25, 25)])
def test_p_without_ties_is_scipy_s_exact_one(n: int, m: int) -> None:
    draw = np.random.default_rng(n * 100 + m)
    for shift in (0.0, 0.5, 1.5):
        before, after = draw.normal(size=n), draw.normal(shift, size=m)
        expected = stats.mannwhitneyu(before, after, method="exact").pvalue
        assert mann_whitney_p(list(before), list(after)) == pytest.approx(expected, rel=1e-9)


def test_the_smallest_p_of_the_method() -> None:
    """Two sides that lie wholly apart: no test of so few can say less."""
    found = [round(mann_whitney_p([*range(n)], [*range(n, 2 * n)]), 4) for n in (3, 4, 5, 6)]
    assert found == [0.1, 0.0286, 0.0079, 0.0022]


def test_the_shift_is_the_median_of_all_differences() -> None:
    assert hodges_lehmann([1, 2, 4], [10, 20]).shift == np.median([9, 8, 6, 19, 18, 16])
    assert hodges_lehmann([math.inf, math.inf], [math.inf, math.inf]).shift == 0
    assert hodges_lehmann([1, 2], [math.inf, math.inf]).shift == math.inf
    with pytest.raises(ValueError, match="both sides"):
        hodges_lehmann([], [1.0])


def test_three_a_side_have_no_interval_and_four_have_the_whole_range() -> None:
    assert hodges_lehmann([1, 2, 3], [4, 5, 6]).interval is None
    assert hodges_lehmann([1, 2, 3, 4], [11, 12, 13, 14]).interval == (7, 13)


@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_the_interval_is_what_the_test_does_not_reject(seed: int, shift: float) -> None:
    draw = np.random.default_rng(seed)
    before, after = draw.normal(size=5), draw.normal(shift, size=6)
    interval = hodges_lehmann(list(before), list(after)).interval
    assert interval is not None
    for inside, at in ((True, interval[0] + 1e-6), (True, interval[1] - 1e-6)):
        assert (mann_whitney_p(list(before + at), list(after)) > 0.05) is inside
    for at in (interval[0] - 1e-6, interval[1] + 1e-6):
        assert mann_whitney_p(list(before + at), list(after)) <= 0.05


def test_the_interval_covers_the_shift_as_often_as_it_says() -> None:
    draw = np.random.default_rng(9)
    runs = [hodges_lehmann(list(draw.normal(size=6)), list(draw.normal(0.7, size=6))).interval for _ in range(2_000)]
    covered = np.mean([low <= 0.7 <= high for low, high in filter(None, runs)])
    assert len(runs) == 2_000 and 0.95 <= covered <= 0.985  # 6 v 6: 95.9 % by the exact distribution


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_p_values_are_scipy_s(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(list(stats.false_discovery_control(p_values)))
