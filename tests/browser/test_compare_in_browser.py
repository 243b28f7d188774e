"""The page of a comparison in a real browser: it loads nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_runs import made_run

from loadtest.cli import main

pytestmark = pytest.mark.long
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def test_the_page_of_four_runs(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    runs = []
    for number in range(4):
        series = [{"t_s": float(t), "completed": 3 + t % 2, "ttft_ms_p50": 400.0 + 9 * number + t} for t in range(60)]
        curves = {"ttft_ms_service": [[(100.0 + 9 * number) * k, k / 20] for k in range(1, 20)]}
        runs.append(made_run(tmp_path / f"2026112{number}T020000Z-ab1{number}", series=series, distributions=curves))
    page_path = tmp_path / "compare.html"
    assert main(["compare", *map(str, runs), "--html", str(page_path)]) == 0
    browser_path = shutil.which("chromium")
    assert browser_path, "make test-long installs chromium"
    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        try:
            for width in (1200, 390):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.on("request", lambda request: asked.append(request.url))
                page.goto(page_path.as_uri())
                assert page.locator("svg").count() == 2 and "One run each" in page.inner_text("body")
                overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert overflow <= 0, f"the page scrolls sideways at {width}"
                page.screenshot(path=tmp_path / f"page-{width}.png", full_page=True)
        finally:
            browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
