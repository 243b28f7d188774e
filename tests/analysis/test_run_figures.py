"""The figures of one run, from made run folders through join and summary."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.analysis.join import join_run
from loadtest.analysis.metrics import DEFINITIONS_VERSION
from loadtest.analysis.run_figures import METRICS, figures_from_json, read_run, read_runs, run_figures
from loadtest.analysis.summary import summarise
from loadtest.runfolder import RunFolderError

from .run_factory import failed, turn, write_run


def made(folder: Path, rows: Any, **changes: Any) -> Path:
    run = write_run(folder, rows, **changes)
    join_run(run)
    summarise(run)
    return run


def test_each_figure_of_a_small_run(tmp_path: Path) -> None:
    rows = [turn(seq, ttft_ms=100.0 + seq, e2e_ms=500.0 + seq) for seq in range(95)]
    rows += [failed(95 + seq, "server_error") for seq in range(5)]
    run = made(tmp_path / "r1", rows, goodput={"ttft_ms": 149.5})
    found = read_run(run)
    assert (found.run, found.profile, found.profile_hash) == ("r1", "demo", "0123456789abcdef")
    assert found.started_utc.endswith("Z") and found.definitions_version == DEFINITIONS_VERSION
    assert found.fit and found.unfit_reasons == "" and found.balanced and found.result == "none"
    assert (found.ttft_ms_p50, found.ttft_ms_p95, found.e2e_ms_p50, found.e2e_ms_p95) == (149, 194, 549, 594)
    assert found.tpot_ms_p50 == pytest.approx(10.0)  # 400 ms over 40 gaps
    assert (found.attainment, found.error_share, found.requests) == (0.5, 0.05, 100)
    assert found.goodput_per_s == pytest.approx(50 / 30)
    assert all(found.value(metric.name) is not None for metric in METRICS)


def test_a_percentile_among_the_failed_is_infinite_and_one_without_values_is_absent(tmp_path: Path) -> None:
    rows = [turn(seq, ttft_ms=None, stream=False) for seq in range(90)]
    rows += [failed(90 + seq, "client_timeout", stream=False, waited_ms=120_000) for seq in range(10)]
    found = read_run(made(tmp_path, rows))
    assert found.e2e_ms_p50 == 500 and found.e2e_ms_p95 == math.inf
    assert found.ttft_ms_p50 is None and found.attainment is None and found.goodput_per_s is None


def test_too_few_values_are_absent_and_not_infinite(tmp_path: Path) -> None:
    found = read_run(made(tmp_path, [turn(0), *(failed(seq, "server_error") for seq in range(1, 20))]))
    assert found.ttft_ms_p50 == math.inf and found.ttft_ms_p95 is None


@pytest.mark.parametrize(
    ("cell", "figure"),
    [
        ({"p95": 7.0, "censored": 3}, 7.0),
        (
            {"p95": None, "p95_text": "withheld: effective sample too small (40)", "p95_withheld": 7.0, "censored": 3},
            7.0,
        ),
        ({"p95": None, "p95_text": "withheld: ...", "p95_withheld": None, "censored": 90}, math.inf),
        ({"p95": None, "p95_text": "> 120 s", "censored": 90}, math.inf),
        ({"p95": None, "p95_text": "no answer", "censored": 90}, math.inf),
        ({"p95": None, "p95_text": "n too small (40 < 59)", "censored": 39}, None),
        ({"p95": None, "p95_text": "no values", "censored": 0}, None),
        ({}, None),
    ],
)
def test_what_a_cell_of_the_summary_comes_to(cell: dict[str, Any], figure: float | None) -> None:
    summary = {"schema_version": 1, "latency": {"ttft_ms": {"service": cell}}}
    assert run_figures(summary, {}, Path("r")).ttft_ms_p95 == figure


def test_a_figure_that_dependence_withholds_is_compared_all_the_same(tmp_path: Path) -> None:
    # 200 turns of ten conversations, of which one is slow: its twenty turns are the whole tail.
    rows = [
        turn(i, 6 + i / 10, ttft_ms=(1000.0 if i >= 180 else 100.0) + i, e2e_ms=2000.0, arrival=i // 20)
        for i in range(200)
    ]
    run = made(tmp_path, rows)
    cell = json.loads((run / "summary.json").read_text())["latency"]["ttft_ms"]["service"]
    assert cell["p95"] is None and cell["p95_text"].startswith("withheld") and cell["p95_withheld"] == 1189
    assert read_run(run).ttft_ms_p95 == 1189


def test_unfit_runs_say_why(tmp_path: Path) -> None:
    rows = [turn(seq) for seq in range(20)]
    found = read_run(made(tmp_path, rows, workers_expected=2))
    assert not found.fit and found.unfit_reasons == "1 of 2 workers were lost"


def test_json_and_back(tmp_path: Path) -> None:
    rows = [turn(0), *(failed(seq, "server_error") for seq in range(1, 70))]
    (found,) = read_runs([made(tmp_path, rows)])
    text = json.dumps(found.as_json(), allow_nan=False)
    assert figures_from_json(json.loads(text)) == found and '"ttft_ms_p95": "inf"' in text
    with pytest.raises(msgspec.ValidationError):
        figures_from_json({**found.as_json(), "fit": "inf"})


def test_a_folder_that_is_not_joined_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no summary\.json; run `loadtest join"):
        read_run(write_run(tmp_path, [turn(0)]))


def test_versions_are_those_that_targets_told() -> None:
    asked = {"path": "/api/v1/info", "text": "{...}"}
    infos = [asked | {"version": "1.4"}, asked, {"path": "/api/v1/info", "error": "timeout: ReadTimeout"}, None]
    manifest = {"targets": [{"name": f"t{i}", "info": info} for i, info in enumerate(infos)]}
    assert run_figures({"schema_version": 1}, manifest, Path("r")).target_versions == "t0=1.4"
    assert run_figures({"schema_version": 1}, {"targets": [{"name": "t"}]}, Path("r")).target_versions == ""
