"""The pictures of a report, as SVG text to be inlined: drawn from summary.json and nothing else.

Each is a function of the summary that returns None when there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from loadtest.report import association, drawing, wording
from loadtest.report.drawing import INK, SMALL
from loadtest.report.wording import Summary

BINS_SHOWN_MAX = 600  # points per line: more than a page has pixels to tell apart
DOTS_MAX = 400  # a dot with a name in its title costs about 500 bytes and a fifth of a millisecond of layout


def load(summary: Summary) -> str | None:
    """Offered, completed and failed per second, and what was in flight."""
    series = bins(summary)
    if not series:
        return None
    with drawing.style("load"):
        figure = drawing.figure(3.5)
        rates, flight = figure.subplots(2, 1, sharex=True, height_ratios=(2.1, 1))
        t = [s["t_s"] for s in series]
        rates.fill_between(t, column(series, "planned"), step="mid", color=INK["grid"], label="planned", lw=0)
        rates.plot(t, column(series, "sent"), color=INK["blue"], lw=1.1, label="sent", drawstyle="steps-mid")
        rates.plot(t, column(series, "completed"), color=INK["green"], lw=1.4, label="completed")
        rates.fill_between(t, column(series, "failed"), step="mid", color=INK["red"], label="failed", lw=0, zorder=3)
        flight.fill_between(t, column(series, "in_flight"), color=INK["violet"], alpha=0.22, lw=0)
        flight.plot(t, column(series, "in_flight"), color=INK["violet"], lw=1.3)
        _time_axes(summary, (rates, flight), t)
        drawing.titled(rates, "turns per second")
        drawing.titled(flight, "in flight")
        drawing.legend(rates, 4)
        return drawing.svg(figure, "load")


def latency_over_time(summary: Summary) -> str | None:
    """p50 and p95 of TTFT, TPOT, ITL and E2E by the second in which the request was sent; service times."""
    series = bins(summary)
    kept = [m for m in wording.metrics_of(summary) if any(s.get(f"{m}_p50") is not None for s in series)]
    if not kept:
        return None
    with drawing.style("time"):
        columns = min(2, len(kept))
        rows = -(-len(kept) // columns)
        figure = drawing.figure(0.5 + 1.75 * rows, gap=0.12)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        panels, empty = list(grid.flat[: len(kept)]), grid.flat[len(kept) :]
        t = [s["t_s"] for s in series]
        for axes, metric in zip(panels, kept, strict=True):
            low, high = (column(series, f"{metric}_{p}") for p in ("p50", "p95"))
            axes.fill_between(t, low, high, color=INK["blue"], alpha=0.12, lw=0)
            axes.plot(t, high, color=INK["orange"], lw=1.1, label="p95", marker=".", ms=3, markevery=_alone(high))
            axes.plot(t, low, color=INK["blue"], lw=1.5, label="p50", marker=".", ms=3, markevery=_alone(low))
            drawing.duration_axis(axes, "y", [*low, *high])
            drawing.titled(axes, wording.METRICS[metric][0])
        for axes in empty:
            axes.set_visible(False)
        _time_axes(summary, panels, t)
        drawing.legend(panels[0], 2)
        return drawing.svg(figure, "time")


def distributions(summary: Summary) -> str | None:
    """Share of requests answered within a time; service and response share a panel."""
    curves = wording.part(summary, "distributions")
    groups = _PANELS if wording.streams_everywhere(summary) else sorted(_PANELS, key=lambda panel: panel[0] != "E2E")
    panels = [(name, [c for c in group if points(curves, c[0])]) for name, group in groups]
    panels = [(name, group) for name, group in panels if group]
    if not panels:
        return None
    with drawing.style("ecdf"):
        figure = drawing.figure(3.3, gap=0.14)
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, group) in zip(row, panels, strict=True):
            for key, label, colour, width, dashes in group:
                values, shares = zip(*points(curves, key), strict=True)
                axes.plot(values, shares, color=INK[colour], lw=width, ls=dashes, label=label, drawstyle="steps-post")
            drawing.titled(axes, name)
            axes.set_xscale("log")
            drawing.duration_ticks(axes.xaxis)
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
            axes.axhline(0.95, color=INK["grey"], lw=0.8, ls=(0, (2, 2)), zorder=1)
            axes.legend(loc="lower right", frameon=False, handlelength=1.8)
        row[0].annotate(
            "p95", (0, 0.95), xycoords="axes fraction", xytext=(3, -3), textcoords="offset points", va="top", **SMALL
        )
        return drawing.svg(figure, "ecdf")


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
    (
        "between tokens",
        (("itl_ms", "ITL, all gaps", "violet", 1.3, "-"), ("tpot_ms", "TPOT, per request", "green", 1.6, "-")),
    ),
)


def node_map(summary: Summary) -> str | None:
    """Latency against reputation, one dot per node: area is requests, hollow means too few to compare."""
    metric = map_metric(summary)
    if metric is None:
        return None
    reputation = map_reputation(summary)
    drawn = mapped_nodes(summary)[:DOTS_MAX]
    largest = max((n.get("requests") or 0 for n in drawn), default=1) or 1
    with drawing.style("nodes"):
        figure = drawing.figure(4.0)
        # Nodes nobody has a reputation of stand in a strip of their own: they have no place on the axis.
        strip = any(wording.figure(n.get(reputation)) is None for n in drawn)
        panels = figure.subplots(1, 1 + strip, sharey=True, squeeze=False, width_ratios=(0.09, 1) if strip else None)[0]
        unknown, axes = panels[0], panels[-1]
        titles: dict[str, str] = {}
        for place, node in enumerate(drawn):
            x = wording.figure(node.get(reputation))
            home = axes if x is not None else unknown
            dot = home.scatter([0.0 if x is None else x], [node[metric]], **_dot(node, largest))
            dot.set_gid(f"node-{place}")
            titles[f"node-{place}"] = _dot_title(node, metric, reputation)
        _map_axes(axes, drawn, metric, reputation)
        if strip:
            unknown.set_xlim(-1, 1)
            unknown.set_xticks([0], ["unknown"])
            axes.tick_params(axis="y", length=0)
        unknown.set_ylabel(f"{wording.METRICS[metric[:-4]][0]} p50")
        _name_extremes(axes, summary, metric, reputation)
        _area_legend(axes, largest)
        return drawing.svg(figure, "nodes", titles)


def map_metric(summary: Summary) -> str | None:
    """What the node map draws: TTFT, or E2E for targets that do not stream; None without nodes."""
    nodes = wording.listed(summary, "nodes")
    return next(
        (m for m in ("ttft_ms_p50", "e2e_ms_p50") if any(wording.figure(n.get(m)) is not None for n in nodes)), None
    )


def mapped_nodes(summary: Summary) -> list[Summary]:
    """The nodes that have a latency to be drawn at, the busiest first."""
    metric = map_metric(summary)
    nodes = [n for n in wording.listed(summary, "nodes") if metric and wording.figure(n.get(metric)) is not None]
    return sorted(nodes, key=lambda n: -(n.get("requests") or 0))


def map_reputation(summary: Summary) -> str:
    """The series on the map's axis: network tasks, or user tasks when only those are known."""
    nodes = wording.listed(summary, "nodes")
    known = any(wording.figure(n.get("reputation")) is not None for n in nodes)
    return "reputation" if known else "reputation_session"


