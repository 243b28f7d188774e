"""The fixed limits of a gate: a TOML file with one table per figure, and `max` or `min` or both in it.

    [ttft_ms_p95]
    max = 2000

A limit is of every run, not of their middle: it says what is never acceptable. A run without the figure misses it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from loadtest.analysis.run_figures import METRIC, Metric, RunFigures
from loadtest.traffic.reading import PROFILE_FOLDERS


class LimitsError(Exception):
    """The file of limits has mistakes; each line of the text says where, what, and what to do."""


class Limit(NamedTuple):
    metric: Metric
    kind: Literal["max", "min"]
    bound: float


class Held(NamedTuple):
    """One limit over all runs: those that missed it, with their figure, and those that have no such figure."""

    limit: Limit
    values: tuple[tuple[str, float | None], ...]
    missed: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return not self.missed and not self.absent


def limits_names() -> list[str]:
    """Files of limits that come with the program, by name."""
    return sorted({path.stem for folder in PROFILE_FOLDERS for path in (folder / "slo").glob("*.toml")})


def read_limits(name_or_path: str) -> list[Limit]:
    """The limits of a named file, or of a path that ends in .toml, in its order. LimitsError: every mistake."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        places = [folder / "slo" / f"{name_or_path}.toml" for folder in PROFILE_FOLDERS]
        if name_or_path not in limits_names():
            there = ", ".join(limits_names())
            raise LimitsError(f"limits {name_or_path!r:.80}: there are {there}; or give a path to a .toml file")
        path = next(place for place in places if place.is_file())
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise LimitsError(f"{path}: not valid TOML, correct it: {error}") from None
    except UnicodeDecodeError:
        raise LimitsError(f"{path}: not UTF-8 text; name a .toml file of limits") from None
    except OSError as error:
        raise LimitsError(f"{path}: cannot be read ({error.strerror}); name a readable file") from None
    mistakes: list[str] = []
    limits = [limit for name, table in tables.items() for limit in _limits(str(path), name, table, mistakes)]
    if not limits and not mistakes:
        mistakes.append(f"{path}: states no limits; add a table such as [ttft_ms_p95] with max = 2000")
    if mistakes:
        raise LimitsError("\n".join(mistakes))
    return limits


def hold(limits: Sequence[Limit], runs: Sequence[RunFigures]) -> list[Held]:
    """Each limit against every run."""
    return [_held(limit, runs) for limit in limits]


def _held(limit: Limit, runs: Sequence[RunFigures]) -> Held:
    values = tuple((run.run, run.value(limit.metric.name)) for run in runs)
    beyond = [
        name
        for name, value in values
        if value is not None and (value > limit.bound if limit.kind == "max" else value < limit.bound)
    ]
    return Held(limit, values, tuple(beyond), tuple(name for name, value in values if value is None))


def _limits(path: str, name: str, table: Any, mistakes: list[str]) -> list[Limit]:
    metric = METRIC.get(name)
    if metric is None:
        mistakes.append(f"{path}: [{name}]: no such figure, choose one of {', '.join(METRIC)}")
        return []
    if not isinstance(table, dict) or not table:
        mistakes.append(f"{path}: [{name}]: must be a table with max or min")
        return []
    found = []
    for kind, bound in table.items():
        if kind not in ("max", "min"):
            mistakes.append(f"{path}: [{name}] {kind}: unknown, only max and min can be stated")
        elif isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 <= bound < math.inf:
            mistakes.append(f"{path}: [{name}] {kind}: must be a number of 0 or more, got {bound!r}")
        elif metric.scale == "points" and bound > 1:
            mistakes.append(f"{path}: [{name}] {kind}: is a share, 0 to 1, got {bound!r}")
        else:
            found.append(Limit(metric, "max" if kind == "max" else "min", float(bound)))
    return found
