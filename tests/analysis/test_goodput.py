"""Goodput: who is good, who is not, who is not counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.analysis.goodput import goodput
from loadtest.report.wording import result_sentence

from .run_factory import failed, frame, turn, unsent


def test_good_ended_well_and_kept_every_limit(tmp_path: Path) -> None:
    rows = [turn(i, ttft_ms=100 + 100 * i) for i in range(5)]  # 100 to 500 ms
    rows += [turn(5, ttft_ms=900, stream=False), failed(6, "server_error")]
    rows += [unsent(7, "dropped"), unsent(8, "not_reached")]
    rows += [failed(9, "cancelled", error_kind="after_chunks")]
    found = goodput({"ttft_ms": 300}, frame(tmp_path, rows), 10.0)
    # Three streams within 300 ms and the answer in one piece, of which no TTFT is asked; not_reached and the one that
    # its member broke off are not counted, the failed and the dropped are.
    assert found == {"limits": {"ttft_ms": 300}, "good": 4, "n": 8, "share": 0.5, "per_s": 0.4}
    assert goodput({"ttft_ms": 300, "e2e_ms": 0.001}, frame(tmp_path / "b", rows), 10.0)["good"] == 0
    assert goodput({}, frame(tmp_path / "c", rows), 10.0) is None
    said = result_sentence({"goodput": found})
    assert said.endswith("Goodput 0.40/s: 50.0 % of 8 planned requests ended well within TTFT 300 ms.")


@pytest.mark.parametrize("window_s", [None, 0.0])
def test_without_a_window_there_is_no_rate(tmp_path: Path, window_s: float | None) -> None:
    assert goodput({"e2e_ms": 1e9}, frame(tmp_path, [turn(0)]), window_s)["per_s"] is None
