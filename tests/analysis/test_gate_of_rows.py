"""From rows to a verdict: made run folders, joined and summarised as real ones, judged by `loadtest gate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest.analysis.join import join_run
from loadtest.analysis.summary import summarise
from loadtest.cli import main
from loadtest.records import RequestRecord

from .run_factory import turn, unsent, write_run

TURNS = 80
WORKERS = [
    {"worker": k, "clock_bound_ns": 50_000, "cpu_share_max": 0.4, "loop_overshoot_ms_p99": 1.5, "lost": k == 1}
    for k in range(2)
]


def rows(stream: bool) -> list[RequestRecord]:
    return [turn(i, 6 + i / 8, ttft_ms=100.0 + i if stream else None, stream=stream) for i in range(TURNS)]


LOST = [unsent(TURNS + i, "lost", 20.0, worker=1) for i in range(5)]


@pytest.mark.parametrize(
    ("name", "turns", "changes", "code", "words"),
    [
        ("whole", rows(stream=True), {}, 0, "Every limit was kept"),
        ("unstreamed", rows(stream=False), {}, 3, "TTFT p50 at most 200 ms: missed, no such figure in r1."),
        ("lost", rows(stream=True) + LOST, {"workers": WORKERS, "workers_expected": 2}, 4, "1 of 2 workers were lost"),
    ],
)
def test_from_rows_to_a_verdict(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    turns: Sequence[RequestRecord],
    changes: dict[str, object],
    code: int,
    words: str,
) -> None:
    run = write_run(tmp_path / name, turns, **changes)
    join_run(run)
    summarise(run)
    (tmp_path / "limits.toml").write_text("[ttft_ms_p50]\nmax = 200")
    assert main(["gate", str(run), "--slo", str(tmp_path / "limits.toml")]) == code
    assert words in capsys.readouterr().out
