"""From frames to rows: repeated, missing and torn frames, and the account of every planned turn."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rows import made_row
from msgspec.structs import replace

from loadtest import runfolder, spool
from loadtest.collector.rows import BODIES_PER_OUTCOME_MAX, RowStore, recover
from loadtest.swarm.recorder import Recorder
from loadtest.traffic.plan import PlannedArrival
from loadtest.writers import sole_writer

NAME = "worker-0-7.spool"


def finished(seq: int, arrival: int = 0, turn: int = 0) -> bytes:
    return spool.pack(spool.Finished(replace(made_row(seq), arrival=arrival, turn=turn)))


def test_a_started_row_is_replaced_by_its_finished_one(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    lost = replace(made_row(0), outcome="lost")
    frame = spool.pack(spool.Started(lost)) + finished(0) + spool.pack(spool.Started(replace(lost, seq=1)))
    assert store.take(NAME, 0, frame) == len(frame)
    assert store.close_open() == 1
    store.flush()
    rows = runfolder.read_table(tmp_path, "requests").to_pylist()
    assert [(row["seq"], row["outcome"]) for row in rows] == [(0, "ok"), (1, "lost")]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_any_order_of_repeats_and_gaps_gives_each_row_once(sizes: list[int], data: st.DataObject) -> None:
    frames, start, seq = [], 0, 0
    for size in sizes:
        body = b"".join(finished(seq + n) for n in range(size))
        frames.append((start, body))
        start, seq = start + len(body), seq + size
    store = RowStore(Path("/nowhere"))  # nothing is flushed below
    # The sender's rule: go on from the offset that was answered. Between, frames arrive again or too early.
    received = 0
    while received < start:
        for _ in range(data.draw(st.integers(0, 2))):
            at, body = data.draw(st.sampled_from(frames))
            before = received
            received = store.take(NAME, at, body)
            assert received in (before, at + len(body))
        at, body = next((at, body) for at, body in frames if at >= received) if received < start else frames[-1]
        received = store.take(NAME, at, body)
    assert store.outcomes == Counter(ok=seq)


def test_a_damaged_frame_leaves_nothing_behind(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    good = finished(0)
    with pytest.raises(spool.SpoolError):
        store.take(NAME, 0, good + good[:-1] + b"?")
    assert store.outcomes.total() == 0
    assert store.take(NAME, 0, good) == len(good)


def test_leftovers_of_a_killed_worker_are_read_once(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    sent, unsent = finished(0), finished(1)
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / NAME).write_bytes(sent + unsent + b"\x00\x00\x00")
    store.take(NAME, 0, sent)
    assert store.take_leftovers(tmp_path / "spool") == len(unsent)
    assert not list((tmp_path / "spool").iterdir())
    assert store.outcomes.total() == 2


def test_every_planned_turn_gets_a_row(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    # Arrival 0 is complete, arrival 1 has one of three turns, arrival 2 has none.
    store.take(NAME, 0, finished(0, 0, 0) + finished(1, 0, 1) + finished(2, 1, 0))
    planned = [PlannedArrival(0, 0, 0, 2), PlannedArrival(1, 10, 0, 3), PlannedArrival(2, 20, 0, 2)]
    total, filled = store.fill_missing(planned, lambda one: replace(made_row(9), arrival=one.arrival))
    assert (total, filled) == (7, 4)
    store.flush()
    rows = runfolder.read_table(tmp_path, "requests").to_pylist()
    assert len(rows) == total == store.outcomes.total()
    outcomes = {(row["arrival"], row["turn"]): row["outcome"] for row in rows}
    assert outcomes == {
        (0, 0): "ok",
        (0, 1): "ok",
        (1, 0): "ok",
        (1, 1): "lost",
        (1, 2): "not_reached",
        (2, 0): "lost",
        (2, 1): "not_reached",
    }
    assert len({(row["worker"], row["seq"]) for row in rows}) == total


def test_a_turn_whose_row_a_full_disk_refused_is_lost_though_the_next_one_has_a_row(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    store.take(NAME, 0, finished(1, arrival=0, turn=1) + finished(2, arrival=1, turn=2))
    planned = [PlannedArrival(arrival=0, due_us=0, worker=0, turns=3), PlannedArrival(1, 5, 0, 3)]
    assert store.fill_missing(planned, lambda one: replace(made_row(9), arrival=one.arrival)) == (6, 4)
    store.flush()
    rows = runfolder.read_table(tmp_path, "requests").to_pylist()
    assert sorted((row["arrival"], row["turn"], row["outcome"]) for row in rows) == [
        (0, 0, "lost"),
        (0, 1, "ok"),
        (0, 2, "not_reached"),
        (1, 0, "lost"),
        (1, 1, "lost"),
        (1, 2, "ok"),
    ]


def test_rows_of_a_collector_that_died_are_recovered_once(tmp_path: Path) -> None:
    first = RowStore(tmp_path)
    stored, unstored = finished(0), finished(1, 1)
    first.take(NAME, 0, stored)
    first.flush()
    first.take(NAME, len(stored), unstored)  # and it dies before it writes this one
    open_row = spool.pack(spool.Started(replace(made_row(2), outcome="lost")))
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / NAME).write_bytes(stored + unstored + open_row)
    assert recover(tmp_path) == 2
    rows = runfolder.read_table(tmp_path, "requests").to_pylist()
    assert sorted((row["seq"], row["outcome"]) for row in rows) == [(0, "ok"), (1, "ok"), (2, "lost")]
    assert recover(tmp_path) == 0 and not list((tmp_path / "spool").iterdir())


def test_bodies_are_bounded_and_named_by_their_row(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    data = b"".join(
        spool.pack(spool.Body(3, seq, "server_error", b"<html>")) for seq in range(BODIES_PER_OUTCOME_MAX + 5)
    )
    data += spool.pack(spool.Body(3, 0, "../../etc", b"no"))
    store.take(NAME, 0, data)
    kept = list((tmp_path / "bodies" / "server_error").iterdir())
    assert len(kept) == BODIES_PER_OUTCOME_MAX
    assert (tmp_path / "bodies" / "server_error" / "worker-3-seq-0.bin").read_bytes() == b"<html>"
    assert [path.name for path in (tmp_path / "bodies").iterdir()] == ["server_error"], "an outcome is one of the set"


def test_in_a_long_run_chunk_lists_stay_for_failed_slow_and_sampled_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.collector.rows.CHUNK_LISTS_ROWS_MAX", 10)
    store = RowStore(tmp_path)
    e2e_ns = {8: 5_000_000_000}  # slow
    rows = [
        replace(
            made_row(seq),
            client_reference=f"r.{seq}.0",
            sent_ns=1,
            done_ns=1 + e2e_ns.get(seq - 1000, 1_000_000),
            chunk_ns=(1, 2),
            chunk_bound_ns=(0, 0),
            chunk_bytes=(3, 4),
            content_chunks=2,
            outcome="truncated" if seq == 1500 else "ok",
        )
        for seq in [*range(10), *range(1000, 2000)]
    ]
    start = 0
    for row in rows:
        start = store.take(NAME, start, spool.pack(spool.Finished(row)))
        if row.seq == 9:
            store.flush()
    store.flush()
    stored = {row["seq"]: row for row in runfolder.read_table(tmp_path, "requests").to_pylist()}
    kept = {seq for seq, row in stored.items() if row["chunk_ns"]}
    assert set(range(10)) <= kept, "the first rows keep theirs"
    assert {1008, 1500} <= kept, "the slow one and the failed one"
    assert 0 < len(kept - set(range(10)) - {1008, 1500}) < 50, "a sample of about one in a hundred"
    assert all(row["content_chunks"] == 2 for row in stored.values())
    assert all(len(row["chunk_ns"]) == len(row["chunk_bytes"]) == len(row["chunk_bound_ns"]) for row in stored.values())


def test_a_run_that_is_still_on_is_not_recovered(tmp_path: Path) -> None:
    """Taken away from a worker at work, a spool would lose all that it writes afterwards."""
    spools = tmp_path / "spool"
    recorder = Recorder(spools / NAME, None)
    recorder.write(spool.Finished(made_row(0)))
    with pytest.raises(runfolder.RunFolderError, match="a worker is still writing to it; wait until the run has ended"):
        recover(tmp_path)
    assert (spools / NAME).exists() and not list(tmp_path.glob("requests/*"))
    recorder.finish(1)
    with (
        sole_writer(tmp_path),
        pytest.raises(runfolder.RunFolderError, match="a run is still being stored here"),
    ):
        recover(tmp_path)
    assert recover(tmp_path) == 1


def test_a_spool_of_another_version_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    data = finished(0)
    payload = b"\xc1" * 8  # a good frame around what no version of ours has written
    frame = len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big") + payload
    (tmp_path / "spool" / NAME).write_bytes(data + frame)
    with pytest.raises(runfolder.RunFolderError, match="take the spool away to join without it"):
        recover(tmp_path)
