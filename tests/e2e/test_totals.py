"""Locust's own totals are those of the rows: each request counts once, however many workers and metrics there are."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Ended, assert_complete, wait_for
from running import end, started

from loadtest import runfolder
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import free_port
from loadtest.processes import end as end_process
from loadtest.records import NOT_SENT

pytestmark = pytest.mark.long
WORKERS = 2


def test_the_page_counts_each_request_once(tmp_path: Path) -> None:
    runs_dir, web = tmp_path / "runs", free_port()
    simulator, url = start_simulator(tmp_path / "port", tmp_path / "truth", ["--fault", "bad-gateway=0.3"])
    options = ("--processes", str(WORKERS), "--profile", "smoke", "--request-rate", "8", "--host", url)
    try:
        with (
            started(*options, "--web-port", str(web), runs_dir=runs_dir) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{web}", timeout=30) as page,
        ):
            wait_for("the page and its workers", lambda: ready(page))
            assert page.post("/swarm", data={"user_count": "50", "spawn_rate": "50"}).json()["success"]
            wait_for("the run to be reported", lambda: states(runs_dir) == ["reported"])
            shown = stats(page)
            process.send_signal(signal.SIGTERM)
            result = end(process, runs_dir)
    finally:
        end_process(simulator, SIMULATOR_END_S)
    assert_complete(result, workers=WORKERS)
    assert_totals(shown, result)


def assert_totals(shown: dict[str, Any], result: Ended) -> None:
    sent = [row for row in result.rows().to_pylist() if row["outcome"] not in NOT_SENT]
    requests = Counter(row["target"] for row in sent)
    failures = Counter(row["target"] for row in sent if row["outcome"] != "ok")
    assert len(requests) == 3 and 5 < failures.total() < requests.total() - 5
    of = {(entry["method"] or "", entry["name"]): entry for entry in shown["stats"]}
    total = of["", "Aggregated"]
    assert (total["num_requests"], total["num_failures"]) == (requests.total(), failures.total())
    for target in requests:
        entry = of["POST", target]
        assert (entry["num_requests"], entry["num_failures"]) == (requests[target], failures[target])
    assert sum(error["occurrences"] for error in shown["errors"]) == failures.total()
    # TTFT and TPOT are rows of the table and no part of its totals.
    first = {name for method, name in of if method == "TTFT"}
    assert first and first <= set(requests)


def stats(page: httpx.Client) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(page.get("/stats/requests").text)
    return told


def ready(page: httpx.Client) -> bool:
    try:
        return len(stats(page).get("workers", [])) == WORKERS
    except httpx.TransportError:
        return False


def states(runs_dir: Path) -> list[str]:
    return sorted(runfolder.read_manifest(path.parent)["state"] for path in runs_dir.glob("*/manifest.json"))
