"""A master with its web page before a simulated network, and a person at that page: what the tests of live pages and
the script of screenshots share."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from loadtest.clock import Deadline
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import free_port, locustfile
from loadtest.processes import end

REPO = Path(__file__).resolve().parents[2]
SHOTS = REPO / "build" / "screenshots"  # kept for CI to collect
END_S = 90
WAIT_MS = 60_000


@dataclass
class Site:
    """Where the page is, where its runs are, and how to speak to it without a browser."""

    url: str
    runs_dir: Path
    workers: int
    client: httpx.Client
    log: Path
    process: subprocess.Popen[bytes]
    said: list[str] = field(default_factory=list)  # what a browser complained of

    def json(self, path: str) -> Any:
        return self.client.get(self.url + path).json()

    def ready(self) -> bool:
        """All workers are there and idle: a run that starts before would be one of fewer workers."""
        try:
            told = self.json("/stats/requests")
        except (httpx.TransportError, ValueError):
            return False
        return [worker["state"] for worker in told.get("workers", [])] == ["ready"] * self.workers

    def up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")[:2000]
        try:
            return self.client.get(self.url + "/login").status_code < 500
        except httpx.TransportError:
            return False

    def folders(self) -> list[Path]:
        return sorted(path.parent for path in self.runs_dir.glob("*/manifest.json"))


@contextmanager
def site(
    folder: Path, *options: str, workers: int = 2, base_path: str = "", environment: dict[str, str] | None = None
) -> Iterator[Site]:
    """Started, and ended by process id whatever happens."""
    simulator, url = start_simulator(folder / "port", folder / "truth")
    web, port = free_port(), free_port()
    command = [sys.executable, "-m", "locust", "-f", str(locustfile()), "--host", url, "--processes", str(workers)]
    command += ["--web-port", str(web), "--master-bind-port", str(port), "--master-port", str(port)]
    command += ["--runs-dir", str(folder / "runs"), *(["--web-base-path", base_path] if base_path else []), *options]
    log = folder / "locust.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, **(environment or {})}
        )
    try:
        with httpx.Client(timeout=30) as client:
            yield Site(f"http://127.0.0.1:{web}{base_path}", folder / "runs", workers, client, log, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=END_S)
        finally:
            process.kill()
            end(simulator, SIMULATOR_END_S)
            print(log.read_text(errors="replace")[-6000:])


def wait_for(what: str, true: Callable[[], bool], page: Any, seconds: float = WAIT_MS / 1000) -> None:
    """Poll with the browser running on; AssertionError at the deadline."""
    deadline = Deadline(seconds)
    while not true():
        assert not deadline.over(), f"waited {seconds:.0f} s for {what}"
        page.wait_for_timeout(250)


def shot(page: Any, name: str, folder: Path = SHOTS, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", **options)


def open_form(page: Any, where: Site) -> None:
    wait_for("the page", where.up, page)
    page.goto(f"{where.url}/")
    page.wait_for_selector("input[name=userCount]", timeout=WAIT_MS)


def start(page: Any, **fields: str) -> None:
    """Fill the form and press its button; what is folded away is opened."""
    page.wait_for_selector("input[name=userCount]", timeout=WAIT_MS)
    page.fill("input[name=userCount]", "40")
    page.fill("input[name=spawnRate]", "40")
    for name, value in fields.items():
        if not page.locator(f"input[name={name}]").is_visible():
            fold = "Advanced options" if name == "profile" else "Custom parameters"
            page.get_by_role("button", name=fold).click()
            page.wait_for_selector(f"input[name={name}]", state="visible")
        page.fill(f"input[name={name}]", value)
    page.get_by_role("button", name=re.compile("^start$", re.IGNORECASE)).click()


def shown(page: Any, tab: str, words: str) -> list[list[str]]:
    """The rows of a tab, cell by cell, once one of them matches `words`."""
    page.get_by_role("tab", name=tab, exact=True).click()
    page.wait_for_function(
        "words => [...document.querySelectorAll('tbody tr')].some(row => new RegExp(words).test(row.innerText))",
        arg=words,
        timeout=WAIT_MS,
    )
    return cells(page)


def cells(page: Any) -> list[list[str]]:
    rows: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return rows


def total(text: str) -> int:
    """The number in front of "turns"."""
    (number,) = re.findall(r"([\d,]+) turns", text)
    return int(number.replace(",", ""))
