"""Markdown, console and words: valid, aligned, and the same figures as the page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any
from unicodedata import east_asian_width

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.report import wording
from loadtest.report.console import WIDTH, console_table
from loadtest.report.html import render_html
from loadtest.report.markdown import code, plain, render_markdown

Make = Callable[..., dict[str, Any]]


def table_rows(markdown: str) -> list[list[list[str]]]:
    """Every pipe table as rows of cells, split where GitHub splits: at pipes without a backslash."""
    tables: list[list[list[str]]] = []
    lines = markdown.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return tables


def test_markdown_tables_are_whole(make_summary: Make) -> None:
    summary = make_summary()
    summary["nodes"][0]["node"] = "a|b`c\nd <script>"
    tables = table_rows(render_markdown(summary))
    assert len(tables) == 11
    assert "<details><summary>Load, nodes, groups, association</summary>\n\n### Offered" in render_markdown(summary)
    for rows in tables:
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(re.fullmatch(r":--|--:", cell) for cell in rows[1])


def test_markdown_figures_are_those_of_the_summary(make_summary: Make) -> None:
    text = render_markdown(make_summary())
    assert text.startswith(
        "## ❌ FIT, FAIL: `20261122T104500Z-ab12`\n\nOpen load: 5.00 arrivals/s offered (CV 1.02), "
        "5.01 realised (CV 1.01)"
    )
    latency = table_rows(text)[1]
    assert latency[2] == ["TTFT, ms", "p50", "548", "532 to 570", "3,377", "549", "533 to 571", "3,377"]
    assert latency[16][:3] == ["", "p99", r"\> 120 s"]  # rows: TTFT 2..5, TPOT 6..9, ITL 10..13, E2E 14..17
    assert "3,702 planned = 3,611 ok" in text


def test_the_three_reports_show_the_same_load_intended_and_realised(make_summary: Make) -> None:
    summary = make_summary()
    compared = summary["offered"]["compared"]
    sides = ("process", "intended", "realised")
    wanted = [
        [wording.decimal(each[side], 0 if "tokens" in key else 2) if side in each else "" for side in sides]
        for key, each in compared.items()
    ]
    assert wanted[:2] == [["5.00", "5.01", "5.01"], ["1.00", "1.02", "1.01"]]
    assert wanted[3:5] == [["–", "0.87", "0.87"], ["", "341", "352"]]

    text, page, lines = render_markdown(summary), render_html(summary), console_table(summary).splitlines()
    assert [row[1:] for row in table_rows(text)[3][2:]] == wanted
    section = page.partition('id="t-offered"')[2].partition("</section>")[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", section)
    assert [re.sub("<.*?>", "", cell) for cell in cells] == [cell for row in wanted for cell in row]
    begin = next(place for place, line in enumerate(lines) if line.startswith("offered"))
    for side, line in enumerate(lines[begin + 1 : begin + 4]):
        ends = range(10, len(line), 8)
        assert [line[end : end + 8].strip() for end in ends] == [row[side] for row in wanted][: len(ends)]
    told = "Prompt tokens are counted in cl100k_base; a node's own may differ"
    assert told.replace("_", "\\_") in text and html.escape(told, quote=False).replace("'", "&#39;") in page
    assert told.replace("P", "p", 1) in lines


def test_a_closed_load_and_a_trace_say_what_was_intended(make_summary: Make) -> None:
    summary = make_summary()
    summary["offered"] |= {"trace": "azure.csv", "compared": {"rate_per_s": {"intended": None, "realised": 2.5}}}
    text = render_markdown(summary)
    assert table_rows(text)[3][2:] == [["first turns per second", "", "–", "2.50"]]
    assert "intended: what the rows of the trace say" in text
    assert "Offered: intended" not in render_markdown({}) and "Offered: intended" not in render_html({})


def test_markdown_of_an_unfit_run_is_marked(make_summary: Make) -> None:
    reason = {"rule": "cpu", "figure": 97, "bound": 90, "text": "a worker used 97 % of its core (at most 90 %)"}
    text = render_markdown(make_summary(fit={"verdict": "unfit", "reasons": [reason]}))
    assert text.startswith("## ⚠️ UNFIT")
    assert f"- {reason['text']}" in text
    assert "### Latency (from an unfit run)" in text
    assert "Not counted" in text


def test_markdown_fits_into_a_pull_request_whatever_the_run(make_summary: Make) -> None:
    long = "x|`<@" * 2000
    finding = {"check": long, "verdict": "found", "text": long}
    summary = make_summary(limits=[long] * 300, findings=[finding] * 300)
    summary["run"]["targets"] = [{"name": long, "url": long, "route": long}] * 300
    summary["nodes"] = [{**summary["nodes"][0], "node": long}] * 300
    summary["fit"] = {"verdict": "unfit", "reasons": [{"text": long}] * 300}
    text = render_markdown(summary)
    assert 20_000 < len(text) < 65_536 and text.startswith("## ⚠️ UNFIT")
    assert "report.html has all of it" in text


def test_markdown_names_what_was_found_and_counts_the_rest(make_summary: Make) -> None:
    verdicts = ("found", "consistent", "consistent", "cannot tell")
    findings = [{"check": f"check-{i}", "verdict": v, "text": f"text {i}"} for i, v in enumerate(verdicts)]
    text = render_markdown(make_summary(findings=findings))
    assert "Checks: 1 found, 2 consistent, 1 cannot tell.\n\n- **check-0**: text 0\n" in text
    assert "check-1" not in text


@given(st.text(max_size=40))
def test_a_code_span_ends_where_it_should(text: str) -> None:
    span = code(text).replace("\\|", "|")
    if not span:
        return
    fence = re.match("`+", span)
    assert fence is not None
    inner = span[len(fence.group()) : -len(fence.group())]
    assert span.endswith(fence.group())
    assert all(len(run) < len(fence.group()) for run in re.findall("`+", inner))
    assert "\n" not in span


@given(st.text(max_size=60))
def test_prose_cannot_open_markup(text: str) -> None:
    assert not re.search(r"(?<!\\)(\\\\)*[<`\[|*]", plain(text))
    assert "@" not in plain(text).replace("@\u200b", "")


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["", "x" * 300, "节点" * 60, "\x1b[31m\n\r\t"]))
def test_the_console_never_exceeds_its_width(name: str, more: str) -> None:
    node = {
        "node": name + more,
        "requests": 10**9,
        "failed": 10**9,
        "e2e_ms_p50": 9e7,
        "e2e_ms_p95": 9e8,
        "ttft_ms_p50": 9e6,
    }
    summary = {
        "run": {"profile": name + more, "targets": [{"name": name, "url": more, "route": name}]},
        "nodes": [node] * 9,
        "fit": {"verdict": "unfit", "reasons": [{"text": name + more}]},
        "account": {
            "outcomes": {name or "x": 10**9, "router_timeout": 10**9, "not_reached": 10**9, "server_error": 10**9}
        },
    }
    for line in console_table(summary).splitlines():
        assert sum(2 if east_asian_width(c) in "WF" else 1 for c in line) <= WIDTH
        assert line.isprintable()


def test_console_figures_and_columns(make_summary: Make) -> None:
    lines = console_table(make_summary()).splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    ttft = next(line for line in lines if line.startswith("TTFT"))
    assert ttft.split() == ["TTFT", "ms", "548", "2,211", "4,904", "549", "2,214", "4,911", "3,377"]
    e2e = next(line for line in lines if line.startswith("E2E"))
    heads = next(line for line in lines if line.split()[:1] == ["p50"])
    ends = [m.end() for m in re.finditer(r"p50|p95|p99|\bn\b", heads)]
    for line in (ttft, e2e):
        assert all(line[end - 1] != " " and (end == len(line) or line[end] == " ") for end in ends)
    assert "> 120 s" in e2e


def test_console_says_how_many_a_percentile_needs_in_its_column(make_summary: Make) -> None:
    summary = make_summary()
    for side in ("service", "response"):
        few = summary["latency"]["tpot_ms"].get(side)
        if few:
            few |= {"n": 17, "p99": None, "p99_text": "n too small (17 < 299)"}
    lines = console_table(summary).splitlines()
    (tpot,) = (line for line in lines if line.startswith("TPOT"))
    assert "n < 299" in tpot and "too small" not in tpot and tpot.endswith(" 17")


def test_console_names_three_best_and_three_worst_nodes(make_summary: Make) -> None:
    summary = make_summary()
    enough = sorted((n for n in summary["nodes"] if not n["n_too_small"]), key=lambda n: n["e2e_ms_p50"])
    lines = console_table(summary).splitlines()
    for word, wanted in (("best", enough[:3]), ("worst", enough[-3:])):
        found = [line.split()[1][:6] for line in lines if line.startswith(word)]
        assert found == [n["node"][:6] for n in wanted]


def test_console_does_not_rank_nodes_of_a_few_requests(make_summary: Make) -> None:
    summary = make_summary()
    for node in summary["nodes"]:
        node["n_too_small"] = True
    text = console_table(summary)
    assert "best" not in text
    assert "too few requests each to say which node is better" in text
    busiest = max(summary["nodes"], key=lambda n: n["requests"])
    assert "busiest of 24 nodes" in text
    assert busiest["node"][:6] in text


def test_console_of_an_unfit_run_gives_reasons(make_summary: Make) -> None:
    text = console_table(make_summary(fit={"verdict": "unfit", "reasons": [{"text": "12 rows overflowed"}]}))
    assert "UNFIT: the run proves nothing\n  12 rows overflowed\n" in text
    assert "nothing was measured" in console_table({})


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.9994, "99.9 %"), (0.0, "0.0 %"), (None, "–")]
)
def test_what_is_not_all_is_never_called_all(share: float | None, text: str) -> None:
    assert wording.percent(share) == text


@pytest.mark.parametrize(
    ("values", "unit", "texts"),
    [
        ([1.234, 9.99], "ms", ["1.23", "9.99"]),
        ([12.34, 999.0], "ms", ["12.3", "999.0"]),
        ([12.34, 5000.0, None], "ms", ["12", "5,000", "–"]),
        ([12.34, 50_000.0, float("nan")], "s", ["0.01", "50.00", "–"]),
    ],
)
def test_numbers_that_stand_together_share_a_unit(values: list[Any], unit: str, texts: list[str]) -> None:
    scale = wording.scale_of(values)
    assert scale.unit == unit
    assert [scale.text(v) for v in values] == texts


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("ttft_ms_p95", 2211.4, "2.21 s"),
        ("e2e_ms_p99", 321.0, "321 ms"),
        ("ok_share", 0.98, "98.00 %"),
        ("x", None, "–"),
    ],
)
def test_limits_are_printed_in_their_unit(metric: str, value: float | None, text: str) -> None:
    assert wording.slo_figure(metric, value) == text
