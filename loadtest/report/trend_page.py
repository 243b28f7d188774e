"""The trend page: every figure of every night's runs over time, in one HTML file that needs no network.

A series is the runs of one side (target or control) of one host, one profile hash and one version of the definitions;
others cannot be compared with them. Runs of void or failed nights are drawn hollow and take no part in the change
points. Names and versions come from strangers: the template escapes them, and pictures hold only what their font has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from loadtest.analysis.nights import CONTROL, HistoryRow
from loadtest.analysis.regression import compared_metrics
from loadtest.analysis.run_figures import Metric
from loadtest.analysis.trend import RUNS_MIN, ChangePoint, change_points
from loadtest.report import drawing, page
from loadtest.report.drawing import INK
from loadtest.report.shift_tables import figure_text, shift_text

COUNTED = ("pass", "begun", "fail")  # nights whose runs say something of the target
RUNS_SHOWN_MAX = 600  # the newest of a series: a hundred nights of six
SERIES_SHOWN_MAX = 6  # the newest; a page stays below 2 MB
LABELS_MAX = 12
_HEIGHT = 2.3


class Drawn(NamedTuple):
    title: str
    caption: str
    svg: Markup


class Changed(NamedTuple):
    """One change point as the table prints it."""

    figure: str
    night: str
    run: str
    before: str
    after: str
    shift: str
    worse: bool


class Shown(NamedTuple):
    """One series as the template draws it."""

    title: str
    note: str
    pictures: list[Drawn]
    changes: list[Changed]
    control: bool
    judged: bool  # there are runs enough for a change to show
    versions: list[tuple[str, str]]  # night and version, from the first run on and at each change


def trend_html(rows: Sequence[HistoryRow]) -> str:
    """The page. `rows` is the history in the order of time."""
    series = [_shown(place, each) for place, each in enumerate(_series(rows)[:SERIES_SHOWN_MAX])]
    worse = [change for shown in series for change in shown.changes if change.worse and not shown.control]
    return (
        page.environment()
        .get_template("trend.html")
        .render(
            css=page.css(),
            hosts=sorted({row.host for row in rows if row.kind != CONTROL}),
            nights=len({row.night for row in rows}),
            runs=len(rows),
            first_line=_first_line(series, worse),
            all_series=series,
        )
    )


def _first_line(series: Sequence[Shown], worse: Sequence[Changed]) -> str:
    if not series:
        return "Nothing to see yet"
    if not any(shown.judged and not shown.control for shown in series):
        return "Too few runs for a trend"
    if not worse:
        return "No figure of the target has changed for the worse"
    last = max(worse, key=lambda change: change.night)
    return f"{last.figure} {last.shift} since the night {last.night}"


def _series(rows: Sequence[HistoryRow]) -> list[list[HistoryRow]]:
    """Rows by series; the target before the control, and the series with the newest run before older ones."""
    found: dict[tuple[Any, ...], list[HistoryRow]] = {}
    for row in sorted(rows, key=lambda row: (row.started_utc, row.run)):
        host = "" if row.kind == CONTROL else row.host  # the control is on this machine, at any port
        found.setdefault((row.kind, host, row.profile_hash, row.definitions_version), []).append(row)
    newest_first = sorted(found.values(), key=lambda runs: runs[-1].started_utc, reverse=True)
    return [runs[-RUNS_SHOWN_MAX:] for runs in sorted(newest_first, key=lambda runs: runs[-1].kind == CONTROL)]


def _shown(place: int, runs: list[HistoryRow]) -> Shown:
    last = runs[-1]
    what = "Control" if last.kind == CONTROL else f"Target {last.host}"
    counted = [run for run in runs if run.word in COUNTED]
    changes, pictures = [], []
    for metric in compared_metrics(runs):
        points = change_points([run.value(metric.name) for run in counted], metric)
        changes += [_changed(metric, counted[point.at], point) for point in points]
        at = [(runs.index(counted[point.at]), point) for point in points]
        pictures.append(_picture(f"trend-{place}-{metric.name}", metric, runs, at))
    few = (
        "" if len(counted) >= RUNS_MIN else f" Change points need {RUNS_MIN} runs that count; there are {len(counted)}."
    )
    note = (
        f"Profile {last.profile} ({last.profile_hash}), definitions {last.definitions_version}, harness "
        f"{last.harness_version}: {len(runs)} runs of {len({run.night for run in runs})} nights.{few}"
    )
    judged = len(counted) >= RUNS_MIN
    title, control = f"{what}, profile {last.profile}", last.kind == CONTROL
    return Shown(title, note, pictures, changes, control, judged, _versions(runs))


def _changed(metric: Metric, run: HistoryRow, point: ChangePoint) -> Changed:
    before, after = (figure_text(metric, level) for level in (point.before, point.after))
    return Changed(metric.label, run.night, run.run, before, after, shift_text(metric, point.shift), point.worse)


def _versions(runs: Sequence[HistoryRow]) -> list[tuple[str, str]]:
    told = [(next(group).night, version) for version, group in groupby(runs, key=lambda run: run.target_versions)]
    return told if len(told) > 1 or told[0][1] else []


def _picture(name: str, metric: Metric, runs: list[HistoryRow], points: list[tuple[int, ChangePoint]]) -> Drawn:
    """One figure over the runs in the order of time, one step to a run, so that nights have the same width."""
    values = [run.value(metric.name) for run in runs]
    with drawing.style(name):
        drawn = drawing.figure(_HEIGHT)
        axes = drawn.subplots()
        _draw_runs(axes, metric, runs, values)
        _draw_versions(axes, runs)
        edges = [0, *(index for index, _ in points), len(runs)]
        levels = [points[0][1].before, *(point.after for _, point in points)] if points else []
        for start, end, level in zip(edges[:-1], edges[1:], levels, strict=False):
            axes.plot([start - 0.5, end - 0.5], [level * _scale(metric)] * 2, color=INK["violet"], lw=1.4)
        for index, point in points:
            axes.axvline(index - 0.5, color=INK["red" if point.worse else "green"], lw=1.3, ls=(0, (4, 2)))
        _axes(axes, metric, runs)
        inline = drawing.svg(drawn, name)
    told = [shift_text(metric, point.shift) + (" (worse)" if point.worse else " (better)") for _, point in points]
    caption = f"per run; change points: {', '.join(told)}" if told else "per run; no change point"
    return Drawn(metric.label, caption, Markup(inline))


def _draw_runs(axes: Axes, metric: Metric, runs: Sequence[HistoryRow], values: Sequence[float | None]) -> None:
    scale = _scale(metric)
    places = [i for i, value in enumerate(values) if value is not None and value != float("inf")]
    counted = [i for i in places if runs[i].word in COUNTED]
    hollow = [i for i in places if runs[i].word not in COUNTED]
    shown = [(values[i] or 0.0) * scale for i in range(len(values))]
    axes.plot(counted, [shown[i] for i in counted], "o", ms=3.4, color=INK["blue"], label="runs")
    if hollow:
        y = [shown[i] for i in hollow]
        axes.plot(hollow, y, "o", ms=3.4, mfc="none", color=INK["grey"], label="of void or failed nights")
    medians = []
    for _, group in groupby(range(len(runs)), key=lambda i: runs[i].night):
        night = [i for i in group if i in set(counted)]
        if night:
            ordered = sorted(shown[i] for i in night)
            medians.append(
                (sum(night) / len(night), (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
            )
    if medians:
        axes.plot(*zip(*medians, strict=True), color=INK["blue"], lw=1.0, alpha=0.55, label="median of a night")


def _draw_versions(axes: Axes, runs: Sequence[HistoryRow]) -> None:
    """A line where the target tells another version than the run before, with what it tells."""
    for place, (before, run) in enumerate(pairwise(runs), start=1):
        if run.target_versions != before.target_versions:
            axes.axvline(place - 0.5, color=INK["orange"], lw=4.0, alpha=0.35)  # wider than a change point beside it
            label = drawing.latin(run.target_versions or "no version")
            label = label if len(label) <= 28 else f"{label[:27]}…"
            axes.annotate(
                label,
                (place - 0.5, 1.0),
                (3, -8),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=INK["orange"],
                fontsize=6.8,
            )


def _axes(axes: Axes, metric: Metric, runs: Sequence[HistoryRow]) -> None:
    axes.set_xlim(-0.7, len(runs) - 0.3)
    firsts = [(next(group), night) for night, group in groupby(range(len(runs)), key=lambda i: runs[i].night)]
    step = -(-len(firsts) // LABELS_MAX)
    axes.set_xticks([place for place, _ in firsts[::step]], [drawing.latin(night) for _, night in firsts[::step]])
    if metric.unit == "ms":
        drawing.duration_ticks(axes.yaxis)
    else:
        axes.set_ylabel("%" if metric.scale == "points" else metric.unit)
    low, high = axes.get_ylim()
    room = 0.15 * (high - low)  # above for the labels, below so that a small change looks small
    axes.set_ylim(max(0.0, low - 2 * room), high + room)
    drawing.legend(axes, 3)


def _scale(metric: Metric) -> float:
    return 100.0 if metric.scale == "points" else 1.0
