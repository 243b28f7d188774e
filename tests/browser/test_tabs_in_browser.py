"""Locust's page in a real browser: a run is started from the form, watched in tabs and charts, stopped, downloaded and
started again; its figures are those of /stats/requests and of the stored rows."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chromium import browser, sideways_px, watched
from live_page import WAIT_MS, Site, open_form, shot, shown, site, start, total, wait_for

from loadtest import runfolder

pytestmark = pytest.mark.long
BASE = "/load"


def figures(rows: list[list[str]]) -> dict[str, str]:
    return {row[0]: row[1] for row in rows}


def test_a_run_from_the_form_to_its_download_and_again(tmp_path: Path) -> None:
    options = ("--profile", "smoke", "--duration", "120")
    with (
        site(tmp_path, *options, base_path=BASE) as where,
        browser() as chromium,
    ):
        page = watched(chromium.new_page(viewport={"width": 1400, "height": 1000}), where.said)
        open_form(page, where)
        wait_for("the workers", where.ready, page)
        mistakes_are_one_line(page, where)
        start(page, seed="7", requestRate="8", target="")
        watch_the_tabs(page, where)
        charts = watched(chromium.new_page(viewport={"width": 1400, "height": 1000}), where.said)
        watch_the_charts(charts, where)
        charts_fit_a_phone(chromium, where)
        page.get_by_role("button", name=re.compile("^stop$", re.IGNORECASE)).click()
        stopped_and_downloaded(charts, where, tmp_path)
        again_from_the_page(page, charts, where)
    assert where.said == []
    first, second = where.folders()
    manifests = [runfolder.read_manifest(folder) for folder in (first, second)]
    assert [manifest["seed"] for manifest in manifests] == [7, 8]
    assert manifests[0]["profile"]["hash"] != manifests[1]["profile"]["hash"], "rate and target are part of the profile"
    assert set(runfolder.read_table(second, "requests", ["target"])["target"].to_pylist()) == {"openai-chat"}


def mistakes_are_one_line(page: Any, where: Site) -> None:
    for name, value, said in (
        ("seed", "x", "seed: must be a whole number, got 'x'"),
        ("target", "nobody", "--target: 'nobody' is neither name nor route of a target"),
        ("requestRate", "-1", "--request-rate: must be a number > 0, got -1"),
    ):
        start(page, **{"seed": "7", "requestRate": "", "target": "", name: value})
        page.get_by_text(said).wait_for(timeout=WAIT_MS)
    start(page, seed="7", requestRate="", target="", profile="nothing")
    page.get_by_text("nothing: no such profile").wait_for(timeout=WAIT_MS)
    page.fill("input[name=profile]", "smoke")
    assert where.folders() == []


def watch_the_tabs(page: Any, where: Site) -> None:
    before = total(figures(shown(page, "Overview", r"Completed\s+[1-9]"))["Completed"])
    now = figures(shown(page, "Overview", rf"Completed\s+(?!{before} turns)[1-9]"))
    assert total(now["Completed"]) > before, "the figures move while the page is open"
    assert {"Run", "Progress", "Offered", "In flight", "In flight, age of the oldest", "Fitness"} <= set(now)
    quantiles = {row[0]: row[2:] for row in shown(page, "Overview", "TTFT, all") if row[0].startswith(("TTFT", "E2E"))}
    assert {"TTFT, all", "TTFT, openai-chat"} <= {name.partition(" (")[0] for name in quantiles}
    assert all(re.fullmatch(r"[\d.]+ m?s|–|failed", cell) for row in quantiles.values() for cell in row)
    shot(page, "tab-overview")
    outcomes = {(row[0], row[2]): row[3] for row in shown(page, "Outcomes", r"all\s+ok")}
    assert int(outcomes["all", "ok"]) > 0
    shot(page, "tab-outcomes")
    harness = shown(page, "Workers and fitness", r"working")
    assert sum(row[1] == "working" for row in harness) == where.workers
    shot(page, "tab-workers")
    pipeline = {row[0]: row for row in shown(page, "Pipeline", r"Completed\s+[1-9]")}
    reached = [int(pipeline[name][1]) for name in ("Queued", "Acked", "Precommitted", "Committed", "Completed")]
    assert reached == sorted(reached, reverse=True) and reached[-1] > 0
    assert any("miners connected" in row[-1] for row in pipeline.values())
    shot(page, "tab-pipeline")
    shown(page, "Nodes", r"0x[0-9a-f]{40}\s+[1-9]")
    for descending in (False, True):
        page.get_by_role("columnheader", name="Requests", exact=True).click()
        requests = [int(row[1]) for row in shown(page, "Nodes", "0x") if row[1]]
        assert requests == sorted(requests, reverse=descending), "Locust's own table sorts our numbers"
    shot(page, "tab-nodes")


def watch_the_charts(page: Any, where: Site) -> None:
    page.goto(f"{where.url}/loadtest/")
    page.wait_for_selector(".uplot", timeout=WAIT_MS)
    assert page.locator(".chart canvas").count() == 7
    offered = r"offered ([\d,]+), completed ([\d,]+)"
    first = re.search(offered, page.inner_text("#now"))
    assert first is not None
    page.wait_for_function(
        "before => { const found = /completed ([\\d,]+)/.exec(document.getElementById('now').textContent);"
        " return found && found[1] !== before; }",
        arg=first[2],
        timeout=WAIT_MS,
    )
    page.wait_for_selector("#nodes tbody tr:nth-child(3)", timeout=WAIT_MS)
    page.locator(".chart .u-over").first.hover()
    legend = page.locator(".chart .u-legend").first.inner_text()
    assert re.search(r"offered\s*:?\s*[\d.]+", legend), legend
    shot(page, "charts-light", full_page=True)
    page.select_option("#selection", label="openai-chat")
    page.wait_for_function(
        "document.getElementById('selection').value === '[\"openai-chat\",\"\"]'"
        " && document.querySelectorAll('.chart canvas').length === 7"
    )
    whole, mine = (
        where.json(f"/loadtest/live?target={target}&session=")["points"][-1][0] for target in ("all", "openai-chat")
    )
    assert abs(whole - mine) <= 1, "points of a selection are those of the run"
    page.select_option("#selection", label="all targets")


def charts_fit_a_phone(chromium: Any, where: Site) -> None:
    page = watched(chromium.new_page(viewport={"width": 390, "height": 850}, color_scheme="dark"), where.said)
    page.goto(f"{where.url}/loadtest/")
    page.wait_for_selector(".uplot", timeout=WAIT_MS)
    assert sideways_px(page) <= 0, "the page scrolls sideways"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    shot(page, "charts-phone-dark", full_page=True)
    page.close()


def stopped_and_downloaded(page: Any, where: Site, tmp_path: Path) -> None:
    (folder,) = where.folders()
    wait_for("the end of the run", lambda: where.json("/loadtest/live")["over"], page, 120)
    told = where.json("/loadtest/live")
    rows = Counter(runfolder.read_table(folder, "requests", ["outcome"])["outcome"].to_pylist())
    assert told["outcomes"] == rows, "the page ends with what is stored"
    (aggregated,) = (row for row in where.json("/stats/requests")["stats"] if row["name"] == "Aggregated")
    assert aggregated["num_requests"] == told["completed"] == sum(rows.values()) - rows["not_reached"] - rows["dropped"]
    columns = told["columns"]
    drawn = [dict(zip(columns, point, strict=True)) for point in told["points"]]
    assert sum(point["completed"] for point in drawn) == told["completed"]
    assert sum(point["offered"] for point in drawn) == told["offered"]
    page.wait_for_selector("#downloads a", timeout=WAIT_MS)
    page.wait_for_function("document.getElementById('now').textContent.startsWith('over;')", timeout=WAIT_MS)
    files = {}
    for link, name in (("run folder", "folder.tar.gz"), ("rows, CSV", "rows.csv"), ("rows, Parquet", "rows.parquet")):
        with page.expect_download(timeout=WAIT_MS) as download:
            page.get_by_role("link", name=link).click()
        assert download.value.suggested_filename == f"{folder.name}-{name}"
        download.value.save_as(tmp_path / name)
        files[name] = tmp_path / name
    with tarfile.open(files["folder.tar.gz"]) as archive:
        names = archive.getnames()
        member = archive.extractfile(f"{folder.name}/manifest.json")
        assert member is not None and json.load(member)["run"] == folder.name
    assert {f"{folder.name}/report.html", f"{folder.name}/summary.json"} <= set(names)
    told_rows = list(csv.DictReader(io.StringIO(files["rows.csv"].read_text())))
    assert Counter(row["outcome"] for row in told_rows) == rows
    href = page.get_by_role("link", name="report").get_attribute("href")
    report = where.client.get(f"{where.url}/loadtest/{href}")
    assert report.status_code == 200 and folder.name in report.text


def again_from_the_page(page: Any, charts: Any, where: Site) -> None:
    wait_for("the workers", where.ready, page)
    page.get_by_role("button", name=re.compile("^new$", re.IGNORECASE)).click()
    start(page, seed="8", requestRate="4", target="openai-chat")
    wait_for("a second folder", lambda: len(where.folders()) == 2, page)
    (first, second) = where.folders()
    charts.wait_for_function(
        "name => document.getElementById('title').textContent.endsWith(name)", arg=second.name, timeout=WAIT_MS
    )
    # The page shows the figures of the run before until the next one has some.
    wait_for("turns of the second run", lambda: where.json("/loadtest/live").get("completed", 0) > 0, page)
    assert figures(shown(page, "Overview", second.name))["Run"] == second.name
    page.get_by_role("button", name=re.compile("^stop$", re.IGNORECASE)).click()
    wait_for("the end of the run", lambda: where.json("/loadtest/live")["over"], page, 120)
    assert [each["run"] for each in where.json("/loadtest/live")["runs"]] == [second.name, first.name]
    assert where.json(f"/loadtest/live?run={first.name}")["points"], "the run before can still be looked at"


def test_these_tests_too_run_without_locust_in_the_process() -> None:
    assert "locust" not in sys.modules
