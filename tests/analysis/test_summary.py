"""The whole way: a run folder in, joined tables and summary.json out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis.join import join_run
from loadtest.analysis.summary import summarise
from loadtest.records import Outcome, RequestRecord
from loadtest.report import wording
from loadtest.runfolder import RunFolderError, read_manifest

from .run_factory import (
    NODE_A,
    NODE_B,
    board,
    failed,
    session_series,
    task,
    turn,
    unsent,
    write_run,
)

KEYS = {
    *("schema_version", "run", "fit", "result", "account", "offered", "latency", "harness", "attribution", "join"),
    "definitions_version",
    "goodput",
    "findings",
    *("steady", "cold"),
    *("nodes", "bands", "personas", "targets", "turns", "sessions", "prompts", "operators", "hardware"),
    *("levels", "no_source", "association", "series", "series_bin_s", "distributions", "limits", "warnings"),
}


def summary_of(run: Path) -> dict[str, Any]:
    join_run(run)
    return summarise(run)


def healthy(count: int = 400) -> list[RequestRecord]:
    """Turns 75 ms apart over the measured 30 s; TTFT 100, 101, ... ms, node A serves the even ones."""
    return [turn(i, 5 + 0.075 * i, ttft_ms=100 + i, e2e_ms=1000 + i, chunks_ms=(100, 120, 150)) for i in range(count)]


def test_a_healthy_run_by_hand(tmp_path: Path) -> None:
    rows = healthy()
    tasks = [task(str(i), [(NODE_A, NODE_B)[i % 2]], [f"text{i}"]) for i in range(400)]
    snapshots = [board(NODE_A, t, 96) for t in range(0, 40, 5)] + [board(NODE_B, t, 70) for t in range(0, 40, 5)]
    snapshots += [session_series(NODE_A, 1)]
    slos = [
        {"metric": "ttft_ms_p95", "limit": 600, "kind": "max"},
        {"metric": "ok_share", "limit": 0.95, "kind": "min"},
    ]
    run = write_run(tmp_path, rows, tasks, snapshots, slos=slos)
    found = summary_of(run)

    assert set(found) == KEYS
    assert found["fit"] == {"verdict": "fit", "reasons": []}
    assert found["result"]["verdict"] == "pass"
    ttft = found["latency"]["ttft_ms"]["service"]
    # TTFT is 100..499: rank 200 of 400 is 299, rank 380 is 479, rank 396 is 495.
    assert (ttft["n"], ttft["p50"], ttft["p95"], ttft["p99"], ttft["max"]) == (400, 299, 479, 495, 499)
    assert ttft["p50_interval"][0] < 299 < ttft["p50_interval"][1]
    assert found["latency"]["ttft_ms"]["response"]["p50"] == 300  # 1 ms send lag
    assert found["latency"]["itl_ms"]["service"]["n"] == 800
    assert found["latency"]["itl_ms"]["service"]["p50"] == pytest.approx(20, rel=0.01)
    assert found["latency"]["itl_ms"]["service"]["max"] == pytest.approx(30, rel=0.01)
    assert found["account"] == {
        **{"planned": 400, "rows": 400, "outcomes": {"ok": 400}, "shares": {"ok": 1}, "balanced": True},
        **{"warmup": 0, "measured": 400, "first_turns": 400, "second_turns": 0},
    }
    assert found["offered"]["rate_per_s_planned"] == pytest.approx(400 / 30, abs=1e-3)
    assert found["offered"]["cv_realised"] == pytest.approx(0, abs=1e-3)
    assert found["offered"]["peak_in_flight"] == 19  # 1.4 s answers, 75 ms apart
    assert found["harness"]["send_lag_ms"] == {"p50": 1, "p99": 1, "max": 1}
    assert found["harness"]["first_content_bound_ms"] == {"p50": 0.2, "p99": 0.2, "max": 0.2}
    assert found["harness"]["arrival_bound_ms"] == {"p50": 0.1, "p99": 0.4, "max": 0.4}
    assert found["harness"]["kernel_share"] == 0.9
    assert found["attribution"]["by_source"] == {"lookup_text": 400}
    assert found["join"]["with_snapshot"] == 400 and found["join"]["without"] == {}
    assert [(n["node"], n["requests"], n["reputation"]) for n in found["nodes"]] == [
        (NODE_A, 200, 96),
        (NODE_B, 200, 70),
    ]
    assert found["nodes"][0]["ttft_ms_p50"] == 298 and not found["nodes"][0]["n_too_small"]
    assert [(b["band"], b["requests"], b["nodes"]) for b in found["bands"]] == [
        ("50-80 %", 200, 1),
        ("95-100 %", 200, 1),
    ]
    assert sum(second["planned"] for second in found["series"]) == 400
    assert all(len(points) <= 200 for points in found["distributions"].values())


def test_the_files_and_the_manifest(tmp_path: Path) -> None:
    found = summary_of(write_run(tmp_path, healthy(10)))
    assert json.loads((tmp_path / "summary.json").read_text()) == found
    manifest = read_manifest(tmp_path)
    assert manifest["state"] == "joined"
    assert manifest["fit"] == found["fit"] and manifest["result"] == found["result"]
    assert (tmp_path / "joined/requests.parquet").exists() and (tmp_path / "joined/request_miners.parquet").exists()


def test_summarising_again_gives_the_same(tmp_path: Path) -> None:
    run = write_run(tmp_path, healthy(20))
    assert summary_of(run) == summary_of(run)


def test_every_outcome_is_accounted_for(tmp_path: Path) -> None:
    rows = []
    for seq, outcome in enumerate(Outcome):
        if outcome == Outcome.OK:
            rows.append(turn(seq))
        elif outcome in (Outcome.NOT_REACHED, Outcome.DROPPED, Outcome.LOST):
            rows.append(unsent(seq, outcome, turn=1))
        else:
            rows.append(failed(seq, outcome))
    found = summary_of(write_run(tmp_path, rows))
    assert sum(found["account"]["outcomes"].values()) == found["account"]["planned"] == len(Outcome)
    assert found["account"]["balanced"]
    # Service: all but dropped and not reached. Response: all but not reached.
    assert found["latency"]["e2e_ms"]["service"]["n"] == len(Outcome) - 2
    assert found["latency"]["e2e_ms"]["response"]["n"] == len(Outcome) - 1
    assert found["latency"]["e2e_ms"]["service"]["censored"] == len(Outcome) - 3
    assert {reason["rule"] for reason in found["fit"]["reasons"]} == {"lost", "dropped"}


def test_a_ledger_that_disagrees_makes_the_run_unfit(tmp_path: Path) -> None:
    run = write_run(tmp_path, healthy(20), ledger={"planned_turns": 22, "rows": 20, "outcomes": {"ok": 22}})
    found = summary_of(run)
    assert not found["account"]["balanced"]
    assert [reason["rule"] for reason in found["fit"]["reasons"]] == ["account"]


def test_the_same_count_with_other_outcomes_is_not_balanced(tmp_path: Path) -> None:
    run = write_run(tmp_path, healthy(20), ledger={"planned_turns": 20, "rows": 20, "outcomes": {"ok": 19, "empty": 1}})
    assert not summary_of(run)["account"]["balanced"]


def test_no_rows_at_all(tmp_path: Path) -> None:
    found = summary_of(write_run(tmp_path, []))
    assert set(found) == KEYS
    assert found["fit"]["verdict"] == "unfit"
    assert found["series"] == [] and found["nodes"] == []
    assert found["latency"]["e2e_ms"]["service"]["p50_text"] == "no values"


def test_everything_failed(tmp_path: Path) -> None:
    rows = [failed(i, "client_timeout", 5 + i / 10, waited_ms=120_000.4) for i in range(300)]
    found = summary_of(write_run(tmp_path, rows, slos=[{"metric": "ttft_ms_p95", "limit": 2000, "kind": "max"}]))
    e2e = found["latency"]["e2e_ms"]["service"]
    assert e2e["p50"] is None and e2e["p99_text"] == "> 120 s" and e2e["censored"] == 300
    assert found["result"]["verdict"] == "fail"
    assert found["distributions"]["e2e_ms_service"] == []


def test_a_run_that_a_ceiling_stopped_has_failed(tmp_path: Path) -> None:
    stop = {"rule": "cost", "figure": 5.1, "limit": 5.0, "text": "cost 5.1, the ceiling is 5"}
    slos = [{"metric": "ok_share", "limit": 0.5, "kind": "min"}]
    assert summary_of(write_run(tmp_path / "a", healthy(400), slos=slos))["result"]["verdict"] == "pass"
    found = summary_of(write_run(tmp_path / "b", healthy(400), slos=slos, stopped_by=stop))
    assert found["result"]["verdict"] == "fail"
    assert wording.result_sentence(found) == "Stopped by a ceiling: cost 5.1, the ceiling is 5. 1 of 1 limit met."


def test_closed_mode_says_so_and_plans_no_rate(tmp_path: Path) -> None:
    found = summary_of(write_run(tmp_path, healthy(20), mode="closed"))
    assert found["offered"]["rate_per_s_planned"] is None and found["offered"]["rate_per_s_realised"] > 0
    assert any(sentence.startswith("Closed mode") for sentence in found["limits"])


def test_plain_answers_have_no_ttft_and_are_not_censored(tmp_path: Path) -> None:
    rows = [turn(i, stream=False, ttft_ms=None) for i in range(10)]
    found = summary_of(write_run(tmp_path, rows))
    assert found["latency"]["ttft_ms"]["service"]["n"] == 0
    assert found["latency"]["e2e_ms"]["service"]["n"] == 10
    assert any("Nothing was streamed" in sentence for sentence in found["limits"])


def test_small_percentiles_are_withheld_and_named(tmp_path: Path) -> None:
    found = summary_of(write_run(tmp_path, healthy(100)))
    e2e = found["latency"]["e2e_ms"]["service"]
    assert e2e["p99"] is None and e2e["p99_text"] == "n too small (100 < 299)"
    assert e2e["p95"] is not None
    assert any("p99 is withheld: 100 turns" in sentence for sentence in found["limits"])


def test_the_clock_offset_of_a_worker_changes_nothing(tmp_path: Path) -> None:
    """Two workers against one, the second 90 s off: same instants on the master's clock, same summary."""

    def run(name: str, offset_ns: int) -> dict[str, Any]:
        rows = [
            turn(i, 5 + 0.1 * i, offset_ns=offset_ns * (i % 2), worker=i % 2, ttft_ms=100 + i, task_id=str(i))
            for i in range(100)
        ]
        tasks = [task(str(i), [NODE_A], [f"text{i}"]) for i in range(100)]
        return summary_of(write_run(tmp_path / name, rows, tasks, [board(NODE_A, t) for t in range(0, 20, 5)]))

    straight, skewed = run("straight", 0), run("skewed", 90_000_000_000)
    assert straight == skewed
    assert straight["join"]["with_snapshot"] == 100


