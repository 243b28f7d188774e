"""Figures of runs and shifts between groups of them, as the tables that `compare` and `gate` share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadtest.analysis.regression import Compared, compared_metrics
from loadtest.analysis.run_figures import Metric, RunFigures
from loadtest.report import wording
from loadtest.report.tables import Cell, Kind, Table, number, quiet

_KINDS: dict[str, Kind] = {"worse": "fail", "missing": "fail"}


def figure_text(metric: Metric, value: float | None) -> str:
    """One figure in the unit of its metric."""
    if value == math.inf:
        return "among failures"
    if metric.unit == "ms":
        return wording.duration(value)
    return wording.percent(value, 2) if metric.scale == "points" else f"{wording.decimal(value)}/s"


def shift_text(metric: Metric, shift: float | None) -> str:
    """A shift with its sign: "+20.1 %" of the level before, or "-5.0 points" of a share."""
    if shift is None:
        return wording.ABSENT
    if not math.isfinite(shift):
        return "beyond measure"
    return f"{100 * shift:+.1f} {'points' if metric.scale == 'points' else '%'}"


def interval_text(compared: Compared) -> str:
    """The 95 % interval of a shift; why there is none where there is none."""
    if compared.interval is None:
        return "too few runs" if compared.shift is not None else wording.ABSENT
    return " to ".join(shift_text(compared.metric, bound) for bound in compared.interval)


def runs_table(runs: Sequence[RunFigures], title: str) -> Table:
    """One row per run: whether to believe it, its result, and its figures."""
    metrics = compared_metrics(runs)
    rows = [
        (
            Cell(run.run, None, "hostile"),
            Cell(run.started_utc.replace("T", " ").removesuffix("Z")),
            Cell("fit" if run.fit else "UNFIT", None, "text" if run.fit else "fail"),
            Cell(run.result, None, "fail" if run.result == "fail" else "text"),
            number(run.requests, wording.count(run.requests)),
            *(number(run.value(m.name), figure_text(m, run.value(m.name))) for m in metrics),
        )
        for run in runs
    ]
    columns = ("run", "start, UTC", "fit", "result", "requests", *(m.label for m in metrics))
    return Table("runs", title, columns, (False,) * 4 + (True,) * (1 + len(metrics)), tuple(rows))


def shifts_table(compared: Sequence[Compared], title: str, sides: tuple[str, str], verdicts: bool = True) -> Table:
    """One row per figure: medians of both sides, Hodges-Lehmann shift with its interval, and the verdict."""
    rows = []
    for each in compared:
        metric = each.metric
        row = [
            Cell(metric.label),
            number(each.before, figure_text(metric, each.before)),
            number(each.after, figure_text(metric, each.after)),
            number(each.shift, shift_text(metric, each.shift)),
            quiet(interval_text(each)),
            quiet(f"{each.n_after} v {each.n_before}"),
        ]
        if verdicts:
            row += [Cell(each.verdict, None, _KINDS.get(each.verdict, "text")), Cell(each.text, None, "hostile")]
        rows.append(tuple(row))
    columns = ("figure", *sides, "shift", "95 % interval", "runs")
    more = ("verdict", "why") if verdicts else ()
    return Table("shifts", title, columns + more, (False, *[True] * 5, *[False] * len(more)), tuple(rows))
