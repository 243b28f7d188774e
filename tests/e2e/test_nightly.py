"""Real nights, in short form: the workflow's own steps, in order, against a simulator that gets slower."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ended, wait_for
from nightly_workflow import Done, run_steps

from loadtest.analysis.gate_baseline import read_baseline
from loadtest.analysis.nights import read_history
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import free_port
from loadtest.processes import end

pytestmark = pytest.mark.long

RUNS = 6
STEP_S = 900
ENDS_S = 120
NETWORK = ("--scenario", "control", "--seed", "3", "--speed", "0.5")  # one node: TTFT p50 about 0.22 s

PROFILE = """
[load]
mode = "open"
arrivals = "constant"
rate_per_s = {rate}
duration_s = {seconds}
warmup_s = 0.5
drain_s = 10.0
in_flight_max = 40

[writing]
system_prompt_tokens = 0
history_tokens_max = 0

[observe]
poll_s = 2.0
grace_s = 1.0
lookup_share_max = 1.0
lookup_deadline_s = 3.0

[[target]]
name = "main"
route = "{route}"
stream = true
timeout_s = 10.0
{session}

[[persona]]
name = "fixed"
weight = 1.0
locale = "en_US"
prompt_tokens = {{ dist = "fixed", value = 512 }}
output_tokens = {{ dist = "fixed", value = 16 }}
turns = {{ dist = "fixed", value = 1 }}
think_s = {{ dist = "fixed", value = 0 }}

[goodput]
ttft_ms = 2000
e2e_ms = 4000

[[slo]]
metric = "ok_share"
min = 0.9
"""


@pytest.fixture
def attended() -> Iterator[None]:
    """A comparison of nights wants a machine that attends to it: real-time priority for what the test starts, where
    that is allowed. Who looks at results afterwards stands back by itself."""
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        yield
        return
    yield
    os.sched_setscheduler(0, policy, parameter)


@pytest.fixture
def profiles(tmp_path: Path) -> tuple[Path, Path]:
    """Of target and control, 4.5 and 2.5 s of load: 100 and 60 requests measured, enough for a p95 of the target."""
    target, control = tmp_path / "short.toml", tmp_path / "short-control.toml"
    target.write_text(PROFILE.format(rate=25, seconds=4.5, route="cortensor", session="sessions = [1]"))
    control.write_text(PROFILE.format(rate=30, seconds=2.5, route="openai-chat", session='model = "default"'))
    return target, control


def night(
    tmp_path: Path, profiles: tuple[Path, Path], port: int, name: str, *faults: str
) -> tuple[dict[str, Done], str]:
    """All steps of the workflow on one night; each step's end by its name, and the step summary."""
    simulator, url = start_simulator(tmp_path / f"port-{name}", None, [*NETWORK, "--port", str(port), *faults])
    summary = tmp_path / f"summary-{name}.md"
    settings = {
        "NIGHTLY_DIR": str(tmp_path / "nightly"),
        "NIGHTLY_TARGET": url,
        "NIGHTLY_PROFILE": str(profiles[0]),
        "NIGHTLY_CONTROL_PROFILE": str(profiles[1]),
        "NIGHTLY_RUNS": str(RUNS),
        "NIGHTLY_WORKERS": "1",
        "NIGHTLY_ALLOW_HOST": "",
        "NIGHTLY_RATE_CEILING": "",
        "LOADTEST_API_KEY": "",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    try:
        done = run_steps(settings, STEP_S)
    finally:
        end(simulator, SIMULATOR_END_S)
    for step in done:
        print(f"--- {step.name}: {step.code}\n{step.said[-6000:]}")
    return {step.name: step for step in done}, summary.read_text()


def read_nights(top: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / "night.json").read_text()) for folder in sorted((top / "nights").iterdir())]


def test_two_nights_by_the_workflow_the_second_slower(
    tmp_path: Path, profiles: tuple[Path, Path], attended: None
) -> None:
    top, port = tmp_path / "nightly", free_port()
    steps, text = night(tmp_path, profiles, port, "first")
    assert {name: step.code for name, step in steps.items()} == {"Install": 0, "Night": 0, "Summary": 0, "Prune": 0}
    assert "NO BASELINE YET: collecting" in text
    assert len(read_baseline(top / "baseline")) == len(read_baseline(top / "baseline" / "control")) == RUNS

    steps, text = night(tmp_path, profiles, port, "second", "--fault", "late-first-token")
    assert {name: step.code for name, step in steps.items()} == {"Install": 0, "Night": 3, "Summary": 0, "Prune": 0}
    assert "❌" in text and re.search(r"\| TTFT p50 \|.*\| \+(1[4-9]|2[0-6])\.\d % \|.*worse", text), text
    first, second = read_nights(top)
    assert (first["word"], second["word"], second["exit_code"]) == ("begun", "fail", 3)
    root = ElementTree.parse(sorted((top / "nights").iterdir())[1] / "junit.xml").getroot()
    assert root.get("errors") == "0" and int(root.get("failures", "0")) >= 1
    failed = [case.get("name", "") for case in root.iter("testcase") if case.find("failure") is not None]
    assert "ttft_ms_p50 is no worse" in failed, failed
    for one in (first, second):
        sd = one["run_to_run_sd"]
        print({name: round(value, 4) for name, value in sd.items()})
        assert sd["ttft_ms_p50"] < 0.05, "else the gate could not have seen it but by luck"
    history = read_history(top / "history.parquet")
    assert len(history) == 4 * RUNS and {row.kind for row in history} == {"target", "control"}
    assert len(read_baseline(top / "baseline")) == RUNS, "a night that failed is no baseline"
    page = (top / "trend.html").read_text()
    assert re.search(rf"<h1>TTFT p\d\d \+(1[4-9]|2[0-6])\.\d % since the night {second['night']}", page)
    assert "sim-" in page, "the version that the router told is on it"


def test_a_night_that_is_told_to_end_drains_its_run_and_says_so(tmp_path: Path, profiles: tuple[Path, Path]) -> None:
    top = tmp_path / "nightly"
    simulator, url = start_simulator(tmp_path / "port", None, NETWORK)
    command = [sys.executable, "-m", "loadtest", "nightly", "--host", url, "--dir", str(top), "--workers", "1"]
    command += ["--profile", str(profiles[0]), "--control-profile", str(profiles[1])]
    try:
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        try:
            wait_for("the first rows", lambda: any(top.glob("nights/*/runs/*/requests/part-*.parquet")))
            again = ended(command, top, within_s=ENDS_S)
            assert again.code == 1 and f"process {process.pid} is at work here" in again.err
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=ENDS_S) == 1
        finally:
            end(process, ENDS_S)
    finally:
        end(simulator, SIMULATOR_END_S)
        print((tmp_path / "log").read_text(errors="replace")[-4000:])
    (told,) = read_nights(top)
    assert (told["word"], told["exit_code"]) == ("failed", 1)
    assert [piece["name"] for piece in told["pieces"] if piece["state"] == "failed"] == ["run 1"]
    assert "interrupted" in (top / "nights" / told["night"] / "night.md").read_text()
    (run,) = top.glob("nights/*/runs/*")
    assert (run / "summary.json").exists(), "what was made of the run is reported"
    assert not read_baseline(top / "baseline")
