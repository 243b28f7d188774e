"""The search for the highest rate, against queues whose limit is known in closed form, and against steps that lie."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from loadtest.analysis.capacity import (
    STEPS_MAX,
    Capacity,
    End,
    Objective,
    Rules,
    Step,
    StepResult,
    capacity,
    misses_bound,
    next_step,
    step_verdict,
)
from loadtest.analysis.slo import CANNOT_TELL, FAIL, PASS, slo_passes, slo_rejected

from .queues import Queue

ONE_NODE = Queue(servers=1, mu_per_s=400.0, limit_s=0.025)
FOUR_NODES = Queue(servers=4, mu_per_s=25.0, limit_s=0.05)


def rules(rate_from: float, *, seed: int = 0, rate_max: float = 1e6, step_s: float = 600.0) -> Rules:
    return Rules(rate_from=rate_from, rate_max=rate_max, step_s=step_s, seed=seed, shares=(0.95,))


def searched(asked: Rules, run: Callable[[Step], StepResult]) -> tuple[End, Capacity, list[StepResult]]:
    done: list[StepResult] = []
    while isinstance(step := next_step(asked, done), Step):
        assert len(done) < STEPS_MAX + 1
        done.append(run(step))
    return step, capacity(done), done


def sharp(limit_per_s: float, n: int = 5_000) -> Callable[[Step], StepResult]:
    """A target that misses nothing up to a rate and everything above it."""

    def run(step: Step) -> StepResult:
        misses = 0 if step.rate_per_s <= limit_per_s else n
        return result(step, n, misses)

    return run


def result(step: Step, n: int, misses: int, *, fit: bool = True, saturated: bool = False) -> StepResult:
    told = Objective(name="ttft_ms_p95", share=0.95, n=n, misses=misses)
    return StepResult(
        kind=step.kind,
        rate_per_s=step.rate_per_s,
        seconds=step.seconds,
        seed=step.seed,
        objectives=(told,),
        fit=fit,
        saturated=saturated,
    )


def test_the_closed_form_is_that_of_the_simulated_queue() -> None:
    """Erlang's C and the wait's tail, against two million simulated turns in all."""
    for queue in (ONE_NODE, FOUR_NODES):
        rate = queue.limit_per_s()
        assert queue.waits_longer(rate) == pytest.approx(0.05, rel=1e-6)
        step = Step(kind="ladder", rate_per_s=rate, seconds=600_000 / rate, seed=5)
        (told,) = queue.run(step).objectives
        # Waits are dependent: the binomial error is widened by the design effect.
        error = 4 * math.sqrt(0.05 * 0.95 * told.effect / told.n)
        assert told.misses / told.n == pytest.approx(0.05, abs=error)
    assert ONE_NODE.limit_per_s() == pytest.approx(292.67, abs=0.01), "rho exp(-(mu - r) t) = 0.05"


@pytest.mark.parametrize("seed", range(10))
def test_within_five_percent_of_the_closed_form_and_never_above_it(seed: int) -> None:
    truth = ONE_NODE.limit_per_s()
    rate_from = truth * float(np.random.default_rng(seed).uniform(0.07, 0.5))
    end, found, done = searched(rules(rate_from, seed=1000 * seed), ONE_NODE.run)
    assert end.state == "found" and found.confirmed
    assert found.low is not None and found.high is not None
    assert 0.95 * truth <= found.low <= truth < found.high, "the truth lies in the interval"
    assert len({each.seed for each in done}) == len(done), "each step has a seed of its own"
    assert done[-1].kind == "confirm" and done[-1].seconds == 1800


@pytest.mark.parametrize("seed", range(10))
def test_less_is_known_of_four_nodes_in_the_same_time_and_the_interval_says_so(seed: int) -> None:
    truth = FOUR_NODES.limit_per_s()
    end, found, _ = searched(rules(truth / 4, seed=1000 * seed), FOUR_NODES.run)
    assert end.state == "found" and found.low is not None and found.high is not None
    assert 0.85 * truth <= found.low <= truth < found.high <= 1.15 * truth
    assert list(found.undecided) == sorted(found.undecided)
    assert all(found.low < rate < found.high for rate in found.undecided)


def test_a_sharp_limit_is_found_from_below_and_from_above() -> None:
    for rate_from in (1.0, 10.0, 100.0):
        end, found, done = searched(rules(rate_from), sharp(10.0))
        assert end.state == "found" and found.low is not None and found.high is not None
        assert found.low <= 10 < found.high and found.high / found.low <= 1.05
        kinds = [each.kind for each in done]
        assert kinds == sorted(kinds, key=["ladder", "bisect", "confirm"].index), "a ladder, then between, then again"


def test_the_ceiling_is_never_passed() -> None:
    end, found, done = searched(rules(1.0, rate_max=4.0), sharp(10.0))
    assert end.state == "ceiling" and found.low == 4.0 and found.high is None and found.confirmed
    assert max(each.rate_per_s for each in done) == 4.0


def test_nothing_passes() -> None:
    end, found, done = searched(rules(1.0), sharp(0.0))
    assert end.state == "none passes" and found.low is None
    assert min(each.rate_per_s for each in done) < 0.02


def test_an_unfit_step_is_run_once_more_with_another_seed_and_then_ends_the_search() -> None:
    def run(step: Step) -> StepResult:
        return result(step, 5_000, 0, fit=step.rate_per_s < 3)

    end, found, done = searched(rules(1.0), run)
    assert end.state == "unfit"
    assert [each.fit for each in done[-3:]] == [True, False, False]
    assert done[-1].rate_per_s == done[-2].rate_per_s and done[-1].seed != done[-2].seed
    assert found.low == 2.25, "what was found before stands"


def test_a_saturated_step_has_failed_whatever_its_turns_say() -> None:
    step = Step(kind="ladder", rate_per_s=1.0, seconds=600, seed=1)
    assert step_verdict(result(step, 5_000, 0)) == PASS
    assert step_verdict(result(step, 5_000, 0, saturated=True)) == FAIL
    assert step_verdict(result(step, 5_000, 250)) == CANNOT_TELL


def test_steps_that_contradict_each_other_are_repeated_and_said() -> None:
    """The confirmation fails where the step had passed: both rates are run again, and the pool decides."""
    seen: list[float] = []

    def run(step: Step) -> StepResult:
        seen.append(step.rate_per_s)
        lucky = 8.5 < step.rate_per_s <= 10 and seen.count(step.rate_per_s) == 1
        return result(step, 5_000, 0 if step.rate_per_s <= 8 or lucky else 1_000)

    end, found, done = searched(rules(1.0), run)
    assert end.state == "found" and found.contradicted
    assert found.low is not None and found.low <= 8
    assert any(each.kind == "repeat" for each in done)


def test_the_state_of_a_search_is_its_results() -> None:
    """Interrupted after any step, written to a file and read again, it goes on as if nothing had been."""
    asked = rules(20.0, seed=9)
    _, found, done = searched(asked, ONE_NODE.run)
    for cut in range(len(done)):
        again = msgspec.json.decode(msgspec.json.encode(done[:cut]), type=list[StepResult])
        step = next_step(asked, again)
        assert isinstance(step, Step)
        assert (step.kind, step.rate_per_s, step.seed) == (done[cut].kind, done[cut].rate_per_s, done[cut].seed)
    assert capacity(msgspec.json.decode(msgspec.json.encode(done), type=list[StepResult])) == found


def test_slow_rates_take_longer_so_that_there_are_turns_enough() -> None:
    asked = rules(0.1, step_s=30.0)
    assert asked.seconds(0.1) == pytest.approx(2590), "259 turns prove a p95 with five misses"
    assert asked.seconds(100.0) == 30.0


@pytest.mark.parametrize("effect", [1.0, 4.0])
def test_no_step_is_given_up_that_could_still_pass(effect: float) -> None:
    for turns in (100, 600, 10_000):
        bound = misses_bound(turns, 0.95, effect)
        assert slo_rejected(math.ceil(turns / effect), math.ceil(bound / effect), 0.95)
        assert not slo_passes(int(turns / effect), bound, 0.95)
        assert not slo_rejected(math.ceil(turns / effect), int(bound / effect) - 1, 0.95)
