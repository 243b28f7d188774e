"""The curve of a capacity search: what was completed and how long it took, against what was offered."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.axes import Axes

from loadtest.report import drawing
from loadtest.report.drawing import INK

_MARKS = {"pass": ("o", "green"), "fail": ("X", "red"), "cannot tell": ("D", "orange"), "unfit": ("P", "grey")}


def capacity_picture(found: dict[str, Any]) -> str:
    """Inline SVG, with the page's colours."""
    steps = sorted(found["steps"], key=lambda each: float(each["rate_per_s"]))
    with drawing.style("capacity"):
        figure = drawing.figure(5.2)
        rates, times = figure.subplots(2, 1, sharex=True)
        _interval(rates, found)
        _interval(times, found)
        turns = found["question"]["rules"]["turns_per_conversation"]
        x = [each["rate_per_s"] for each in steps]
        rates.plot(x, [turns * rate for rate in x], color=INK["grey"], lw=1.0, ls=":", label="offered")
        for name, colour in (("completed_per_s", "blue"), ("goodput_per_s", "green")):
            y = [each[name] for each in steps]
            rates.plot(x, y, color=INK[colour], lw=1.2, marker=".", label=name.split("_")[0])
        metric = "ttft" if any(each["ttft_ms_p50"] is not None for each in steps) else "e2e"
        for level, colour in (("p50", "blue"), ("p95", "orange")):
            y = [each[f"{metric}_ms_{level}"] for each in steps]
            times.plot(x, y, color=INK[colour], lw=1.2, label=level)
        _verdicts(times, steps, metric)
        limits = [s["limit"] for s in found["question"]["slos"] if str(s["metric"]).startswith(f"{metric}_ms")]
        for limit in limits:
            times.axhline(limit, color=INK["red"], lw=0.9, ls="--")
        drawing.titled(rates, "turns per second, by what was offered (shaded: where the capacity lies)")
        drawing.titled(times, f"{metric.upper()} (dashed: the limit)")
        shown = [each[f"{metric}_ms_{level}"] for each in steps for level in ("p50", "p95")]
        drawing.duration_axis(times, "y", [value for value in [*shown, *limits] if value is not None])
        for axes in (rates, times):
            drawing.legend(axes, 4)
        rates.set_ylim(bottom=0)
        times.set_xlabel("new conversations per second")
        return drawing.svg(figure, "capacity")


def capacity_svg_file(found: dict[str, Any]) -> str:
    """The same as a file of its own, where nobody defines the page's colours."""
    inline = capacity_picture(found)
    for name, colour in INK.items():
        inline = inline.replace(f"var(--{name})", colour)
    inline = inline.replace("var(--sans)", "sans-serif")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', inline)
    size = f' width="{box[1]}" height="{box[2]}"' if box else ""
    return inline.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg"{size} ', 1) + "\n"


def _interval(axes: Axes, found: dict[str, Any]) -> None:
    low, high = found["low_per_s"], found["high_per_s"]
    if low is not None:
        axes.axvspan(low, high if high is not None else low, color=INK["shade"], lw=0, zorder=0)
        axes.axvline(low, color=INK["green"], lw=1.0)
    if high is not None:
        axes.axvline(high, color=INK["red"], lw=1.0)


def _verdicts(axes: Axes, steps: list[dict[str, Any]], metric: str) -> None:
    for verdict, (mark, colour) in _MARKS.items():
        points = [
            (each["rate_per_s"], each[f"{metric}_ms_p95"])
            for each in steps
            if each["verdict"] == verdict and each[f"{metric}_ms_p95"] is not None
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, marker=mark, s=26, color=INK[colour], zorder=3, lw=0, label=verdict)
