"""The picture of a plan: what is offered over time, and how much of it is in flight at once."""

from __future__ import annotations

import re
from typing import Any

from loadtest.report import drawing
from loadtest.report.drawing import INK


def plan_picture(plan: dict[str, Any]) -> str:
    """An SVG file of its own, drawn from a forecast (`analysis/forecast.py`)."""
    series = plan["series"]
    t = [each["t_s"] for each in series]
    with drawing.style("plan"):
        figure = drawing.figure(4.2)
        rates, flight = figure.subplots(2, 1, sharex=True)
        requests = [each["requests_per_s"] for each in series]
        rates.fill_between(t, requests, step="mid", color=INK["blue"], alpha=0.18, lw=0)
        rates.plot(t, requests, color=INK["blue"], lw=1.2, drawstyle="steps-mid", label="requests")
        begun = [each["conversations_per_s"] for each in series]
        rates.plot(t, begun, color=INK["green"], lw=1.2, drawstyle="steps-mid", label="new conversations")
        for name, colour in (("conversations", "violet"), ("requests", "orange")):
            flying = [each[f"{name}_in_flight"] for each in series]
            flight.plot(t, flying, color=INK[colour], lw=1.3, label=name)
        service_s = plan["assumed"]["service_s"]
        drawing.titled(rates, f"{drawing.latin(plan['profile'])}: per second")
        drawing.titled(flight, f"in flight, if an answer takes {service_s:g} s")
        for axes in (rates, flight):
            axes.set_ylim(bottom=0)
            axes.axvspan(0, plan["warmup_s"], color=INK["shade"], lw=0, zorder=0)
            axes.set_xlim(0, plan["offered_s"])
            drawing.legend(axes, 2)
        flight.set_xlabel("seconds after the start; shaded: warm-up")
        inline = drawing.svg(figure, "plan")
    # Outside a report's page nobody defines its colours and fonts.
    for name, colour in INK.items():
        inline = inline.replace(f"var(--{name})", colour)
    inline = inline.replace("var(--sans)", "sans-serif")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', inline)
    size = f' width="{box[1]}" height="{box[2]}"' if box else ""
    return inline.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg"{size} ', 1) + "\n"
