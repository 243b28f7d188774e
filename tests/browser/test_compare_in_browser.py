"""The page of a comparison in a real browser: it loads nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import browser, opened, sideways_px
from made_runs import made_run

from loadtest.cli import main

pytestmark = pytest.mark.long


def test_the_page_of_four_runs(tmp_path: Path) -> None:
    runs = []
    for number in range(4):
        series = [{"t_s": float(t), "completed": 3 + t % 2, "ttft_ms_p50": 400.0 + 9 * number + t} for t in range(60)]
        curves = {"ttft_ms_service": [[(100.0 + 9 * number) * k, k / 20] for k in range(1, 20)]}
        runs.append(made_run(tmp_path / f"2026112{number}T020000Z-ab1{number}", series=series, distributions=curves))
    page_path = tmp_path / "compare.html"
    assert main(["compare", *map(str, runs), "--html", str(page_path)]) == 0
    with browser() as chromium:
        for width in (1200, 390):
            with opened(chromium, page_path, width) as page:
                assert page.locator("svg").count() == 2 and "One run each" in page.inner_text("body")
                assert sideways_px(page) <= 0, f"the page scrolls sideways at {width}"
                page.screenshot(path=tmp_path / f"page-{width}.png", full_page=True)
