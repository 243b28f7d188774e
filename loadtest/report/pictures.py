"""The pictures of a report, as SVG text to be inlined: drawn from summary.json and nothing else.

matplotlib's object interface and SVG backend only, so that no window system and no global figure is touched. Text
stays text. Colours are written as CSS variables, so the page decides about light, dark and paper. The same summary
gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from loadtest.report import wording
from loadtest.report.wording import Summary

INK = {
    "text": "#1c2126",
    "soft": "#5b6570",
    "line": "#c9d0d8",
    "grid": "#e7ebef",
    "paper": "#fefefe",
    "shade": "#f1ede2",
    "blue": "#2166c9",
    "orange": "#cc5500",
    "green": "#1c8457",
    "red": "#c42f3a",
    "violet": "#7350bd",
    "grey": "#a3adb8",
}
BINS_SHOWN_MAX = 600  # points per line: more than a page has pixels to tell apart
DOTS_TITLED_MAX = 400  # each dot with a name in its title costs about 500 bytes
_WIDTH = 10.4


def load(summary: Summary) -> str | None:
    """Offered, completed and failed per second, and what was in flight."""
    series = bins(summary)
    if not series:
        return None
    with _drawing("load"):
        figure = _figure(3.5)
        rates, flight = figure.subplots(2, 1, sharex=True, height_ratios=(2.1, 1))
        t = [s["t_s"] for s in series]
        rates.fill_between(t, _column(series, "planned"), step="mid", color=INK["grid"], label="planned", lw=0)
        rates.plot(t, _column(series, "sent"), color=INK["blue"], lw=1.1, label="sent", drawstyle="steps-mid")
        rates.plot(t, _column(series, "completed"), color=INK["green"], lw=1.4, label="completed")
        rates.plot(t, _column(series, "failed"), color=INK["red"], lw=1.2, label="failed")
        flight.fill_between(t, _column(series, "in_flight"), color=INK["violet"], alpha=0.22, lw=0)
        flight.plot(t, _column(series, "in_flight"), color=INK["violet"], lw=1.3)
        _time_axes(summary, (rates, flight), t)
        _titled(rates, "turns per second")
        _titled(flight, "in flight")
        _legend(rates, 4)
        return _svg(figure, "load")


def latency_over_time(summary: Summary) -> str | None:
    """p50 and p95 of TTFT and E2E by the second in which the request was due; service times."""
    series = bins(summary)
    kept = [m for m in ("ttft_ms", "e2e_ms") if any(s.get(f"{m}_p50") is not None for s in series)]
    if not kept:
        return None
    with _drawing("time"):
        figure = _figure(0.5 + 1.75 * len(kept))
        panels = figure.subplots(len(kept), 1, sharex=True, squeeze=False)[:, 0]
        t = [s["t_s"] for s in series]
        for axes, metric in zip(panels, kept, strict=True):
            low, high = (_column(series, f"{metric}_{p}") for p in ("p50", "p95"))
            axes.fill_between(t, low, high, color=INK["blue"], alpha=0.12, lw=0)
            axes.plot(t, high, color=INK["orange"], lw=1.1, label="p95", marker=".", ms=3, markevery=_alone(high))
            axes.plot(t, low, color=INK["blue"], lw=1.5, label="p50", marker=".", ms=3, markevery=_alone(low))
            _duration_axis(axes, "y", [*low, *high])
            _titled(axes, wording.METRICS[metric][0])
        _time_axes(summary, panels, t)
        _legend(panels[0], 2)
        return _svg(figure, "time")


def distributions(summary: Summary) -> str | None:
    """Share of requests answered within a time; service and response share a panel."""
    curves = wording.part(summary, "distributions")
    panels = [(name, [c for c in group if _points(curves, c[0])]) for name, group in _PANELS]
    panels = [(name, group) for name, group in panels if group]
    if not panels:
        return None
    with _drawing("ecdf"):
        figure = _figure(3.3)
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, group) in zip(row, panels, strict=True):
            for key, label, colour, width, dashes in group:
                values, shares = zip(*_points(curves, key), strict=True)
                axes.plot(values, shares, color=INK[colour], lw=width, ls=dashes, label=label, drawstyle="steps-post")
            _titled(axes, name)
            axes.set_xscale("log")
            _duration_ticks(axes.xaxis)
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
            axes.set_yticks([0, 0.25, 0.5, 0.75, 0.95])
            axes.legend(loc="lower right", frameon=False, handlelength=2.2)
        return _svg(figure, "ecdf")


_PANELS = (
    (
        "TTFT",
        (
            ("ttft_ms_response", "response (from due)", "orange", 2.4, "-"),
            ("ttft_ms_service", "service (from sent)", "blue", 1.3, "-"),
        ),
    ),
    (
        "E2E",
        (
            ("e2e_ms_response", "response (from due)", "orange", 2.4, "-"),
            ("e2e_ms_service", "service (from sent)", "blue", 1.3, "-"),
        ),
    ),
    ("between tokens", (("itl_ms", "ITL, all gaps", "violet", 1.3, "-"), ("tpot_ms", "TPOT, per request", "green", 1.6, "-"))),
)


def node_map(summary: Summary) -> str | None:
    """Latency against reputation, one dot per node: area is requests, hollow means too few to compare."""
    metric = map_metric(summary)
    if metric is None:
        return None
    reputation = map_reputation(summary)
    drawn = [n for n in wording.listed(summary, "nodes") if wording.figure(n.get(metric)) is not None]
    largest = max((n.get("requests") or 0 for n in drawn), default=1) or 1
    with _drawing("nodes"):
        figure = _figure(4.0)
        unknown, axes = figure.subplots(1, 2, sharey=True, width_ratios=(0.09, 1))
        titles: dict[str, str] = {}
        for place, node in enumerate(sorted(drawn, key=lambda n: -(n.get("requests") or 0))):
            x = wording.figure(node.get(reputation))
            home = axes if x is not None else unknown
            dot = home.scatter([0.0 if x is None else x], [node[metric]], **_dot(node, largest))
            if place < DOTS_TITLED_MAX:
                dot.set_gid(f"node-{place}")
                titles[f"node-{place}"] = _dot_title(node, metric, reputation)
        _map_axes(axes, unknown, drawn, metric, reputation)
        _name_extremes(axes, summary, metric, reputation)
        _area_legend(axes, largest)
        return _svg(figure, "nodes", titles)


def map_metric(summary: Summary) -> str | None:
    """What the node map draws: TTFT, or E2E for targets that do not stream; None without nodes."""
    nodes = wording.listed(summary, "nodes")
    return next(
        (m for m in ("ttft_ms_p50", "e2e_ms_p50") if any(wording.figure(n.get(m)) is not None for n in nodes)), None
    )


def map_reputation(summary: Summary) -> str:
    """The series on the map's axis: network tasks, or user tasks when only those are known."""
    nodes = wording.listed(summary, "nodes")
    known = any(wording.figure(n.get("reputation")) is not None for n in nodes)
    return "reputation" if known else "reputation_session"