def bins(summary: Summary) -> list[Summary]:
    """The series thinned to what a page can show: counts per second are averaged, percentiles keep their highest.

    A percentile of several rows cannot be had from the percentiles of each; the highest hides no bad one.
    """
    series = [s for s in wording.listed(summary, "series") if isinstance(s, dict) and s.get("t_s") is not None]
    step = rows_per_bin(summary)
    return [_merged(series[i : i + step]) for i in range(0, len(series), step)]


def row_s(summary: Summary) -> int:
    """Seconds of each row of the series."""
    return int(wording.figure(summary.get("series_bin_s")) or 1)


def rows_per_bin(summary: Summary) -> int:
    """Rows of the series for each bin that is drawn."""
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
        f"{node.get('node')}: {wording.plural(node.get('requests'), 'request')}, "
        f"{wording.count(node.get('failed'))} failed, "
        f"{wording.METRICS[metric[:-4]][0]} p50 {wording.duration(node[metric])}, "
        f"reputation {'unknown' if known is None else wording.decimal(known, 1) + ' %'}"
    )


def _map_axes(axes: Axes, drawn: Sequence[Summary], metric: str, reputation: str) -> None:
    """Limits with room for the largest dot and for names; reputation ends at 100 %, a little beyond for the dots."""
    values = [n[metric] for n in drawn]
    drawing.duration_axis(axes, "y", values)
    if axes.get_yscale() == "linear":
        span = (max(values) - min(values)) or max(values) or 1.0
        axes.set_ylim(max(0.0, min(values) - 0.17 * span), max(values) + 0.13 * span)
    which = "network tasks" if reputation == "reputation" else "user tasks"
    axes.set_xlabel(f"reputation before the request was sent, % ({which}, share of successes)")
    known = [x for n in drawn if (x := wording.figure(n.get(reputation))) is not None]
    low = min(known, default=0.0)
    room = 0.04 * max(100.0 - low, 2.0)
    axes.set_xlim(low - room, 100.0 + room)


