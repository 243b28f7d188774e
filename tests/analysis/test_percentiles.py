"""Percentiles of censored values, grouped quantiles and ECDFs against closed forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.analysis.intervals import Clusters
from loadtest.analysis.percentiles import (
    describe,
    describe_histogram,
    ecdf,
    ecdf_histogram,
    grouped_quantile,
    grouped_quantiles,
    present,
    present_quantile,
    present_quantiles,
    quantile,
)
from loadtest.quantiles import LogHistogram, nearest_rank, rank_interval

INF, NAN = math.inf, math.nan
measured = st.floats(0, 1e6) | st.just(INF) | st.just(NAN)


def test_a_percentile_among_the_censored_is_null_with_a_text() -> None:
    """90 answers of 1..90 ms and 10 timeouts of 120 s: p50 stands, p95 and p99 do not."""
    values = np.array([*range(1, 91), *[INF] * 10], dtype=float)
    waited = np.array([NAN] * 90 + [120_000.0] * 10)
    values, waited = np.tile(values, 4), np.tile(waited, 4)
    found = describe(values, waited)
    assert (found["n"], found["censored"], found["p50"], found["max"]) == (400, 40, 50, 90)
    assert found["p95"] is None and found["p95_text"] == "> 120 s"
    assert found["p95_interval"] is None and found["p50_interval"] == [45, 56]  # ranks 180 and 221
    assert "p50_text" not in found
    json.dumps(found, allow_nan=False)


def test_the_text_says_the_longest_answer_when_nobody_waited() -> None:
    """Errors come at once: all one can say is that the percentile is beyond every answer."""
    values = np.array([*range(1, 91), *[INF] * 10], dtype=float) * 100
    assert describe(values, np.full(100, NAN))["p95_text"] == "> 9 s"


def test_the_text_uses_the_percentile_of_what_was_waited() -> None:
    """Timeouts of 30 s and of 120 s: p95 falls among the shorter ones, p99 among the longer."""
    values = np.array([1000.0] * 270 + [INF] * 30)
    waited = np.array([NAN] * 270 + [30_000.0] * 20 + [120_000.0] * 10)
    found = describe(values, waited)
    assert (found["p95_text"], found["p99_text"]) == ("> 30 s", "> 120 s")


def test_all_errors_have_no_answer() -> None:
    found = describe(np.full(10, INF), np.full(10, NAN))
    assert found["p50"] is None and found["p50_text"] == "no answer" and found["max"] is None


def test_a_censored_upper_end_is_open() -> None:
    values = np.array([1.0] * 960 + [INF] * 40)
    found = describe(values)
    assert found["p95"] == 1.0 and found["p95_interval"] == [1.0, None]


def test_turns_that_belong_together_tell_less_and_too_few_tell_nothing() -> None:
    """400 values in 20 conversations of one value each: 20 independent turns have a median and no p95."""
    values = np.repeat(np.arange(20.0), 20)
    clusters = Clusters.of(np.repeat(np.arange(20), 20), np.linspace(0, 100, 400))
    found, alone = describe(values, None, clusters), describe(values)
    assert found["p50"] == alone["p50"] == 9 and found["p50_n_effective"] < 30
    assert found["p50_interval"][0] < alone["p50_interval"][0] <= alone["p50_interval"][1] < found["p50_interval"][1]
    assert found["p95"] is None and found["p95_text"].startswith("withheld: effective sample too small (")


def test_intervals_are_the_order_statistics() -> None:
    values = np.random.default_rng(3).permutation(1000).astype(float) + 1
    found = describe(values)
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert found[name] == 1000 * q
        assert found[f"{name}_interval"] == list(rank_interval(1000, q) or ())


@pytest.mark.parametrize(("name", "smallest"), [("p50", 6), ("p95", 59), ("p99", 299)])
def test_withheld_below_the_smallest_n(name: str, smallest: int) -> None:
    assert describe(np.arange(smallest - 1.0))[name] is None
    assert describe(np.arange(float(smallest)))[name] is not None


def test_absent_values_are_in_no_denominator() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, NAN, NAN])
    assert describe(values)["n"] == 6 and describe(values)["p50"] == 3


def test_ranks_are_not_pushed_up_by_rounding() -> None:
    """0.55 * 100 is 55.00000000000001 in floating point; the rank is 55."""
    assert quantile(np.arange(1.0, 101.0), 0.55) == 55


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50), st.floats(0.001, 1))
def test_quantile_is_nearest_rank(values: list[float], q: float) -> None:
    ordered = sorted(values)
    assert quantile(np.array(ordered), q) == nearest_rank(ordered, q)


@given(st.lists(st.tuples(st.integers(-1, 4), measured), max_size=60), st.sampled_from([0.5, 0.55, 0.95, 1.0]))
def test_grouped_quantile_equals_one_group_at_a_time(rows: list[tuple[int, float]], q: float) -> None:
    groups = np.array([code for code, _ in rows], dtype=np.intp)
    found = grouped_quantile(groups, 6, np.array([value for _, value in rows], dtype=float), q)
    for code in range(6):
        mine = sorted(value for group, value in rows if group == code and not math.isnan(value))
        np.testing.assert_equal(found[code], nearest_rank(mine, q) if mine else NAN)


@given(st.lists(measured), st.lists(st.floats(0.01, 1), min_size=1, max_size=4))
def test_several_quantiles_are_each_as_alone(values: list[float], levels: list[float]) -> None:
    array = np.array(values, dtype=float)
    assert present_quantiles(array, levels) == [present_quantile(array, q) for q in levels]
    np.testing.assert_equal(array, np.array(values, dtype=float))  # what is selected in is a copy
    groups = np.arange(len(array), dtype=np.intp) % 3 - 1
    found = grouped_quantiles(groups, 2, array, levels)
    np.testing.assert_equal(found, [grouped_quantile(groups, 2, array, q) for q in levels])


@given(st.lists(measured))
def test_figures_are_the_same_of_values_sorted_before(values: list[float]) -> None:
    array = np.array(values, dtype=float)
    assert describe(array, ordered=present(array)) == describe(array)


@given(st.lists(measured, max_size=1000))
def test_ecdf_points_lie_on_the_ecdf(values: list[float]) -> None:
    points = ecdf(present(np.array(values, dtype=float)))
    known = [value for value in values if not math.isnan(value)]
    assert len(points) <= 200
    assert points == sorted(points)
    finite = sorted(value for value in known if value < INF)
    for value, share in points:
        rank = round(share * len(known))
        assert round(finite[rank - 1], 3) == value
    if finite:
        assert points[-1] == [round(finite[-1], 3), round(len(finite) / len(known), 6)]


def test_ecdf_resolves_both_tails() -> None:
    shares = [share for _, share in ecdf(np.arange(100_000.0))]
    assert len(shares) <= 200
    assert sum(share <= 0.01 for share in shares) > 20 and sum(share >= 0.99 for share in shares) > 20


def test_histograms_have_the_same_shape() -> None:
    histogram = LogHistogram()
    for gap_ms in range(1, 101):
        histogram.add(gap_ms * 1_000_000)
    found = describe_histogram(histogram)
    assert set(found) == set(describe(np.arange(1000.0)))
    assert found["n"] == 100 and found["p50"] == pytest.approx(50, rel=0.01)
    assert found["max"] == pytest.approx(100, rel=0.01)
    points = ecdf_histogram(histogram)
    assert points[-1][1] == 1 and points == sorted(points)
    assert describe_histogram(LogHistogram())["p50_text"] == "no values" and ecdf_histogram(LogHistogram()) == []
