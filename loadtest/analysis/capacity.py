"""The search for the highest arrival rate that holds the objectives. Pure: results of steps in, the next step out.

A ladder by 1.5 from a rate that should pass, until one does not; bisection until the two are within 5 %; then the
highest rate that passed is run again, three times as long. Every step has a seed of its own.

What is known of a rate is pooled over its steps. A rate *passes* when so few misses would be a chance of at most 1 % if
the objective did not hold there (MLPerf's early stopping), and *fails* when so many would be one if it did; n and
misses are divided by the design effect (`intervals.design_effect`), because turns of one conversation or minute are
alike. In between it is *undecided*: it is run once more, and then counts as not passed, without being called a failure.
More load cannot mean fewer misses: where the shares of two rates say so they are pooled (monotone fit), and steps that
contradict each other are repeated in random order.

`next_step` depends on the rules and the results alone, so a search that was interrupted goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Literal

import msgspec

from loadtest.analysis.slo import CANNOT_TELL, FAIL, PASS, slo_passes, slo_rejected, turns_needed

LADDER = 1.5
TOLERANCE = 0.05
CONFIRM_FACTOR = 3
TRIES_MAX = 2  # steps at a rate that stays undecided
REPEATS_MAX = 3  # steps at a rate whose steps contradict each other, or others'
CONFIRMS_MAX = 5
STEPS_DOWN_MAX = 12  # below the first rate: a hundredth of it
STEPS_MAX = 60
MISSES_PLANNED = 5  # a step has the turns to prove the objective with so many misses


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """One objective as a step judged it. `share` is the share of turns that must keep it.

    `verdict` stands for objectives that are not counted by turns (ITL); then `n` and `misses` are 0.
    """

    name: str
    share: float
    n: int = 0
    misses: int = 0
    effect: float = 1.0
    verdict: str = ""


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one run came to. `figures` are those of the curve; they do not matter to the search."""

    kind: str
    rate_per_s: float
    seconds: float  # measured, without the warm-up
    seed: int
    run: str = ""
    fit: bool = True
    saturated: bool = False  # waiting turns and TTFT rose together: no steady value, the longer the worse
    objectives: tuple[Objective, ...] = ()
    figures: dict[str, float | None] = {}
    why: str = ""  # unfit or stopped early: the reason


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched, and how. `shares` are those of the objectives, as in 0.95 for a p95."""

    rate_from: float
    rate_max: float
    step_s: float
    seed: int
    shares: tuple[float, ...]
    turns_per_conversation: float = 1.0

    def seconds(self, rate_per_s: float) -> float:
        """How long a step takes: at least `step_s`, and long enough for its turns to prove something."""
        turns = max((turns_needed(share, MISSES_PLANNED) for share in self.shares), default=0)
        return max(self.step_s, math.ceil(turns / (rate_per_s * self.turns_per_conversation)))


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The next run. `kind` is "ladder", "bisect", "repeat" or "confirm"."""

    kind: str
    rate_per_s: float
    seconds: float
    seed: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Why the search is over."""

    state: Literal["found", "ceiling", "none passes", "unconfirmed", "unfit", "too many steps"]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The interval [highest pass, lowest rate that was shown to fail], as far as it is known."""

    low: float | None
    high: float | None
    undecided: tuple[float, ...]  # rates between the two
    confirmed: bool
    contradicted: bool  # steps contradicted each other
    verdicts: dict[float, str]  # by rate


def next_step(rules: Rules, done: Sequence[StepResult]) -> Step | End:
    """The next step of a search with these results, or its end."""
    if done and not done[-1].fit:
        last = done[-1]
        before = done[-2] if len(done) > 1 else None
        if before is not None and not before.fit and before.rate_per_s == last.rate_per_s:
            return End(state="unfit")
        return _step(rules, done, last.kind, last.rate_per_s)
    if len(done) >= STEPS_MAX:
        return End(state="too many steps")
    fit = [each for each in done if each.fit]
    if not fit:
        return _step(rules, done, "ladder", min(rules.rate_from, rules.rate_max))
    known = capacity(fit)
    return _doubtful(rules, done, known) or _narrower(rules, done, known) or _confirm(rules, done, known)


def _doubtful(rules: Rules, done: Sequence[StepResult], known: Capacity) -> Step | None:
    """A rate that must be run again before anything is built on it, one of several at random."""
    fit = [each for each in done if each.fit]
    tried = {rate: sum(each.rate_per_s == rate for each in fit) for rate in known.verdicts}
    again = [rate for rate, verdict in known.verdicts.items() if verdict == CANNOT_TELL and tried[rate] < TRIES_MAX]
    again += [rate for rate in _contradicting(fit) if tried[rate] < REPEATS_MAX]
    if not again:
        return None
    rate = Random(f"{rules.seed}/{len(done)}").choice(sorted(set(again)))
    return _step(rules, done, "repeat", rate)


def _narrower(rules: Rules, done: Sequence[StepResult], known: Capacity) -> Step | End | None:
    """One up or down the ladder, or one between the highest rate that passed and the lowest that failed."""
    rates = sorted(known.verdicts)
    if known.low is None:
        lowest = rates[0]
        if lowest * LADDER ** (STEPS_DOWN_MAX - 0.5) < rules.rate_from:
            return End(state="none passes")
        return _step(rules, done, "ladder", lowest / LADDER)
    if known.high is None:
        higher = min(rates[-1] * LADDER, rules.rate_max)
        if higher > rates[-1]:
            return _step(rules, done, "ladder", higher)
    # Below the first rate that did not pass, and then, where that was not shown to fail, below the first one that was.
    known_rates = [known.low, *known.undecided, *([] if known.high is None else [known.high])]
    for lower, upper in (known_rates[:2], known_rates[-2:]) if len(known_rates) > 1 else ():
        if upper / lower - 1 > TOLERANCE:
            return _step(rules, done, "bisect", math.sqrt(lower * upper))
    return None


