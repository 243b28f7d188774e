"""Association in the reports: the figures as they are, the word for it, and its warnings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from loadtest.report.association import picture, printed
from loadtest.report.html import render_html
from loadtest.report.markdown import render_markdown

Make = Callable[..., dict[str, Any]]


def found(make_summary: Make, **changes: Any) -> dict[str, Any]:
    return {**make_summary()["association"], **changes}


def test_every_report_says_the_same(make_summary: Make) -> None:
    summary = make_summary()
    page, markdown = render_html(summary), render_markdown(summary)
    text = " ".join(re.sub("<.*?>", " ", page).split())
    for each in (text, markdown):
        assert "Association: nodes of a higher lifetime reputation are faster." in each
        assert "Cannot tell: too few." in each and "Cannot tell: 1 hours." in each
        assert "13 nodes of fewer than 20 turns left out" in each
        assert "an association in the whole network may be stronger than what is seen here" in each
        assert "2 nodes had left the network" in each
        assert "older than the turn (by 7.7 s at the median), never newer" in each
    assert '<data value="-0.42">-0.42</data>' in page and "-0.64 to -0.14" in page


def test_the_picture_prints_the_association(make_summary: Make) -> None:
    summary = make_summary()
    assert printed(summary) == "association: rho -0.42 (-0.64 to -0.14), 47 nodes"
    svg = picture(summary)
    assert svg is not None and printed(summary) in svg
    assert svg in render_html(summary)
    assert printed(make_summary(association=found(make_summary, relations=[]))) == ""


def test_no_warning_where_the_range_is_whole(make_summary: Make) -> None:
    relations = [{**each, "restricted": False} for each in found(make_summary)["relations"]]
    page = render_html(make_summary(association=found(make_summary, relations=relations, nodes_left=0)))
    assert "narrowed" not in page.lower() and "had left the network" not in page


def test_a_summary_without_it_has_neither_table_nor_picture(make_summary: Make) -> None:
    for summary in (
        make_summary(association=None),
        make_summary(association={}),
        make_summary(association=found(make_summary, points=[])),
    ):
        assert picture(summary) is None
    page = render_html(make_summary(association=None))
    assert 'id="t-association"' not in page and 'id="t-next-hour"' not in page


def test_no_report_claims_a_cause(make_summary: Make) -> None:
    markdown = render_markdown(make_summary())
    section = markdown[markdown.index("### Association") : markdown.index("</details>")].lower()
    assert "association" in section and not re.search(r"\bcorrelat|causes\b|because of|predicts", section)
