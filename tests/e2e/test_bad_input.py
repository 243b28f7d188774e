"""A user's mistake is one clear line and exit code 1 or 2; nothing already recorded is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import API_KEY, Ended, Network, ended

from loadtest import runfolder
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.processes import end
from loadtest.traffic.profile import load_profile

NOBODY = "http://127.0.0.1:9"  # the discard port


def one_line(result: Ended) -> str:
    """The line meant for the user; there is exactly one, and no traceback."""
    assert "Traceback" not in result.err
    (line,) = [line for line in result.err.splitlines() if line.startswith("loadtest: ")]
    return line


def loadtest(*arguments: str, runs_dir: Path = Path("/nowhere")) -> Ended:
    return ended([sys.executable, "-m", "loadtest", *arguments], runs_dir)


def test_unknown_profile_field(locust: Callable[..., Ended], tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text(load_profile("smoke").text.replace("rate_per_s", "rate_per_sec"))
    result = locust("--headless", "--profile", str(profile), "--host", NOBODY)
    assert result.code == 2
    assert "mine.toml" in result.err and "rate_per_sec" in result.err and "Traceback" not in result.err


def test_unknown_profile(locust: Callable[..., Ended]) -> None:
    result = locust("--headless", "--profile", "nosuch", "--host", NOBODY)
    assert result.code == 2
    assert "nosuch" in one_line(result) and "community" in one_line(result), "it names the profiles there are"


def test_unreachable_host(locust: Callable[..., Ended]) -> None:
    result = locust("--headless", "--profile", "smoke", "--host", NOBODY)
    assert result.code == 1
    assert NOBODY in one_line(result)


def test_missing_host(locust: Callable[..., Ended]) -> None:
    result = locust("--headless", "--profile", "smoke")
    assert result.code == 2
    assert "--host" in one_line(result)


@pytest.mark.parametrize("host", ["http://router.example:5010", "http://10.1.2.3:5010"])
def test_a_host_that_is_not_this_machine_must_be_allowed(locust: Callable[..., Ended], host: str) -> None:
    result = locust("--headless", "--profile", "smoke", "--host", host)
    assert result.code == 2
    assert "--allow-host" in one_line(result)


def test_an_allowed_host_needs_a_ceiling(locust: Callable[..., Ended]) -> None:
    host = "http://10.1.2.3:5010"
    result = locust("--headless", "--profile", "smoke", "--host", host, "--allow-host", "10.1.2.3")
    assert result.code == 2
    assert "--rate-ceiling" in one_line(result)
    result = locust(
        "--headless", "--profile", "smoke", "--host", host, "--allow-host", "10.1.2.3", "--rate-ceiling", "0.5"
    )
    assert result.code == 2
    assert "above --rate-ceiling" in one_line(result)


def test_a_wrong_key_is_said_and_never_shown(
    locust: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTER_KEY", API_KEY)
    simulator, url = start_simulator(tmp_path / "port", tmp_path / "truth", ["--api-key-env", "ROUTER_KEY"])
    try:
        options = ("--headless", "--profile", "smoke", "-t", "6s", "--host", url)
        refused = locust(*options, environment={"LOADTEST_API_KEY": "wrong-" + API_KEY})
        assert refused.code == 1
        assert "LOADTEST_API_KEY" in one_line(refused)
        assert API_KEY not in refused.out + refused.err

        accepted = locust(*options, environment={"LOADTEST_API_KEY": API_KEY})
        assert accepted.code in (0, 4)
        assert set(accepted.manifest()["ledger"]["outcomes"]) <= {"ok", "not_reached"}
        assert API_KEY not in accepted.out + accepted.err
        files = [path for path in accepted.run.rglob("*") if path.is_file()]
        assert files and all(API_KEY.encode() not in path.read_bytes() for path in files)
        rows = accepted.rows().to_pylist()
        assert API_KEY not in str(rows)
    finally:
        end(simulator, SIMULATOR_END_S)


def test_broken_run_folders(network: Network, locust: Callable[..., Ended], tmp_path: Path) -> None:
    result = locust(
        "--headless", "--profile", "smoke", "-t", "6s", "--host", network.url, "--no-observe", "--no-report"
    )
    assert result.code == 0
    rows = result.rows().num_rows
    assert rows > 0

    # Nobody asked for snapshots: the join works, and says why reputation is missing.
    joined = loadtest("join", str(result.run), runs_dir=result.runs_dir)
    assert joined.code == 0
    assert "no snapshots" in one_line(joined)
    assert result.summary()["join"]["with_snapshot"] == 0
    assert sum(result.summary()["join"]["without"].values()) == rows

    # Somebody did, and there are none: it is joined all the same, but it is not what was asked for.
    runfolder.update_manifest(result.run, observed=True)
    (result.run / "joined" / "requests.parquet").unlink()
    joined = loadtest("join", str(result.run), runs_dir=result.runs_dir)
    assert joined.code == 1
    assert "no snapshots" in one_line(joined)
    assert (result.run / "joined" / "requests.parquet").exists()

    half = tmp_path / "half"
    shutil.copytree(result.run, half)
    runfolder.update_manifest(half, state="running", observed=False)
    refused = loadtest("join", str(half))
    assert refused.code == 1
    assert "half" in one_line(refused) and "--partial" in one_line(refused)
    assert loadtest("join", str(half), "--partial").code == 0, "what was recorded can still be used"

    shutil.copytree(result.run, tmp_path / "cut")
    part = runfolder.part_paths(tmp_path / "cut", "requests")[0]
    part.write_bytes(part.read_bytes()[:-20])
    refused = loadtest("join", str(tmp_path / "cut"))
    assert refused.code == 1
    assert str(part) in one_line(refused)

    refused = loadtest("report", str(tmp_path / "empty"))
    assert refused.code == 1
    assert "empty" in one_line(refused)


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "loadtest", "check", "--host", NOBODY]
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert "Error" not in done.stderr
