"""One night as Prometheus's text: medians of fit runs, nothing where nothing was measured."""

from __future__ import annotations

import math
from typing import Any

from made_runs import figures
from prometheus_client.parser import text_string_to_metric_families

from loadtest.analysis.run_figures import RunFigures
from loadtest.report.history_metrics import history_metrics

MEASURED = {"ttft_ms_p50": 100.0, "e2e_ms_p50": 900.0, "attainment": 0.97, "goodput_per_s": 4.5}
Key = tuple[str, frozenset[str]]


def made_figures(**changes: Any) -> RunFigures:
    return figures("r", **{**MEASURED, **changes})


def key(name: str, *labels: str) -> Key:
    return name, frozenset(labels)


def values(text: str) -> dict[Key, float]:
    return {
        key(sample.name.removeprefix("loadtest_nightly_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_night_is_the_median_of_its_fit_runs() -> None:
    target = [made_figures(ttft_ms_p50=ms, fit=ms != 900.0) for ms in (100.0, 110.0, 140.0, 900.0)]
    found = values(history_metrics({"target": target, "control": [made_figures()]}, exit_code=3, finished_s=1.7e9))
    assert found[key("exit_code")] == 3 and found[key("finished_timestamp_seconds")] == 1.7e9
    assert found[key("runs", "nightly", "target")] == 4 and found[key("fit_runs", "nightly", "target")] == 3
    assert found[key("latency_seconds", "nightly", "target", "ttft", "p50")] == 0.11
    assert found[key("latency_seconds", "nightly", "control", "ttft", "p50")] == 0.1
    assert found[key("goodput_per_second", "nightly", "target")] == 4.5


def test_what_was_not_measured_is_left_out_and_what_failed_is_infinite() -> None:
    runs = [made_figures(ttft_ms_p50=None, e2e_ms_p95=math.inf, attainment=None)]
    found = values(history_metrics({"target": runs, "control": []}, exit_code=0, finished_s=0))
    assert key("latency_seconds", "nightly", "target", "ttft", "p50") not in found
    assert not [name for name, _ in found if name == "attainment_ratio"]
    assert found[key("latency_seconds", "nightly", "target", "e2e", "p95")] == math.inf


def test_a_night_without_a_fit_run_says_so() -> None:
    found = values(history_metrics({"target": [made_figures(fit=False)]}, exit_code=4, finished_s=1.0))
    assert found[key("fit_runs", "nightly", "target")] == 0 and found[key("exit_code")] == 4
    assert not [name for name, _ in found if name == "latency_seconds"]


def test_profiles_are_kept_apart_and_their_names_escaped() -> None:
    target = [
        made_figures(profile='night "one"\n', e2e_ms_p50=1000.0),
        made_figures(profile="other", e2e_ms_p50=2000.0),
    ]
    found = values(history_metrics({"target": target}, exit_code=0, finished_s=0))
    assert found[key("latency_seconds", 'night "one"\n', "target", "e2e", "p50")] == 1
    assert found[key("latency_seconds", "other", "target", "e2e", "p50")] == 2
