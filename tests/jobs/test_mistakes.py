"""What users get wrong, and signals at bad moments: one line, nothing left running, the night ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest import cli, runfolder
from loadtest.analysis.nights import TARGET
from loadtest.jobs import demo, night_runs
from loadtest.jobs.run import new_run_folder

WAIT_S = 60


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "loadtest", *map(str, words)]
    return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S)


@pytest.mark.parametrize("ceiling", ["nan", "inf", "-1"])
def test_a_ceiling_that_bounds_nothing_is_refused(ceiling: str, tmp_path: Path) -> None:
    """NaN is above no rate, so it would allow every one."""
    night = command("nightly", "--host", "http://127.0.0.1:9", "--dir", tmp_path, "--rate-ceiling", ceiling)
    assert night.returncode == 2 and "argument --rate-ceiling: must be a number from 0 to" in night.stderr
    line = [sys.executable, "-m", "locust", "-f", "locustfile.py", "--headless", "--rate-ceiling", ceiling]
    locust = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S)
    assert locust.returncode == 2 and "argument --rate-ceiling: must be a number from 0 to" in locust.stderr


def test_numbers_of_a_search_are_refused_in_words() -> None:
    for words, told in (
        (("--slo", "ttft_ms_p95:1..2"), "--slo ttft_ms_p95:1..2: write METRIC:LIMIT"),
        (("--slo", "ttft_ms_p95:."), "--slo ttft_ms_p95:.: write METRIC:LIMIT"),
        (("--seed", "-5"), "argument --seed: must be 0 or more, got -5"),
        (("--step-s", "abc"), "argument --step-s: invalid number value: 'abc'"),
        (("--rate-max", "0"), "argument --rate-max: must be a number from 1e-06 to"),
    ):
        done = command("capacity", "single-shot", "--host", "http://127.0.0.1:9", *words)
        assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(runfolder.RunFolderError, match="cannot be made"):
        new_run_folder(blocked / "runs")
    run = tmp_path / "run"
    clock = {"wall_minus_mono_ns": 0, "bound_ns": 0}
    runfolder.write_manifest(run, {"schema_version": 1, "run": "r", "state": "recorded", "t0_ns": 0, "clock": clock})
    (run / "joined").write_text("a file where a folder should be")
    assert cli.main(["join", str(run)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert "joined" in told[-1] and told[-1].startswith("loadtest: ") and not any("Traceback" in line for line in told)


def test_the_simulator_says_which_file_it_cannot_write() -> None:
    done = command("simulate", "--port", "0", "--port-file", "/dev/null/x")
    assert done.returncode == 1 and "/dev/null" in done.stderr and "name another file" in done.stderr
    assert "--port or --host" not in done.stderr


def test_an_interrupted_start_leaves_no_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def noted(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*words, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    sleep, slept = time.sleep, []

    def interrupted(seconds: float) -> None:
        """The first wait is that for the port; those behind it are for the end of the process."""
        slept.append(seconds)
        if len(slept) == 1:
            raise KeyboardInterrupt  # as a signal does, which whoever runs the tests may have told us to ignore
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.start_simulator(tmp_path / "port", None)
    assert len(started) == 1 and started[0].poll() is not None


def test_a_simulator_that_does_not_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> Any:
        raise RuntimeError("the simulator did not start within 30 s")

    monkeypatch.setattr(demo, "start_simulator", fails)
    assert cli.main(["demo", "--runs-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("loadtest demo: the simulator did not start within 30 s")


class Asked:
    profile_name = control_profile = profile = ""


@pytest.mark.parametrize("times_out", [False, True])
def test_a_signal_ends_the_night_also_when_its_run_must_be_ended(
    times_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(asked: Any, runs_dir: Path, made: Any, on_signal: Any) -> int:
        on_signal(signal.SIGTERM)
        if times_out:
            raise subprocess.TimeoutExpired("locust", 1)
        return 0

    monkeypatch.setattr(night_runs, "_target_run", signalled)
    with pytest.raises(night_runs.Interrupted):
        night_runs.attempt(Asked(), tmp_path, TARGET, 1)  # type: ignore[arg-type]  # the run is not made


def test_a_run_that_left_no_summary_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_runs, "_target_run", lambda *_: 0)
    made = night_runs.attempt(Asked(), tmp_path, TARGET, 1)  # type: ignore[arg-type]  # the run is not made
    assert made.exit_code == 0 and made.figures is None
    assert "could not be made (" in night_runs.useless(made) and "summary.json" in night_runs.useless(made)
