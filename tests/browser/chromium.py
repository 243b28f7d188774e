"""A headless Chromium, started and watched: what all browser tests and the script of screenshots share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def browser() -> Iterator[Any]:
    """Started, and closed whatever happens. Playwright is imported here: collecting the tests does without it."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "make test-long installs chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield started
        finally:
            started.close()


def watched(page: Any, said: list[str]) -> Any:
    """The page, with all that it complains of going to `said`; a dialog would be a script that ran."""
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    return page


@contextmanager
def opened(chromium: Any, file: Path, width: int, scheme: str = "light") -> Iterator[Any]:
    """A stored page. After it has been looked at: its console must be empty, it must have asked nobody for anything."""
    said: list[str] = []
    asked: list[str] = []
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert said == [], said
    beyond = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert beyond == [], beyond


def sideways_px(page: Any) -> int:
    """How far the page scrolls sideways; a page that fits its window does not."""
    beyond: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return beyond
