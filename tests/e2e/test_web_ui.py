"""Runs started, stopped and started again from Locust's web page, each with a complete run folder of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Ended, Network, assert_complete, locust_command, wait_for

from loadtest import runfolder
from loadtest.jobs.swarm import free_port

pytestmark = pytest.mark.long
END_S = 60


def states(runs_dir: Path) -> list[str]:
    return sorted(runfolder.read_manifest(path.parent)["state"] for path in runs_dir.glob("*/manifest.json"))


def test_start_stop_and_start_again(network: Network, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    port = free_port()
    command = locust_command(runs_dir, "--profile", "smoke", "--processes", "2", "--host", network.url)
    command += ["--web-port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    page = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
    form = {"user_count": "20", "spawn_rate": "20"}

    def get(path: str) -> Any:
        return json.loads(page.get(path).text)

    def up() -> bool:
        try:
            return bool(get("/stats/requests")["workers"])
        except httpx.TransportError:
            return False

    def waiting() -> bool:
        return len([worker for worker in get("/stats/requests")["workers"] if worker["state"] == "ready"]) == 2

    try:
        wait_for("the page and its workers", lambda: up() and waiting())
        assert page.post("/swarm", data=form).json()["success"]
        wait_for("requests in the table", lambda: get("/stats/requests")["total_rps"] > 0)
        assert page.post("/stop").json()["success"]
        # The next run may begin while the first one is joined and reported.
        wait_for("the workers to be ready again", waiting)
        assert page.post("/swarm", data=form).json()["success"]
        wait_for("both runs to be reported", lambda: states(runs_dir) == ["reported", "reported"])
        refused = page.post("/swarm", data={**form, "profile": "members"})
        assert not refused.json()["success"]
        assert refused.json()["message"] == "profiles/members.toml is closed: start again with --profile members"
    finally:
        page.close()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=END_S)
        print(err[-30000:])
    assert process.returncode in (0, 2, 4)
    assert "Traceback" not in err
    first, second = sorted(runs_dir.iterdir())
    for run in (first, second):
        alone = tmp_path / run.name / "runs"
        alone.mkdir(parents=True)
        run.rename(alone / run.name)
        assert_complete(Ended(process.returncode, "", err, alone), workers=2)
        summary = json.loads((alone / run.name / "summary.json").read_text())
        assert summary["account"]["outcomes"]["ok"] > 0
