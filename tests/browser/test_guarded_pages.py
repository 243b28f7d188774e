"""The pages behind a login, with ten workers: a stranger gets nothing, a wrong password is refused, no secret is in any
answer, and names and texts with markup are shown as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from chromium import browser, watched
from live_page import WAIT_MS, Site, shot, shown, site, start, wait_for

from loadtest import observed, runfolder
from loadtest.clock import wall_ns
from loadtest.observed import Observed, ObservedNode, Router

pytestmark = pytest.mark.long
WORKERS = 10
NAME, PASSWORD, KEY = "qa", "correct-horse-7731", "router-key-5b21d0"
SCRIPT = "<script>alert('node')</script>"
IMAGE = "<img src=x onerror=alert(1)>"
PROFILE = """
[load]
mode = "open"
rate_per_s = 10.0
duration_s = 120.0
warmup_s = 1.0
drain_s = 20.0
in_flight_max = 100

[[target]]
name = "chat"
route = "openai-chat"
model = "default"
key_env = "GUARDED_KEY"

[[persona]]
name = "quick"
weight = 1.0
locale = "en_US"
prompt_tokens = { dist = "fixed", value = 20 }
output_tokens = { dist = "fixed", value = 20 }
turns = { dist = "fixed", value = 1 }
think_s = { dist = "fixed", value = 1 }
"""
OURS = ("/loadtest/", "/loadtest/live", "/loadtest/assets/charts.js", "/loadtest/runs/x/rows.csv", "/metrics")
LOCUSTS = ("/", "/stats/requests", "/stats/report", "/exceptions", "/tasks", "/logs", "/stats/requests/csv")


def test_a_login_markup_and_secrets(tmp_path: Path) -> None:
    profile = tmp_path / "guarded.toml"
    profile.write_text(PROFILE)
    options = ("--profile", str(profile), "--web-login", "--no-observe", "--no-report")
    environment = {"LOADTEST_WEB_USER": NAME, "LOADTEST_WEB_PASSWORD": PASSWORD, "GUARDED_KEY": KEY}
    bodies: dict[str, str] = {}
    with (
        site(tmp_path, *options, workers=WORKERS, environment=environment) as where,
        browser() as chromium,
    ):
        context = chromium.new_context(viewport={"width": 1400, "height": 1000})
        page = watched(context.new_page(), where.said)
        wait_for("the page", where.up, page)
        for path in OURS + LOCUSTS[1:]:
            stranger = httpx.get(where.url + path)
            assert (stranger.status_code, stranger.content) == (401, b""), path
        logged_in(page, where)
        page.on("response", lambda response: keep(bodies, response))
        wait_for("the workers", where.ready, page, 120)
        start(page, seed=IMAGE)
        page.get_by_text("seed: must be a whole number").wait_for(timeout=WAIT_MS)
        start(page, seed="1")
        wait_for("a run", lambda: bool(where.folders()), page)
        hostile_word(where.folders()[0])
        wait_for("all workers at work", lambda: working(page) == WORKERS, page)  # each tells of itself in its own time
        assert any(row[0] == SCRIPT for row in shown(page, "Nodes", "script"))
        assert any(f"now: {IMAGE}" in row[-1] for row in shown(page, "Pipeline", "Router of"))
        charts = watched(context.new_page(), where.said)
        charts.on("response", lambda response: keep(bodies, response))
        charts.goto(f"{where.url}/loadtest/")
        charts.wait_for_selector("#nodes tbody tr", timeout=WAIT_MS)
        assert charts.locator("#nodes tbody td").first.inner_text() == SCRIPT
        assert charts.locator("script").count() == 2 and charts.locator("img").count() == 0
        shot(charts, "charts-hostile")
        for path in OURS + LOCUSTS:
            bodies[f"again {path}"] = where.client.get(where.url + path).text
        page.get_by_role("button", name=re.compile("^stop$", re.IGNORECASE)).click()
        wait_for("the end of the run", lambda: where.json("/loadtest/live")["over"], page, 120)
        (folder,) = where.folders()
        rows = where.client.get(f"{where.url}/loadtest/runs/{folder.name}/rows.csv")
        bodies["rows"] = rows.text
    assert rows.status_code == 200 and rows.text.count("\n") == runfolder.read_table(folder, "requests").num_rows + 1
    assert len(bodies) > 20
    for what, text in bodies.items():
        assert KEY not in text and PASSWORD not in text, what
    assert where.said == []


def working(page: Any) -> int:
    return sum(row[1] == "working" for row in shown(page, "Workers and fitness", "working"))


def logged_in(page: Any, where: Site) -> None:
    """The browser, after a wrong password, and the client beside it."""
    page.goto(f"{where.url}/")
    assert page.url.endswith("/login")
    for password in ("wrong", PASSWORD):
        page.fill("input[name=username]", NAME)
        page.fill("input[name=password]", password)
        page.get_by_role("button", name=re.compile("login", re.IGNORECASE)).click()
        if password == "wrong":
            page.get_by_text("Invalid name or password").wait_for(timeout=WAIT_MS)
    page.wait_for_selector("input[name=userCount]", timeout=WAIT_MS)
    where.client.post(f"{where.url}/login-submit", data={"username": NAME, "password": PASSWORD})


def keep(bodies: dict[str, str], response: Any) -> None:
    """What the browser got, each address once."""
    kind = response.headers.get("content-type", "")
    if response.status == 200 and response.url not in bodies and ("text" in kind or "json" in kind or "script" in kind):
        bodies[response.url] = response.text()


def hostile_word(run: Path) -> None:
    """As if an observer had heard of a node and of an error that are markup."""
    live = Observed(
        schema_version=observed.VERSION,
        written_wall_ns=wall_ns(),
        state="running",
        requests=10,
        requests_known=5,
        nodes_known=1,
        nodes=[ObservedNode(node=SCRIPT, requests=5, failures=1, precommit_rate=0.5, age_s=1.0)],
        routers=[Router(targets=["chat"], error=IMAGE)],
    )
    runfolder.write_text(run / observed.FILE, msgspec.json.encode(live).decode())
