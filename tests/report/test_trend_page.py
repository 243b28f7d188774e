"""The trend page: what changed since when, with the target's versions; nothing from outside gets out of its text."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from made_history import history, with_changes

from loadtest.analysis.nights import HistoryRow
from loadtest.report.trend_page import trend_html


@cache
def slower() -> str:
    """Twelve nights, and from the ninth on a TTFT that is 20 % longer."""
    return trend_html(history(12, slower_from=8))


def one_figure(rows: list[HistoryRow], **changes: Any) -> list[HistoryRow]:
    """The same rows with TTFT p50 alone: one picture instead of six."""
    absent = dict.fromkeys(("ttft_ms_p95", "tpot_ms_p50", "attainment", "goodput_per_s", "error_share"))
    return [with_changes(row, **{**absent, **changes}) for row in rows]


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.partition("</style>")[2]))


def test_a_change_is_told_with_its_night_beside_the_version_that_came_with_it() -> None:
    html = slower()
    text = words(html)
    (row,) = [each for each in re.findall(r"<tr>.*?</tr>", html, re.DOTALL) if "TTFT p50" in each]
    assert "2026-11-09" in row and "worse" in row and re.search(r"\+1\d\.\d %|\+2\d\.\d %", row)
    assert "since the night 2026-11-09" in text, "the first line says it"
    assert re.search(r"2026-11-09 main=2\.0", text), "the versions have a table"
    assert "main=2.0" in html.partition("<figure>")[2].partition("</figure>")[0], "and stand in the pictures"
    assert "TPOT p50" in text and "SLO attainment" in text and "errors" in text


def test_nights_that_are_alike_show_no_change() -> None:
    text = words(trend_html(one_figure(history(12))))
    assert "No figure of the target has changed for the worse" in text and "Change points" not in text


def test_void_nights_are_drawn_and_do_not_count() -> None:
    rows = one_figure(history(12, slower_from=8))
    void = [row if row.target_versions == "main=1.0" else with_changes(row, word="void") for row in rows]
    html = trend_html(void)
    assert "of void or failed nights" in html and "worse" not in words(html).replace("for the worse", "")


def test_few_runs_say_that_they_are_few() -> None:
    text = words(trend_html(one_figure(history(1))))
    assert "Too few runs for a trend" in text and "Change points need 10 runs" in text
    assert "Nothing to see yet" in words(trend_html([]))
    rows = one_figure(history(1))  # with the control's there are twelve, and none of the series has ten
    both = [*rows, *(with_changes(row, kind="control", run=f"c{i}") for i, row in enumerate(rows))]
    assert "Too few runs for a trend" in words(trend_html(both))


def test_series_that_cannot_be_compared_stand_apart() -> None:
    target = one_figure(history(2))
    html = trend_html([*target, *one_figure(history(3), profile_hash="f" * 16)])
    assert len(re.findall(r"<h2>", html)) == 2
    control = [with_changes(row, kind="control", host=f"http://127.0.0.1:{i}") for i, row in enumerate(target)]
    titles = re.findall(r"<h2>(.*?)</h2>", trend_html([*control, *target]))
    assert [title.split(",")[0] for title in titles] == ["Target http://router:5010", "Control"], (
        "one control, at whatever port it was"
    )


EVIL = "<script>alert(1)</script>&\"'\u202e日本</svg>"


def test_hostile_names_stay_text() -> None:
    rows = [
        with_changes(
            row,
            night=EVIL,
            run=f"{EVIL}{i}",
            host=EVIL,
            profile=EVIL,
            target_versions=f"{EVIL}{i % 2}",
            harness_version=EVIL,
        )
        for i, row in enumerate(one_figure(history(12, slower_from=8)))
    ]
    html = trend_html(rows)
    assert "<script" not in html and "alert(1)</svg>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<svg") == html.count("</svg>")


def test_the_page_needs_no_network_and_follows_light_and_dark() -> None:
    html = slower()
    assert not re.search(r'(src|href)\s*=\s*["\'](?!#)', html) and "url(" not in html.replace("url(#", "")
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html
    pictures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", pictures), "every colour is a variable, or the dark page has holes"


def test_a_long_history_stays_a_page() -> None:
    rows = [with_changes(row, night=f"n{i // 6:03d}", started_utc=f"t{i:05d}") for i, row in enumerate(history(12) * 9)]
    html = trend_html(rows)
    assert len(html) < 2_000_000


def test_the_same_history_is_the_same_page() -> None:
    assert trend_html(one_figure(history(3))) == trend_html(one_figure(history(3)))
