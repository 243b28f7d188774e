"""Findings of network checks on the page, in Markdown and on the console: all of them, and harmless."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from loadtest.analysis.findings import Finding, no_source
from loadtest.report.console import WIDTH, console_table
from loadtest.report.html import render_html
from loadtest.report.markdown import render_markdown

Make = Callable[..., dict[str, Any]]

FINDINGS = [
    Finding("shuffling", "consistent", "Consistent with uniform choice.", n=900, p_value=0.4321, smallest_effect=0.08),
    no_source("charges", "charges of each task", "no route lists what a task was charged"),
    Finding(
        "claims",
        "found",
        "3 commits of <b>1</b> node | gave no result.",
        n=31,
        evidence=("0xaa missed <i>3</i>", "b|c"),
    ),
]


def with_findings(make_summary: Make) -> dict[str, Any]:
    return make_summary(findings=[finding.as_json() for finding in FINDINGS])


def test_the_page_shows_what_was_found_first_and_escapes_it(make_summary: Make) -> None:
    page = render_html(with_findings(make_summary))
    section = page.partition("Does the network keep its word?")[2].partition("</section>")[0]
    assert section.index("claims") < section.index("shuffling") < section.index("charges")
    assert html.escape("3 commits of <b>1</b> node | gave no result.") in section
    assert html.escape("0xaa missed <i>3</i>; b|c") in section
    assert "<b>1</b>" not in section and "0.43" in section
    assert "No network check was made." in render_html(make_summary())


def test_markdown_tells_what_was_found_in_full(make_summary: Make) -> None:
    text = render_markdown(with_findings(make_summary))
    section = text.partition("### Does the network keep its word?")[2].partition("\n\n###")[0]
    assert "Checks: 1 found, 1 consistent, 1 cannot tell." in section
    assert "- **claims**: 3 commits of \\<b\\>1\\</b\\> node \\| gave no result." in section
    assert "keep its word" not in render_markdown(make_summary())


def test_the_console_counts_and_tells_what_was_found(make_summary: Make) -> None:
    text = console_table(with_findings(make_summary))
    assert "network checks: 1 found, 1 consistent, 1 cannot tell\n" in text
    assert "  claims: 3 commits of <b>1</b> node | gave no result.\n" in text
    assert "  cannot tell: charges\n" in text
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert "network checks" not in console_table(make_summary())
