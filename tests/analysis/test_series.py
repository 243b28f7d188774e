"""Load over time: offered rates, spread of the arrivals, what is in flight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis import series
from loadtest.analysis.frames import Clocks
from loadtest.records import RequestRecord

from .run_factory import frame, manifest, turn, unsent


def clocks(folder: Path, rows: Sequence[RequestRecord]) -> Clocks:
    return Clocks.of(folder, manifest(rows), frame(folder, rows))


def offered(folder: Path, rows: Sequence[RequestRecord], **changes: Any) -> dict[str, Any]:
    return series.offered(frame(folder, rows), clocks(folder, rows), manifest(rows, **changes))


def test_rates_over_the_measured_window(tmp_path: Path) -> None:
    """35 s of which 5 s warm-up; three arrivals and one later turn are measured, one arrival was dropped."""
    rows = [
        turn(0, 1, phase="warmup"),
        turn(1, 6),
        turn(2, 7),
        turn(3, 9, turn=1),
        unsent(4, "dropped", 10),
    ]
    found = offered(tmp_path, rows)
    assert (found["arrivals"], found["requests_sent"]) == (3, 3)
    assert found["rate_per_s_planned"] == 0.1
    assert found["rate_per_s_realised"] == pytest.approx(2 / 30, abs=1e-3)
    assert found["requests_per_s_realised"] == 0.1
    # Stopped at 15 s, the window is 10 s.
    assert offered(tmp_path, rows, stopped_early_s=15.0)["rate_per_s_planned"] == 0.3
    assert offered(tmp_path, rows, stopped_early_s=4.0)["rate_per_s_planned"] is None


def test_cv_of_the_gaps_of_first_turns_on_the_masters_clock(tmp_path: Path) -> None:
    """Gaps of 1 s and 3 s: mean 2, sd 1, CV 0.5; the later turn in between is no arrival."""
    rows = [turn(0, 6), turn(1, 7, worker=1, offset_ns=10**12), turn(2, 8, turn=1), turn(3, 10)]
    assert offered(tmp_path, rows)["cv_realised"] == 0.5
    assert offered(tmp_path, rows[:2])["cv_realised"] is None


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
    seconds = series.seconds(frame(tmp_path, rows), clocks(tmp_path, rows))
    assert [(s["in_flight"], s["failed"], s["sent"]) for s in seconds] == [(0, 1, 1), (0, 0, 0), (0, 0, 0), (0, 0, 1)]


def test_an_instant_before_t0_belongs_to_the_first_second(tmp_path: Path) -> None:
    rows = [turn(0, -0.2, lag_ms=0, e2e_ms=500)]
    assert [s["planned"] for s in series.seconds(frame(tmp_path, rows), clocks(tmp_path, rows))] == [1]


def test_wild_instants_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "SECONDS_MAX", 3)
    rows = [turn(0, 0.5), turn(1, 1e6)]
    seconds = series.seconds(frame(tmp_path, rows), clocks(tmp_path, rows))
    assert len(seconds) == 3 and sum(s["planned"] for s in seconds) == 1
    assert [s["e2e_ms_p50"] for s in seconds] == [500, None, None]


def test_a_long_chain_of_hand_overs_is_one_in_flight(tmp_path: Path) -> None:
    rows = [turn(i, 6 + i, lag_ms=0, e2e_ms=1000) for i in range(100)]
    assert series.peak_in_flight(frame(tmp_path, rows), clocks(tmp_path, rows)) == 1
