"""Distributions: bounds hold for every draw, and the moments are those of the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stated import fits

from loadtest.traffic.lengths import Fixed, Length, LogNormal, Mixture, Normal, Quantiles, Uniform

N = 20_000


def draws(length: Length, n: int = N, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([length.draw(rng) for _ in range(n)])


def within(sample: np.ndarray, share: float, below: float) -> bool:
    """Is the observed share of values <= `below` within four binomial standard errors of `share`?"""
    return abs(float((sample <= below).mean()) - share) < 4 * math.sqrt(share * (1 - share) / len(sample))


bounds = st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)).map(sorted)


@settings(max_examples=60, deadline=None)
@given(bounds, st.floats(-5, 12), st.floats(0, 3), st.integers(0, 2**32))
def test_no_draw_leaves_its_bounds(ends: list[float], mu: float, sigma: float, seed: int) -> None:
    low, high = ends
    rng = np.random.default_rng(seed)
    for length in (LogNormal(mu, sigma, low, high), Normal(mu, sigma, low, high), Uniform(low, high)):
        mixed = Mixture((0.5, 1.0), (length, Fixed(low, low)))
        assert (mixed.low, mixed.high) == (low, high)
        for drawn in (length, mixed):
            assert all(low <= drawn.draw(rng) <= high for _ in range(20))


def test_lognormal_has_the_stated_median_and_p95() -> None:
    # LMSYS in the profiles: mu 3.42, sigma 1.29 gives the median exp(mu) = 31 and p95 exp(mu + 1.645 sigma) = 255.
    sample = draws(LogNormal(3.42, 1.29, 0, 1e9))
    assert within(sample, 0.5, math.exp(3.42)) and within(sample, 0.95, math.exp(3.42 + 1.6449 * 1.29))


def test_truncation_redraws_and_does_not_heap_values_at_the_bounds() -> None:
    sample = draws(LogNormal(3.42, 1.29, 10, 100))
    assert not np.isin(sample, (10.0, 100.0)).any()
    # The share below x among those within the bounds is (F(x) - F(10)) / (F(100) - F(10)).
    below = [0.5 * math.erfc(-(math.log(x) - 3.42) / 1.29 / math.sqrt(2)) for x in (10, 31, 100)]
    assert within(sample, (below[1] - below[0]) / (below[2] - below[0]), 31)


def test_bounds_that_are_never_met_end_at_the_nearer_one() -> None:
    rng = np.random.default_rng(1)
    assert Normal(0, 1, 1000, 2000).draw(rng) == 1000
    assert LogNormal(10, 0.1, 1, 2).draw(rng) == 2


def test_mixture_shares_are_the_weights() -> None:
    sample = draws(Mixture((0.6, 0.9, 1.0), (Fixed(1, 1), Fixed(2, 2), Fixed(3, 3))))
    assert within(sample, 0.6, 1) and within(sample, 0.9, 2) and sample.max() == 3


@pytest.mark.parametrize("length", [Normal(50, 10, -1e9, 1e9), Uniform(20, 80)])
def test_means(length: Length) -> None:
    sample = draws(length)
    assert abs(sample.mean() - 50) < 4 * sample.std() / math.sqrt(N)


def test_turns_reproduce_wildchat() -> None:
    # WildChat: 59 % of conversations have one turn, 3.7 % more than ten; the fit in the profiles gives 59.2 and 3.5 %.
    turns = np.maximum(1, np.ceil(draws(LogNormal(-0.336, 1.477, 0, 50))))
    assert within(turns, 0.592, 1) and within(turns, 1 - 0.035, 10)
    assert turns.max() <= 50 and abs(turns.mean() - 2.55) < 4 * turns.std() / math.sqrt(N)


ALL_KINDS: list[Length] = [
    Uniform(8, 40),
    Normal(300, 100, 1, 900),
    Normal(0, 50, 10, 60),  # one tail of it
    LogNormal(3.42, 1.29, 2, 4096),
    LogNormal(3.98, 1.85, 64, 512),  # a slice
    Quantiles((0, 0.05, 0.25, 0.5, 0.75, 0.95, 1), (2, 4, 16, 45, 150, 1127, 8192)),
    Mixture((0.6, 0.9, 1.0), (LogNormal(3.42, 1.29, 2, 4096), Uniform(5, 9), Normal(1000, 300, 64, 8192))),
]


@pytest.mark.parametrize("length", ALL_KINDS, ids=lambda length: type(length).__name__)
def test_draws_are_distributed_as_stated(length: Length) -> None:
    assert fits(draws(length), length)


def test_the_fit_would_notice_a_wrong_parameter() -> None:
    """The test above can fail: a sigma that is off by 5 % is noticed, and so is clipping in place of redrawing."""
    stated = LogNormal(3.42, 1.29, 2, 512)
    assert not fits(draws(LogNormal(3.42, 1.36, 2, 512)), stated)
    assert not fits(np.clip(draws(LogNormal(3.42, 1.29, 0, 1e9)), 2, 512), stated)
