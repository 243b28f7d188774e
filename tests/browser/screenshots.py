"""Take the pictures of docs/watching.md anew: a run of a minute against the simulated network, in headless Chromium.

Run: PYTHONPATH=.:tests/browser .venv/bin/python tests/browser/screenshots.py
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from chromium import browser, watched
from live_page import REPO, WAIT_MS, open_form, shot, shown, site, start, wait_for

PICTURES = REPO / "docs" / "img"
WIDE = {"width": 1150, "height": 640}
RUN_MS = 45_000  # until the pictures of a run in full swing


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as scratch,
        site(Path(scratch), "--profile", "demo", "--duration", "90", "--no-report") as where,
        browser() as chromium,
    ):
        page = watched(chromium.new_page(viewport=WIDE), where.said)
        open_form(page, where)
        wait_for("the workers", where.ready, page)
        start(page, seed="7", requestRate="6")
        shown(page, "Overview", r"Completed\s+[1-9]")
        page.wait_for_timeout(RUN_MS)
        for tab in ("Overview", "Outcomes", "Nodes", "Pipeline", "Workers and fitness"):
            shown(page, tab, r"\d")
            page.wait_for_timeout(2_500)  # the page asks every two seconds
            shot(page, f"tab-{tab.split()[0].lower()}", PICTURES)
        charts = watched(chromium.new_page(viewport={"width": 1150, "height": 760}), where.said)
        phone = watched(chromium.new_page(viewport={"width": 390, "height": 760}, color_scheme="dark"), where.said)
        for each, name in ((charts, "charts"), (phone, "charts-phone")):
            each.goto(f"{where.url}/loadtest/")
            each.wait_for_selector("#nodes tbody tr", timeout=WAIT_MS)
            each.wait_for_timeout(2_500)
            shot(each, name, PICTURES)
        page.get_by_role("button", name=re.compile("^stop$", re.IGNORECASE)).click()
        wait_for("the end of the run", lambda: where.json("/loadtest/live")["over"], page, 120)
    for picture in sorted(PICTURES.glob("*.png")):
        print(f"{picture.relative_to(REPO)}: {picture.stat().st_size:,} bytes")
    return 1 if where.said else 0


if __name__ == "__main__":
    sys.exit(main())
