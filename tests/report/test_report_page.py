"""The page says what the summary says, survives what it lacks, and loads and runs nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from loadtest.report.html import render_html

Make = Callable[..., dict[str, Any]]
HOSTILE = "<script>alert(1)</script>\"'><img src=http://x.invalid/ onerror=alert(2)>$\\frac{{{% raw %} \x1b[31m 节点"


class Page(HTMLParser):
    """Tags, attributes, ids, exact values and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.values: list[float] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.inside = tag
        self.words += [" "] if tag not in ("data", "span", "b", "strong") else []
        self.attributes += [(name, value or "") for name, value in attrs]
        self.values += [float(value or "nan") for name, value in attrs if tag == "data" and name == "value"]

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("title", "style"):
            self.words.append(data)


def test_every_figure_of_the_tables_is_on_the_page_exactly(make_summary: Make) -> None:
    summary = make_summary()
    values = set(Page(render_html(summary)).values)
    cells = [summary["latency"][m][f] for m in summary["latency"] for f in summary["latency"][m]]
    wanted = [cell[p] for cell in cells for p in ("p50", "p95", "p99", "max", "n")]
    for group in ("nodes", "bands", "personas", "targets", "turns"):
        wanted += [v for row in summary[group] for v in row.values()]
    wanted += [v for spread in ("send_lag_ms", "first_content_bound_ms") for v in summary["harness"][spread].values()]
    wanted += [s[k] for s in summary["result"]["slos"] for k in ("limit", "observed", "n")]
    wanted += list(summary["account"]["outcomes"].values())
    figures = [float(format(v, ".15g")) for v in wanted if isinstance(v, int | float) and not isinstance(v, bool)]
    assert len(figures) > 350
    assert [v for v in figures if v not in values] == []


def test_verdict_account_and_load_come_before_everything_else(make_summary: Make) -> None:
    text = Page(render_html(make_summary())).text
    order = [
        "Open load: 5.00 arrivals/s offered (CV 1.02), 5.01 realised (CV 1.01)",
        "FIT",
        "FAIL",
        "2 of 4 limits met",
    ]
    order += ["Goodput 11.16/s: 89.2 % of 3,377 planned requests", "Steady: 5 s beyond the warm-up"]
    order += ["TTFT p95, response", "9f2c61d04be7a318", "3,702 planned = 3,611 ok + 39"]
    order += ["Load offered and completed", "Latency over time", "Distributions", "Node map", "95 % interval"]
    order += ["own error", "Attribution", "What this run could not show", "Appendix"]
    places = [text.find(words) for words in order]
    assert -1 not in places
    assert places == sorted(places)


def test_an_unfit_run_shows_reasons_and_withholds_its_headline(make_summary: Make) -> None:
    reason = {"rule": "send_lag", "figure": 81.2, "bound": 50, "text": "requests left 81.2 ms late at p99"}
    fit, unfit = make_summary(), make_summary(fit={"verdict": "unfit", "reasons": [reason]})
    assert 'class="headline"' in render_html(fit)
    page = render_html(unfit)
    assert 'class="headline"' not in page
    text = Page(page).text
    assert reason["text"] in text
    assert "FAIL, not counted" in text
    assert text.count("from an unfit run") >= 10  # every titled table, and the pictures
    assert "from an unfit run" not in render_html(fit)


def test_hostile_names_and_texts_stay_text(make_summary: Make) -> None:
    summary = make_summary(limits=[HOSTILE])
    summary["nodes"][0]["node"] = summary["personas"][0]["name"] = HOSTILE
    summary["nodes"][0]["ttft_ms_p50"] = 99_000.0  # the slowest: its name is also drawn into the node map
    summary["nodes"][0]["n_too_small"] = False
    summary["run"]["targets"][0]["url"] = summary["run"]["command"] = HOSTILE
    summary["attribution"]["unattributed_reasons"] = {HOSTILE: 4}
    summary["fit"] = {"verdict": "unfit", "reasons": [{"rule": "x", "text": HOSTILE}]}
    page = render_html(summary, HOSTILE)
    parsed = Page(page)
    assert not {"script", "img", "iframe", "object", "embed", "link", "form", "a"} & parsed.tags
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert page.count(html.escape("<script>alert(1)</script>")) >= 8


def test_nothing_on_the_page_is_loaded(make_summary: Make) -> None:
    page = render_html(make_summary(), "url = 'http://127.0.0.1:5010'")
    loading = {"src", "href", "xlink:href", "srcset", "action", "poster", "data", "background"}
    assert [v for name, v in Page(page).attributes if name in loading and not v.startswith("#")] == []
    assert set(re.findall(r"url\(['\"]?(.)", page)) <= {"#"}
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_ids_are_unique_and_references_resolve(make_summary: Make) -> None:
    page = render_html(make_summary())
    ids = [value for name, value in Page(page).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page))
    assert wanted
    assert wanted <= set(ids)