def bins(summary: Summary) -> list[Summary]:
    """The series thinned to what a page can show: counts per second are averaged, percentiles keep their highest.

    A percentile of several seconds cannot be had from the percentiles of each; the highest hides no bad second.
    """
    series = [s for s in wording.listed(summary, "series") if isinstance(s, dict) and s.get("t_s") is not None]
    step = bin_s(summary)
    return [_merged(series[i : i + step]) for i in range(0, len(series), step)]


def bin_s(summary: Summary) -> int:
    return math.ceil(len(wording.listed(summary, "series")) / BINS_SHOWN_MAX) or 1


def _merged(rows: Sequence[Summary]) -> Summary:
    merged: Summary = {"t_s": rows[0]["t_s"]}
    for key in rows[0]:
        known = [v for row in rows if (v := wording.figure(row.get(key))) is not None]
        if key != "t_s" and known:
            merged[key] = max(known) if "_ms_" in key else sum(known) / len(known)
    return merged


def _dot(node: Summary, largest: int) -> dict[str, Any]:
    ok, requests = node.get("ok"), node.get("requests") or 0
    poor = ok is not None and requests and ok / requests < 0.95
    colour = INK["red"] if poor else INK["blue"]
    area = 12 + 380 * requests / largest
    hollow = bool(node.get("n_too_small"))
    fill = {"facecolors": "none"} if hollow else {"facecolors": colour, "alpha": 0.55}
    return {"s": area, "edgecolors": colour, "linewidths": 1.1 if hollow else 0.6, "zorder": 3, **fill}


