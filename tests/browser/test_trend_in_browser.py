"""The trend page in a real browser: it loads nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import browser, opened, sideways_px
from made_history import history, with_changes

from loadtest.report.trend_page import trend_html

pytestmark = pytest.mark.long
EVIL = "<script>document.title='evil'</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_the_trend_page(tmp_path: Path, width: int, scheme: str) -> None:
    rows = history(14, slower_from=9)
    rows += [with_changes(row, kind="control", profile=EVIL, target_versions=EVIL) for row in history(14)]
    (tmp_path / "trend.html").write_text(trend_html(rows))
    with browser() as chromium, opened(chromium, tmp_path / "trend.html", width, scheme) as page:
        text = page.inner_text("body")
        assert "since the night 2026-11-10" in text and EVIL in text
        assert page.title().startswith("Nights of")
        assert page.locator("svg").count() == 12
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (paper == "rgb(18, 22, 27)") == (scheme == "dark")
        assert sideways_px(page) <= 0, "the page scrolls sideways"
