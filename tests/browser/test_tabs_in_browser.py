"""Locust's page in a real browser: a run starts there, its tabs Run, Latency and Harness move, and it is stopped."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest import runfolder
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import free_port, locustfile
from loadtest.processes import end

pytestmark = pytest.mark.long
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
END_S = 90
WAIT_MS = 60_000
WORKERS = 2
DURATION_S = 40


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def address(tmp_path: Path, runs_dir: Path) -> Iterator[str]:
    """A master with its page and two workers, before a simulated network; ended when the test is over."""
    simulator, url = start_simulator(tmp_path / "port", tmp_path / "truth")
    web, port = free_port(), free_port()
    command = [sys.executable, "-m", "locust", "-f", str(locustfile()), "--processes", str(WORKERS), "--host", url]
    command += [
        "--profile",
        "smoke",
        "--duration",
        str(DURATION_S),
        "--web-port",
        str(web),
        "--runs-dir",
        str(runs_dir),
    ]
    command += ["--web-port", str(web), "--master-bind-port", str(port), "--master-port", str(port), "--no-report"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{web}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            print(process.communicate(timeout=END_S)[1][-8000:])
        finally:
            process.kill()
            end(simulator, SIMULATOR_END_S)


def opened(playwright: Any, address: str, said: list[str]) -> Any:
    """A page that shows Locust's form, with all that the browser complains of going to `said`."""
    path = shutil.which("chromium")
    assert path, "make test-long installs chromium"
    page = playwright.chromium.launch(executable_path=path, args=FLAGS).new_page(
        viewport={"width": 1400, "height": 1000}
    )
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    for _ in range(WAIT_MS // 250):
        try:
            page.goto(address)
            break
        except Exception:
            page.wait_for_timeout(250)
    page.wait_for_selector("input[name=userCount]", timeout=WAIT_MS)
    return page


def shown(page: Any, tab: str, words: str) -> dict[str, str]:
    """The rows of a tab by their first cell, once one of them matches `words`."""
    page.get_by_role("tab", name=tab, exact=True).click()
    page.wait_for_function(
        "words => [...document.querySelectorAll('tbody tr')].some(row => new RegExp(words).test(row.innerText))",
        arg=words,
        timeout=WAIT_MS,
    )
    rows = [row.inner_text().split("\t") for row in page.locator("tbody tr").all()]
    return {row[0].strip(): " ".join(cell.strip() for cell in row[1:]) for row in rows}


def count(text: str) -> int:
    (number,) = re.findall(r"([\d,]+) turns", text)
    return int(number.replace(",", ""))


def test_a_run_is_started_watched_and_stopped_from_the_page(address: str, runs_dir: Path) -> None:
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as playwright:
        page = opened(playwright, address, said)
        # A run that starts before its workers are there would be one of fewer workers.
        page.wait_for_function(
            "async n => (await (await fetch('stats/requests')).json()).workers.length === n", arg=WORKERS
        )
        assert page.locator("input[name=profile]").input_value() == "smoke"
        page.fill("input[name=userCount]", "20")
        page.fill("input[name=spawnRate]", "20")
        page.get_by_role("button", name=re.compile("start", re.IGNORECASE)).click()

        run = shown(page, "Run", r"Completed\s+[1-9]")
        before = count(run["Completed"])
        assert {"Progress", "Offered", "In flight", "Outcomes", "Ledger", "Rows", "Fitness"} <= set(run)
        assert 0 < before <= count(run["Offered"]) and "ok" in run["Outcomes"]
        latency = shown(page, "Latency", r"all\s")
        assert {"all", "openai-chat", "cortensor-stream"} <= set(latency)
        assert re.search(r"\d+(\.\d+)? m?s", latency["all"]), "quantiles with their unit"
        harness = shown(page, "Harness", r"working")
        assert len(harness) == WORKERS and all("working" in row for row in harness.values())
        after = shown(page, "Run", rf"Completed\s+(?!{before} turns)[1-9]")
        assert count(after["Completed"]) > before, "the figures move while the page is open"

        page.screenshot(path=runs_dir / "tabs.png")

        page.get_by_role("button", name=re.compile("^stop$", re.IGNORECASE)).click()
        (run_folder,) = (path for path in runs_dir.iterdir() if path.is_dir())
        for _ in range(WAIT_MS // 250):
            if runfolder.read_manifest(run_folder)["state"] == "recorded":
                break
            page.wait_for_timeout(250)
        page.context.browser.close()
    assert said == []
    manifest = runfolder.read_manifest(run_folder)
    assert manifest["state"] == "recorded" and manifest["stopped_early_s"] < DURATION_S
    outcomes = Counter(runfolder.read_table(run_folder, "requests", ["outcome"])["outcome"].to_pylist())
    assert set(outcomes) <= {"ok", "not_reached"} and outcomes["ok"] >= count(after["Completed"])


def test_these_tests_too_run_without_locust_in_the_process() -> None:
    assert "locust" not in sys.modules
