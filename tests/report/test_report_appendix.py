"""What withholds the headline, and the appendix: commands that make the run again, and what targets told."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from figures import Figures

from loadtest.report import appendix
from loadtest.report.console import console_table
from loadtest.report.html import render_html
from loadtest.report.markdown import render_markdown

Make = Callable[..., dict[str, Any]]
HOSTILE = "<script>alert(1)</script>"


def test_a_run_that_was_not_steady_withholds_its_percentiles_everywhere(make_summary: Make) -> None:
    why = "TTFT settled in the second half, if at all"
    summary = make_summary()
    summary["steady"] |= {"verdict": "not steady", "why": why}
    for sides in summary["latency"].values():
        for cell in sides.values():
            cell |= dict.fromkeys(("p50", "p95", "p99")) | {f"{p}_interval": None for p in ("p50", "p95", "p99")}
            cell |= {f"{p}_text": "withheld: not steady" for p in ("p50", "p95", "p99")}
    page = render_html(summary)
    assert 'class="headline"' not in page and "Headline figures and percentiles are withheld" in page
    assert page.count("from a run that was not steady") >= 10
    assert f"Not steady: {why}." in page and "withheld: not steady" in page
    markdown, console = render_markdown(summary), console_table(summary)
    assert f"Not steady: {why}." in markdown and "withheld: not steady" in markdown
    assert f"Not steady: {why}." in console
    (ttft,) = (line for line in console.splitlines() if line.startswith("TTFT"))
    assert ttft.split()[-7:] == ["withheld"] * 6 + ["3,377"]


def test_a_steady_run_and_one_that_cannot_tell_keep_their_headline(make_summary: Make) -> None:
    for verdict in ("steady", "cannot tell"):
        summary = make_summary()
        summary["steady"]["verdict"] = verdict
        assert 'class="headline"' in render_html(summary)


def test_the_commands_make_the_run_again(make_summary: Make) -> None:
    summary = make_summary()
    summary["run"]["host"] = "http://127.0.0.1:5010"
    again, *reading = appendix.commands(summary)
    assert again == ("loadtest run profile.toml --host http://127.0.0.1:5010 --workers 2 --seed 7 -- -u 200")
    assert reading == [f"loadtest {verb} runs/20261122T104500Z-ab12" for verb in ("join", "report")]
    summary["run"] |= {"trace": {"file": "my trace;rm.csv", "speed": 2.0, "rate": 1.0}, "id": "$(x)"}
    again, *reading = appendix.commands(summary)
    assert shlex.split(again)[-6:] == ["--trace", "my trace;rm.csv", "--speed", "2", "--trace-rate", "1"]
    assert shlex.split(reading[0])[-1] == "runs/$(x)"
    assert appendix.commands({}) == []


def test_what_targets_told_stands_once_and_escaped(make_summary: Make) -> None:
    summary = make_summary()
    told = {"path": "/api/v1/info", "text": f'{{"name": "{HOSTILE}"}}'}
    summary["run"]["targets"][0]["info"] = summary["run"]["targets"][1]["info"] = told
    page = render_html(summary)
    assert page.count("GET /api/v1/info") == 1 and "What router-a, openai tells of itself" in page
    assert HOSTILE not in page and "&lt;script&gt;alert(1)" in page
    summary["run"]["targets"][0]["info"] = {"path": "/api/v1/info", "error": "not_found: 404"}
    assert "not_found: 404" in render_html(summary)
    assert not [value for value in Figures(page).attributes if "script" in value]
