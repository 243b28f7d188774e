"""Change points on series whose levels are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loadtest.analysis.run_figures import METRIC
from loadtest.analysis.trend import RUNS_MIN, best_split, change_points, t_test

TTFT, ATTAINMENT = METRIC["ttft_ms_p50"], METRIC["attainment"]


def levels(*stretches: tuple[float, int], sd: float = 0.03, seed: int = 1) -> list[float | None]:
    """A series of levels, each for so many runs, with relative noise."""
    draw = np.random.default_rng(seed)
    return [float(level * np.exp(draw.normal(0, sd))) for level, runs in stretches for _ in range(runs)]


def energy(left: list[float], right: list[float]) -> float:
    """The statistic as its authors write it."""
    m, n = len(left), len(right)
    across = sum(abs(x - y) for x in left for y in right) * 2 / (m * n)
    inside = [sum(abs(a - b) for a in side for b in side) / (len(side) * (len(side) - 1)) for side in (left, right)]
    return m * n / (m + n) * (across - sum(inside))


@given(st.lists(st.integers(0, 20).map(float), min_size=4, max_size=12))
def test_the_best_split_is_that_of_the_formula(series: list[float]) -> None:
    at, found = best_split(np.array(series))
    splits = {split: energy(series[:split], series[split:]) for split in range(2, len(series) - 1)}
    assert found == pytest.approx(max(splits.values()), abs=1e-9)
    assert splits[at] == pytest.approx(found, abs=1e-9)


def test_the_t_test_is_student_s() -> None:
    left, right = np.array([1.0, 2.0, 4.0, 3.0]), np.array([4.0, 6.0, 5.5])
    assert t_test(left, right) == pytest.approx(stats.ttest_ind(left, right).pvalue)
    assert t_test(np.full(3, 0.1), np.full(4, 0.1)) == 1 and t_test(np.full(3, 0.1), np.full(4, 0.2)) == 0
    assert t_test(np.array([1.0]), np.array([2.0])) == 1


def test_a_step_is_found_at_its_run_with_its_size_and_direction() -> None:
    (found,) = change_points(levels((400, 15), (480, 12)), TTFT)
    assert found.at == 15 and found.worse and found.p_value < 0.001
    assert found.shift == pytest.approx(0.2, abs=0.03)
    assert (found.before, found.after) == (pytest.approx(400, rel=0.02), pytest.approx(480, rel=0.02))


def test_what_is_better_depends_on_the_figure() -> None:
    (slower,) = change_points(levels((400, 12), (320, 12)), TTFT)
    (fewer,) = change_points(levels((0.95, 12), (0.80, 12), sd=0.01), ATTAINMENT)
    assert not slower.worse and fewer.worse and fewer.shift == pytest.approx(-0.15, abs=0.01)


def test_up_and_down_again_are_two_points() -> None:
    found = [change_points(levels((400, 14), (500, 10), (400, 14), seed=seed), TTFT) for seed in range(20)]
    assert sum([(p.at, p.worse) for p in points] == [(14, True), (24, False)] for points in found) >= 18


def test_points_far_apart_are_found_in_a_history_of_many_windows() -> None:
    found = change_points(levels((400, 70), (470, 60), (400, 80)), TTFT)
    assert [each.at for each in found] == [70, 130]


def test_a_change_of_under_five_percent_is_none_however_sure() -> None:
    assert change_points(levels((400, 20), (412, 20), sd=0.002), TTFT) == []
    assert [each.at for each in change_points(levels((400, 20), (432, 20), sd=0.002), TTFT)] == [20]


def test_ten_runs_at_the_least_and_absent_ones_do_not_count() -> None:
    step = levels((400, 5), (800, 5), sd=0.001)
    assert len(step) == RUNS_MIN and [each.at for each in change_points(step, TTFT)] == [5]
    assert change_points(step[:-1], TTFT) == []
    gaps: list[float | None] = [None, *step[:3], float("inf"), *step[3:], None]
    assert [each.at for each in change_points(gaps, TTFT)] == [7]
    assert change_points([*step[:-1], None, float("inf")], TTFT) == []


def test_constant_figures_have_no_point() -> None:
    assert change_points([0.0] * 30, METRIC["error_share"]) == []
    assert change_points([417.3] * 30, TTFT) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_the_same_history_gives_the_same_answer_on_any_scale(seed: int) -> None:
    series = levels((400, 12), (450, 12), sd=0.05, seed=seed)
    found = change_points(series, TTFT)
    scaled = change_points([value and value / 1000 for value in series], TTFT)
    assert [(each.at, round(each.shift, 9)) for each in found] == [(each.at, round(each.shift, 9)) for each in scaled]


def test_a_quiet_history_is_quiet() -> None:
    alarms = sum(bool(change_points(levels((400, 40), sd=0.05, seed=seed), TTFT)) for seed in range(100))
    assert alarms <= 5  # docs/gate.md: 1.3 in 100