def _dot_title(node: Summary, metric: str, reputation: str) -> str:
    known = wording.figure(node.get(reputation))
    return (
        f"{node.get('node')}: {wording.plural(node.get('requests'), 'request')}, {wording.count(node.get('failed'))} failed, "
        f"{wording.METRICS[metric[:-4]][0]} p50 {wording.duration(node[metric])}, "
        f"reputation {'unknown' if known is None else wording.decimal(known, 3)}"
    )


def _map_axes(axes: Axes, unknown: Axes, drawn: Sequence[Summary], metric: str, reputation: str) -> None:
    _duration_axis(axes, "y", [n[metric] for n in drawn])
    _titled(unknown, f"{wording.METRICS[metric[:-4]][0]} p50")
    which = "network tasks" if reputation == "reputation" else "user tasks"
    axes.set_xlabel(f"reputation before the request was sent ({which}, share of successes)")
    known = [x for n in drawn if (x := wording.figure(n.get(reputation))) is not None]
    low = min(known, default=0.0)
    axes.set_xlim(max(0.0, math.floor((low - 0.03) * 20) / 20), max(1.02, *known, 1.02))
    unknown.set_xlim(-1, 1)
    unknown.set_xticks([0], ["unknown"])
    unknown.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", length=0)


def _name_extremes(axes: Axes, summary: Summary, metric: str, reputation: str) -> None:
    """Name the slowest three and the fastest: the dots a reader asks about first."""
    ranked = [n for n in wording.ranked_nodes(summary, metric) if wording.figure(n.get(reputation)) is not None]
    for node in {id(n): n for n in [*ranked[:1], *ranked[-3:]]}.values():
        axes.annotate(
            _latin(wording.short(node.get("node"))),
            (node[reputation], node[metric]),
            xytext=(9, 5),
            textcoords="offset points",
            color=INK["soft"],
            fontsize=7.2,
            parse_math=False,
            zorder=4,
        )


