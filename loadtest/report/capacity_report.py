"""The result of a capacity search: capacity.json, and drawn from it text, Markdown, the curve and a page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from loadtest.analysis.capacity import TOLERANCE, Capacity, End, StepResult, step_verdict
from loadtest.report import page
from loadtest.report.capacity_picture import capacity_picture, capacity_svg_file
from loadtest.report.markdown import code, plain
from loadtest.runfolder import write_text

ABSENT = "–"
COLUMNS = ("step", "offered", "completed", "goodput", "TTFT p50", "TTFT p95", "E2E p95", "verdict")


def capacity_json(question: dict[str, Any], end: End, found: Capacity, steps: Sequence[StepResult]) -> dict[str, Any]:
    """Everything the reports draw. `steps` are in the order in which they were made."""
    return {
        "question": question,
        "state": end.state,
        "low_per_s": found.low,
        "high_per_s": found.high,
        "undecided_per_s": list(found.undecided),
        "confirmed": found.confirmed,
        "contradicted": found.contradicted,
        "verdicts": [{"rate_per_s": rate, "verdict": verdict} for rate, verdict in found.verdicts.items()],
        "steps": [
            {
                "kind": each.kind,
                "rate_per_s": each.rate_per_s,
                "seconds": each.seconds,
                "seed": each.seed,
                "run": each.run,
                "verdict": step_verdict(each) if each.fit else "unfit",
                "saturated": each.saturated,
                "why": each.why,
                "objectives": [
                    {"name": o.name, "n": o.n, "misses": o.misses, "effect": o.effect, "verdict": o.verdict}
                    for o in each.objectives
                ],
                **each.figures,
            }
            for each in steps
        ],
    }


def write_capacity(folder: Path, found: dict[str, Any]) -> None:
    """capacity.json, capacity.md, capacity.svg and capacity.html."""
    write_text(folder / "capacity.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    write_text(folder / "capacity.md", capacity_markdown(found))
    write_text(folder / "capacity.svg", capacity_svg_file(found))
    write_text(folder / "capacity.html", capacity_html(found))


def headline(found: dict[str, Any]) -> str:
    """One sentence: the interval, or why there is none."""
    low, high, state = found["low_per_s"], found["high_per_s"], found["state"]
    if low is None:
        lowest = min((each["rate_per_s"] for each in found["steps"]), default=None)
        reason = {"unfit": "the harness was unfit", "none passes": "no rate passed"}.get(state, "nothing was proven")
        return f"No capacity: {reason}" + (f" down to {lowest:.4g}/s." if lowest is not None else ".")
    if state == "ceiling":
        return f"At least {low:.4g} conversations/s hold the limits; more was not offered."
    above = f", {high:.4g}/s do not" if high is not None else "; no rate above it was shown to fail"
    sentence = f"{low:.4g} conversations/s hold the limits{above}."
    why = {
        "unfit": "The search ended early: the harness was unfit above it.",
        "unconfirmed": "It could not be confirmed: longer runs contradicted the steps.",
        "too many steps": "The search was given up after too many steps.",
    }
    return f"{sentence} {why[state]}" if state in why else sentence


def notes(found: dict[str, Any]) -> list[str]:
    """What a reader must know of the interval."""
    said = []
    if found["undecided_per_s"]:
        rates = ", ".join(f"{rate:.4g}" for rate in found["undecided_per_s"])
        said.append(f"Neither passed nor failed, also when repeated: {rates}/s. Longer steps would tell.")
    if found["contradicted"]:
        said.append("Steps contradicted each other: they were repeated, and a monotone fit over all of them decides.")
    if found["low_per_s"] is not None and not found["confirmed"]:
        said.append("The capacity was not confirmed by a longer run.")
    if any(each["saturated"] for each in found["steps"]):
        said.append("Saturated steps have no steady value: their latencies grow with the length of the step.")
    unfit = [each for each in found["steps"] if each["verdict"] == "unfit"]
    said += [f"Unfit at {each['rate_per_s']:.4g}/s: {each['why']}." for each in unfit[-2:]]
    said.append("Confirm it at another time of day: a network of strangers has its own load.")
    return said


def rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line per step, by rate."""
    return [
        (
            f"{each['kind']}, {each['seconds']:g} s",
            f"{each['rate_per_s']:.4g}/s",
            _rate(each["completed_per_s"]),
            _rate(each["goodput_per_s"]),
            _ms(each["ttft_ms_p50"]),
            _ms(each["ttft_ms_p95"]),
            _ms(each["e2e_ms_p95"]),
            each["verdict"] + (", saturated" if each["saturated"] else ""),
        )
        for each in sorted(found["steps"], key=lambda one: float(one["rate_per_s"]))
    ]


def asked(found: dict[str, Any]) -> list[str]:
    question = found["question"]
    limits = ", ".join(
        f"{slo['metric']} {'at least' if slo['kind'] == 'min' else 'at most'} {slo['limit']:g}"
        for slo in question["slos"]
    )
    turns = question["rules"]["turns_per_conversation"]
    return [
        f"Limits: {limits}.",
        f"Profile {question['profile']} ({question['profile_hash']}) against {question['host']}; "
        f"turns a conversation: {turns:.3g}; steps of at least {question['rules']['step_s']:g} s.",
        "A rate passes when so few misses would be a chance of 1 % if it did not hold the limits; dropped and failed "
        f"turns are misses; the search stops where the rates are within {100 * TOLERANCE:g} %.",
    ]


def capacity_text(found: dict[str, Any]) -> str:
    """For the terminal."""
    table = [COLUMNS, *rows(found)]
    widths = [max(len(row[place]) for row in table) for place in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, "", headline(found), *notes(found), *asked(found)])


def capacity_markdown(found: dict[str, Any]) -> str:
    """For a pull request."""
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS)
    body = ["| " + " | ".join(plain(text) for text in row) + " |" for row in rows(found)]
    runs = ", ".join(code(each["run"]) for each in found["steps"])
    blocks = [
        f"## Capacity: {plain(headline(found))}",
        "\n".join(f"- {plain(text)}" for text in (*asked(found), *notes(found))),
        "\n".join([head, *body]),
        f"Completed and goodput are turns per second. Runs, in the order they were made: {runs}.",
    ]
    return "\n\n".join(blocks) + "\n"


def capacity_html(found: dict[str, Any]) -> str:
    """One file that needs no network."""
    template = page.environment().get_template("capacity.html")
    return template.render(
        css=page.css(),
        headline=headline(found),
        low=None if found["low_per_s"] is None else f"{found['low_per_s']:.4g}",
        high=None if found["high_per_s"] is None else f"{found['high_per_s']:.4g}",
        found=found,
        asked=asked(found),
        notes=notes(found),
        columns=COLUMNS,
        rows=rows(found),
        picture=Markup(capacity_picture(found)),
    )


def _rate(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4g}/s"


def _ms(value: float | None) -> str:
    return ABSENT if value is None or not math.isfinite(value) else f"{value:,.0f} ms"
