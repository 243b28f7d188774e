"""Warm-up and steady state: closed forms, how often noise deceives, and what a whole run says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.analysis.join import join_run
from loadtest.analysis.steady import WITHHELD, batch_medians, mser, slope
from loadtest.analysis.summary import summarise

from .run_factory import turn, write_run

Array = npt.NDArray[np.float64]
SECONDS = 600


def noise(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=SECONDS)


def cut_s(values: Array) -> float | None:
    cut = mser(batch_medians(values))
    return None if cut is None else 5.0 * cut


def batch_means(values: Array) -> Array:
    means: Array = values.reshape(-1, 5).mean(axis=1)
    return means


def test_mser_by_hand() -> None:
    """The statistic of every d, written out: the four nines go, and not one value more."""
    z = np.array([9.0, 9, 9, 9, 1, 2, 1, 2, 1, 2, 1, 2])

    def statistic(d: int) -> float:
        left = z[d:]
        return float(((left - left.mean()) ** 2).sum() / len(left) ** 2)

    by_hand = {d: statistic(d) for d in range(8)}
    assert by_hand[4] == pytest.approx(8 * 0.25 / 64)
    assert min(by_hand, key=by_hand.__getitem__) == 4 == mser(z)


def test_what_stands_still_is_not_cut() -> None:
    assert mser(np.full(40, 7.0)) == 0
    assert mser(np.r_[np.full(20, 1.0), np.full(20, 2.0)]) is None  # the second half is another state
    assert mser(np.r_[np.full(10, 9.0), np.full(40, 2.0)]) == 10


def test_a_count_that_stands_still_by_chance_is_no_better_known() -> None:
    """One more in flight in the middle; exact equality of the rest must not throw away half of the run."""
    count = np.full(100, 10.0)
    count[55] = 11
    assert mser(count) is None
    assert mser(count, 1 / 12) == 0


def test_seconds_without_a_value() -> None:
    values = np.r_[np.full(5, np.nan), np.arange(5.0), np.full(5, np.nan), [np.nan, np.nan, 4.0, 6.0, np.nan], [9.0]]
    assert batch_medians(values).tolist() == [2.0, 2.0, 2.0, 5.0]  # the last, incomplete batch is left out


def test_no_transient_and_one_outlier() -> None:
    """The method's 1 %: on medians an outlier moves nothing; on means it cuts more than 100 s in 35 % of its trials."""
    trials = 400
    deceived = {batch_medians: 0, batch_means: 0}
    for seed in range(trials):
        values = noise(seed)
        values[np.random.default_rng(seed + trials).integers(SECONDS)] += 20
        for batches in deceived:
            cut = mser(batches(values))
            deceived[batches] += cut is None or 5 * cut > 100
    assert deceived[batch_medians] <= 0.02 * trials
    assert deceived[batch_means] >= 0.15 * trials


def test_a_transient_of_time_constant_20_s_is_cut() -> None:
    """10 sd above at first: below 1 sd after 46 s, below 0.2 sd after 78 s."""
    t = np.arange(SECONDS)
    cuts = [cut_s(noise(seed) + 10 * np.exp(-t / 20)) for seed in range(100)]
    known = [cut for cut in cuts if cut is not None]
    assert len(known) >= 99
    assert np.percentile(known, 5) >= 35 and np.percentile(known, 95) <= 120
    assert 46 <= np.median(known) <= 78


def test_a_ramp_is_never_steady() -> None:
    t = np.arange(SECONDS)
    assert all(cut_s(noise(seed) + 0.02 * t) is None for seed in range(100))


def test_a_straight_line_by_hand() -> None:
    """Ten blocks of 30 s with means 14.5 + 30 b: the line rises by 300 over the window, of a mean of 149.5."""
    found = slope(np.arange(300.0))
    assert found.share == pytest.approx(300 / 149.5)
    assert found.p_value == 0
    assert slope(np.full(300, 4.0)) == (0.0, 1.0)
    assert slope(np.zeros(300)) == (0.0, 1.0)


