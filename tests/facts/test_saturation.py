"""The watch for saturation on simulated queues: what it finds, how soon, and how often it cries wolf."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from loadtest.saturation import Point, Watch, slope_low, t_quantile

LOOK_S = 3.0
SECONDS = 600
RUNS = 40


def alarm_s(mu_per_s: float, load: float, seed: int) -> float | None:
    """When a queue with one server (M/M/1) at `load` times its capacity is called saturated, in s after a warm-up."""
    rng = np.random.default_rng([seed, round(100 * load)])
    rate, n = mu_per_s * load, int(mu_per_s * load * (SECONDS + 60) * 1.2) + 50
    service_s, gaps_s = rng.exponential(1 / mu_per_s, n), rng.exponential(1 / rate, n)
    steps = np.concatenate([[0.0], np.cumsum(service_s[:-1] - gaps_s[1:])])
    due_s = np.cumsum(gaps_s)
    first_s = due_s + steps - np.minimum.accumulate(steps)
    done_s = first_s + service_s
    watch = Watch()
    for at in np.arange(30.0, SECONDS + 30.0, LOOK_S):
        offered = int(np.searchsorted(due_s, at))
        ended = (done_s > at - LOOK_S) & (done_s <= at)
        ttft_ms = 1e3 * float((first_s - due_s)[ended].mean()) if ended.any() else None
        if watch.look(Point(at, offered - int(np.sum(done_s <= at)), ttft_ms, offered)):
            return float(at) - 30.0
    return None


@pytest.mark.parametrize("mu_per_s", [2.0, 8.0])
def test_a_queue_below_its_capacity_is_left_alone(mu_per_s: float) -> None:
    for load, alarms_max in ((0.7, 0), (0.9, 2)):
        alarms = [at for seed in range(RUNS) if (at := alarm_s(mu_per_s, load, seed)) is not None]
        assert len(alarms) <= alarms_max, (load, alarms)


@pytest.mark.parametrize("mu_per_s", [2.0, 8.0])
def test_a_queue_above_its_capacity_is_found_within_ten_minutes(mu_per_s: float) -> None:
    for load in (1.25, 1.5, 2.25):
        alarms = [alarm_s(mu_per_s, load, seed) for seed in range(RUNS)]
        assert all(at is not None and at >= 30 for at in alarms), (load, alarms)
        assert float(np.median([at for at in alarms if at is not None])) <= 120


def test_what_rises_alone_is_no_saturation() -> None:
    """More in flight at the same TTFT is longer answers; a TTFT that rises with nothing waiting is a slower target."""
    for in_flight, ttft_ms in ((1.0, 0.0), (0.0, 1.0)):
        watch = Watch()
        noise = np.random.default_rng(1).normal(size=(40, 2))
        for i in range(40):
            at = i * LOOK_S
            point = Point(at, 100 + in_flight * at * 5 + noise[i, 0], 300 + ttft_ms * at * 9 + noise[i, 1], 10 * at)
            assert watch.look(point) is None


def test_nothing_is_said_before_thirty_seconds_or_without_answers() -> None:
    watch = Watch()
    for i in range(10):
        assert watch.look(Point(i * LOOK_S, i * 100.0, i * 100.0, i * 30.0)) is None
    found = watch.look(Point(30.0, 1000.0, 1000.0, 300.0))
    assert found is not None and found.since_s == 0.0 and "TTFT" in found.text
    silent = Watch()
    assert not any(silent.look(Point(i * LOOK_S, i * 100.0, None, i * 30.0)) for i in range(40))


def test_the_slope_s_lower_bound() -> None:
    exact = [(float(t), 5.0 + 2.0 * t) for t in range(100)]
    assert slope_low(exact) == pytest.approx(2.0)
    assert slope_low([]) == slope_low(exact[:3]) == -math.inf
    rng = np.random.default_rng(3)
    above = [slope_low([(t, float(v)) for t, v in enumerate(rng.normal(size=100))]) > 0 for _ in range(2_000)]
    assert sum(above) / 2_000 == pytest.approx(0.025, abs=0.012), "one side of a 95 % interval"


@pytest.mark.parametrize("freedom", [3, 8, 30, 118])
def test_student_s_t(freedom: int) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(special.stdtrit(freedom, 0.975), rel=0.01)
