"""Tables of cells: values with their intervals or why there is none; long ones folded, those without a source said."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from loadtest.report.cell_tables import GROUPS, GROUPS_SHOWN_MAX, group, groups
from loadtest.report.html import render_html
from loadtest.report.markdown import render_markdown

Make = Callable[..., dict[str, Any]]


def cell(name: str, requests: int = 1200, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "requests": requests,
        "ok_share": 0.99,
        "ok_share_interval": [0.9832, 0.9941],
    }
    for metric, p50 in (("ttft_ms", 200.0), ("e2e_ms", 2000.0)):
        found[f"{metric.removesuffix('_ms')}_n"] = requests
        for level, factor in (("p50", 1), ("p95", 3), ("p99", 5)):
            found[f"{metric}_{level}"] = p50 * factor
            found[f"{metric}_{level}_interval"] = [p50 * factor * 0.9, p50 * factor * 1.1]
    return {**found, **changes}


def column(table: Any, name: str) -> list[str]:
    place = next(i for i, column in enumerate(table.columns) if column.startswith(name))
    return [" ".join(filter(None, (row[place].text, row[place].small))) for row in table.rows]


def test_a_value_stands_with_its_interval_or_with_why_it_has_none(make_summary: Make) -> None:
    why = {"e2e_ms_p50_text": "n too small (20 < 100)", "e2e_ms_p95": None, "e2e_ms_p95_text": "> 120 s"}
    table = groups(make_summary(sessions=[cell("7"), cell("8", 20, e2e_n=18, **why)]))[5]
    assert table.key == "sessions"
    assert column(table, "ok") == ["99.0 % (98.3 % to 99.4 %)"] * 2
    assert column(table, "E2E p50") == ["2.00 (1.80 to 2.20)", "n too small"]
    assert column(table, "E2E p95") == ["6.00 (5.40 to 6.60)", "> 120 s"]
    assert column(table, "E2E n") == ["1,200", "18"]
    assert "TTFT n" not in table.columns  # it is that of the requests


def test_p99_has_a_column_only_where_somebody_has_enough(make_summary: Make) -> None:
    few = {f"{metric}_p99_text": "n too small (200 < 1000)" for metric in ("ttft_ms", "e2e_ms")}
    small, mixed = (
        [cell("a", 200, **few)],
        [cell("a", 200, **few), cell("b")],
    )
    tables = [groups(make_summary(personas=rows))[6] for rows in (small, mixed)]
    assert [any("p99" in name for name in table.columns) for table in tables] == [False, True]
    assert column(tables[1], "TTFT p99") == ["n too small", "1,000 (900 to 1,100)"]


def test_a_table_without_a_source_says_so(make_summary: Make) -> None:
    summary = make_summary(operators=[], no_source={"operators": "operators of nodes: nobody told"})
    page, markdown = render_html(summary), render_markdown(summary)
    section = page[page.index('id="t-operators"') :]
    assert "no source" in section[: section.index("</section>")]
    for text in (page, markdown):
        assert "No source for the operators of nodes: nobody told." in text
    assert 'id="t-hardware"' not in render_html(make_summary())  # a summary of before has neither


def test_long_tables_are_cut_with_the_rest_counted_and_folded(make_summary: Make) -> None:
    many = [cell(f"s{i}", requests=2000 + i) for i in range(GROUPS_SHOWN_MAX + 5)]
    page = render_html(make_summary(sessions=many, targets=[cell("a")]))
    sections = dict(re.findall(r'<section class="table" id="t-(\w+)">(.*?)</section>', page, re.DOTALL))
    assert f"The {GROUPS_SHOWN_MAX} busiest of {len(many)}; all are in summary.json." in sections["sessions"]
    assert ">s0<" not in sections["sessions"] and ">s54<" in sections["sessions"]
    assert sections["sessions"].count("<tr>") == 1 + GROUPS_SHOWN_MAX and 'class="folded"' in sections["sessions"]
    assert 'class="folded"' not in sections["targets"] and 'class="folded"' in sections["nodes"]


def test_the_order_of_names_stays_where_rows_are_cut(make_summary: Make) -> None:
    many = [cell(f"s{i:03d}", requests=100 + (i * 37) % 61) for i in range(70)]
    names = column(group(make_summary(sessions=many), GROUPS[5]), "session")
    assert names == sorted(names) and len(names) == GROUPS_SHOWN_MAX


def test_markdown_folds_what_a_reviewer_need_not_read(make_summary: Make) -> None:
    text = render_markdown(make_summary(sessions=[cell("<b>7")], prompts=[cell("0-63")]))
    inside = text[text.index("<details>") : text.index("</details>")]
    assert "### Sessions" in inside and "`<b>7`" in inside and "### Prompt lengths" in inside
    assert "### Targets" in inside
    assert text.count("<details>") == text.count("</details>") == 1
