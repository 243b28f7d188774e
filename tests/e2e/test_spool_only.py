"""Workers keep their rows; the master's folder and the copied spools make one whole run, or say what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import Ended, Network, assert_complete, ended, wait_for
from swarms import Swarm, assert_exact, reasons, swarm, write_profile

pytestmark = pytest.mark.long
COMMAND = ("-m", "loadtest", "collect")


def spooled(one: Swarm, spools: list[Path]) -> Ended:
    """Run it to its end: nothing was stored, every worker kept a spool of its own."""
    one.start_master(2, "--spool-only")
    for folder in spools:
        one.start_worker("--runs-dir", str(folder))
    result = one.end()
    assert result.code == 0 and result.manifest()["state"] == "spooled"
    assert not list(result.run.glob("requests/*"))
    assert f"loadtest collect {result.run}" in result.err
    return result


def collect(result: Ended, *spools: Path) -> Ended:
    done = ended([sys.executable, *COMMAND, str(result.run), *map(str, spools)], result.runs_dir)
    return Ended(done.code, done.out, done.err, result.runs_dir)


def test_copied_spools_complete_the_run_and_a_missing_one_is_a_lost_worker(network: Network, tmp_path: Path) -> None:
    folders = [tmp_path / "disk0", tmp_path / "disk1"]
    with swarm(tmp_path, network.url, write_profile(tmp_path, seconds=6)) as one:
        result = spooled(one, folders)
    joining = ended([sys.executable, "-m", "loadtest", "join", str(result.run)], result.runs_dir)
    assert joining.code == 1 and "loadtest collect" in joining.err and "Traceback" not in joining.err

    # One spool only, in a copy of the folder: the other worker's whole share is lost, row by row.
    part = tmp_path / "part" / "runs"
    shutil.copytree(result.run, part / result.run.name)
    without = collect(Ended(0, "", "", part), next(folders[0].rglob("*.spool")))
    outcomes = assert_exact(without)
    (gone,) = [worker["worker"] for worker in without.manifest()["workers"] if worker["lost"]]
    assert {row["worker"] for row in without.rows().to_pylist() if row["outcome"] == "lost"} == {gone}
    assert without.code == 4 and reasons(without)["workers"] == 1 and reasons(without)["lost"] == outcomes["lost"]
    assert "its spool" in without.err and "is missing" in without.err

    # Both, one of them twice: complete, and each row once.
    shutil.copytree(folders[0], tmp_path / "again")
    whole = collect(result, *folders, tmp_path / "again")
    assert_complete(whole, workers=2)
    assert set(assert_exact(whole)) <= {"ok", "dropped", "not_reached"}
    assert whole.code == (4 if reasons(whole) else 0)
    network.stop()

    # A second time there is nothing to collect, and a stranger's spool is refused before.
    assert collect(whole, *folders).code == 1


def test_on_a_shared_disk_a_torn_spool_loses_what_was_torn(network: Network, tmp_path: Path) -> None:
    with swarm(tmp_path, network.url, write_profile(tmp_path, seconds=6)) as one:
        result = spooled(one, [one.runs_dir, one.runs_dir])
    stranger = tmp_path / "worker-0-1.spool"
    stranger.write_bytes(b"")
    refused = collect(result, stranger)
    assert refused.code == 1 and "no worker of run" in refused.err and "Traceback" not in refused.err
    torn = sorted(result.run.glob("spool/*.spool"))[1]
    os.truncate(torn, torn.stat().st_size - 5)
    done = collect(result)
    assert done.code == 4, "a row that was told of is not there"
    rows, ledger = done.rows().to_pylist(), done.manifest()["ledger"]
    assert ledger["planned_turns"] == ledger["rows"] == len(rows)
    assert [row["outcome"] for row in rows].count("lost") == 1 and ledger["leftover_bytes"] > 0
    assert {"lost", "ledger"} <= set(reasons(done))


def test_a_spool_of_the_master_s_machine_is_read_beside_the_copied_one(network: Network, tmp_path: Path) -> None:
    """One worker writes into the run folder, the other elsewhere: naming the copy must not cost the first its rows."""
    with swarm(tmp_path, network.url, write_profile(tmp_path, seconds=6)) as one:
        result = spooled(one, [one.runs_dir, tmp_path / "disk1"])
    whole = collect(result, tmp_path / "disk1")
    assert_complete(whole, workers=2)
    assert set(assert_exact(whole)) <= {"ok", "dropped", "not_reached"}
    assert not list(result.run.glob("spool/*.spool")) and list((tmp_path / "disk1").rglob("*.spool"))


def test_a_killed_worker_s_spool_brings_back_all_but_what_was_in_flight(network: Network, tmp_path: Path) -> None:
    with swarm(tmp_path, network.url, write_profile(tmp_path)) as one:
        one.start_master(2, "--spool-only")
        workers = [one.start_worker() for _ in range(2)]
        wait_for("a spool with rows", lambda: sum(p.stat().st_size for p in one.runs_dir.rglob("*.spool")) > 60_000)
        os.kill(workers[1].pid, signal.SIGKILL)
        result = one.end()
    done = collect(result)
    assert_exact(done)
    (killed,) = [worker for worker in done.manifest()["workers"] if worker["lost"]]
    rows = [row for row in done.rows().to_pylist() if row["worker"] == killed["worker"]]
    assert sum(row["outcome"] == "ok" for row in rows) >= killed["ledger"]["outcomes"].get("ok", 0) > 0
    assert done.code == 4