def test_the_same_summary_gives_the_same_bytes(make_summary: Make) -> None:
    assert render_html(make_summary()) == render_html(make_summary())


def test_a_large_run_stays_below_two_megabytes(make_summary: Make) -> None:
    summary = make_summary()
    summary["nodes"] = [
        {**n, "node": f"0x{i:040x}", "requests": 6000 - i} for i, n in enumerate(summary["nodes"] * 250)
    ]
    summary["series"] = [{**s, "t_s": float(t)} for t, s in enumerate(summary["series"] * 21)]
    page = render_html(summary, "x" * 200_000)
    assert len(page.encode()) < 2_000_000
    assert "The 150 busiest of 6,000 nodes" in page
    assert "The 400 busiest of 6,000 nodes are drawn" in Page(page).text


@pytest.mark.parametrize(
    ("rows", "row_s", "mean", "highest"),
    [
        (600, 1, None, None),
        (3600, 1, "Each point is the mean of 6 s.", "Each point is the highest of 6 figures, each of 1 s."),
        (500, 24, "Each point is the mean of 24 s.", "Each point is of 24 s."),
        (3600, 24, "Each point is the mean of 144 s.", "Each point is the highest of 6 figures, each of 24 s."),
    ],
)
def test_the_captions_say_how_long_a_point_is(
    make_summary: Make, rows: int, row_s: int, mean: str | None, highest: str | None
) -> None:
    row = next(s for s in make_summary()["series"] if s["ttft_ms_p50"] is not None)
    text = Page(
        render_html(make_summary(series=[{**row, "t_s": i * row_s} for i in range(rows)], series_bin_s=row_s))
    ).text
    assert (mean or highest) is not None or "Each point is the" not in text
    assert all(words in text for words in (mean, highest) if words)


@pytest.mark.parametrize("empty", [{}, {"schema_version": 1}, {"run": {}, "nodes": [], "series": [], "latency": {}}])
def test_an_empty_summary_is_a_page_that_says_so(empty: dict[str, Any]) -> None:
    text = Page(render_html(empty)).text
    assert "FITNESS UNKNOWN" in text
    assert "no request was attributed to a node" in text
    assert "TTFT is absent" in text


def test_each_part_can_be_missing_null_or_empty(make_summary: Make) -> None:
    whole = make_summary()
    plain = {k: v for k, v in whole.items() if k not in ("series", "distributions")} | {"nodes": whole["nodes"][:2]}
    for key in plain:
        for nothing in (None, {}, []):
            assert "<h2>Account</h2>" in render_html({**plain, key: nothing})
        assert "<h2>Account</h2>" in render_html({k: v for k, v in plain.items() if k != key})
    for key in ("run", "series", "distributions"):
        assert "<svg" in render_html({**whole, key: None})


def test_no_request_at_all(make_summary: Make) -> None:
    nothing = {"n": 0, "p50": None, "p95": None, "p99": None, "max": None, "censored": 0}
    summary = make_summary(nodes=[], bands=[], series=[], association=None, distributions={"ttft_ms_service": []})
    summary["latency"] = {"ttft_ms": {"service": nothing, "response": nothing}, "e2e_ms": {"service": nothing}}
    summary["account"] = {"planned": 0, "rows": 0, "outcomes": {}, "balanced": True}
    page = render_html(summary)
    assert "<svg" not in page
    assert 'class="headline"' in page  # peak in flight is left, nothing else
    assert page.count('<p class="figure">') == 1


def test_closed_mode_says_so_first_and_a_plain_route_has_no_ttft(make_summary: Make) -> None:
    summary = make_summary()
    summary["run"]["mode"] = "closed"
    del summary["latency"]["ttft_ms"], summary["latency"]["tpot_ms"]
    for row in (*summary["nodes"], *summary["series"]):
        for key in ("ttft_ms_p50", "ttft_ms_p95"):
            row[key] = None
    summary["distributions"] = {"e2e_ms_service": [[100.0, 0.5], [200.0, 1.0]]}
    text = Page(render_html(summary)).text
    assert text.index("Closed load: 200 members") < text.index("FIT")
    assert "TTFT is absent" in text
    assert "E2E p50" in text  # the node map falls back to the whole answer


def test_percentiles_without_a_value_say_why(make_summary: Make) -> None:
    summary = make_summary()
    summary["latency"]["ttft_ms"]["service"] |= {"p99": None, "p99_interval": None}
    text = Page(render_html(summary)).text
    assert "> 120 s" in text
    assert "n too small" in text


def test_an_account_that_does_not_add_up_is_shouted(make_summary: Make) -> None:
    summary = make_summary()
    summary["account"] |= {"planned": 3703, "balanced": False}
    text = Page(render_html(summary)).text
    assert "3,703 planned ≠ 3,611 ok" in text
    assert "The account does not add up." in text
