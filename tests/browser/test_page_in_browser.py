"""The page of a real run in a real browser: it loads nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import browser, opened, sideways_px

from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.run import new_run_folder
from loadtest.jobs.swarm import run_swarm
from loadtest.processes import end

pytestmark = pytest.mark.long
A4_WIDTH_PX = round((210 - 2 * 12) / 25.4 * 96)  # less the margins of the page's own style


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("browser")
    simulator, url = start_simulator(folder / "port", folder / "truth")
    try:
        made = new_run_folder(folder / "runs")
        assert run_swarm("smoke", url, 1, folder / "runs", made.name, []) in (0, 4)
    finally:
        end(simulator, SIMULATOR_END_S)
    yield made


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_the_page(run: Path, width: int, scheme: str) -> None:
    with browser() as chromium, opened(chromium, run / "report.html", width, scheme) as page:
        summary = json.loads((run / "summary.json").read_text())
        text = page.inner_text("body")
        assert summary["fit"]["verdict"].upper() in text
        assert f"{summary['account']['planned']:,} planned" in text
        assert page.locator("svg").count() >= 4
        assert sideways_px(page) <= 0, "the page scrolls sideways"
        page.screenshot(path=run / f"page-{width}-{scheme}.png", full_page=True)


def test_paper(run: Path, tmp_path: Path) -> None:
    """A4 pages that lose nothing at the right, with letters one can read and everything that the screen folds."""
    paper = tmp_path / "report.pdf"
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": A4_WIDTH_PX, "height": 1000}, color_scheme="dark")
        page.goto((run / "report.html").as_uri())
        page.pdf(path=paper, prefer_css_page_size=True)
        page.emulate_media(media="print", color_scheme="dark")
        assert sideways_px(page) <= 0
        cut_off = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        )
        smallest = page.evaluate(
            "Math.min(...[...document.querySelectorAll('body :not(svg *)')].filter(e => e.offsetParent && "
            "e.innerText).map(e => parseFloat(getComputedStyle(e).fontSize)))"
        )
        folded = page.evaluate(
            "[...document.querySelectorAll('.folded')].filter(e => getComputedStyle(e).display === 'none').length"
        )
        ink = page.evaluate("getComputedStyle(document.body.parentElement).color")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 4 <= pages <= 20
    assert (cut_off, folded) == (0, 0)
    assert smallest >= 6 * 96 / 72 - 0.01  # 6 pt, for addresses of nodes
    assert ink == "rgb(28, 33, 38)", "paper is not dark"


def test_these_tests_run_without_locust_in_the_process() -> None:
    assert "locust" not in sys.modules
