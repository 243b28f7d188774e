"""Load over time: rows of a second or more, what is in flight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.analysis import bins, metrics, series
from loadtest.analysis.bins import Bins
from loadtest.analysis.frames import Clocks
from loadtest.analysis.gaps import GapsByTime
from loadtest.records import RequestRecord

from .run_factory import frame, manifest, turn, unsent


def clocks(folder: Path, rows: Sequence[RequestRecord]) -> Clocks:
    return Clocks.of(folder, manifest(rows), frame(folder, rows))


def seconds_of(folder: Path, rows: Sequence[RequestRecord]) -> list[dict[str, Any]]:
    """Through a run folder, as the summary has it."""
    requests, told = frame(folder, rows), clocks(folder, rows)
    gaps = GapsByTime(told, series.bins_of(requests, told))
    metrics.itl_histogram(folder, by_time=gaps)
    return series.rows(requests, told, gaps)


@pytest.mark.parametrize("order", [1, -1])
def test_peak_in_flight_does_not_count_a_hand_over(tmp_path: Path, order: int) -> None:
    """One ends at 7.0 as the next starts; two overlap from 7.5."""
    rows = [
        turn(0, 6, lag_ms=0, e2e_ms=1000),
        turn(1, 7, lag_ms=0, e2e_ms=1000),
        turn(2, 7.5, lag_ms=0, e2e_ms=1000),
        unsent(3, "dropped", 7.6),
    ]
    for count, peak in ((1, 1), (2, 1), (4, 2), (0, 0)):
        some = rows[:count][::order]
        folder = tmp_path / str(count)
        assert series.peak_in_flight(frame(folder, some), clocks(folder, some)) == peak


def test_a_lost_turn_is_not_in_flight_for_ever(tmp_path: Path) -> None:
    rows = [turn(0, 0.5, outcome="lost", e2e_ms=None, ttft_ms=None), turn(1, 3.2, e2e_ms=100)]
    seconds = seconds_of(tmp_path, rows)
    assert [(s["in_flight"], s["failed"], s["sent"]) for s in seconds] == [(0, 1, 1), (0, 0, 0), (0, 0, 0), (0, 0, 1)]


def test_an_instant_before_t0_belongs_to_the_first_second(tmp_path: Path) -> None:
    rows = [turn(0, -0.2, lag_ms=0, e2e_ms=500)]
    assert [s["planned"] for s in seconds_of(tmp_path, rows)] == [1]


def test_wild_instants_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "SECONDS_MAX", 3)
    rows = [turn(0, 0.5), turn(1, 1e6)]
    seconds = seconds_of(tmp_path, rows)
    assert len(seconds) == 3 and sum(s["planned"] for s in seconds) == 1
    assert [s["e2e_ms_p50"] for s in seconds] == [500, None, None]


def test_a_long_chain_of_hand_overs_is_one_in_flight(tmp_path: Path) -> None:
    rows = [turn(i, 6 + i, lag_ms=0, e2e_ms=1000) for i in range(100)]
    assert series.peak_in_flight(frame(tmp_path, rows), clocks(tmp_path, rows)) == 1


def test_gaps_and_tpot_stand_in_the_second_of_their_turn(tmp_path: Path) -> None:
    """Two turns sent in second 1 with gaps of 10, 10 and 200 ms, a warm-up turn with one of 50 ms, one without gaps."""
    rows = [
        turn(0, 0.5, phase="warmup", chunks_ms=(100, 150)),
        turn(1, 1.1, chunks_ms=(100, 110, 120), ttft_ms=100, e2e_ms=500, counted_tokens=41),
        turn(2, 1.2, chunks_ms=(100, 300)),
        turn(3, 3.2),
    ]
    seconds = seconds_of(tmp_path, rows)
    assert [s["itl_ms_p50"] for s in seconds] == [pytest.approx(50, rel=0.01), pytest.approx(10, rel=0.01), None, None]
    assert seconds[1]["itl_ms_p95"] == pytest.approx(200, rel=0.01)
    assert seconds[1]["tpot_ms_p50"] == 10  # 400 ms over 40 gaps


def test_a_long_run_has_rows_of_several_seconds_up_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds in two rows, of three and of two: a turn each second, and a last one that nobody answered."""
    monkeypatch.setattr(bins, "ROWS_MAX", 2)
    rows = [turn(i, i + 0.5, lag_ms=0, e2e_ms=300, chunks_ms=(0, 10 * (i + 1))) for i in range(4)]
    rows.append(turn(4, 4.5, lag_ms=0, e2e_ms=None, ttft_ms=None, outcome="router_timeout"))
    first, last = seconds_of(tmp_path, rows)
    assert [first[name] for name in ("t_s", "planned", "sent", "completed", "failed")] == [0, 1, 1, 1, 0]
    assert [last[name] for name in ("t_s", "planned", "sent", "completed", "failed")] == [3, 1, 1, 0.5, 0.5]
    assert [row["e2e_ms_p50"] for row in (first, last)] == [300, 300]
    assert [row["itl_ms_p95"] for row in (first, last)] == [pytest.approx(30, rel=0.01), pytest.approx(40, rel=0.01)]


@given(st.lists(st.floats(-2, 40) | st.just(float("nan"))), st.integers(1, 40), st.integers(1, 7))
def test_every_instant_is_counted_once_in_the_bin_that_holds_it(
    instants_s: list[float], seconds: int, width_s: int
) -> None:
    cut, given_s = Bins(seconds, width_s), np.array(instants_s, dtype=float)
    expected = [0] * len(cut.starts_s())
    for each in instants_s:
        if each < seconds:
            expected[max(0, int(each // width_s))] += 1
    assert cut.count == len(expected) and cut.counts(given_s).tolist() == expected
    widths = [min(width_s, seconds - start) for start in cut.starts_s()]
    rates = cut.per_second(given_s).tolist()
    assert rates == [pytest.approx(n / width, abs=5e-4) for n, width in zip(expected, widths, strict=True)]
