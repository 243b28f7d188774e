"""Intervals of percentiles: what they must be whatever the data, and where dependence is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadtest.analysis.intervals import Clusters, design_effect, interval, intervals
from loadtest.quantiles import rank_interval

LEVELS = (0.5, 0.95, 0.99)


def test_independent_turns_have_about_the_binomial_interval() -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    values, due_s = rng.lognormal(size=n), np.sort(rng.uniform(0, 1800, n))
    for q, found in zip(LEVELS, intervals(values, Clusters.of(np.arange(n), due_s), LEVELS), strict=True):
        ranks = rank_interval(n, q)
        assert ranks is not None and found.low is not None and found.high is not None
        ordered = np.sort(values)
        low, high = ordered[ranks[0] - 1], ordered[ranks[1] - 1]
        assert found.low <= low and found.high >= high, "never narrower than if turns were independent"
        # The largest of several noisy variances, and Student's t: about a third wider at the most.
        assert (found.high - found.low) / (high - low) < 1.6
        assert found.n == n and n / 2 < found.n_effective <= n


def test_copies_of_one_turn_are_worth_one_turn() -> None:
    """Conversations of m equal turns: the design effect is m, and not one turn more is known."""
    rng = np.random.default_rng(2)
    each, copies = 3_000, 7
    values = np.repeat(rng.normal(size=each), copies)
    due_s = np.repeat(np.sort(rng.uniform(0, 20, each)), copies)  # too short for time blocks
    found = interval(values, np.repeat(np.arange(each), copies), due_s, 0.5)
    assert found.blocks_s is None
    assert found.n_effective == pytest.approx(each, rel=0.001)
    misses = values > 1
    assert design_effect(misses, Clusters.of(np.repeat(np.arange(each), copies), due_s)) == pytest.approx(copies, 0.001)


def test_turns_of_one_minute_that_are_alike_count_as_one() -> None:
    """All turns of a minute equal: as many independent values as minutes, and so an interval as wide as theirs."""
    rng = np.random.default_rng(3)
    due_s = np.arange(0, 7200, 0.5)
    values = rng.normal(size=120)[(due_s // 60).astype(int)]
    found = interval(values, np.arange(len(due_s)), due_s, 0.5)
    assert 60 < found.n_effective < 180
    assert found.low is not None and found.high is not None and found.high - found.low > 0.3


def test_failed_turns_are_values_and_absent_ones_are_not() -> None:
    rng = np.random.default_rng(4)
    n = 5_000
    values, due_s = rng.lognormal(size=n), np.linspace(0, 600, n)
    values[rng.random(n) < 0.03] = np.inf
    conversations = np.arange(n)
    p50, p95, p99 = intervals(values, Clusters.of(conversations, due_s), LEVELS)
    assert p50.high is not None and math.isfinite(p50.high)
    assert p95.high is not None and math.isfinite(p95.high)
    assert (p99.low, p99.high) == (math.inf, math.inf)
    with_absent = np.concatenate([values, np.full(n, np.nan)])
    of_both = interval(with_absent, np.tile(conversations, 2), np.tile(due_s, 2), 0.95)
    assert of_both == p95


@pytest.mark.parametrize(("q", "n"), [(0.5, 5), (0.95, 58), (0.99, 298)])
def test_withheld_where_the_sample_is_too_small(q: float, n: int) -> None:
    found = interval(np.arange(n, dtype=float), np.arange(n), np.arange(n, dtype=float), q)
    assert found.low is None and found.high is None and "effective sample too small" in found.withheld
    alike = np.repeat(np.arange(n, dtype=float), 100)
    by_conversation = interval(alike, np.repeat(np.arange(n), 100), alike, q)
    assert by_conversation.n == 100 * n and by_conversation.withheld, "100 copies of each do not help"


def test_nothing_and_one_conversation() -> None:
    nothing = np.empty(0)
    assert interval(nothing, nothing, nothing, 0.5).withheld == "no values"
    assert interval(np.full(9, np.nan), np.arange(9), np.arange(9.0), 0.5).withheld == "no values"
    assert interval(np.arange(500.0), np.zeros(500), np.arange(500.0) / 10, 0.5).withheld, (
        "one conversation tells of one"
    )


@settings(max_examples=60, deadline=None)
@example(n=378, seed=0, q=0.5, span_s=1.0)
@given(st.integers(1, 400), st.integers(0, 10_000), st.sampled_from(LEVELS), st.floats(1, 3000))
def test_bounds_enclose_the_percentile_and_do_not_depend_on_the_scale(
    n: int, seed: int, q: float, span_s: float
) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=n), int(rng.integers(0, 3)))  # with ties
    values[rng.random(n) < 0.1] = np.inf
    # Numbered as they appear, as texts are: what is drawn together comes in the order of the numbers, and another order
    # is another draw.
    conversations = pd.factorize(rng.integers(0, max(1, n // 2), n))[0]
    due_s = rng.uniform(0, span_s, n)
    found = interval(values, conversations, due_s, q)
    again = interval(np.exp(values), conversations.astype(str), due_s + 1e4, q)
    assert (again.low is None) == (found.low is None)
    if found.low is None or found.high is None:
        return
    at = np.sort(values)[max(1, math.ceil(q * n * (1 - 1e-12))) - 1]
    assert found.low <= at <= found.high
    assert {found.low, found.high} <= set(values)
    assert (again.low, again.high) == (np.exp(found.low), np.exp(found.high))


def test_a_million_turns_are_not_a_million_clusters() -> None:
    """Conversations and time blocks are drawn in groups: one weight for each in each replicate would be 16 GB."""
    rng = np.random.default_rng(5)
    n = 1_000_000
    values = rng.lognormal(size=n)
    for span_s in (60, 86_400):
        found = interval(values, np.arange(n), np.linspace(0, span_s, n), 0.99)
        assert found.low is not None and found.high is not None and 1 < found.high / found.low < 1.1
