"""SLO verdicts: the published numbers of MLPerf's early stopping, and what is a miss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.analysis.intervals import Clusters
from loadtest.analysis.slo import binomial_cdf, evaluate, result, slo_passes, slo_rejected
from loadtest.quantiles import LogHistogram
from loadtest.records import RequestRecord

from .run_factory import failed, frame, turn, unsent


@pytest.mark.parametrize(("misses", "needed"), [(0, 459), (1, 662), (2, 838), (5, 1307), (10, 2010)])
def test_mlperf_table_at_p99(misses: int, needed: int) -> None:
    assert slo_passes(needed, misses, 0.99) and not slo_passes(needed - 1, misses, 0.99)


@given(st.integers(1, 200), st.integers(0, 200), st.floats(0.01, 0.99))
def test_binomial_cdf_is_the_sum(n: int, k: int, p: float) -> None:
    expected = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1))
    assert binomial_cdf(k, n, p) == pytest.approx(expected, abs=1e-9)


def test_binomial_cdf_of_millions_does_not_underflow() -> None:
    assert binomial_cdf(50_000, 1_000_000, 0.05) == pytest.approx(0.5, abs=0.01)


@given(st.integers(1, 2000), st.integers(0, 2000), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_never_both_proved_and_ruled_out(n: int, misses: int, q: float) -> None:
    misses = min(misses, n)
    assert not (slo_passes(n, misses, q) and slo_rejected(n, misses, q))


def judge(folder: Path, rows: list[RequestRecord], metric: str, limit: float, kind: str = "max") -> dict[str, Any]:
    return evaluate({"metric": metric, "limit": limit, "kind": kind}, frame(folder, rows), LogHistogram())


def test_pass_fail_and_cannot_tell(tmp_path: Path) -> None:
    rows = [turn(i, ttft_ms=100 + i) for i in range(100)]
    assert judge(tmp_path, rows, "ttft_ms_p95", 500)["verdict"] == "pass"
    assert judge(tmp_path, rows, "ttft_ms_p95", 150)["verdict"] == "fail"
    few = judge(tmp_path, rows, "ttft_ms_p99", 500)
    assert few["verdict"] == "cannot tell" and "with so many misses 459 would do" in few["text"]
    assert judge(tmp_path, rows, "ttft_ms_p50", 149)["verdict"] == "cannot tell"  # kept, by a hair
    found = judge(tmp_path, rows, "ttft_ms_p95", 500)
    assert (found["observed"], found["n"], found["misses"]) == (194, 100, 0)


def test_a_failed_or_dropped_turn_is_a_miss_and_an_unreached_one_is_not_counted(tmp_path: Path) -> None:
    rows = [turn(i) for i in range(6)]
    rows += [failed(6, "server_error"), unsent(7, "dropped"), unsent(8, "not_reached")]
    for metric in ("ttft_ms_p50", "tpot_ms_p50", "e2e_ms_p50"):
        found = judge(tmp_path / metric, rows, metric, 1e6)
        assert (found["n"], found["misses"]) == (8, 2), metric
    share = judge(tmp_path, rows, "ok_share", 0.5, "min")
    assert (share["n"], share["misses"], share["observed"]) == (8, 2, 0.75)


def test_a_dropped_plain_turn_is_no_miss_of_ttft(tmp_path: Path) -> None:
    rows = [turn(0), unsent(1, "dropped", stream=False)]
    assert judge(tmp_path, rows, "ttft_ms_p50", 1e6)["n"] == 1


def test_hopeless_with_few_turns_is_a_fail(tmp_path: Path) -> None:
    assert judge(tmp_path, [failed(i, "server_error") for i in range(3)], "e2e_ms_p95", 1e6)["verdict"] == "fail"


def test_a_share_of_one_means_every_turn(tmp_path: Path) -> None:
    rows = [turn(i) for i in range(3)]
    assert judge(tmp_path / "all", rows, "ok_share", 1, "min")["verdict"] == "pass"
    assert judge(tmp_path / "one", [*rows, failed(3, "empty")], "ok_share", 1, "min")["verdict"] == "fail"


@pytest.mark.parametrize(("metric", "kind"), [("beauty_p95", "max"), ("ttft_ms_p95", "min"), ("ttft_ms", "max")])
def test_an_unknown_objective_cannot_be_told(tmp_path: Path, metric: str, kind: str) -> None:
    found = judge(tmp_path, [turn(0)], metric, 1, kind)
    assert found["verdict"] == "cannot tell" and metric in found["text"]


@pytest.mark.parametrize(("limit", "verdict"), [(25, "pass"), (15, "fail"), (20, "cannot tell")])
def test_itl_is_judged_by_its_gaps(tmp_path: Path, limit: float, verdict: str) -> None:
    gaps = LogHistogram()
    for _ in range(100):
        gaps.add(20_000_000)
    found = evaluate({"metric": "itl_ms_p95", "limit": limit, "kind": "max"}, frame(tmp_path, []), gaps)
    assert found["verdict"] == verdict and found["n"] == 100 and found["misses"] is None


def test_no_turns(tmp_path: Path) -> None:
    assert judge(tmp_path, [], "ok_share", 0.9, "min")["verdict"] == "cannot tell"
    assert judge(tmp_path, [], "e2e_ms_p95", 1)["verdict"] == "cannot tell"
    assert judge(tmp_path, [], "itl_ms_p95", 1)["verdict"] == "cannot tell"


def test_the_result_of_a_run() -> None:
    def of(*verdicts: str) -> str:
        return result([{"verdict": verdict} for verdict in verdicts])

    assert of("pass", "pass") == "pass"
    assert of("pass", "fail", "cannot tell") == "fail"
    assert of("pass", "cannot tell") == of() == "none"


def test_a_turn_that_its_member_broke_off_is_no_miss(tmp_path: Path) -> None:
    rows = [turn(i) for i in range(90)]
    rows += [turn(90 + i, outcome="cancelled", error_kind="after_chunks") for i in range(10)]
    found = judge(tmp_path, rows, "ok_share", 0.95, "min")
    assert (found["observed"], found["n"], found["misses"], found["verdict"]) == (1, 90, 0, "pass")
    assert judge(tmp_path / "e", rows, "e2e_ms_p95", 600)["n"] == 90
    assert judge(tmp_path / "t", rows, "ttft_ms_p95", 600)["n"] == 100
    rows[99] = turn(99, outcome="cancelled")  # the run ended: a miss as before
    found = judge(tmp_path / "r", rows, "ok_share", 0.95, "min")
    assert (found["n"], found["misses"]) == (91, 1)


def test_turns_that_fail_together_prove_less(tmp_path: Path) -> None:
    """20 misses of 1,000 pass at p95 (656 would do) when alone; as one bad conversation of 50 they are one of 50."""
    rows = [turn(i, ttft_ms=900 if i < 20 else 100) for i in range(1000)]
    slo = {"metric": "ttft_ms_p95", "limit": 500, "kind": "max"}
    requests, due_s = frame(tmp_path, rows), np.linspace(0, 100, 1000)
    alone = Clusters.of(np.arange(1000), due_s)
    assert evaluate(slo, requests, LogHistogram(), alone)["verdict"] == "pass"
    together = Clusters.of(np.arange(1000) // 20, due_s)
    found = evaluate(slo, requests, LogHistogram(), together)
    assert found["verdict"] == "cannot tell" and "independent ones, too few" in found["text"]
    assert (found["n"], found["misses"], found["observed"]) == (1000, 20, 100)
    # A limit that is missed stays missed.
    worse = {**slo, "limit": 50}
    assert evaluate(worse, requests, LogHistogram(), together)["verdict"] == "fail"
