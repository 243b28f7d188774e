"""Null distributions against closed forms, published values and plain simulation."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis import chance
from loadtest.analysis.chance import Stratum

from .oracles import draws_needed, gini_expected, jain_expected


def stratum(counts: list[int], size: int, draws: int, first: int = 0) -> Stratum:
    names = tuple(f"n{first + i:03d}" for i in range(len(counts)))
    return Stratum(names, size, draws, np.array(counts))


def drawn(rng: np.random.Generator, k: int, r: int, draws: int, first: int = 0) -> Stratum:
    """Counts of fair draws of r of k nodes without replacement."""
    order = np.argsort(rng.random((draws, k)), axis=1)[:, :r]
    return stratum(np.bincount(order.ravel(), minlength=k).tolist(), r, draws, first)


def test_with_one_node_a_task_it_is_pearsons_statistic() -> None:
    counts = [31, 12, 22, 35]
    found = chance.uniform_test([stratum(counts, 1, 100)], 0.01)
    assert found is not None
    assert found.statistic == pytest.approx(sum((c - 25) ** 2 / 25 for c in counts))
    assert found.freedom == 3


@given(st.lists(st.integers(10, 60), min_size=4, max_size=12), st.integers(1, 3))
@settings(deadline=None)
def test_with_several_nodes_a_task_it_is_the_corrected_chi_square(counts: list[int], r: int) -> None:
    k = len(counts)
    n = -(-sum(counts) // r)
    counts[0] += n * r - sum(counts)
    found = chance.uniform_test([stratum(counts, r, n)], 0.01)
    assert found is not None
    share = r / k
    corrected = (k - 1) / k * sum((c - n * share) ** 2 / (n * share * (1 - share)) for c in counts)
    assert found.statistic == pytest.approx(corrected)


def test_the_corrected_statistic_has_its_mean_and_its_tail_where_the_naive_one_has_not() -> None:
    """K = 20, r = 3: published for the method: naive mean 16.9 against 19, corrected 18.9 and 5.0 %."""
    rng = np.random.default_rng(5)
    statistics, p_values = [], []
    for _ in range(1500):
        found = chance.uniform_test([drawn(rng, 20, 3, 200)], 0.01)
        assert found is not None
        statistics.append(found.statistic)
        p_values.append(found.p_uneven)
    mean = float(np.mean(statistics))
    assert mean == pytest.approx(19, abs=0.5)
    assert mean * (1 - 3 / 20) / (1 - 1 / 20) == pytest.approx(16.9, abs=0.5), "what Pearson's would have been"
    assert 0.035 < np.mean(np.array(p_values) < 0.05) < 0.065


def test_strata_with_other_nodes_add_up() -> None:
    rng = np.random.default_rng(6)
    p_values = []
    for _ in range(800):
        strata = [drawn(rng, 6, 2, 30, first) for first in (0, 2, 4)] + [drawn(rng, 8, 1, 40, 1)]
        found = chance.uniform_test(strata, 0.01)
        assert found is not None and found.freedom == 9
        p_values.append(found.p_uneven)
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07


def test_a_late_joiner_is_not_starved_and_a_rotation_is_too_even() -> None:
    late = [stratum([100, 100, 100], 1, 300), stratum([25, 25, 25, 25], 1, 100)]
    found = chance.uniform_test(late, 0.01)
    assert found is not None
    assert found.expected.tolist() == [125, 125, 125, 25]
    assert found.p_even < 1e-12 and found.p_uneven > 0.999


def test_nodes_with_few_expected_draws_are_counted_together() -> None:
    found = chance.uniform_test([stratum([40, 40], 1, 80), stratum([1, 2, 2, 2, 2], 1, 9, first=10)], 0.01)
    assert found is not None and found.freedom == 1  # the five in one group have a known sum
    assert chance.uniform_test([stratum([1, 2], 1, 3)], 0.01) is None
    assert chance.uniform_test([stratum([9, 9], 2, 9)], 0.01) is None, "all are taken: there is no choice"
    assert chance.uniform_test([], 0.01) is None


@pytest.mark.parametrize(
    ("nodes", "needed"), [(10, (2165, 545, 243)), (50, (4020, 1007, 442)), (100, (5315, 1337, 592))]
)
def test_power_is_that_of_the_method(nodes: int, needed: tuple[int, ...]) -> None:
    """Its figures are from a seeded simulation: within 2 % of the noncentral chi-square."""
    for effect, draws in zip((0.1, 0.2, 0.3), needed, strict=True):
        assert draws_needed(effect, nodes - 1, 0.01) == pytest.approx(draws, rel=0.02)


def test_the_smallest_effect_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(8)
    k, n, alpha = 10, 1000, 0.01
    fair = chance.uniform_test([stratum([n // k] * k, 1, n)], alpha)
    assert fair is not None
    shares = (1 + fair.smallest * np.where(np.arange(k) % 2, 1, -1)) / k
    hits = 0
    for _ in range(600):
        found = chance.uniform_test([stratum(rng.multinomial(n, shares).tolist(), 1, n)], alpha)
        assert found is not None
        hits += found.p_uneven < alpha / 2
    assert 0.74 < hits / 600 < 0.86


# Concentration.


def test_jain_and_gini_at_their_ends() -> None:
    even, one = np.ones(8), np.eye(8)[3]
    assert (chance.jain(even), chance.gini(even)) == (1.0, 0.0)
    assert (chance.jain(one), chance.gini(one)) == (pytest.approx(1 / 8), pytest.approx(7 / 8))
    assert math.isnan(chance.jain(np.zeros(3))) and math.isnan(chance.gini(np.zeros(3)))
    values = np.array([1.0, 4.0, 7.0])
    assert chance.gini(values) == pytest.approx(np.abs(values[:, None] - values).mean() / (2 * values.mean()))


@pytest.mark.parametrize(("nodes", "jain", "gini"), [(50, 0.953, 0.124), (200, 0.834, 0.248)])
def test_their_null_values_are_the_published_ones(nodes: int, jain: float, gini: float) -> None:
    """N = 1,000 fair draws: by closed form, by simulation, and by the band that a finding prints."""
    rng = np.random.default_rng(9)
    counts = rng.multinomial(1000, np.full(nodes, 1 / nodes), size=400).astype(float)
    assert np.mean([chance.jain(c) for c in counts]) == pytest.approx(jain, abs=0.002)
    assert np.mean([chance.gini(c) for c in counts]) == pytest.approx(gini, abs=0.002)
    assert jain_expected(1000, nodes) == pytest.approx(jain, abs=0.001)
    assert gini_expected(1000, nodes) == pytest.approx(gini, abs=0.005)
    fair = chance.uniform_test([stratum(counts[0].astype(int).tolist(), 1, 1000)], 0.01)
    assert fair is not None
    jains, ginis = chance.concentration_bands(fair, seed=1)
    assert jains.mean == pytest.approx(jain, abs=0.006) and jains.low < jain < jains.high
    assert ginis.mean == pytest.approx(gini, abs=0.006) and ginis.low < gini < ginis.high


# Repeats and small counts.


def test_overlap_moments_are_those_of_all_pairs_of_draws() -> None:
    for k, r, s in ((6, 1, 1), (6, 2, 3), (5, 4, 2)):
        shared = [len(set(a) & set(b)) for a in combinations(range(k), r) for b in combinations(range(k), s)]
        mean, variance = chance.overlap_moments(k, r, s)
        assert (mean, variance) == (pytest.approx(np.mean(shared)), pytest.approx(np.var(shared)))


def test_counts_below_is_exact() -> None:
    assert chance.counts_below([(10, 0.5)], 0) == pytest.approx(0.5**10)
    assert chance.counts_below([(3, 0.5), (4, 0.5)], 2) == pytest.approx((1 + 7 + 21) / 2**7)
    assert chance.counts_below([(3, 0.25), (2, 0.5)], 5) == pytest.approx(1.0)
    assert chance.counts_below([(5, 1.0)], 4) == 0.0
    low, high = chance.binomial_tails(2, 7, 0.5)
    assert (low, high) == (pytest.approx(29 / 128), pytest.approx(120 / 128))
    assert chance.binomial_tails(0, 7, 0.5)[1] == 1.0


def test_rule_of_three_and_two_sided_p() -> None:
    assert chance.rate_bound(0, 300) == pytest.approx(3 / 300, rel=0.01)
    assert chance.rate_bound(5, 5) == 1.0
    assert chance.two_sided(1.959964) == pytest.approx(0.05, abs=1e-6)
    assert chance.smallest_shift(0.01) == pytest.approx(2.5758 + 0.8416, abs=1e-3)


@pytest.mark.parametrize(
    ("share", "confidence", "needed"),
    [
        (0.90, 0.99, (44, 64, 81, 127, 197, 325, 681)),
        (0.95, 0.99, (90, 130, 165, 259, 398, 656, 1372)),
        (0.99, 0.99, (459, 662, 838, 1307, 2010, 3304, 6898)),  # 662 is min_query_count in mlperf.conf
        (0.95, 0.95, (59, 93, 124, 208, 336)),
        (0.99, 0.95, (299, 473, 628, 1049, 1693)),
    ],
)
def test_early_stopping_counts_are_mlperfs(share: float, confidence: float, needed: tuple[int, ...]) -> None:
    misses = (0, 1, 2, 5, 10, 20, 50)
    assert [chance.queries_needed(m, share, confidence) for m, _ in zip(misses, needed, strict=False)] == list(needed)
