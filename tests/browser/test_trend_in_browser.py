"""The trend page in a real browser: it loads nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_history import history, with_changes

from loadtest.report.trend_page import trend_html

pytestmark = pytest.mark.long
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
EVIL = "<script>document.title='evil'</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_the_trend_page(tmp_path: Path, width: int, scheme: str) -> None:
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium")
    assert browser_path, "make test-long installs chromium"
    rows = history(14, slower_from=9)
    rows += [with_changes(row, kind="control", profile=EVIL, target_versions=EVIL) for row in history(14)]
    (tmp_path / "trend.html").write_text(trend_html(rows))
    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto((tmp_path / "trend.html").as_uri())
            text = page.inner_text("body")
            assert "since the night 2026-11-10" in text and EVIL in text
            assert page.title().startswith("Nights of")
            assert page.locator("svg").count() == 12
            paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert (paper == "rgb(18, 22, 27)") == (scheme == "dark")
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, "the page scrolls sideways"
        finally:
            browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
