"""The gate: may these runs pass? Fixed limits, a baseline of earlier runs, and a control that must not have moved.

What decides, highest first: an unfit run or a control that moved makes the night void, for it proves nothing; then a
missed limit, a figure that is worse than the baseline or is missing, or a run that failed its own limits; else pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.analysis.gate_baseline import in_order, same_series
from loadtest.analysis.gate_limits import Held, Limit, hold
from loadtest.analysis.regression import RUNS_MIN, Compared, compare_sides
from loadtest.analysis.run_figures import RunFigures

Word = Literal["pass", "fail", "void", "nothing judged", "begun"]
EXIT_CODES: dict[Word, int] = {"pass": 0, "begun": 0, "fail": 3, "void": 4, "nothing judged": 4}


# A control that became better has moved too: what it shows is another machine or another network.
_MOVED = ("worse", "better", "missing")


class GateRefused(Exception):
    """These runs cannot be compared as asked; one line says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Runs of tonight and what the baseline has of their series. `compared` is empty without a baseline."""

    runs: tuple[RunFigures, ...]
    baseline: tuple[RunFigures, ...]
    compared: tuple[Compared, ...]
    new_series: bool  # the baseline has runs, and none of this profile and these definitions

    @property
    def unfit(self) -> list[RunFigures]:
        return [run for run in self.runs if not run.fit]

    @property
    def enough(self) -> bool:
        """Whether the statistics could have found a change."""
        return min(len(self.runs), len(self.baseline)) >= RUNS_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the gate found. The faults say in words why the night proves nothing; there are none when it does."""

    word: Word
    side: Side
    control: Side | None
    limits: tuple[Held, ...]
    run_faults: tuple[str, ...]
    control_faults: tuple[str, ...]
    asked_baseline: bool

    @property
    def void(self) -> tuple[str, ...]:
        return (*self.run_faults, *self.control_faults)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.word]

    @property
    def failed_runs(self) -> list[RunFigures]:
        """Those that missed a limit of their own profile, or that a ceiling stopped."""
        return [run for run in self.side.runs if run.result == "fail"]


def judge(
    side: Side,
    limits: Sequence[Limit] = (),
    control: Side | None = None,
    *,
    asked_baseline: bool = False,
    beginning: bool = False,
) -> Judgement:
    """The verdict on the runs of a side.

    `asked_baseline`: a baseline was named, however much is in it. `beginning`: these runs are to become part of it,
    so that there is nothing to judge them by yet is no fault.
    """
    held = tuple(hold(limits, side.runs))
    run_faults = tuple(f"run {run.run} is unfit: {run.unfit_reasons}" for run in side.unfit)
    control_faults: tuple[str, ...] = ()
    if control is not None:
        unfit = [f"control run {run.run} is unfit: {run.unfit_reasons}" for run in control.unfit]
        moved = [f"the control moved: {_moved(each)}" for each in control.compared if each.verdict in _MOVED]
        control_faults = (*unfit, *moved)
    word: Word
    if run_faults or control_faults:
        word = "void"
    elif _missed(side, held):
        word = "fail"
    elif not held and not side.enough:
        word = "begun" if beginning else "nothing judged"
    else:
        word = "pass"
    return Judgement(
        word=word,
        side=side,
        control=control,
        limits=held,
        run_faults=run_faults,
        control_faults=control_faults,
        asked_baseline=asked_baseline,
    )


def side_of(runs: Sequence[RunFigures], baseline: Sequence[RunFigures], what: str) -> Side:
    """These runs beside the baseline's runs of their series. `what` names them in errors.

    A run that is already in the baseline is not compared with itself. GateRefused: the same run twice, or runs of
    several profiles or definitions.
    """
    names = [run.run for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GateRefused(f"{what} {', '.join(twice)} was given more than once; a run counts once")
    odd = next((run for run in runs if not same_series(run, runs[0])), None)
    if odd is not None:
        raise GateRefused(
            f"{what}s {runs[0].run} and {odd.run} differ: {series_text(runs[0])} and {series_text(odd)}; "
            "judge each profile by itself"
        )
    known = [run for run in baseline if runs and same_series(run, runs[0])]
    before = [run for run in known if run.run not in names]
    compared = compare_sides(before, runs) if before and runs else []
    return Side(
        runs=tuple(in_order(runs)),
        baseline=tuple(before),
        compared=tuple(compared),
        new_series=bool(baseline) and not known,
    )


def series_text(run: RunFigures) -> str:
    """What a series is known by, in words."""
    return f"profile {run.profile or '?'} ({run.profile_hash or 'no hash'}), definitions {run.definitions_version}"


def _missed(side: Side, held: Sequence[Held]) -> bool:
    worse = any(each.verdict in ("worse", "missing") for each in side.compared)
    return worse or any(not each.kept for each in held) or any(run.result == "fail" for run in side.runs)


def _moved(each: Compared) -> str:
    if each.shift is None:
        return each.text
    amount = f"{100 * each.shift:+.1f} {'points' if each.metric.scale == 'points' else '%'}"
    return f"{each.metric.label} {amount} ({each.text})"
