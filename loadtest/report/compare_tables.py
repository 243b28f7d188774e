"""Runs side by side as tables, and the same as console text and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.analysis.comparison import ComparedRun, Comparison
from loadtest.analysis.regression import RUNS_MIN
from loadtest.analysis.run_figures import METRICS as FIGURES
from loadtest.analysis.run_figures import Metric, RunFigures
from loadtest.report import wording
from loadtest.report.columns import plain_table
from loadtest.report.markdown import code, draw, plain
from loadtest.report.shift_tables import figure_text, runs_table, shift_text, shifts_table
from loadtest.report.tables import Cell, Table, number, quiet
from loadtest.report.wording import METRICS, PERCENTILES, Summary

INTERVALS_SHOWN_MAX = 3  # runs; beyond them a table of intervals is too wide to read
ONE_RUN_EACH = (
    "One run each: a difference proves nothing about run-to-run spread, the next two runs may differ as much. "
    f"Give {RUNS_MIN} or more runs a side: RUN... --against RUN..."
)


def compare_tables(found: Comparison) -> list[Table]:
    """Every table that has rows, in the order in which they are read."""
    tables = [_facts(found)]
    if found.against:
        tables.append(shifts_table(found.shifts, "Shift from the runs after --against", ("against", "runs")))
        tables.append(runs_table([run.figures for run in found.runs], "Runs"))
        tables.append(runs_table([run.figures for run in found.against], "Against"))
    else:
        tables += [runs_table([run.figures for run in found.runs], "Runs"), *_side_by_side(found.runs)]
    tables.append(_outcomes(found.all))
    return [table for table in tables if table.rows]


def sentences(found: Comparison) -> list[str]:
    """What a reader must know before any figure."""
    lines = [f"{run.run} is UNFIT and in no shift: {run.unfit_reasons}." for run in found.unfit]
    if found.one_run_each:
        lines.append(ONE_RUN_EACH)
    elif found.against and min(len(found.runs), len(found.against)) < RUNS_MIN:
        counts = f"{len(found.runs)} runs against {len(found.against)}"
        lines.append(f"{counts}: {RUNS_MIN} a side are the least that can prove a change.")
    if any(name == "profile hash" for name, _ in found.facts):
        lines.append("The profiles differ: a shift may come from what was sent.")
    return lines


def compare_console(found: Comparison) -> str:
    """Tables first, the cautions last, where a terminal shows them."""
    tables = [plain_table(table) for table in compare_tables(found)]
    cautions = "\n".join(sentences(found))
    clean = "".join(c if c.isprintable() or c == "\n" else "?" for c in cautions)
    return "\n\n".join(filter(None, [*tables, clean])) + "\n"


def compare_markdown(found: Comparison) -> str:
    """The cautions first, then every table."""
    sides = [_few([code(run.figures.run) for run in side]) for side in (found.runs, found.against)]
    title = " against ".join(filter(None, sides))
    blocks = [f"## {title}", "\n".join(f"- {plain(text)}" for text in sentences(found))]
    for table in compare_tables(found):
        blocks += [f"### {table.title}", draw(table), plain(table.note)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _facts(found: Comparison) -> Table:
    rows = tuple((Cell(name), *(Cell(value, None, "hostile") for value in values)) for name, values in found.facts)
    names = tuple(run.figures.run for run in found.all)
    return Table("facts", "What was not the same", ("", *names), (False,) * (1 + len(names)), rows)


def _side_by_side(runs: Sequence[ComparedRun]) -> list[Table]:
    """Shares and rates, then latencies with each run's own interval; differences from the first run."""
    shares = [metric for metric in FIGURES if metric.unit != "ms"]
    first = runs[0].figures
    rows = []
    for metric in shares:
        if any(run.figures.value(metric.name) is not None for run in runs):
            cells = [cell for run in runs for cell in _figure_cells(metric, run.figures, first)]
            rows.append((Cell(metric.label), *cells))
    columns = ("", runs[0].figures.run, *(name for run in runs[1:] for name in (run.figures.run, "difference")))
    numeric = (False, *[True] * (len(columns) - 1))
    return [
        Table("shares", "Shares and rates", columns, numeric, tuple(rows)),
        _latency(runs),
    ]


def _figure_cells(metric: Metric, run: RunFigures, first: RunFigures) -> list[Cell]:
    value, before = run.value(metric.name), first.value(metric.name)
    cells = [number(value, figure_text(metric, value))]
    return cells if run is first else [*cells, _difference(metric, before, value)]


def _difference(metric: Metric, before: float | None, after: float | None) -> Cell:
    """After minus before: relative for a ratio, in points for a share."""
    if before is None or after is None:
        return quiet(wording.ABSENT)
    if metric.scale == "points":
        shift = after - before
    elif before <= 0 or before == float("inf"):
        return quiet(wording.ABSENT)
    else:
        shift = after / before - 1
    return number(shift, shift_text(metric, shift))


def _latency(runs: Sequence[ComparedRun]) -> Table:
    intervals = len(runs) <= INTERVALS_SHOWN_MAX
    columns = ["service time", ""]
    for place, run in enumerate(runs):
        columns += [run.figures.run, *(["its 95 % interval"] if intervals else []), *(["difference"] if place else [])]
    rows = []
    for name, (label, _) in METRICS.items():
        cells = [wording.part(run.summary, "latency", name, "service") for run in runs]
        if not any(cell.get("n") for cell in cells):
            continue
        scale = wording.scale_of(cell.get(p) for cell in cells for p in PERCENTILES)
        for level in PERCENTILES:
            row = [Cell(f"{label}, {scale.unit}" if level == "p50" else ""), Cell(level)]
            for place, cell in enumerate(cells):
                row.append(number(cell.get(level), wording.quantile(cell, level, scale)))
                row += [quiet(wording.interval(cell, level, scale))] if intervals else []
                row += [_percentile_difference(cells[0], cell, level)] if place else []
            rows.append(tuple(row))
    note = "An interval is of one run: how well its own requests know the percentile. It does not hold what the next "
    note += "run would show."
    numeric = (False, False, *[True] * (len(columns) - 2))
    return Table("latencies", "Latency", tuple(columns), numeric, tuple(rows), note if intervals else "")


def _percentile_difference(first: Summary, cell: Summary, level: str) -> Cell:
    before, after = wording.figure(first.get(level)), wording.figure(cell.get(level))
    return _difference(FIGURES[0], before, after)


def _outcomes(runs: Sequence[ComparedRun]) -> Table:
    """Of all planned turns of each run, the share of every outcome that occurred in any."""
    accounts = [wording.part(run.summary, "account", "outcomes") for run in runs]
    together: dict[str, int] = {}
    for account in accounts:
        for name, count in account.items():
            together[name] = together.get(name, 0) + int(count)
    rows = []
    for name, _ in wording.by_size(together):
        row = [Cell(name.replace("_", " "))]
        for account in accounts:
            total, count = sum(account.values()), int(account.get(name, 0))
            share = count / total if total else None
            row.append(number(share, wording.percent(share, 2)))
        rows.append(tuple(row))
    names = tuple(run.figures.run for run in runs)
    return Table("outcomes", "Outcomes, of all planned turns", ("", *names), (False, *[True] * len(names)), tuple(rows))
