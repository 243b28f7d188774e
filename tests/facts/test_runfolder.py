"""The run folder: files appear whole or not at all, and every bad file is one line that names it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtest import runfolder
from loadtest.records import NodeSnapshot, RouterSample, TruthRecord
from loadtest.runfolder import RunFolderError

MANIFEST = {"schema_version": 1, "state": "recorded", "run": "r1"}


def samples(n: int, first: int = 0) -> list[RouterSample]:
    return [RouterSample(target="r1", source="status", observed_wall_ns=i) for i in range(first, first + n)]


def truths(n: int) -> list[TruthRecord]:
    return [
        TruthRecord(client_reference=f"r{i}", route="openai", session=None, task_id=str(i), received_ns=i * 10**9)
        for i in range(n)
    ]


def one_line(action: Callable[[], object], path: Path) -> str:
    """The text of the RunFolderError that `action` must raise, checked to be one line that starts with the path."""
    with pytest.raises(RunFolderError) as caught:
        action()
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert "; " in text, "it must say what to do"
    return text


# Appearing whole or not at all.


def crash_while_writing(path: Path, n: int) -> None:
    """Write `n` rows in a process that is killed when the bytes are written and the new name is not yet given."""
    program = (
        "import os, signal, sys; from pathlib import Path; from loadtest import runfolder;"
        "from loadtest.records import RouterSample;"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL);"
        "rows = [RouterSample(target='r1', source='status', observed_wall_ns=i) for i in range(int(sys.argv[2]))];"
        "runfolder.write_part(Path(sys.argv[1]), rows, RouterSample)"
    )
    done = subprocess.run([sys.executable, "-c", program, path, str(n)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "router" / "part.parquet"
    runfolder.write_part(path, samples(3), RouterSample)
    crash_while_writing(path, 5)
    assert [p.name for p in sorted(path.parent.iterdir())] == [".part.parquet.partial", "part.parquet"]
    assert runfolder.read_table(tmp_path, "router").num_rows == 3

    runfolder.write_part(path, samples(7), RouterSample)  # what is left over does not disturb the next writer
    assert [p.name for p in path.parent.iterdir()] == ["part.parquet"]
    assert runfolder.read_table(tmp_path, "router").num_rows == 7


def test_a_dotted_file_is_never_read(tmp_path: Path) -> None:
    runfolder.write_part(tmp_path / "router" / "b.parquet", samples(2), RouterSample)
    (tmp_path / "router" / ".a.parquet").write_bytes(b"half a file")
    (tmp_path / "router" / ".a.parquet.partial").write_bytes(b"half a file")
    assert [path.name for path in runfolder.part_paths(tmp_path, "router")] == ["b.parquet"]
    assert runfolder.read_table(tmp_path, "router").num_rows == 2


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    runfolder.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        runfolder.write_text(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    runfolder.write_text(path, "новый")
    assert path.read_text(encoding="utf-8") == "новый"
    assert list(tmp_path.iterdir()) == [path]


# Tables.


def test_rows_come_in_file_order_and_columns_can_be_chosen(tmp_path: Path) -> None:
    runfolder.write_part(tmp_path / "router" / "000002.parquet", samples(2, first=10), RouterSample)
    runfolder.write_part(tmp_path / "router" / "000001.parquet", samples(2), RouterSample)
    runfolder.write_part(tmp_path / "router" / "000003.parquet", [], RouterSample)
    table = runfolder.read_table(tmp_path, "router", columns=["observed_wall_ns"])
    assert table.to_pydict() == {"observed_wall_ns": [0, 1, 10, 11]}


@pytest.mark.parametrize("name", sorted(runfolder.TABLES))
def test_a_table_without_files_is_empty(tmp_path: Path, name: str) -> None:
    schema = runfolder.arrow_schema(runfolder.TABLES[name])
    assert runfolder.read_table(tmp_path, name).schema.equals(schema)
    assert runfolder.read_table(tmp_path, name).num_rows == 0
    assert runfolder.read_table(tmp_path, name, columns=schema.names[:2]).column_names == schema.names[:2]


def test_an_unknown_schema_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "router" / "part.parquet"
    table = pa.table({"target": ["r1"]})
    for metadata, found in [
        ({"loadtest_schema": "RouterSample/2"}, "RouterSample/2"),
        ({"loadtest_schema": "TaskRecord/1"}, "TaskRecord/1"),
        ({}, "none"),
    ]:
        runfolder.write_table(path, table.replace_schema_metadata(metadata))
        text = one_line(lambda: runfolder.read_table(tmp_path, "router"), path)
        assert f"schema {found}, this version reads RouterSample/1" in text


def test_a_table_with_other_columns_than_its_version_says_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    runfolder.write_part(path, samples(1), RouterSample)
    table = pq.read_table(path)
    renamed = table.rename_columns(["TARGET", *table.column_names[1:]]).replace_schema_metadata(table.schema.metadata)
    runfolder.write_table(path, renamed)
    assert "not the columns of RouterSample/1" in one_line(lambda: runfolder.read_part(path, RouterSample), path)


def test_a_missing_part_is_told(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    one_line(lambda: runfolder.read_part(path, RouterSample), path)


def test_a_truncated_part_is_told_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    runfolder.write_part(path, truths(50), TruthRecord)
    whole = path.read_bytes()
    for length in [0, 1, 4, 8, *range(9, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        one_line(lambda: runfolder.read_part(path, TruthRecord), path)


def test_integers_are_stored_as_differences_and_few_texts_by_number(tmp_path: Path) -> None:
    """What makes a part small and quick to read; that the values survive is tested with every table."""
    path = tmp_path / "part.parquet"
    schema = pa.schema(
        [("sent_ns", pa.int64()), ("chunk_ns", pa.list_(pa.int64())), ("target", pa.string()), ("task_id", pa.string())]
    )
    rows = [{"sent_ns": i, "chunk_ns": [i, None], "target": "a", "task_id": f"{i}"} for i in (1, 2**62, None)]
    table = pa.Table.from_pylist(rows, schema)
    runfolder.write_table(path, table)
    assert pq.read_table(path).equals(table)
    group = pq.ParquetFile(path).metadata.row_group(0)
    encodings = {group.column(i).path_in_schema: set(group.column(i).encodings) - {"RLE"} for i in range(4)}
    assert encodings == {
        "sent_ns": {"DELTA_BINARY_PACKED"},
        "chunk_ns.list.element": {"DELTA_BINARY_PACKED"},
        "target": {"PLAIN", "RLE_DICTIONARY"},
        "task_id": {"DELTA_LENGTH_BYTE_ARRAY"},
    }


def test_a_version_that_is_no_text_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    table = pa.table({"a": [1]}).replace_schema_metadata({"loadtest_schema": "Truth\nRecord\x1b[2J"})
    runfolder.write_table(path, table)
    with pytest.raises(RunFolderError, match=r"schema Truth\?Record\?\[2J, this version reads"):
        runfolder.read_part(path, TruthRecord)


def test_flipped_bytes_are_told_or_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    runfolder.write_part(path, truths(50), TruthRecord)
    whole, good = path.read_bytes(), runfolder.read_part(path, TruthRecord)
    dice = random.Random(7)
    told = 0
    for _ in range(600):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            assert runfolder.read_part(path, TruthRecord).equals(good)
        except RunFolderError as error:
            assert str(error).startswith(f"{path}: ")
            assert len(str(error).splitlines()) == 1
            told += 1
    assert told > 300  # most of a small file is data and footer that matter


# The truth log.


def test_truth_is_one_file_or_a_folder_of_them(tmp_path: Path) -> None:
    runfolder.write_part(tmp_path / "truth.parquet", truths(4), TruthRecord)
    assert runfolder.read_truth(tmp_path / "truth.parquet").num_rows == 4

    folder = tmp_path / "parts"
    runfolder.write_part(folder / "1.parquet", truths(2), TruthRecord)
    runfolder.write_part(folder / "2.parquet", truths(3), TruthRecord)
    (folder / ".3.parquet").write_bytes(b"half a file")
    assert runfolder.read_truth(folder)["client_reference"].to_pylist() == ["r0", "r1", "r0", "r1", "r2"]


def test_no_truth_is_told(tmp_path: Path) -> None:
    assert "no truth log here" in one_line(lambda: runfolder.read_truth(tmp_path), tmp_path)
    one_line(lambda: runfolder.read_truth(tmp_path / "none.parquet"), tmp_path / "none.parquet")


# The manifest.


def test_a_manifest_is_read_as_written_and_updated_by_key(tmp_path: Path) -> None:
    run = tmp_path / "run"
    runfolder.write_manifest(run, MANIFEST | {"seed": 7, "personas": ["Łukasz"]})
    assert runfolder.update_manifest(run, state="joined") == MANIFEST | {
        "state": "joined",
        "seed": 7,
        "personas": ["Łukasz"],
    }
    assert runfolder.read_manifest(run)["state"] == "joined"
    assert runfolder.require_finished(run)["personas"] == ["Łukasz"]


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    assert "not a run folder" in one_line(lambda: runfolder.read_manifest(tmp_path), tmp_path)
    assert "not a run folder" in one_line(lambda: runfolder.read_manifest(tmp_path / "typo"), tmp_path / "typo")
    one_line(lambda: runfolder.update_manifest(tmp_path, state="joined"), tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"schema_version": 1,', b"\xff\xfe{}", b"not\njson\n"])
def test_a_damaged_manifest_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert "unreadable" in one_line(lambda: runfolder.read_manifest(tmp_path), tmp_path / "manifest.json")


@pytest.mark.parametrize("content", [{**MANIFEST, "schema_version": 2}, {"state": "recorded"}, [1], None])
def test_a_manifest_of_another_version_is_told(tmp_path: Path, content: object) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    version = content.get("schema_version") if isinstance(content, dict) else None
    text = one_line(lambda: runfolder.read_manifest(tmp_path), tmp_path / "manifest.json")
    assert f"schema version {version}, this version reads 1" in text


@pytest.mark.parametrize("state", ["running", None, "half"])
def test_a_run_that_did_not_end_is_told(tmp_path: Path, state: str | None) -> None:
    runfolder.write_manifest(tmp_path, {**MANIFEST, "state": state})
    assert "did not end" in one_line(lambda: runfolder.require_finished(tmp_path), tmp_path)
    assert runfolder.read_manifest(tmp_path)["state"] == state


@pytest.mark.parametrize("state", ["recorded", "joined", "reported"])
def test_a_run_that_ended_is_not_refused(tmp_path: Path, state: str) -> None:
    runfolder.write_manifest(tmp_path, {**MANIFEST, "state": state})
    assert runfolder.require_finished(tmp_path)["state"] == state


# The load processes import this module.


def test_importing_the_module_does_not_import_pyarrow() -> None:
    program = "import sys, loadtest.runfolder; print([m for m in ('pyarrow', 'pandas', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_snapshot_table_names_its_record() -> None:
    metadata = runfolder.arrow_schema(NodeSnapshot).metadata
    assert metadata == {b"loadtest_schema": b"NodeSnapshot/1"}
