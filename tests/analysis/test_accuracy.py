"""The harness against a truth log whose differences are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis.accuracy import accuracy, accuracy_text
from loadtest.records import RequestRecord, TruthRecord
from loadtest.runfolder import RunFolderError, write_part

from .run_factory import failed, truth, turn, write_run

CHUNKS = (100, 120, 150)


def compare(folder: Path, rows: Sequence[RequestRecord], truths: Sequence[TruthRecord]) -> dict[str, Any]:
    log = folder / "truth.parquet"
    write_part(log, truths, TruthRecord)
    return accuracy(write_run(folder / "run", rows), log)


def test_known_errors(tmp_path: Path) -> None:
    """The factory: received 50 us after sent, first written 40 us before first content, done 30 us before done."""
    rows = [turn(i, chunks_ms=CHUNKS) for i in range(10)]
    found = compare(tmp_path, rows, [truth(row) for row in rows])
    assert found["ttft_ms"] == {"n": 10, "p50": 0.09, "p99": 0.09, "worst": 0.09}
    assert found["e2e_ms"] == {"n": 10, "p50": 0.08, "p99": 0.08, "worst": 0.08}
    assert found["itl_ms"] == {"n": 20, "p50": 0, "p99": 0, "worst": 0}
    assert found["bound"]["gaps_inside_share"] == found["bound"]["arrivals_inside_share"] == 1
    assert (found["rows"], found["matched"], found["duplicates"]) == (10, 10, 0)


def test_one_late_chunk_is_found_in_its_two_gaps(tmp_path: Path) -> None:
    """One answer in which we saw the second chunk 7 ms late: its gap is +7 ms, the next -7 ms."""
    rows = [turn(0, chunks_ms=CHUNKS), turn(1, chunks_ms=(100, 127, 150))]
    truths = [truth(rows[0]), truth(rows[1], chunk_ns=tuple(int(c * 1e6) - 90_000 for c in CHUNKS))]
    found = compare(tmp_path, rows, truths)
    assert found["itl_ms"]["worst"] == 7 and found["itl_ms"]["n"] == 4
    assert found["bound"]["gaps_inside_share"] == 0.5
    assert found["bound"]["arrivals_inside_share"] == pytest.approx(5 / 6, abs=1e-6)
    # The same chunk with an honest bound of 7 ms lies inside it.
    honest = turn(1, chunks_ms=(100, 127, 150), chunk_bound_ns=(1000, 7_000_000, 1000))
    found = compare(tmp_path / "honest", [rows[0], honest], truths)
    assert found["bound"]["gaps_inside_share"] == found["bound"]["arrivals_inside_share"] == 1


def test_a_stamp_before_the_write_is_outside(tmp_path: Path) -> None:
    row = turn(0, chunks_ms=CHUNKS)
    early = truth(row, chunk_ns=tuple(chunk + 10_000 for chunk in row.chunk_ns))
    assert compare(tmp_path, [row], [early])["bound"]["arrivals_inside_share"] == 0


def test_another_machine_has_another_clock(tmp_path: Path) -> None:
    """Durations still compare; arrivals cannot be placed on one clock and are not judged."""
    rows = [turn(i, chunks_ms=CHUNKS) for i in range(5)]
    away = 3_600_000_000_000
    truths = []
    for row in rows:
        here = truth(row)
        moved = {name: getattr(here, name) + away for name in ("received_ns", "first_written_ns", "done_ns")}
        truths.append(truth(row, **moved))
    found = compare(tmp_path, rows, truths)
    assert found["ttft_ms"]["worst"] == 0.09 and found["bound"]["gaps_inside_share"] == 1
    assert found["bound"]["arrivals"] == 0 and found["bound"]["arrivals_inside_share"] is None


def test_a_worker_that_knows_of_another_clock_is_believed(tmp_path: Path) -> None:
    """80 ms are less than an answer takes: the instants alone do not show the skew, the worker's offset does."""
    skew_ns = 80_000_000
    rows = [turn(i, chunks_ms=CHUNKS, clock_offset_ns=skew_ns) for i in range(5)]
    truths = []
    for row in rows:
        here = truth(row)
        moved = {name: getattr(here, name) + skew_ns for name in ("received_ns", "first_written_ns", "done_ns")}
        truths.append(truth(row, **moved))
    found = compare(tmp_path, rows, truths)
    assert found["ttft_ms"]["worst"] == 0.09 and found["bound"]["arrivals"] == 0


def test_unmatched_and_doubled_references_are_counted(tmp_path: Path) -> None:
    rows = [turn(0), turn(1), turn(2), turn(3, client_reference="r1-0-2")]
    truths = [truth(rows[0]), truth(rows[2]), truth(rows[1], client_reference="stranger")]
    found = compare(tmp_path, rows, truths)
    assert (found["matched"], found["rows_without_truth"], found["truth_without_row"]) == (1, 1, 1)
    assert found["duplicates"] == 1


def test_only_good_answers_are_compared(tmp_path: Path) -> None:
    rows = [turn(0), failed(1, "client_timeout")]
    truths = [truth(rows[0]), truth(turn(1), done_ns=None)]
    found = compare(tmp_path, rows, truths)
    assert found["e2e_ms"]["n"] == 1 and found["matched"] == 2


def test_another_number_of_chunks_is_left_out_and_said(tmp_path: Path) -> None:
    rows = [turn(0, chunks_ms=CHUNKS), turn(1, chunks_ms=CHUNKS)]
    found = compare(tmp_path, rows, [truth(rows[0]), truth(rows[1], chunk_ns=(1, 2))])
    assert found["itl_ms"]["n"] == 2 and found["bound"]["answers_other_chunk_count"] == 1
    assert "another number of chunks" in accuracy_text(found)


def test_nothing_to_compare(tmp_path: Path) -> None:
    found = compare(tmp_path, [], [])
    assert found["ttft_ms"] == {"n": 0, "p50": None, "p99": None, "worst": None}
    assert "matched 0 of 0" in accuracy_text(found)


def test_no_truth_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(RunFolderError, match="no truth log"):
        accuracy(write_run(tmp_path / "run", [turn(0)]), tmp_path / "logs")


def test_the_text_is_a_table(tmp_path: Path) -> None:
    rows = [turn(i, chunks_ms=CHUNKS) for i in range(3)]
    lines = accuracy_text(compare(tmp_path, rows, [truth(row) for row in rows])).splitlines()
    assert lines[1].split() == ["TTFT", "3", "0.090", "0.090", "0.090"]
    assert any(line.startswith("100.00 % of 6 gaps inside") for line in lines)
