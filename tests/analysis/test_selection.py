"""Quantiles selected in two passes equal those of the sorted values, whatever the values and the batches."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis.percentiles import grouped_quantile
from loadtest.analysis.selection import Selection

LEVELS = (0.5, 0.95, 0.99)
values = st.one_of(
    st.just(math.nan),
    st.just(math.inf),
    st.floats(allow_nan=False, allow_infinity=False),  # negative, subnormal and huge ones
    st.floats(100, 101),  # many in one bucket
    st.sampled_from([0.0, 100.0, 2.0**-10, 2.0**30]),
)


def selected(groups: np.ndarray, numbers: np.ndarray, count: int, size: int) -> Selection:
    selection = Selection(count, LEVELS)
    for take in (selection.tally, selection.keep):
        for first in range(0, len(groups), size):
            take(groups[first : first + size], numbers[first : first + size])
    return selection


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), values), max_size=60), st.integers(1, 60))
def test_equals_the_sorted_values(rows: list[tuple[int, float]], size: int) -> None:
    groups = np.array([group for group, _ in rows], dtype=np.intp)
    numbers = np.array([value for _, value in rows], dtype=float)
    found = selected(groups, numbers, 4, size).quantiles()
    expected = [grouped_quantile(groups, 4, numbers, q) for q in LEVELS]
    np.testing.assert_array_equal(found, np.stack(expected, axis=1))


def test_little_is_kept_of_many_values() -> None:
    """The bound that is promised: a level keeps about the share of its bucket, not the values."""
    random = np.random.default_rng(1)
    numbers, groups = random.lognormal(6.0, 0.7, 200_000), random.integers(0, 20, 200_000)
    selection = selected(groups, numbers, 20, 10_000)
    expected = np.stack([grouped_quantile(groups, 20, numbers, q) for q in LEVELS], axis=1)
    np.testing.assert_array_equal(selection.quantiles(), expected)
    assert selection.kept < 0.02 * len(numbers)
    assert selection.sizes.sum() == len(numbers)