def _confirm(rules: Rules, done: Sequence[StepResult], known: Capacity) -> Step | End:
    assert known.low is not None
    if known.confirmed:
        return End(state="found" if known.high is not None or known.undecided else "ceiling")
    if sum(each.kind == "confirm" and each.fit for each in done) >= CONFIRMS_MAX:
        return End(state="unconfirmed")
    return _step(rules, done, "confirm", known.low)


def _step(rules: Rules, done: Sequence[StepResult], kind: str, rate_per_s: float) -> Step:
    rate = float(f"{rate_per_s:.6g}")  # one that a command line can say
    seconds = rules.seconds(rate) * (CONFIRM_FACTOR if kind == "confirm" else 1)
    return Step(kind=kind, rate_per_s=rate, seconds=seconds, seed=rules.seed + len(done))


def capacity(done: Sequence[StepResult]) -> Capacity:
    """What is known from the fit steps of a search, be it over or not."""
    fit = [each for each in done if each.fit]
    verdicts = rate_verdicts(fit)
    failed = sorted(rate for rate, verdict in verdicts.items() if verdict == FAIL)
    passed = [rate for rate, verdict in verdicts.items() if verdict == PASS and (not failed or rate < failed[0])]
    low = max(passed, default=None)
    high = failed[0] if failed else None
    return Capacity(
        low=low,
        high=high,
        undecided=tuple(
            rate
            for rate, verdict in sorted(verdicts.items())
            if verdict == CANNOT_TELL and (low or 0.0) < rate < (high or math.inf)
        ),
        confirmed=any(each.kind == "confirm" and each.rate_per_s == low for each in fit),
        contradicted=bool(_contradicting(fit)),
        verdicts=dict(sorted(verdicts.items())),
    )


def rate_verdicts(fit: Sequence[StepResult]) -> dict[float, str]:
    """Pass, fail or cannot tell for each rate, from all its steps and under a monotone fit."""
    rates = sorted({each.rate_per_s for each in fit})
    found: dict[float, list[str]] = {rate: [] for rate in rates}
    for name in {objective.name for each in fit for objective in each.objectives}:
        for rate, verdict in zip(rates, _of_objective(name, rates, fit), strict=True):
            found[rate].append(verdict)
    for rate in rates:
        saturated = [each.saturated for each in fit if each.rate_per_s == rate]
        if 2 * sum(saturated) >= len(saturated):
            found[rate].append(FAIL)
    return {rate: _worst(verdicts) for rate, verdicts in found.items()}


def step_verdict(result: StepResult) -> str:
    """Of one step alone."""
    if result.saturated:
        return FAIL
    return _worst(
        [
            each.verdict or _judged(each.n / each.effect, each.misses / each.effect, each.share)
            for each in result.objectives
        ]
    )


def misses_bound(turns: float, share: float, effect: float) -> int:
    """With more misses than this a step of so many turns has failed, whatever is still to come."""
    n = int(turns / effect)
    low, high = 0, max(1, n)
    while high - low > 1:  # the smallest count that is rejected lies in (low, high]
        middle = (low + high) // 2
        low, high = (low, middle) if slo_rejected(n, middle, share) else (middle, high)
    return math.ceil(high * effect)


def _of_objective(name: str, rates: Sequence[float], fit: Sequence[StepResult]) -> list[str]:
    """Of each rate. Adjacent rates whose shares of misses fall as the rate rises are pooled (PAVA)."""
    counted = dict.fromkeys(rates, (0.0, 0.0))
    told: dict[float, list[str]] = {rate: [] for rate in rates}
    share = 0.0
    for each in fit:
        for objective in each.objectives:
            if objective.name != name:
                continue
            share = objective.share
            n, misses = counted[each.rate_per_s]
            counted[each.rate_per_s] = (
                n + objective.n / objective.effect,
                misses + objective.misses / objective.effect,
            )
            if objective.verdict:
                told[each.rate_per_s].append(objective.verdict)
    pools: list[tuple[list[float], float, float]] = []
    for rate in rates:
        pools.append(([rate], *counted[rate]))
        while len(pools) > 1 and pools[-2][2] * pools[-1][1] > pools[-1][2] * pools[-2][1]:
            later, earlier = pools.pop(), pools.pop()
            pools.append((earlier[0] + later[0], earlier[1] + later[1], earlier[2] + later[2]))
    verdicts = []
    for members, n, misses in pools:
        verdicts += [_worst(told[rate]) if told[rate] else _judged(n, misses, share) for rate in members]
    return verdicts


def _judged(n: float, misses: float, share: float) -> str:
    """Rounded against the claim that is made."""
    if slo_passes(math.floor(n), math.ceil(misses), share):
        return PASS
    return FAIL if slo_rejected(math.ceil(n), math.floor(misses), share) else CANNOT_TELL


def _worst(verdicts: Sequence[str]) -> str:
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts and set(verdicts) == {PASS} else CANNOT_TELL


def _contradicting(fit: Sequence[StepResult]) -> list[float]:
    """Rates of steps that passed although a step at the same or a lower rate failed, and of those that failed."""
    told = [(each.rate_per_s, step_verdict(each)) for each in fit]
    failed = [rate for rate, verdict in told if verdict == FAIL]
    passed = [rate for rate, verdict in told if verdict == PASS]
    above = {rate for rate in passed if failed and rate >= min(failed)}
    below = {rate for rate in failed if passed and rate <= max(passed)}
    return sorted(above | below)
