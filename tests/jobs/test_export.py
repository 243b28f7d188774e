"""`loadtest export`: whole files on standard output; mistakes are one line, a damaged part an exit code."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from made_rows import made_row

from loadtest import runfolder
from loadtest.analysis.accuracy import accuracy
from loadtest.analysis.compat import WRITERS
from loadtest.jobs.export import export
from loadtest.records import RequestRecord

WAIT_S = 60


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "r-1"
    runfolder.write_manifest(folder, {"schema_version": 1, "run": "r-1", "state": "recorded"})
    rows = [made_row(i, error_text='a "quoted", <b>text</b>') for i in range(5)]
    runfolder.write_part(folder / "requests" / "part-0.parquet", rows, RequestRecord)
    return folder


def command(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "loadtest", "export", *map(str, words)]
    return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT_S)


def test_mistakes_are_one_line(run: Path, tmp_path: Path) -> None:
    missing = command(tmp_path / "nothing", "--as", "csv")
    assert missing.returncode == 2 and missing.stderr.count(b"\n") == 1 and missing.stdout == b""
    (run / "requests" / "part-1.parquet").write_bytes(b"PAR1 is not all it takes")
    damaged = command(run, "--as", "csv")
    assert damaged.returncode == 1 and damaged.stderr.count(b"\n") == 1 and b"part-1.parquet" in damaged.stderr


def test_nothing_but_files_and_folders_is_packed(run: Path, tmp_path: Path) -> None:
    (run / "secret").symlink_to("/etc/hostname")
    (run / ".hidden").write_text("x")
    with (tmp_path / "out.tar.gz").open("wb") as out:
        export(run, "tar", out)
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        assert sorted(member.name for member in archive) == [
            "r-1", "r-1/manifest.json", "r-1/requests", "r-1/requests/part-0.parquet"
        ]  # fmt: skip


def test_a_run_without_rows_has_a_header(tmp_path: Path) -> None:
    runfolder.write_manifest(tmp_path / "r-2", {"schema_version": 1, "run": "r-2", "state": "recorded"})
    with (tmp_path / "out.csv").open("wb") as out:
        export(tmp_path / "r-2", "csv", out)
    assert (tmp_path / "out.csv").read_text().startswith('"run","worker","seq"')


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_that_were_pruned_are_no_empty_table(run: Path, form: str) -> None:
    runfolder.update_manifest(run, pruned={"at": "2026-11-25"})
    gone = command(run, "--as", form)
    assert gone.returncode == 2 and gone.stdout == b"" and b"removed by `loadtest prune`" in gone.stderr
    assert command(run, "--as", "tar").returncode == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [({"pruned": {"at": "2026-11-25"}}, "removed by `loadtest prune`"), ({"state": "spooled"}, "`loadtest collect")],
)
def test_no_reader_of_rows_takes_a_run_without_them_for_an_empty_one(run: Path, change: Any, told: str) -> None:
    """An accuracy of nothing, and other tools' figures of nothing, would look like results."""
    runfolder.update_manifest(run, **change)
    with pytest.raises(runfolder.RunFolderError, match=told):
        accuracy(run, run / "truth.parquet")
    for write in WRITERS.values():
        with pytest.raises(runfolder.RunFolderError, match=told):
            write(run)
    assert command(run, "--as", "csv").returncode == 2
