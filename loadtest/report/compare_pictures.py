"""Runs drawn over each other: distributions and courses over time, one line per run, one colour per run or side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from loadtest.analysis.comparison import Comparison
from loadtest.report import drawing, wording
from loadtest.report.drawing import INK
from loadtest.report.pictures import bins, column, points
from loadtest.report.wording import METRICS, Summary

_COLOURS = ("blue", "orange", "green", "violet", "red", "grey")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))
_CURVES = {"ttft_ms_service": "TTFT", "e2e_ms_service": "E2E", "tpot_ms": "TPOT"}
_LABEL_LETTERS = 26


class Line(NamedTuple):
    """How one run is drawn. The runs of a side share their label."""

    summary: Summary
    colour: str
    dashes: object
    label: str
    width: float


def lines(found: Comparison) -> list[Line]:
    """One line per run: a colour per side, or, where every run stands for itself, per run."""
    if found.against:
        drawn = []
        for colour, side, name in (("blue", found.against, "against"), ("orange", found.runs, "runs")):
            label = name if len(side) > 1 else wording.short(side[0].figures.run, _LABEL_LETTERS)
            drawn += [Line(run.summary, colour, "-", label, 1.1) for run in side]
        return drawn
    return [
        Line(
            run.summary,
            _COLOURS[place % len(_COLOURS)],
            _DASHES[place // len(_COLOURS) % len(_DASHES)],
            wording.short(run.figures.run, _LABEL_LETTERS),
            1.5,
        )
        for place, run in enumerate(found.runs)
    ]


def overlaid_distributions(found: Comparison) -> str | None:
    """Share of requests answered within a time, service, on a log axis; a curve that ends below 1 had failures."""
    drawn = lines(found)
    panels = [key for key in _CURVES if any(points(_curves(line), key) for line in drawn)]
    if not panels:
        return None
    with drawing.style("compare-ecdf"):
        figure = drawing.figure(3.5, gap=0.14)
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, key in zip(row, panels, strict=True):
            for line in drawn:
                curve = points(_curves(line), key)
                if curve:
                    values, shares = zip(*curve, strict=True)
                    _plot(axes, values, shares, line, drawstyle="steps-post")
            drawing.titled(axes, _CURVES[key])
            axes.set_xscale("log")
            drawing.duration_ticks(axes.xaxis)
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        row[-1].legend(**_legend(row), loc="lower right", frameon=False, handlelength=1.8)
        return drawing.svg(figure, "compare-ecdf")


def overlaid_courses(found: Comparison) -> str | None:
    """Median TTFT, or E2E where nothing streamed, and requests completed per second, since the start of each run."""
    drawn = [line for line in lines(found) if bins(line.summary)]
    keys = [m for m in ("ttft_ms", "e2e_ms") if any(_known(line.summary, f"{m}_p50") for line in drawn)]
    if not drawn or not keys:
        return None
    with drawing.style("compare-time"):
        figure = drawing.figure(3.9)
        latency, rate = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
        every: list[float] = []
        for line in drawn:
            series = bins(line.summary)
            seconds, values = column(series, "t_s"), column(series, f"{keys[0]}_p50")
            every += values
            _plot(latency, seconds, values, line)
            _plot(rate, seconds, column(series, "completed"), line)
        drawing.duration_axis(latency, "y", every)
        drawing.titled(latency, f"{METRICS[keys[0]][0]} p50 by the second")
        drawing.titled(rate, "completed per second")
        rate.set_ylim(bottom=0)
        rate.set_xlabel("seconds since the start of each run's schedule")
        shown = _legend([latency, rate])
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "borderaxespad": 0.2}
        latency.legend(**shown, **place, ncols=min(len(shown["labels"]), 4), frameon=False)
        return drawing.svg(figure, "compare-time")


def _plot(axes: Axes, x: Sequence[float], y: Sequence[float], line: Line, drawstyle: str = "default") -> None:
    style: dict[str, Any] = {"color": INK[line.colour], "ls": line.dashes, "lw": line.width, "alpha": 0.85}
    axes.plot(x, y, label=drawing.latin(line.label), drawstyle=drawstyle, **style)


def _legend(panels: Sequence[Axes]) -> dict[str, list[Any]]:
    """Every label once, from whichever panel has it: a run may lack the first figure."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    return {"handles": list(named.values()), "labels": list(named)}


def _curves(line: Line) -> Summary:
    return wording.part(line.summary, "distributions")


def _known(summary: Summary, key: str) -> bool:
    return any(row.get(key) is not None for row in bins(summary))