def in_flight_of(rate_per_s: float, answer_s: float, seconds: int, seed: int) -> Array:
    """A queue that never waits (M/G/infinity) with lognormal answers: steady by construction, and dependent."""
    draw = np.random.default_rng(seed)
    begin = draw.uniform(-20 * answer_s, seconds, draw.poisson(rate_per_s * (seconds + 20 * answer_s)))
    end = begin + answer_s * draw.lognormal(-0.5, 1.0, len(begin))
    t = np.arange(1, seconds + 1)
    count = np.searchsorted(np.sort(begin), t, "right") - np.searchsorted(np.sort(end), t, "right")
    return count.astype(np.float64)


@pytest.mark.parametrize(("rate_per_s", "answer_s", "seconds"), [(5, 10, 600), (40, 1, 100), (20, 5, 1800)])
def test_a_steady_count_in_flight_is_seldom_called_a_slope(rate_per_s: float, answer_s: float, seconds: int) -> None:
    """p below 0.1 % in at most 2 % of trials though the counts of ten seconds are nearly the same people."""
    trials = 300
    found = [slope(in_flight_of(rate_per_s, answer_s, seconds, seed)) for seed in range(trials)]
    assert sum(each.p_value < 0.001 and abs(each.share) >= 0.1 for each in found) <= 0.02 * trials


def test_a_count_that_doubles_is_called_a_slope() -> None:
    t = np.arange(SECONDS) / SECONDS
    found = [slope(in_flight_of(5, 10, SECONDS, seed) + 50 * t) for seed in range(100)]
    assert sum(each.p_value < 0.001 for each in found) >= 85


Seconds = Callable[[float], float]


def run_of(
    folder: Path, ttft_ms: Seconds, *, e2e_ms: Seconds = lambda t: 1500.0, seconds: int = SECONDS, **changes: Any
) -> Path:
    """Two turns per second from 0 on, 20 s of them warm-up; latencies as functions of the second they were due."""
    draw = np.random.default_rng(1)
    rows = []
    for seq in range(2 * seconds):
        t = seq / 2
        jitter = float(draw.lognormal(0, 0.3))
        phase = "warmup" if t < 20 else "measure"
        ttft = ttft_ms(t) * jitter
        rows.append(
            turn(seq, t, ttft_ms=ttft, e2e_ms=max(e2e_ms(t), ttft), phase=phase, itl_keys=(900,), itl_counts=(1,))
        )
    return write_run(folder, rows, offered_s=float(seconds), warmup_s=20.0, **changes)


def summary_of(run: Path) -> dict[str, Any]:
    join_run(run)
    return summarise(run)


SLOS = [{"metric": "ok_share", "limit": 0.5, "kind": "min"}, {"metric": "e2e_ms_p50", "limit": 1, "kind": "max"}]


def test_a_steady_run_keeps_what_it_measured(tmp_path: Path) -> None:
    found = summary_of(run_of(tmp_path, lambda t: 100.0))
    steady = found["steady"]
    assert (steady["verdict"], steady["window_s"]) == ("steady", 580)
    assert steady["from_s"] - 20 == max(steady["cut_s"].values()) <= 100
    assert found["latency"]["ttft_ms"]["service"]["p50"] == pytest.approx(100, rel=0.1)
    assert not any("was steady cannot" in each or "was not steady" in each for each in found["limits"])


