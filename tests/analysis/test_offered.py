"""What was intended against what was realised: exact on rows by hand, and the closed form on what a schedule draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis.frames import Clocks
from loadtest.analysis.metrics import measured
from loadtest.analysis.offered import offered
from loadtest.records import RequestRecord
from loadtest.traffic.profile import parse_profile
from loadtest.traffic.schedule import Schedule

from .run_factory import failed, frame, manifest, turn, unsent

TEXT = """
[load]
mode = "open"
{load}
duration_s = 205
warmup_s = 5
in_flight_max = 50
[[target]]
name = "main"
route = "cortensor"
[[persona]]
name = "quick"
weight = 1
prompt_tokens = "uniform(8, 40)"
output_tokens = "fixed(20)"
turns = "fixed(1)"
think_s = "fixed(1)"
"""


def offered_by(folder: Path, rows: Sequence[RequestRecord], **changes: Any) -> dict[str, Any]:
    told, requests = manifest(rows, **changes), frame(folder, rows)
    return offered(measured(requests), Clocks.of(folder, told, requests), told, float(told["warmup_s"]))


def profile(load: str) -> dict[str, str]:
    return {"name": "x", "source": "x.toml", "hash": "0", "text": TEXT.format(load=load)}


def test_rates_over_the_measured_window(tmp_path: Path) -> None:
    """35 s of which 5 s warm-up; three arrivals and one later turn are measured, one arrival was dropped."""
    rows = [
        turn(0, 1, phase="warmup"),
        turn(1, 6),
        turn(2, 7),
        turn(3, 9, turn=1),
        unsent(4, "dropped", 10),
    ]
    found = offered_by(tmp_path, rows)
    assert (found["arrivals"], found["requests_sent"]) == (3, 3)
    assert found["rate_per_s_planned"] == 0.1
    assert found["rate_per_s_realised"] == pytest.approx(2 / 30, abs=1e-3)
    assert found["requests_per_s_realised"] == 0.1
    # Stopped at 15 s, the window is 10 s.
    assert offered_by(tmp_path, rows, stopped_early_s=15.0)["rate_per_s_planned"] == 0.3
    assert offered_by(tmp_path, rows, stopped_early_s=4.0)["rate_per_s_planned"] is None


def test_cv_of_the_gaps_of_first_turns_on_the_masters_clock(tmp_path: Path) -> None:
    """Due 1 s and 3 s apart: mean 2, sd 1, CV 0.5; sent 2 s and 2 s apart. The later turn in between is no arrival."""
    rows = [turn(0, 6), turn(1, 7, lag_ms=1001, worker=1, offset_ns=10**12), turn(2, 8, turn=1), turn(3, 10)]
    assert offered_by(tmp_path, rows)["compared"]["gap_cv"] == {"intended": 0.5, "realised": 0}
    assert offered_by(tmp_path, rows[:2])["compared"]["gap_cv"] == {"intended": None, "realised": None}


def test_dispersion_of_the_counts_of_a_second(tmp_path: Path) -> None:
    """Two in every second second of thirty: counts of mean 1 and variance 30 / 29. Sent half of them a second later.

    Those due on an edge, by a clock 20 us slow, stay on their side of it.
    """
    rows = [
        turn(2 * i + j, 5 + 2 * i + 0.5 * j - 2e-5, lag_ms=1000 * j, phase="measure") for i in range(15) for j in (0, 1)
    ]
    compared = offered_by(tmp_path, rows)["compared"]
    assert compared["dispersion_1s"] == {"intended": round(30 / 29, 3), "realised": 0}
    assert "dispersion_10s" not in compared, "three windows say nothing"
    long = offered_by(tmp_path, rows, offered_s=205.0)["compared"]
    # 5, 5, 5 twos in three of twenty windows of 10 s: mean 1.5, sum of squares 300.
    assert long["dispersion_10s"]["intended"] == pytest.approx((300 - 20 * 1.5**2) / 19 / 1.5, abs=1e-3)
    assert "dispersion_60s" not in long


def test_tokens_intended_of_all_planned_and_realised_of_what_was_sent(tmp_path: Path) -> None:
    rows = [
        turn(0, prompt_tokens_planned=10, output_tokens_max=100, counted_tokens=90),
        turn(1, prompt_tokens_planned=20, output_tokens_max=200, usage_prompt_tokens=25, usage_completion_tokens=150),
        failed(2, "server_error", prompt_tokens_planned=30, output_tokens_max=300, usage_prompt_tokens=0),
        turn(3, turn=1, prompt_tokens_planned=35, output_tokens_max=350),
        unsent(4, "dropped", prompt_tokens_planned=40, output_tokens_max=400),
        turn(5, phase="warmup", prompt_tokens_planned=999, output_tokens_max=999),
    ]
    found = offered_by(tmp_path, rows)
    compared = found["compared"]
    assert compared["prompt_tokens_p50"] == {"intended": 30, "realised": 25}
    assert compared["prompt_tokens_p99"] == {"intended": 40, "realised": 35}
    assert compared["output_tokens_p50"] == {"intended": 300, "realised": 90}  # 41, 90, 150 of good answers
    assert compared["output_tokens_p99"] == {"intended": 400, "realised": 150}
    assert (found["prompts_told"], found["answers_told"]) == (1, 1)
    # What a later prompt cost is not known when it held answers as they came, unless the server tells.
    received = offered_by(tmp_path, rows, history="received")["compared"]
    assert received["prompt_tokens_p99"] == {"intended": 40, "realised": 30}


@pytest.mark.parametrize(
    ("load", "cv", "dispersion"),
    [
        ('arrivals = "constant"\nrate_per_s = 40', 0, 0),
        ('arrivals = "poisson"\nrate_per_s = 40', 1, 1),
        ('arrivals = "gamma"\ncv = 2\nrate_per_s = 40', 2, 4 - 15 / 240),
        (
            'arrivals = "clients"\nclients = [{ share = 3, cv = 1.5 }, { share = 1, cv = 0 }]\nrate_per_s = 40',
            None,
            0.75 * 2.25 + (1 - 1.5**4) / 240,
        ),
    ],
)
def test_what_a_process_draws_is_its_closed_form(
    tmp_path: Path, load: str, cv: float | None, dispersion: float
) -> None:
    """Within 4 to 5 standard errors of 200 s at 40 a second, twice as much for the counts of bursts."""
    told = profile(load)
    schedule = Schedule(parse_profile(told["text"], "x.toml"), 1)
    rows = [
        turn(each.index, each.due_us / 1e6, lag_ms=0.2, phase="measure" if each.due_us >= 5_000_000 else "warmup")
        for each in schedule.arrivals(205_000_000)
    ]
    compared = offered_by(tmp_path, rows, profile=told, offered_s=205.0)["compared"]
    rate, gaps, counts = (compared[name] for name in ("rate_per_s", "gap_cv", "dispersion_1s"))
    assert rate["process"] == 40 and abs(rate["intended"] / 40 - 1) <= 5 * math.sqrt(dispersion / 8000)
    assert gaps["process"] == cv
    if cv is not None:
        assert abs(gaps["intended"] - cv) <= cv * 4 * math.sqrt((1 + cv**2) / 16000)
    assert counts["process"] == pytest.approx(dispersion, abs=1e-3)
    bursts = 2 if dispersion > 1 else 1
    assert abs(counts["intended"] - dispersion) <= bursts * dispersion * 4 * math.sqrt(2 / 199)
    # All were sent 0.2 ms later: the same spread.
    assert rate["realised"] == rate["intended"] and gaps["realised"] == gaps["intended"]
    assert counts["realised"] == pytest.approx(counts["intended"], abs=0.02)
    assert compared["dispersion_10s"]["process"] is not None


def test_a_trace_has_no_process_and_a_closed_run_intends_no_arrivals(tmp_path: Path) -> None:
    rows = [turn(0, 6), turn(1, 8), turn(2, 9)]
    trace = {"file": "azure.csv", "rows": 3, "speed": 1.0}
    flat = profile('arrivals = "poisson"\nrate_per_s = 40')
    found = offered_by(tmp_path, rows, profile=flat, trace=trace)
    assert found["trace"] == "azure.csv"
    assert found["compared"]["rate_per_s"] == {"intended": 0.1, "realised": 0.1}
    closed = offered_by(tmp_path, rows, mode="closed")
    assert closed["rate_per_s_planned"] is None
    assert closed["compared"]["rate_per_s"] == {"intended": None, "realised": 0.1}
    assert closed["compared"]["prompt_tokens_p50"] == {"intended": 50, "realised": 50}


def test_a_profile_that_is_not_ours_and_a_run_without_rows_are_still_reported(tmp_path: Path) -> None:
    for text in ("", "not TOML", "[load]\nmode = 'sideways'"):
        told = {**profile(""), "text": text}
        assert "process" not in offered_by(tmp_path, [turn(0, 6)], profile=told)["compared"]["rate_per_s"]
    nothing = offered_by(tmp_path, [turn(0, 1, phase="warmup")])["compared"]
    assert nothing["rate_per_s"]["intended"] == 0
    assert nothing["prompt_tokens_p50"] == {"intended": None, "realised": None}