def _name_extremes(axes: Axes, summary: Summary, metric: str, reputation: str) -> None:
    """Name the fastest and the slowest three: the dots a reader asks about first."""
    ranked = [n for n in wording.ranked_nodes(summary, metric) if wording.figure(n.get(reputation)) is not None]
    middle = sum(axes.get_xlim()) / 2
    for node in {id(n): n for n in [*ranked[-3:], *ranked[:1]]}.values():
        lowest = node is ranked[0]
        side = "center" if lowest else "right" if node[reputation] > middle else "left"
        axes.annotate(
            drawing.latin(wording.short(node.get("node"))),
            (node[reputation], node[metric]),
            xytext=(0, -15) if lowest else (10 if side == "left" else -10, 4),
            textcoords="offset points",
            ha=side,
            parse_math=False,
            zorder=4,
            **SMALL,
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


def _time_axes(summary: Summary, panels: Sequence[Axes], t: Sequence[float]) -> None:
    run = wording.part(summary, "run")
    warmup, offered = (wording.figure(run.get(k)) or 0.0 for k in ("warmup_s", "offered_s"))
    warmup = wording.figure(wording.part(summary, "steady").get("from_s")) or warmup
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
    for axes in panels:
        if axes.get_subplotspec().is_last_row():  # type: ignore[union-attr]
            axes.set_xlabel("seconds since the start of the schedule")


def _phase(axes: Axes, x: float, word: str) -> None:
    place = axes.get_xaxis_transform()
    axes.annotate(word, (x, 1), xycoords=place, xytext=(3, -8), textcoords="offset points", **SMALL)


def column(series: Sequence[Summary], key: str) -> list[float]:
    return [math.nan if (v := wording.figure(s.get(key))) is None else v for s in series]


def _alone(values: Sequence[float]) -> list[int]:
    """Places of values between two gaps: a line alone would not show them."""
    known = [False, *map(math.isfinite, values), False]
    return [i for i in range(len(values)) if known[i + 1] and not known[i] and not known[i + 2]]


def points(curves: Summary, key: str) -> list[tuple[float, float]]:
    """Points that a log axis can show."""
    pairs = [p for p in wording.listed(curves, key) if isinstance(p, list | tuple) and len(p) == 2]
    return [(v, s) for v, s in (map(wording.figure, p) for p in pairs) if v is not None and v > 0 and s is not None]


Picture = Callable[[Summary], str | None]
PICTURES: dict[str, Picture] = {
    "load": load,
    "time": latency_over_time,
    "ecdf": distributions,
    "nodes": node_map,
    "association": association.picture,
}