def test_a_transient_goes_to_the_warm_up_in_every_figure(tmp_path: Path) -> None:
    run = run_of(tmp_path, lambda t: 100 + 5000 * float(np.exp(-t / 20)))
    found = summary_of(run)
    steady = found["steady"]
    assert steady["verdict"] == "steady"
    assert 40 <= steady["cut_s"]["latency"] <= 200 and steady["from_s"] == 20 + steady["cut_s"]["latency"]
    measured = 2 * (600 - int(steady["from_s"]))
    assert found["account"]["measured"] == measured == found["latency"]["ttft_ms"]["service"]["n"]
    assert found["account"]["warmup"] == 1200 - measured
    assert found["latency"]["itl_ms"]["service"]["n"] == measured
    assert found["offered"]["rate_per_s_planned"] == pytest.approx(2, abs=0.01)
    assert found["personas"][0]["requests"] == found["turns"][0]["requests"] == measured


def test_a_run_that_never_settles_withholds_its_percentiles_and_passes_nothing(tmp_path: Path) -> None:
    found = summary_of(run_of(tmp_path, lambda t: 100 + 2 * t, slos=SLOS))
    assert found["steady"]["verdict"] == "not steady" and found["steady"]["why"].startswith("TTFT settled")
    assert found["steady"]["from_s"] == 20
    for sides in found["latency"].values():
        for cell in sides.values():
            assert cell["p50"] is cell["p95"] is cell["p99"] is cell["p95_interval"] is None
            assert cell["p50_text"] == WITHHELD and cell["n"] > 0
    verdicts = {each["metric"]: each["verdict"] for each in found["result"]["slos"]}
    assert verdicts == {"ok_share": "cannot tell", "e2e_ms_p50": "fail"}  # what was missed stays missed
    assert found["fit"]["verdict"] == "fit"
    assert any(sentence.startswith("The run was not steady") for sentence in found["limits"])


def test_a_queue_that_grows_is_not_steady_however_short(tmp_path: Path) -> None:
    """120 s is too short for MSER to speak, but the count in flight says it alone: every answer takes longer."""
    found = summary_of(run_of(tmp_path, lambda t: 100.0, e2e_ms=lambda t: 200 + 100 * t, seconds=140))
    assert found["steady"]["verdict"] == "not steady"
    assert found["steady"]["why"].startswith("requests in flight rose by")
    assert found["steady"]["in_flight_p"] < 0.001


@pytest.mark.parametrize(
    ("seconds", "changes", "why"),
    [
        (60, {}, "40 s were measured"),
        (300, {}, "280 s were measured, and a verdict takes 400 s"),
        (500, {"trace": {"file": "x.csv"}}, "the load changes by plan"),
        (500, {"stopped_early_s": 110.0}, "90 s were measured"),
    ],
)
def test_what_cannot_be_told_is_not_withheld(tmp_path: Path, seconds: int, changes: dict[str, Any], why: str) -> None:
    found = summary_of(run_of(tmp_path, lambda t: 100 + 2 * t, seconds=seconds, slos=SLOS[:1], **changes))
    assert found["steady"]["verdict"] == "cannot tell" and found["steady"]["why"].startswith(why)
    assert found["latency"]["ttft_ms"]["service"]["p50"] > 100
    assert found["result"]["verdict"] == "pass"
    assert any(sentence.startswith("Whether the run was steady cannot be told") for sentence in found["limits"])


def test_answers_in_one_piece_are_judged_by_e2e(tmp_path: Path) -> None:
    rows = [turn(seq, seq / 2, stream=False, ttft_ms=None, e2e_ms=100 + seq * 0.3) for seq in range(1200)]
    found = summary_of(write_run(tmp_path, rows, offered_s=600.0, warmup_s=0.0))
    assert found["steady"]["verdict"] == "not steady" and "E2E settled" in found["steady"]["why"]


def test_a_whole_run_of_failures_has_a_verdict(tmp_path: Path) -> None:
    rows = [turn(seq, seq / 2, outcome="client_timeout", ttft_ms=None, e2e_ms=1000) for seq in range(1200)]
    found = summary_of(write_run(tmp_path, rows, offered_s=600.0, warmup_s=0.0))
    assert found["steady"]["verdict"] == "steady"
    assert found["latency"]["ttft_ms"]["service"]["p50_text"].startswith(">")
