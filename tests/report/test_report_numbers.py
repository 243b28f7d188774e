"""Every number on the page is one of summary.json, rounded; and every number of summary.json has its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from figures import Figures, is_rounding, numbers, texts, told_apart

from loadtest.report.html import render_html

Make = Callable[..., dict[str, Any]]
# Drawn and not printed; or said in words; or for programs.
NOT_PRINTED = re.compile(
    r"\.(series|distributions|findings|limits|warnings)\b|\.schema_version|\[\]$|_n_effective$|\.ttft_n$|\.steady\."
    r"|latency\.\w+\.\w+\.censored|\.with_session_snapshot|\.goodput\.good$|rate_per_s_realised|second_turns"
    r"|offered\.arrivals|cv_realised|association\.(nodes|turns|points)\b"
)


@pytest.fixture
def apart(make_summary: Make) -> dict[str, Any]:
    """The example with every number its own; what must fit together on the page still does."""
    summary: dict[str, Any] = {**told_apart(make_summary()), "schema_version": 1}
    for node in summary["nodes"]:
        node["n_too_small"] = False
    return summary


def test_every_figure_of_the_page_is_in_the_summary(apart: dict[str, Any]) -> None:
    where: dict[float, list[str]] = {}
    for path, value in numbers(apart):
        where.setdefault(float(format(value, ".15g")), []).append(path)
    shown = Figures(render_html(apart)).shown
    assert len(shown) > 500
    assert [(value, text) for value, text in shown if value not in where] == []
    assert [(value, text) for value, text in shown if not is_rounding(value, text)] == []


def test_every_number_of_the_summary_is_on_the_page(apart: dict[str, Any]) -> None:
    shown = {value for value, _ in Figures(render_html(apart)).shown}
    missing = [p for p, v in numbers(apart) if float(format(v, ".15g")) not in shown and not NOT_PRINTED.search(p)]
    assert missing == []


@pytest.mark.parametrize("verdict", ["fit", "unfit"])
def test_no_digit_stands_outside_of_a_figure(make_summary: Make, verdict: str) -> None:
    summary = make_summary(fit={"verdict": verdict, "reasons": [{"rule": "cpu", "text": "a worker used 97 %"}]})
    page = Figures(render_html(summary))
    told = [*texts(summary), "2026-11-22 10:45:00 to 10:51:12 UTC"]
    assert page.digits_outside(told) == []
    assert not [value for value in page.attributes if "<data" in value]


def test_a_figure_that_is_not_the_summary_s_is_found() -> None:
    assert is_rounding(548.214, "548") and is_rounding(2211.4, "2.21 s") and is_rounding(0.98845, "98.84 %")
    assert is_rounding(0.99996, "99.9 %") and is_rounding(3377, "3,377") and is_rounding(2.5e-7, "2.5e-07")
    assert not is_rounding(548.214, "549") and not is_rounding(2211.4, "2.22 s") and not is_rounding(0.99, "99.1 %")
    page = Figures('<p>7 turns <data value="3.25">3.25</data> of <code>8</code> at p95</p>')
    assert page.shown == [(3.25, "3.25")] and page.digits_outside([]) == ["7 turns"]