def test_a_lost_worker_and_one_that_never_came(tmp_path: Path) -> None:
    run = write_run(tmp_path, healthy(20), workers_expected=3)
    assert [reason["rule"] for reason in summary_of(run)["fit"]["reasons"]] == ["workers"]


def test_summarising_before_joining_is_one_clear_line(tmp_path: Path) -> None:
    run = write_run(tmp_path, healthy(5))
    with pytest.raises(RunFolderError, match="not joined yet"):
        summarise(run)


def test_in_flight_and_failures_per_second(tmp_path: Path) -> None:
    rows = [
        turn(0, 0.0, lag_ms=0, e2e_ms=2500, phase="warmup"),
        turn(1, 1.2, lag_ms=0, e2e_ms=500),
        failed(2, "server_error", 1.3, waited_ms=1000),
        unsent(3, "dropped", 2.4),
        unsent(4, "not_reached", 2.5, turn=1),
    ]
    seconds = summary_of(write_run(tmp_path, rows))["series"]
    assert [s["planned"] for s in seconds] == [1, 2, 1]
    assert [s["sent"] for s in seconds] == [1, 2, 0]
    assert [s["completed"] for s in seconds] == [0, 1, 1]
    assert [s["failed"] for s in seconds] == [0, 0, 2]
    assert [s["in_flight"] for s in seconds] == [1, 2, 0]
    assert seconds[1]["e2e_ms_p50"] == 500 and seconds[1]["e2e_ms_p95"] is None
