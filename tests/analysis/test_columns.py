"""The narrow frame of the report: every value as in the whole joined table, whatever the table holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from loadtest.analysis.columns import OF_MEASURED, OF_THE_RUN, read_turns
from loadtest.analysis.frames import JOINED_REQUESTS, read_joined
from loadtest.analysis.join import join_run
from loadtest.records import RequestRecord
from loadtest.runfolder import RunFolderError

from .run_factory import NODE_A, NODE_B, board, failed, task, turn, unsent, write_run


def joined(folder: Path, rows: list[RequestRecord]) -> Path:
    tasks = [task("1", [NODE_B], ["text1"]), task("3", [NODE_A], ["text3"])]
    run = write_run(folder, rows, tasks, [board(NODE_A, 1)])
    join_run(run, batch_rows=2)
    return run


def plain(values: pd.Series[Any]) -> list[Any]:
    return [None if pd.isna(each) else each for each in values.tolist()]


PHASES = ("warmup", "measure")
ROWS = [
    turn(0, 1, phase="warmup", persona="only-in-warmup"),
    turn(1, 6, persona="b", usage_completion_tokens=2**40),
    unsent(2, "dropped", 7, persona="a"),
    turn(3, 8, persona="b", session=None, usage_prompt_tokens=5),
    failed(4, "cancelled", 9, error_kind="after_s", connection_new=True, connecting_ns=2**62),
]


@pytest.mark.parametrize("measured", [False, True])
def test_values_are_those_of_the_whole_table(tmp_path: Path, measured: bool) -> None:
    run = joined(tmp_path, ROWS)
    whole = read_joined(run / JOINED_REQUESTS)
    rows = (whole["phase"] == "measure").to_numpy(dtype=bool) if measured else None
    if rows is not None:
        whole = whole[rows]
    columns = list(dict.fromkeys([*OF_MEASURED, "seq", "worker", "looked_up", "client_reference"]))
    found = read_turns(run, columns, rows)
    assert found.columns.tolist() == columns
    for name in columns:
        assert plain(found[name]) == plain(whole[name]), name


@pytest.mark.parametrize("measured", [False, True])
def test_a_table_of_many_row_groups_reads_as_one_of_one(
    tmp_path: Path, measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups of two rows: texts that only one of them has, none of them at all, one without a single row wanted."""
    rows = [replace(turn(i, 6), session=f"{i * 7 % 5}" if i % 3 else None, phase=PHASES[i // 4 % 2]) for i in range(13)]
    whole = joined(tmp_path / "whole", rows)
    monkeypatch.setattr("loadtest.analysis.batches.GROUP_ROWS", 2)
    cut = joined(tmp_path / "cut", rows)
    assert pq.ParquetFile(cut / JOINED_REQUESTS).num_row_groups == 7
    wanted = np.array([row.phase == "measure" for row in rows]) if measured else None
    columns = [*OF_MEASURED, "seq", "client_reference", "looked_up"]
    pd.testing.assert_frame_equal(read_turns(cut, columns, wanted), read_turns(whole, columns, wanted))


def test_types_are_narrow_where_the_values_allow(tmp_path: Path) -> None:
    found = read_turns(joined(tmp_path, ROWS), OF_MEASURED)
    types = {name: str(kind) for name, kind in found.dtypes.items()}
    assert types["turn"] == "Int32" and types["usage_prompt_tokens"] == "Int32"
    assert types["usage_completion_tokens"] == "Int64"  # one does not fit
    assert types["sent_ns"] == types["clock_offset_ns"] == types["first_content_bound_ns"] == "Int64"
    assert found["outcome"].cat.codes.dtype == "int8"


def test_categories_are_those_that_occur_in_order(tmp_path: Path) -> None:
    run = joined(tmp_path, ROWS)
    assert read_turns(run, ["persona"], np.arange(len(ROWS)) > 0)["persona"].cat.categories.tolist() == [
        "a",
        "b",
        "quick",
    ]
    assert read_turns(run, ["persona"])["persona"].cat.categories.tolist() == ["a", "b", "only-in-warmup", "quick"]
    assert read_turns(run, ["node"])["node"].cat.categories.tolist() == [NODE_B]


def test_more_categories_than_a_byte_holds(tmp_path: Path) -> None:
    rows = [turn(i, 6, session=f"{i % 300:03d}") for i in range(600)]
    assert read_turns(joined(tmp_path, rows), ["session"])["session"].tolist() == [row.session for row in rows]


def test_no_rows(tmp_path: Path) -> None:
    found = read_turns(joined(tmp_path, []), OF_THE_RUN, np.empty(0, dtype=bool))
    assert found.columns.tolist() == list(OF_THE_RUN) and not len(found)


def test_a_damaged_table_is_one_clear_line(tmp_path: Path) -> None:
    run = joined(tmp_path, ROWS)
    path = run / JOINED_REQUESTS
    columns = read_joined(path).columns.tolist()
    content = path.read_bytes()
    flipped = (
        content[: len(content) // 8] + bytes([content[len(content) // 8] ^ 0xFF]) + content[len(content) // 8 + 1 :]
    )
    for damaged in (content[:-20], flipped):
        path.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=r"requests\.parquet.*join the run again"):
            read_turns(run, columns)
    path.unlink()
    with pytest.raises(RunFolderError, match="not joined yet"):
        read_turns(run, columns)
