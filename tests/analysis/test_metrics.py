"""Metrics against golden rows by hand and against a plain recomputation in Python."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis import metrics
from loadtest.analysis.frames import Floats
from loadtest.quantiles import midpoint
from loadtest.records import NOT_SENT, Outcome, Phase, RequestRecord

from .run_factory import failed, frame, turn, unsent, write_run


def values(folder: Path, metric: Callable[..., Floats], *rows: RequestRecord) -> list[float]:
    return [float(each) for each in metric(frame(folder, rows))]


def test_golden_row(tmp_path: Path) -> None:
    """Due at 6 s, sent 2 ms late, first content 150 ms after that, done at 950 ms, 41 tokens of which 40 gaps."""
    one = frame(tmp_path, [turn(0, 6, lag_ms=2, ttft_ms=150, e2e_ms=950, usage_completion_tokens=41)])
    golden = {
        "ttft_ms": 150.0,
        "ttft_response_ms": 152.0,
        "e2e_ms": 950.0,
        "e2e_response_ms": 952.0,
        "tpot_ms": 20.0,  # 800 ms / 40
        "send_lag_ms": 2.0,
        "tokens_per_s": 41 / 0.95,
    }
    for name, expected in golden.items():
        assert float(getattr(metrics, name)(one)[0]) == pytest.approx(expected, abs=1e-9), name


def test_connecting_is_no_lateness_of_ours(tmp_path: Path) -> None:
    due_ns = turn(0).scheduled_ns
    began = {"connection_new": True, "connecting_ns": due_ns + 3_000_000}
    rows = [
        turn(0, lag_ms=83, **began),  # 80 ms of connecting and handshake to a far target
        turn(1, lag_ms=83),  # a pooled connection: all of it is ours
        turn(2, lag_ms=83, connection_new=True),  # nobody noted when connecting began
        unsent(3, "dropped"),
    ]
    found = values(tmp_path, metrics.send_lag_ms, *rows)
    assert found[:3] == [3.0, 83.0, 83.0] and math.isnan(found[3])


def test_tokens_come_from_usage_then_our_count_then_chunks(tmp_path: Path) -> None:
    rows = [
        turn(0, usage_completion_tokens=30, counted_tokens=41, content_chunks=7),
        turn(1, usage_completion_tokens=0, counted_tokens=41, content_chunks=7),  # a usage of zeros tells nothing
        turn(2, usage_completion_tokens=None, counted_tokens=None, content_chunks=7),
        turn(3, usage_completion_tokens=None, counted_tokens=None, content_chunks=0),
    ]
    found = values(tmp_path, metrics.output_tokens, *rows)
    assert found[:3] == [30, 41, 7] and math.isnan(found[3])


def test_one_token_has_no_tpot(tmp_path: Path) -> None:
    assert math.isnan(values(tmp_path, metrics.tpot_ms, turn(0, counted_tokens=1))[0])


def test_plain_answers_have_no_ttft_and_failed_streams_an_infinite_one(tmp_path: Path) -> None:
    rows = [
        turn(0, stream=False),
        failed(1, "server_error", stream=False),
        failed(2, "server_error"),
        turn(3, ttft_ms=None),  # a good answer in which no content was timed
        turn(4, outcome="truncated"),  # its first content came, its answer did not
    ]
    found = values(tmp_path, metrics.ttft_ms, *rows)
    assert [math.isnan(each) for each in found] == [True, True, False, True, False]
    assert found[2] == found[4] == math.inf


@pytest.mark.parametrize(
    ("outcome", "service", "response"),
    [("dropped", math.nan, math.inf), ("not_reached", math.nan, math.nan), ("lost", math.inf, math.inf)],
)
def test_turns_that_never_left(tmp_path: Path, outcome: str, service: float, response: float) -> None:
    one = frame(tmp_path, [unsent(0, outcome)])
    for metric, expected in (
        (metrics.e2e_ms, service),
        (metrics.ttft_ms, service),
        (metrics.e2e_response_ms, response),
        (metrics.ttft_response_ms, response),
    ):
        np.testing.assert_equal(float(metric(one)[0]), expected)
    assert math.isnan(float(metrics.send_lag_ms(one)[0]))


def test_nanoseconds_survive_a_machine_that_is_up_for_years(tmp_path: Path) -> None:
    """2^60 ns is 36 years; a float64 there has steps of 256 ns."""
    row = turn(0, offset_ns=-(2**60), lag_ms=0, ttft_ms=0.000001, e2e_ms=500)
    assert values(tmp_path, metrics.ttft_ms, row) == [0.000001]


def test_the_cohort_is_by_phase(tmp_path: Path) -> None:
    both = frame(tmp_path, [turn(0, phase="warmup"), turn(1, phase="measure")])
    assert metrics.measured(both)["seq"].tolist() == [1]


def test_waited_only_for_what_ran_out_of_time(tmp_path: Path) -> None:
    rows = [failed(0, "client_timeout", waited_ms=120_000), failed(1, "server_error", waited_ms=10), turn(2)]
    found = metrics.waited_ms(frame(tmp_path, rows), "scheduled_ns")
    assert found[0] == pytest.approx(120_001) and np.isnan(found[1:]).all()


def test_itl_is_pooled_over_the_chunks_of_the_measured_rows(tmp_path: Path) -> None:
    rows = [
        turn(0, chunks_ms=(10, 30, 30, 90)),  # gaps 20, 0, 60
        turn(1, chunks_ms=(10, 30)),
        turn(2, chunks_ms=(10,)),
        turn(3, chunks_ms=(10, 5010), phase="warmup"),
    ]
    run = write_run(tmp_path, rows)
    pooled = metrics.itl_histogram(run)
    measured = [row.chunk_ns for row in rows if row.phase == "measure"]
    exact = sorted((b - a) / 1e6 for chunks in measured for a, b in pairwise(chunks))
    assert exact == [0, 20, 20, 60] and pooled.total() == 4
    for q, true in ((0.25, 0), (0.5, 20), (0.75, 20), (1.0, 60)):
        found = pooled.quantile(q)
        assert found is not None and found / 1e6 == pytest.approx(true, rel=0.01)
    assert metrics.itl_histogram(run, Phase.WARMUP).total() == 1
    assert midpoint(max(pooled.counts)) / 1e6 == pytest.approx(60, rel=0.01)


def test_itl_of_nothing(tmp_path: Path) -> None:
    assert metrics.itl_histogram(write_run(tmp_path, [])).total() == 0


def plain(row: RequestRecord) -> dict[str, float]:
    """Every metric of one row in plain Python, straight from the definitions."""
    ok = row.outcome == Outcome.OK

    def latency(later: int | None, earlier: int | None, applies: bool, due: bool) -> float:
        if not (applies and due):
            return math.nan
        if not ok:
            return math.inf
        return math.nan if later is None or earlier is None else (later - earlier) / 1e6

    sent, due = row.outcome not in NOT_SENT, row.outcome != Outcome.NOT_REACHED
    tokens = row.usage_completion_tokens or row.counted_tokens or row.content_chunks
    tpot = latency(row.last_content_ns, row.first_content_ns, row.stream, sent)
    if math.isfinite(tpot):
        tpot = tpot / (tokens - 1) if tokens >= 2 else math.nan
    return {
        "ttft_ms": latency(row.first_content_ns, row.sent_ns, row.stream, sent),
        "ttft_response_ms": latency(row.first_content_ns, row.scheduled_ns, row.stream, due),
        "e2e_ms": latency(row.done_ns, row.sent_ns, True, sent),
        "e2e_response_ms": latency(row.done_ns, row.scheduled_ns, True, due),
        "tpot_ms": tpot,
    }


@st.composite
def turns(draw: st.DrawFn, seq: int) -> RequestRecord:
    outcome = draw(st.sampled_from(list(Outcome)))
    gone = outcome in NOT_SENT
    row = turn(
        seq,
        draw(st.floats(0, 100)),
        lag_ms=draw(st.floats(0, 100)),
        ttft_ms=draw(st.one_of(st.none(), st.floats(0, 1000))),
        e2e_ms=draw(st.floats(0, 100_000)),
        outcome=outcome.value,
        stream=draw(st.booleans()),
        usage_completion_tokens=draw(st.one_of(st.none(), st.integers(0, 100))),
        counted_tokens=draw(st.one_of(st.none(), st.integers(0, 100))),
        content_chunks=draw(st.integers(0, 5)),
    )
    changes = {"sent_ns": None, "first_content_ns": None, "last_content_ns": None, "done_ns": None} if gone else {}
    return type(row)(**{**{name: getattr(row, name) for name in row.__struct_fields__}, **changes})


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_columns_equal_a_plain_recomputation(data: st.DataObject) -> None:
    rows = [data.draw(turns(seq)) for seq in range(data.draw(st.integers(0, 8)))]
    with tempfile.TemporaryDirectory() as folder:
        requests = frame(Path(folder), rows)
    for name in ("ttft_ms", "ttft_response_ms", "e2e_ms", "e2e_response_ms", "tpot_ms"):
        expected = [plain(row)[name] for row in rows]
        np.testing.assert_allclose(getattr(metrics, name)(requests), expected, rtol=1e-12, err_msg=name)


def test_a_turn_that_its_member_broke_off_is_no_failure(tmp_path: Path) -> None:
    """What was seen before counts; who gave up before anything came waited in vain; the end of a run is a failure."""
    rows = [
        turn(0),
        turn(1, ttft_ms=300, e2e_ms=800, outcome="cancelled", error_kind="after_chunks"),
        turn(2, ttft_ms=200, e2e_ms=800, outcome="cancelled", error_kind="after_s"),
        failed(3, "cancelled", error_kind="after_s"),
        failed(4, "cancelled", error_kind="after_chunks"),  # only empty chunks had come
        failed(5, "cancelled", error_kind="after_s", stream=False),
        failed(6, "cancelled"),  # the run ended
    ]
    found = frame(tmp_path, rows)
    nan, inf = math.nan, math.inf
    expected = {
        "ttft_ms": [100, 300, 200, inf, nan, nan, inf],
        "ttft_response_ms": [101, 301, 201, inf, nan, nan, inf],
        "e2e_ms": [500, nan, nan, nan, nan, nan, inf],
        "tpot_ms": [10, nan, nan, nan, nan, nan, inf],
    }
    for name, values_ in expected.items():
        assert [float(x) for x in getattr(metrics, name)(found)] == pytest.approx(values_, nan_ok=True), name
    assert metrics.broken_off(found).tolist() == [False, True, True, True, True, True, False]
