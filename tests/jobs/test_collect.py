"""What `loadtest collect` reads, and what it may take away: never a row that is not stored."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
import pytest
from made_rows import made_row

from loadtest import cli, runfolder, spool
from loadtest.collector.account import Close
from loadtest.jobs.collect import collect
from loadtest.swarm.recorder import Recorder
from loadtest.traffic.plan import Plan

ONE, OTHER = "worker-0-7.spool", "worker-1-8.spool"


def entries(worker: int, count: int) -> bytes:
    return b"".join(spool.pack(spool.Finished(made_row(seq, worker=worker))) for seq in range(count))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A closed run of two workers that has ended; the spool of the first is in its folder."""
    folder = tmp_path / "r"
    plan = Plan(
        run="r", profile_text="", profile_source="x.toml", seed=1, host="", workers=2, warmup_us=0, horizon_us=1
    )
    workers = [{"worker": number, "lost": False, "spool": name} for number, name in enumerate((ONE, OTHER))]
    runfolder.write_manifest(
        folder,
        {"schema_version": 1, "run": "r", "state": "spooled", "workers": workers}
        | {"ledger": {"planned_turns_by_workers": 5}},
    )
    (folder / runfolder.CLOSE).write_bytes(msgspec.json.encode(Close(plan=plan, t0_ns=0, stripes=[])))
    (folder / "spool").mkdir()
    (folder / "spool" / ONE).write_bytes(entries(0, 3))
    return folder


def rows(run: Path) -> int:
    return len(runfolder.read_table(run, "requests", ["seq"]))


def test_a_spool_that_is_named_costs_those_of_the_run_folder_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / OTHER).write_bytes(entries(1, 2))
    assert collect(run, [tmp_path / OTHER])["rows"] == rows(run) == 5
    assert not list(run.glob("spool/*")) and (tmp_path / OTHER).exists()


def test_of_two_copies_the_one_with_more_to_read_is_stored(run: Path, tmp_path: Path) -> None:
    """A copy that is longer and damaged in its first entry holds nothing: the good one must not go for it."""
    damaged = bytearray(entries(0, 4))
    damaged[20] ^= 1
    (tmp_path / ONE).write_bytes(damaged)
    assert collect(run, [tmp_path])["rows"] == rows(run) == 3


def test_a_spool_that_a_worker_still_writes_to_is_left_alone(run: Path, tmp_path: Path) -> None:
    """Of a worker that was not heard for so long that the master took it for lost."""
    recorder = Recorder(tmp_path / OTHER, None)
    recorder.write(spool.Finished(made_row(0, worker=1)))
    with pytest.raises(runfolder.RunFolderError, match="a worker is still writing to it"):
        collect(run, [tmp_path])
    assert not rows(run) and (run / "spool" / ONE).exists()
    recorder.finish(1)
    assert collect(run, [tmp_path])["rows"] == 4


def test_spools_that_wait_for_collect_are_not_taken_by_join(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Joined with what lies in its folder, the run could never be completed from the other machines' spools."""
    assert cli.main(["join", "--partial", str(run)]) == 1
    assert "run `loadtest collect" in capsys.readouterr().err
    assert runfolder.read_manifest(run)["state"] == "spooled" and (run / "spool" / ONE).exists()


def test_only_one_collects(run: Path) -> None:
    """Whoever begins removes what an earlier attempt has left, so a second one would remove the first one's rows."""
    folder = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(runfolder.RunFolderError, match="still being stored here"):
            collect(run, [])
    finally:
        os.close(folder)
    with pytest.raises(runfolder.RunFolderError, match="not a run folder"):
        collect(run / "nosuch", [])
