"""docs/report.png: the first screens of a run's report, as a browser shows them.

    .venv/bin/loadtest demo && .venv/bin/python benchmarks/report_picture.py runs/RUN

Needs chromium (`make test-long` installs it).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

WIDTH, HEIGHT = 1200, 1500
OUT = Path(__file__).resolve().parent.parent / "docs" / "report.png"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> int:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with its report")
    page_file = (parser.parse_args().run / "report.html").resolve()
    browser_path = shutil.which("chromium")
    if browser_path is None or not page_file.exists():
        print("report_picture: needs chromium and RUN/report.html; see --help", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            page.goto(page_file.as_uri())
            page.screenshot(path=OUT)
        finally:
            browser.close()
    print(OUT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
