"""The as-of join against a brute-force loop, against leakage, and on folders that are not whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis.batches import SeenRows
from loadtest.analysis.frames import JOINED_MINERS, JOINED_REQUESTS, read_joined
from loadtest.analysis.join import join_run
from loadtest.analysis.reputation import Reputation
from loadtest.records import NodeSnapshot, RequestRecord
from loadtest.runfolder import RunFolderError, read_manifest, write_part

from .run_factory import (
    NODE_A,
    NODE_B,
    NODE_C,
    board,
    session_series,
    snapshots_of,
    task,
    turn,
    unsent,
    wall,
    write_run,
)

BOUND_NS = 51_000  # worker 50 us + master 1 us, as in the factory's manifest
SENT_S = 20.001  # due at 20 s, sent 1 ms late


def joined(
    folder: Path, snapshots: list[NodeSnapshot], tolerance_s: float | None = None, **changes: Any
) -> pd.Series[Any]:
    """The joined row of one request that node A served at 20 s."""
    run = write_run(folder, [turn(1, 20)], [task("1", [NODE_A], ["text1"])], snapshots, **changes)
    join_run(run, tolerance_s=tolerance_s)
    return read_joined(run / JOINED_REQUESTS).iloc[0]


def test_the_last_snapshot_before_the_request(tmp_path: Path) -> None:
    row = joined(tmp_path, [board(NODE_A, t, t) for t in (10, 15, 19, 21, 25)])
    assert row["reputation"] == 19
    assert row["snapshot_age_s"] == pytest.approx(1.001)
    assert row["snapshot_observed_wall_ns"] == wall(19)
    assert pd.isna(row["reputation_reason"])


def test_instants_keep_their_last_digit_beside_rows_without_one(tmp_path: Path) -> None:
    """A null in an integer column makes it a float in pandas, and Unix nanoseconds do not fit into one."""
    odd = wall(19) + 7
    rows = [turn(1, 20), turn(2, 20)]  # the second is served by a node nobody has seen
    tasks = [task("1", [NODE_A], ["text1"]), task("2", [NODE_B], ["text2"])]
    run = write_run(tmp_path, rows, tasks, [board(NODE_A, 0, 19, observed_wall_ns=odd)])
    join_run(run)
    observed = read_joined(run / JOINED_REQUESTS)["snapshot_observed_wall_ns"]
    assert observed.notna().tolist() == [True, False]
    assert observed.iloc[0] == odd and odd != int(float(odd))


def test_equal_times_are_excluded(tmp_path: Path) -> None:
    edge = wall(SENT_S) - BOUND_NS
    snapshots = [board(NODE_A, 15, 15)]
    at = joined(tmp_path / "at", [*snapshots, board(NODE_A, 0, 19, observed_wall_ns=edge)])
    before = joined(tmp_path / "before", [*snapshots, board(NODE_A, 0, 19, observed_wall_ns=edge - 1)])
    assert (at["reputation"], before["reputation"]) == (15, 19)


def test_older_than_the_tolerance_is_stale_and_keeps_its_age(tmp_path: Path) -> None:
    # Two polls of 5 s and 2 s of grace are 12 s.
    assert joined(tmp_path / "in", [board(NODE_A, SENT_S - 12)])["reputation"] == 90
    row = joined(tmp_path / "out", [board(NODE_A, SENT_S - 12.001)])
    assert pd.isna(row["reputation"]) and row["reputation_reason"] == "stale"
    assert row["snapshot_age_s"] == pytest.approx(12.001)
    assert joined(tmp_path / "wider", [board(NODE_A, SENT_S - 12.001)], tolerance_s=13)["reputation"] == 90


@pytest.mark.parametrize("snapshots", [[], [board(NODE_A, 21)], [board(NODE_B, 19)]])
def test_no_snapshot_before(tmp_path: Path, snapshots: list[NodeSnapshot]) -> None:
    row = joined(tmp_path, snapshots)
    assert pd.isna(row["reputation"]) and row["reputation_reason"] == "no snapshot before"
    assert row["node"] == NODE_A


def test_without_snapshots_the_join_works_and_warns_once(tmp_path: Path) -> None:
    figures = join_run(write_run(tmp_path, [turn(1)]))
    assert len(figures["warnings"]) == 1 and "no snapshots" in figures["warnings"][0]
    assert "\n" not in figures["warnings"][0]


def test_zero_counters_are_no_data(tmp_path: Path) -> None:
    zero = board(NODE_A, 19, precommit_points=0, precommit_counter=0, commit_points=0, commit_counter=0)
    row = joined(tmp_path / "zero", [zero])
    assert pd.isna(row["reputation"]) and row["reputation_reason"] == "the snapshot has no counts"
    half = board(NODE_A, 19, precommit_points=8, precommit_counter=10, commit_points=0, commit_counter=0)
    assert joined(tmp_path / "half", [half])["reputation"] == 80
    both = board(NODE_A, 19, precommit_points=8, precommit_counter=10, commit_points=3, commit_counter=5)
    assert joined(tmp_path / "both", [both])["reputation"] == 70
    missing = board(NODE_A, 19, precommit_counter=None, commit_counter=None)
    assert pd.isna(joined(tmp_path / "missing", [missing])["reputation"])


def test_more_successes_than_entries_are_no_rate_and_are_told(tmp_path: Path) -> None:
    wrong = board(NODE_A, 19, precommit_points=500, precommit_counter=100, commit_points=3, commit_counter=5)
    assert joined(tmp_path / "one", [wrong])["reputation"] == 60
    run = write_run(tmp_path / "two", [turn(1)], snapshots=[wrong, board(NODE_B, 19), session_series(NODE_B, 3, 101)])
    (warning,) = join_run(run)["warnings"]
    assert "2 snapshots tell more successes than entries" in warning


def test_both_series_are_joined_apart(tmp_path: Path) -> None:
    row = joined(tmp_path, [board(NODE_A, 19, 95), session_series(NODE_A, 18, 60)])
    assert (row["reputation"], row["reputation_session"]) == (95, 60)
    assert row["session_snapshot_age_s"] == pytest.approx(2.001)


def test_rows_of_one_owner_are_summed(tmp_path: Path) -> None:
    parts = [
        board(NODE_A, 19, precommit_points=10, precommit_counter=10, commit_points=None, commit_counter=None),
        board(NODE_A, 19, precommit_points=20, precommit_counter=30, commit_points=None, commit_counter=None),
    ]
    assert joined(tmp_path, parts)["reputation"] == 75


def test_a_file_of_snapshots_that_lies_there_twice_is_an_error(tmp_path: Path) -> None:
    """Its rows would be taken for those of an owner with several, and summed."""
    run = write_run(tmp_path, [turn(1)], snapshots=[board(NODE_A, 19)])
    (part,) = (run / "snapshots").glob("*.parquet")
    shutil.copy(part, part.with_name("again.parquet"))
    with pytest.raises(RunFolderError) as error:
        join_run(run)
    clear_line(error, "part-0.parquet", "copy of again.parquet", "delete one")


def test_address_case_does_not_matter(tmp_path: Path) -> None:
    assert joined(tmp_path, [board(NODE_A.upper(), 19, 95)])["reputation"] == 95


def test_the_wall_clock_that_moved_widens_the_bound(tmp_path: Path) -> None:
    """The wall clock stepped by 2 s during the run: a snapshot 1 s before the request may be after it."""
    start = read_manifest(write_run(tmp_path / "x", []))["clock"]
    moved = {**start, "wall_minus_mono_end_ns": start["wall_minus_mono_ns"] + 2_000_000_000}
    assert joined(tmp_path / "y", [board(NODE_A, 15, 15), board(NODE_A, 19, 19)], clock=moved)["reputation"] == 15


def test_no_look_ahead(tmp_path: Path) -> None:
    """Shift all snapshots one period into the future: the joined values must change."""
    period = 5.0
    rows = [turn(i, 10 + i) for i in range(20)]
    tasks = [task(str(i), [NODE_A], [f"text{i}"]) for i in range(20)]

    def reputations(name: str, shift_s: float) -> list[float]:
        snapshots = [board(NODE_A, period * k + shift_s, 50 + k) for k in range(8)]
        run = write_run(tmp_path / name, rows, tasks, snapshots)
        join_run(run)
        return [float(each) for each in read_joined(run / JOINED_REQUESTS)["reputation"]]

    now, later = reputations("now", 0), reputations("later", period)
    assert [a - b for a, b in zip(now, later, strict=True)] == [1.0] * 20
    # And the value is that of the poll before the request, never of the next one.
    assert now[3] == 50 + (13.001 // period)


def test_unsorted_input_gives_the_same(tmp_path: Path) -> None:
    rows = [turn(i, 10 + i) for i in range(20)]
    tasks = [task(str(i), [(NODE_A, NODE_B)[i % 2]], [f"text{i}"]) for i in range(20)]
    snapshots = [board(node, t, round(t)) for t in range(0, 40, 3) for node in (NODE_A, NODE_B)]
    tables = []
    for name, order in (("sorted", 1), ("reversed", -1)):
        run = write_run(tmp_path / name, rows[::order], tasks[::order], snapshots[::order])
        join_run(run)
        tables.append(read_joined(run / JOINED_REQUESTS).sort_values("seq", ignore_index=True))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert tables[0]["reputation"].notna().all()


def test_rows_keep_their_place_and_number(tmp_path: Path) -> None:
    rows = [turn(3, 30), unsent(1, "dropped", 20), turn(2, 10), turn(0, 25, task_id=None)]
    run = write_run(tmp_path, rows, [task("3", [NODE_A], ["text3"])], [board(NODE_A, t) for t in range(40)])
    figures = join_run(run)
    table = read_joined(run / JOINED_REQUESTS)
    assert table["seq"].tolist() == [3, 1, 2, 0]
    assert table["reputation_reason"].fillna("-").tolist() == ["-", *["unattributed"] * 3]
    assert figures["join"]["without"] == {"unattributed": 3} and figures["join"]["with_snapshot"] == 1
    attribution = figures["attribution"]
    assert attribution["attributed"] + attribution["unattributed"] == attribution["requests"] == 4
    assert attribution["lookup_share"] == pytest.approx(1 / 3, abs=1e-4)


def test_every_miner_of_a_request_has_its_own_reputation(tmp_path: Path) -> None:
    tasks = [task("1", [NODE_A, NODE_B], ["text1", "x"], assigned=(NODE_A, NODE_B, NODE_C))]
    run = write_run(tmp_path, [turn(0, 10), turn(1, 20)], tasks, [board(NODE_A, 19, 95), board(NODE_B, 18, 60)])
    join_run(run)
    miners = read_joined(run / JOINED_MINERS)
    assert miners["node"].tolist() == [NODE_A, NODE_B, NODE_C]
    assert miners["seq"].tolist() == [1, 1, 1]
    assert miners["reputation"].fillna(-1).tolist() == [95, 60, -1]
    assert miners["returned"].tolist() == [True, False, False]


# Against a loop.

NODES = (NODE_A, NODE_B, NODE_C)
times = st.integers(0, 30)  # few distinct values, so that ties and equal times are common
sightings = st.lists(
    st.tuples(st.sampled_from(NODES[:2]), times, st.integers(0, 100)), max_size=15, unique_by=lambda s: s[:2]
)
askings = st.lists(st.tuples(st.none() | st.sampled_from(NODES), st.none() | times), max_size=15)


def brute_force(
    node: str | None, sent: int | None, bound: int, seen: list[tuple[str, int, int]], tolerance: float
) -> Any:
    if node is None or sent is None:
        return None
    before = [(at, value) for who, at, value in seen if who == node and at < sent - bound]
    if not before:
        return None
    at, value = max(before)
    return value if sent - at <= tolerance else None


@settings(max_examples=150, deadline=None)
@given(sightings, askings, st.integers(0, 3), st.integers(0, 20))
def test_equals_a_loop(seen: list[tuple[str, int, int]], asked: list[Any], bound: int, tolerance: int) -> None:
    requests = pd.DataFrame(
        {
            "node": pd.Series([node for node, _ in asked], dtype="str"),
            "sent_wall_ns": pd.Series([None if at is None else at * 10**9 for _, at in asked], dtype="Int64"),
        }
    )
    snapshots = [board(node, 0, value, observed_wall_ns=at * 10**9) for node, at, value in seen]
    found = Reputation.of(snapshots_of(snapshots)).before(requests, bound * 10**9, tolerance)["reputation"]
    expected = [brute_force(node, at, bound, seen, tolerance) for node, at in asked]
    assert [None if pd.isna(each) else each for each in found] == expected


# Folders that are not whole.


def clear_line(error: pytest.ExceptionInfo[RunFolderError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_a_run_that_did_not_end(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(1)], state="running")
    with pytest.raises(RunFolderError) as error:
        join_run(run)
    clear_line(error, str(run), "did not end", "--partial")
    assert join_run(run, partial=True)["partial"]
    assert read_manifest(run)["state"] == "running"  # its writer may still be at work


def test_rows_left_in_the_spool(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(1)])
    (run / "spool").mkdir()
    (run / "spool" / "worker-0.spool").write_bytes(b"rows")
    with pytest.raises(RunFolderError) as error:
        join_run(run)
    clear_line(error, "spool", "--partial")
    join_run(run, partial=True)
    (run / "spool" / "worker-0.spool").write_bytes(b"")
    join_run(run)


@pytest.mark.parametrize("table", ["requests", "tasks", "snapshots"])
def test_a_damaged_part(tmp_path: Path, table: str) -> None:
    run = write_run(tmp_path, [turn(1)], [task("1")], [board(NODE_A, 1)])
    part = next((run / table).glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(RunFolderError) as error:
        join_run(run)
    clear_line(error, str(part))


def test_an_unknown_version(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(1)], schema_version=99)
    with pytest.raises(RunFolderError) as error:
        join_run(run)
    clear_line(error, "99")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as error:
        join_run(tmp_path)
    clear_line(error, "not a run folder")


def test_the_same_rows_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(1), turn(2)])
    write_part(run / "requests" / "again.parquet", [turn(2)], RequestRecord)
    with pytest.raises(RunFolderError) as error:
        join_run(run)
    clear_line(error, "1 rows are stored twice")


def test_a_manifest_without_a_clock(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as error:
        join_run(write_run(tmp_path, [turn(1)], clock={}))
    clear_line(error, "no clock")


def test_a_damaged_joined_table(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(1)])
    join_run(run)
    path = run / JOINED_REQUESTS
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunFolderError) as error:
        read_joined(path)
    clear_line(error, str(path), "join the run again")


def test_a_run_cut_off_before_t0_was_written(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(1, 20)], state="running", t0_ns=None)
    assert join_run(run, partial=True)["join"]["rows"] == 1


def test_a_refused_join_writes_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(1)], state="running")
    with pytest.raises(RunFolderError):
        join_run(run)
    assert not (run / "joined").exists()


@pytest.mark.parametrize("batch_rows", [1, 3, 7, 100])
def test_batches_of_any_size_write_the_same(tmp_path: Path, batch_rows: int) -> None:
    rows = [turn(i, 10 + i) if i % 4 else unsent(i, "dropped", 10 + i) for i in range(25)]
    tasks = [task(str(i), [(NODE_A, NODE_B)[i % 2], NODE_C], [f"text{i}", "x"]) for i in range(20)]
    snapshots = [board(node, t, t) for t in range(0, 40, 3) for node in (NODE_A, NODE_B)]
    written = []
    for name, size in (("whole", 10**6), ("batches", batch_rows)):
        run = write_run(tmp_path / name, rows, tasks, snapshots)
        figures = join_run(run, batch_rows=size)
        written.append((figures, *(pq.read_table(run / path).to_pylist() for path in (JOINED_REQUESTS, JOINED_MINERS))))
    assert written[0] == written[1]
    assert written[0][0]["join"]["with_snapshot"] > 5


def test_a_row_stored_twice_in_batches_far_apart_leaves_nothing_behind(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(i) for i in range(20)])
    write_part(run / "requests" / "z.parquet", [turn(0), turn(19), turn(99)], RequestRecord)
    with pytest.raises(RunFolderError) as error:
        join_run(run, batch_rows=2)
    clear_line(error, "2 rows are stored twice")
    assert not list(run.glob("joined/*")) and not list(run.glob("joined/.*"))


def test_rows_of_workers_with_far_numbers_are_told_apart() -> None:
    seen = SeenRows()
    seen.add(np.array([0, 1, 0, 2**40]), np.array([7, 7, 2**62, 7]))
    assert seen.twice == 0
    seen.add(np.array([1, 3, 0]), np.array([7, 7, 2**62]))
    assert seen.twice == 2
