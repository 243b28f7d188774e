"""The whole way through the house: a master and two workers, observed, joined, reported, held against the truth."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from conftest import Ended, Network, assert_complete, ended
from figures import Figures, is_rounding, numbers, texts
from recomputed import differences

from loadtest import runfolder
from loadtest.analysis import metrics
from loadtest.analysis.accuracy import accuracy
from loadtest.analysis.frames import to_frame
from loadtest.analysis.percentiles import quantile
from loadtest.analysis.run_figures import read_run
from loadtest.report.wording import window_text
from loadtest.simulator.control import VERSION
from loadtest.traffic.profile import load_profile
from loadtest.traffic.schedule import Schedule

SEED = 3


def test_master_and_two_workers(network: Network, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", "run", "smoke", "--host", network.url, "--workers", "2"]
    command += ["--runs-dir", str(tmp_path / "runs"), "--", "--seed", str(SEED)]
    result = ended(command, tmp_path / "runs")
    assert result.code in (0, 4)
    assert_complete(result, workers=2)
    assert str(result.run / "report.html") in result.out

    # What was sent is what the schedule says, whoever sent it.
    manifest, rows = result.manifest(), result.rows()
    schedule = Schedule(load_profile("smoke"), SEED)
    horizon_us = round(manifest["offered_s"] * 1e6)
    arrivals = list(schedule.arrivals(horizon_us))
    assert manifest["ledger"]["planned_turns"] == schedule.planned_turns(horizon_us)
    assert set(rows["arrival"].to_pylist()) == {arrival.index for arrival in arrivals}
    due_ns = {arrival.index: manifest["t0_ns"] + arrival.due_us * 1000 for arrival in arrivals}
    bound_ns = max(worker["clock_bound_ns"] for worker in manifest["workers"])
    for row in rows.select(["arrival", "turn", "worker", "scheduled_ns", "clock_offset_ns"]).to_pylist():
        assert row["worker"] == row["arrival"] % 2
        if row["turn"] == 0:
            assert abs(row["scheduled_ns"] + row["clock_offset_ns"] - due_ns[row["arrival"]]) <= 2 * bound_ns + 1

    assert_live_figures_are_those_of_the_rows(result)

    # The summary is what plain pandas makes of the rows, and the page shows nothing else.
    assert differences(result.run) == []
    page, summary = Figures((result.run / "report.html").read_text()), result.summary()
    known = {float(format(value, ".15g")) for _, value in numbers(summary)}
    assert len(page.shown) > 200
    assert [(v, text) for v, text in page.shown if v not in known or not is_rounding(v, text)] == []
    assert page.digits_outside([*texts(summary), window_text(summary["run"])]) == []
    assert {target["info"]["path"] for target in manifest["targets"]} == {"/api/v1/info", "/v1/models"}
    assert all(target["info"]["text"] for target in manifest["targets"])
    routers = [target["name"] for target in manifest["targets"] if target["info"]["path"] == "/api/v1/info"]
    assert routers and read_run(result.run).target_versions == ", ".join(f"{name}={VERSION}" for name in routers)
    assert json.loads((result.run / "vllm-bench.json").read_text())["completed"] > 0

    # The report sets what the even arrivals of the profile give beside what was drawn and sent.
    compared = json.loads((result.run / "summary.json").read_text())["offered"]["compared"]
    rate, gaps, counts = (compared[name] for name in ("rate_per_s", "gap_cv", "dispersion_1s"))
    assert (rate["process"], gaps["process"], counts["process"]) == (3, 0, 0)
    assert abs(rate["intended"] - 3) <= 0.1 and gaps["intended"] <= 0.01 and counts["intended"] <= 0.05

    # The simulator saw every request that was sent, once.
    network.stop()
    truth = Counter(runfolder.read_truth(network.truth)["client_reference"].to_pylist())
    sent = rows.filter(pc.is_valid(rows["sent_ns"]))["client_reference"].to_pylist()
    assert truth == Counter(sent)
    figures = accuracy(result.run, network.truth)
    assert figures["ttft_ms"]["n"] > 0


def assert_live_figures_are_those_of_the_rows(result: Ended) -> None:
    """What the master had added up from the workers' reports, against the rows themselves: within 1 %."""
    manifest = result.manifest()
    assert manifest["ledger"]["live_reports_missed"] == 0 and manifest["ledger"]["mismatches"] == []
    requests = to_frame(result.rows())
    exact = {
        "ttft": metrics.ttft_ms,
        "tpot": metrics.tpot_ms,
        "e2e": metrics.e2e_ms,
        "send_lag": metrics.send_lag_ms,
    }
    compared = 0
    for cell in manifest["live"]:
        rows = requests[(requests["target"] == cell["target"]) & (requests["phase"] == cell["phase"])]
        for metric, of in exact.items():
            values = np.sort(of(rows)[~np.isnan(of(rows))])
            live = cell["metrics"][metric]
            assert live["n"] == len(values), (cell["target"], metric)
            for name, q in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
                true = quantile(values, q)
                if true is None or np.isinf(true):
                    assert live[name] is None
                    continue
                # TPOT is kept in whole nanoseconds.
                assert live[name] == pytest.approx(true, rel=0.01, abs=1e-6)
                compared += 1
    assert compared >= 20


def test_every_joined_row_knows_only_its_past(network: Network, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", "run", "smoke", "--host", network.url, "--workers", "1"]
    result = ended([*command, "--runs-dir", str(tmp_path / "runs")], tmp_path / "runs")
    assert result.code in (0, 4)
    import pyarrow.parquet as pq

    joined = pq.read_table(result.run / "joined" / "requests.parquet").to_pylist()
    assert joined
    manifest = result.manifest()
    snapshots = runfolder.read_table(result.run, "snapshots").to_pylist()
    known = {(s["node"], s["observed_wall_ns"]) for s in snapshots if s["source"] == "leaderboard"}
    with_snapshot = 0
    for row in joined:
        if row["snapshot_observed_wall_ns"] is None:
            assert row["reputation_reason"], "a null has its reason"
            continue
        with_snapshot += 1
        sent_wall_ns = row["sent_ns"] + row["clock_offset_ns"] + manifest["clock"]["wall_minus_mono_ns"]
        assert row["snapshot_observed_wall_ns"] < sent_wall_ns
        assert (row["node"], row["snapshot_observed_wall_ns"]) in known
    assert with_snapshot > 0
