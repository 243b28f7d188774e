"""Whole runs: real processes on loopback. Locust runs in subprocesses only; importing it patches the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from loadtest import runfolder
from loadtest.clock import Deadline
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import free_port, locustfile
from loadtest.processes import end

API_KEY = "e2e-key-4f9a1c"
RUN_DEADLINE_S = 150
WAIT_S = 60


@dataclass
class Network:
    """A simulator that listens, and where its truth log will be once it has stopped."""

    url: str
    truth: Path
    stop: Callable[[], None]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A fresh simulated network for one test."""
    truth = tmp_path / "truth"
    process, url = start_simulator(tmp_path / "port", truth)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            end(process, SIMULATOR_END_S)

    yield Network(url, truth, stop)
    stop()


@dataclass
class Ended:
    """A command that has ended: its exit code and what it said."""

    code: int
    out: str
    err: str
    runs_dir: Path

    @property
    def run(self) -> Path:
        (folder,) = [path for path in self.runs_dir.iterdir() if path.is_dir()]
        return folder

    def manifest(self) -> dict[str, Any]:
        return runfolder.read_manifest(self.run)

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.run / "summary.json").read_text())
        return summary

    def rows(self) -> pa.Table:
        return runfolder.read_table(self.run, "requests")


@pytest.fixture
def locust(tmp_path: Path) -> Callable[..., Ended]:
    """Run stock Locust with our locustfile to its end."""

    def run(*options: str, environment: dict[str, str] | None = None) -> Ended:
        runs_dir = tmp_path / "runs"
        return ended(locust_command(runs_dir, *options), runs_dir, environment)

    return run


def locust_command(runs_dir: Path, *options: str) -> list[str]:
    """Stock Locust with our locustfile, on a master port of its own: several test runs share a machine."""
    port = str(free_port())
    ports = ["--master-bind-port", port, "--master-port", port]
    return [sys.executable, "-m", "locust", "-f", str(locustfile()), "--runs-dir", str(runs_dir), *ports, *options]


def ended(
    command: list[str], runs_dir: Path, environment: dict[str, str] | None = None, within_s: float = RUN_DEADLINE_S
) -> Ended:
    """Run a command to its end; its output is shown when a test fails."""
    process = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=within_s,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
    )
    print(process.stdout[-4000:], process.stderr[-8000:], sep="\n")
    return Ended(process.returncode, process.stdout, process.stderr, runs_dir)


def assert_complete(result: Ended, workers: int) -> None:
    """What every run folder must show, whatever the machine's speed: the account, the join and the report."""
    manifest, summary, rows = result.manifest(), result.summary(), result.rows()
    assert manifest["state"] == "reported"
    assert len(manifest["workers"]) == workers and not any(worker["lost"] for worker in manifest["workers"])
    account = summary["account"]
    assert account["planned"] == account["rows"] == sum(account["outcomes"].values()) == rows.num_rows
    assert account["balanced"]
    assert manifest["ledger"]["planned_turns_by_workers"] == account["planned"]
    assert manifest["ledger"]["damaged_frames"] == 0
    references = [r for r in rows["client_reference"].to_pylist() if r]
    assert len(references) == len(set(references)) == rows.num_rows
    for worker in range(workers):
        seqs = sorted(
            s for s, w in zip(rows["seq"].to_pylist(), rows["worker"].to_pylist(), strict=True) if w == worker
        )
        assert seqs == list(range(len(seqs))), "a worker's rows are numbered without gaps"
    attribution = summary["attribution"]
    assert attribution["attributed"] + attribution["unattributed"] == attribution["requests"]
    assert sum(attribution["unattributed_reasons"].values()) == attribution["unattributed"]
    assert (result.run / "report.html").stat().st_size > 10_000
    assert not list((result.run / "spool").glob("*.spool")), "everything was acknowledged"


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = Deadline(WAIT_S)
    while not condition():
        assert not deadline.over(), f"waited {WAIT_S} s for {what}"
        time.sleep(0.05)