def _area_legend(axes: Axes, largest: int) -> None:
    sizes = sorted({1, max(1, largest // 4), largest})
    kinds = [(wording.plural(n, "request"), {"requests": n, "ok": n}) for n in sizes]
    kinds += [("too few to compare", {"requests": largest // 8, "n_too_small": True})]
    kinds += [("over 5 % failed", {"requests": max(1, largest // 8), "ok": 0})]
    handles = [axes.scatter([], [], label=label, **_dot(node, largest)) for label, node in kinds]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(kinds), frameon=False, borderpad=0.4
    )


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


@contextmanager
def _drawing(salt: str) -> Iterator[None]:
    """Style and determinism of one picture; the ids of two pictures on one page must differ, hence the salt."""
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"loadtest-{salt}",
        "font.family": "DejaVu Sans",
        "font.size": 8.2,
        "text.color": INK["text"],
        "text.parse_math": False,
        "axes.labelcolor": INK["soft"],
        "axes.edgecolor": INK["line"],
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": INK["grid"],
        "grid.linewidth": 0.8,
        "xtick.color": INK["line"],
        "ytick.color": INK["line"],
        "xtick.labelcolor": INK["soft"],
        "ytick.labelcolor": INK["soft"],
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "xtick.minor.size": 0,
    }
    with mpl.rc_context(style):
        yield


def _titled(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=8.8, fontweight="bold", color=INK["text"], pad=7)


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=columns, frameon=False, borderaxespad=0.2)


def _time_axes(summary: Summary, panels: Sequence[Axes], t: Sequence[float]) -> None:
    run = wording.part(summary, "run")
    warmup, offered = (wording.figure(run.get(k)) or 0.0 for k in ("warmup_s", "offered_s"))
    for axes in panels:
        axes.set_xlim(min(0.0, t[0]), max(t[-1], t[0] + 1))
        axes.set_ylim(bottom=0) if axes.get_yscale() == "linear" else None
        axes.grid(visible=False, axis="x")
        if warmup > 0:
            axes.axvspan(0, warmup, color=INK["shade"], lw=0, zorder=0)
        if 0 < offered < t[-1]:
            axes.axvspan(offered, t[-1], color=INK["shade"], lw=0, zorder=0)
    if warmup > 0:
        _phase(panels[0], 0, "warm-up")
    if 0 < offered < t[-1]:
        _phase(panels[0], offered, "drain")
    panels[-1].set_xlabel("seconds since the start of the schedule")


def _phase(axes: Axes, x: float, word: str) -> None:
    place = axes.get_xaxis_transform()
    axes.annotate(word, (x, 1), xycoords=place, xytext=(3, -8), textcoords="offset points", color=INK["soft"], fontsize=7)


def _duration_axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Linear from zero, or logarithmic when the slow would flatten the fast."""
    known = [v for v in values if math.isfinite(v) and v > 0]
    if known and max(known) > 12 * min(known):
        axes.set_yscale("log")
        axes.set_ylim(min(known) * 0.75, max(known) * 1.35)
        axes.grid(visible=True, which="both", axis="y")
    _duration_ticks(axes.yaxis if which == "y" else axes.xaxis)


def _duration_ticks(axis: Any) -> None:
    if axis.get_scale() == "log":
        low, high = sorted(axis.get_view_interval())
        wide = low <= 0 or high / low > 400
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value_ms: float) -> str:
    return "0" if value_ms == 0 else f"{value_ms / 1000:g} s" if abs(value_ms) >= 1000 else f"{value_ms:g} ms"


def _column(series: Sequence[Summary], key: str) -> list[float]:
    return [math.nan if (v := wording.figure(s.get(key))) is None else v for s in series]


def _alone(values: Sequence[float]) -> list[int]:
    """Places of values between two gaps: a line alone would not show them."""
    known = [False, *map(math.isfinite, values), False]
    return [i for i in range(len(values)) if known[i + 1] and not known[i] and not known[i + 2]]


def _points(curves: Summary, key: str) -> list[tuple[float, float]]:
    """Points that a log axis can show."""
    pairs = [p for p in wording.listed(curves, key) if isinstance(p, list | tuple) and len(p) == 2]
    return [(v, s) for v, s in (map(wording.figure, p) for p in pairs) if v is not None and v > 0 and s is not None]


def _latin(text: str) -> str:
    """Letters the drawing font has: matplotlib warns for each that is missing."""
    return "".join(c if c.isascii() and c.isprintable() or c == "…" else "?" for c in text)


def _svg(figure: Figure, name: str, titles: dict[str, str] | None = None) -> str:
    """The figure as an inline <svg>: no prologue, no metadata, colours as variables, ids unique on the page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]+")[^>]*>', rf'<svg class="{name}" \1 role="img">', text, count=1)
    # Only inside tags: a node may be named like a colour or an id, and its name is text.
    text = re.sub(r"<[^>]*>", lambda tag: _for_page(tag.group()), text)
    for gid, title in (titles or {}).items():
        text = text.replace(f'<g id="{gid}">', f"<g><title>{escape(title)}</title>", 1)
    return re.sub(r"\n\s*", "\n", text)


def _for_page(tag: str) -> str:
    tag = re.sub(r' id="(?!node-)[a-z0-9]+(\.[a-z0-9]+)*_\d+"', "", tag)
    tag = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", tag)
    tag = _colours.sub(lambda found: _variables[found.group()], tag)
    tag = re.sub(r"(\d\.\d\d)\d{2,}", r"\1", tag)  # a hundredth of a point is less than a printer's dot
    return tag.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")


_variables = {colour: f"var(--{name})" for name, colour in INK.items()}
_colours = re.compile("|".join(_variables))
Picture = Callable[[Summary], str | None]
PICTURES: dict[str, Picture] = {
    "load": load,
    "time": latency_over_time,
    "ecdf": distributions,
    "nodes": node_map,
}
