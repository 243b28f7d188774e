"""Runs set side by side: what differs in what was asked for, and how far their figures lie apart.

Two groups of runs have a Hodges-Lehmann shift with an interval, because the runs of each say how much runs scatter.
Single runs have only a difference, which says nothing of that scatter. Unfit runs are shown and are in no shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.analysis.gate_baseline import same_series
from loadtest.analysis.regression import Compared, compare_sides
from loadtest.analysis.run_figures import RunFigures, read_summary, run_figures
from loadtest.runfolder import read_manifest

_ASKED = ("profile", "profile_hash", "mode", "offered_s", "users", "workers", "encoding", "history", "time_scale")


class CompareRefused(Exception):
    """These runs cannot be compared as asked; one line says why and what to do."""


class ComparedRun(NamedTuple):
    """One run: its figures, and the summary behind them for percentiles and pictures."""

    figures: RunFigures
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`against` is empty when every run stands for itself; then the first is what the others are compared with.

    `facts` are what was asked for and differs, by name, one value per run in the order of `all`.
    """

    runs: tuple[ComparedRun, ...]
    against: tuple[ComparedRun, ...]
    shifts: tuple[Compared, ...]
    facts: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def all(self) -> tuple[ComparedRun, ...]:
        return (*self.against, *self.runs)

    @property
    def unfit(self) -> list[RunFigures]:
        return [run.figures for run in self.all if not run.figures.fit]

    @property
    def one_run_each(self) -> bool:
        return not self.against or (len(self.runs) == 1 and len(self.against) == 1)


def compare_runs(runs: Sequence[Path], against: Sequence[Path], different_profiles: bool = False) -> Comparison:
    """Read and compare joined run folders.

    CompareRefused: fewer than two, one given twice, several profiles and not `different_profiles`, or figures of
    several definitions. RunFolderError: one cannot be read.
    """
    if len(runs) + len(against) < 2:
        raise CompareRefused("one run alone cannot be compared; name two or more, or --against RUN...")
    sides = [[_read(path) for path in side] for side in (runs, against)]
    every = [*sides[1], *sides[0]]
    _refuse(every, different_profiles)
    fit = [[run.figures for run in side if run.figures.fit] for side in sides]
    return Comparison(
        runs=tuple(sides[0]),
        against=tuple(sides[1]),
        shifts=tuple(compare_sides(fit[1], fit[0])) if fit[0] and fit[1] else (),
        facts=tuple(_facts(every)),
    )


def _read(path: Path) -> ComparedRun:
    summary = read_summary(path)
    return ComparedRun(run_figures(summary, read_manifest(path), path), summary)


def _refuse(every: Sequence[ComparedRun], different_profiles: bool) -> None:
    names = [run.figures.run for run in every]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CompareRefused(f"{', '.join(twice)} was given more than once; a run compared with itself shows nothing")
    first = every[0].figures
    odd = next((run.figures for run in every if not same_series(run.figures, first)), None)
    if odd is None:
        return
    if odd.definitions_version != first.definitions_version:
        raise CompareRefused(
            f"{first.run} has definitions {first.definitions_version} and {odd.run} has {odd.definitions_version}: "
            "figures of the same name mean different things; `loadtest join` each again with this version"
        )
    if not different_profiles:
        raise CompareRefused(
            f"{first.run} is of profile {first.profile} ({first.profile_hash}) and {odd.run} of {odd.profile} "
            f"({odd.profile_hash}): another load is another question; --different-profiles compares them all the same"
        )


def _facts(every: Sequence[ComparedRun]) -> list[tuple[str, tuple[str, ...]]]:
    """What was asked for, where it is not the same in all runs. The seed is left out: it is meant to differ."""
    versions = [_of(run, "versions") or {} for run in every]
    names = sorted({name for each in versions for name in each})
    found = [
        *((name.replace("_", " "), tuple(_text(_of(run, name)) for run in every)) for name in _ASKED),
        ("targets", tuple(_targets(run) for run in every)),
        ("target versions", tuple(run.figures.target_versions or "not told" for run in every)),
        *((f"{name} version", tuple(_text(each.get(name)) for each in versions)) for name in names),
    ]
    return [(name, values) for name, values in found if len(set(values)) > 1]


def _targets(run: ComparedRun) -> str:
    targets = [each for each in _of(run, "targets") or [] if isinstance(each, dict)]
    return ", ".join(f"{each.get('name')}: {each.get('url')} ({each.get('route')})" for each in targets)


def _of(run: ComparedRun, name: str) -> Any:
    return (run.summary.get("run") or {}).get(name)


def _text(value: Any) -> str:
    return "not stated" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
