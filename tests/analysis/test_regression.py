"""The statistical half of the gate: what it fires at, how often, and what it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_runs import LEVELS, figures, made_side

from loadtest.analysis.regression import Compared, compare_sides, compared_metrics
from loadtest.analysis.run_figures import METRIC, RunFigures


def verdicts(before: list[RunFigures], after: list[RunFigures]) -> dict[str, str]:
    return {each.metric.name: each.verdict for each in compare_sides(before, after)}


def one(before: list[float | None], after: list[float | None], metric: str = "ttft_ms_p50") -> Compared:
    """One figure of runs that are equal in all others."""
    sides = [
        [figures(f"{side}{i}", **{metric: value}) for i, value in enumerate(values)]
        for side, values in (("b", before), ("a", after))
    ]
    return next(each for each in compare_sides(*sides) if each.metric.name == metric)


def test_runs_of_the_same_network_fire_in_under_five_percent_of_200_pairs() -> None:
    draw = np.random.default_rng(11)
    fired = sum(
        "worse" in verdicts(made_side("b", 6, draw, 0.05), made_side("a", 6, draw, 0.05)).values() for _ in range(200)
    )
    assert fired < 10


def test_twenty_percent_more_ttft_is_caught_in_ninety_percent_of_six_against_six() -> None:
    draw = np.random.default_rng(12)
    caught = 0
    for _ in range(200):
        found = verdicts(made_side("b", 6, draw, 0.05), made_side("a", 6, draw, 0.05, ttft_ms_p50=1.2))
        caught += found["ttft_ms_p50"] == "worse"
    assert caught >= 180


def test_an_improvement_is_no_failure_whichever_way_is_better() -> None:
    draw = np.random.default_rng(13)
    before = made_side("b", 8, draw, 0.02)
    better = verdicts(before, made_side("a", 8, draw, 0.02, ttft_ms_p50=0.6, goodput_per_s=1.5))
    worse = verdicts(before, made_side("c", 8, draw, 0.02, ttft_ms_p50=1.6, goodput_per_s=0.6))
    assert (better["ttft_ms_p50"], better["goodput_per_s"]) == ("better", "better")
    assert (worse["ttft_ms_p50"], worse["goodput_per_s"]) == ("worse", "worse")


def test_a_certain_shift_within_the_limit_is_no_change() -> None:
    found = one([400.0 + i for i in range(6)], [436.0 + i for i in range(6)])
    assert found.q_value is not None and found.q_value < 0.05
    assert found.verdict == "no change" and found.text.endswith("a difference, and within the limit")
    assert found.shift == pytest.approx(0.09, abs=0.002)


def test_a_share_is_compared_in_points() -> None:
    before = [0.96 + 0.001 * i for i in range(6)]
    far, near = (
        one(before, [v - 0.06 for v in before], "attainment"),
        one(before, [v - 0.04 for v in before], "attainment"),
    )
    assert far.verdict == "worse" and far.shift == pytest.approx(-0.06)
    assert near.verdict == "no change" and near.shift == pytest.approx(-0.04)


def test_the_interval_says_how_large_the_shift_may_be() -> None:
    found = one([400.0, 404, 396, 410, 390, 402], [480.0, 485, 475, 490, 470, 482])
    assert found.interval is not None and found.shift is not None
    assert found.interval[0] < found.shift < found.interval[1]
    assert found.shift == pytest.approx(0.2, abs=0.01) and (found.before, found.after) == (401, 481)


def test_five_a_side_can_fire_and_four_cannot_tell() -> None:
    before, after = [400.0, 401, 402, 403, 404], [800.0, 801, 802, 803, 804]
    assert one(before, after).verdict == "worse"
    few = one(before[:4], after)
    assert few.verdict == "cannot tell" and few.p_value is None and few.interval is not None
    assert few.text == "5 runs against 4: 5 a side are the least that can prove a change"


def test_a_figure_that_a_run_lacks_is_missing_and_names_the_run() -> None:
    found = one([400.0] * 6, [400.0, None, 400.0, 400.0, 400.0, 400.0])
    assert found.verdict == "missing"
    assert found.text == "1 of 6 runs have no TTFT p50 (a1), the baseline has one"


def test_a_figure_that_is_new_is_not_judged() -> None:
    found = one([None] * 6, [0.9] * 6, "attainment")
    assert found.verdict == "cannot tell" and found.text == "the baseline has no such figure"


def test_a_percentile_among_the_failed_is_worse_than_any_number() -> None:
    found = one([1200.0 + i for i in range(6)], [math.inf] * 6, "ttft_ms_p95")
    assert (found.verdict, found.shift, found.after) == ("worse", math.inf, math.inf)
    assert one([math.inf] * 6, [math.inf] * 6, "ttft_ms_p95").verdict == "no change"
    assert one([math.inf] * 6, [1200.0 + i for i in range(6)], "ttft_ms_p95").verdict == "better"


def test_figures_of_zero_can_be_compared() -> None:
    assert one([0.0] * 6, [0.0] * 6, "error_share").verdict == "no change"
    assert one([4.0 + i / 10 for i in range(6)], [0.0] * 6, "goodput_per_s").verdict == "worse"
    assert one([0.0] * 6, [4.0 + i / 10 for i in range(6)], "goodput_per_s").shift == math.inf


def test_e2e_is_compared_where_nothing_streams() -> None:
    names = [metric.name for metric in compared_metrics([figures("a")])]
    assert names == ["ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50", "attainment", "goodput_per_s", "error_share"]
    plain = figures("a", ttft_ms_p50=None, ttft_ms_p95=None, tpot_ms_p50=None)
    names = [metric.name for metric in compared_metrics([plain])]
    assert names == ["e2e_ms_p50", "e2e_ms_p95", "attainment", "goodput_per_s", "error_share"]
    assert set(LEVELS) == set(METRIC)
