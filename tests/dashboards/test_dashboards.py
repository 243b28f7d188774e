"""The dashboards are what the description says, by Grafana's own types, and ask for metrics that there are.

No Grafana is started: what its types accept and give back unchanged is what is known. tests/e2e/test_prometheus.py runs
every query on a real Prometheus.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from board_queries import BOARDS, DASHBOARDS, RULES, filled_in, may_be_empty, rules, written
from grafana_foundation_sdk.models.dashboard import Dashboard

from loadtest.swarm.metric_names import NAMES

ONLY_AT_NIGHT = {
    *("loadtest_nightly_exit_code", "loadtest_nightly_finished_timestamp_seconds", "loadtest_nightly_runs"),
    *("loadtest_nightly_fit_runs", "loadtest_nightly_latency_seconds", "loadtest_nightly_error_ratio"),
    *("loadtest_nightly_attainment_ratio", "loadtest_nightly_goodput_per_second"),
}
OF_THE_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def exposed() -> set[str]:
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for name, of in NAMES.items() for suffix in suffixes[of.kind]}


def asked_for(expr: str) -> set[str]:
    """The metrics an expression names, by the prefixes that ours have."""
    without_labels = re.sub(r"\{[^}]*\}|\b(by|on) \([^)]*\)", "", expr)
    return set(re.findall(r"\b(?:loadtest|gen_ai|process)_\w+|\bloadtest:[\w:]+", without_labels)) - {"loadtest_"}


def test_what_is_committed_is_what_would_be_written() -> None:
    check = subprocess.run(
        [sys.executable, str(DASHBOARDS / "build.py"), "--check"], capture_output=True, text=True, timeout=120
    )
    assert check.returncode == 0, check.stderr
    assert {path.stem for path in DASHBOARDS.glob("*.json")} == {board.uid for board in BOARDS}


@pytest.mark.parametrize("path", sorted(DASHBOARDS.glob("*.json")), ids=lambda path: path.stem)
def test_grafanas_types_read_every_field_of_a_board(path: Path) -> None:
    content = json.loads(path.read_text())
    board = Dashboard.from_json(content)
    assert board.uid == path.stem and board.title and board.description
    assert len(board.panels or []) == len(content["panels"]) > 5
    positions = Counter((p["gridPos"]["x"], p["gridPos"]["y"]) for p in content["panels"])
    assert max(positions.values()) == 1, "two panels lie on each other"
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in content["panels"])
    assert all(p["datasource"]["uid"] == "${datasource}" for p in content["panels"])


def test_every_panel_says_what_it_is_and_those_from_buckets_that_they_are_approximate() -> None:
    for one in written():
        assert one.description.endswith(".") and len(one.description) > 20, one.where
        from_buckets = "histogram_quantile" in one.expr
        assert not from_buckets or ("(approximate)" in one.title and "pproximate" in one.description), one.where


def test_queries_ask_for_metrics_that_there_are() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    there = exposed() | recorded | ONLY_AT_NIGHT | OF_THE_PROCESS
    used: set[str] = set()
    for where, expr in [*((one.where, one.expr) for one in written()), *((str(r), r["expr"]) for r in rules())]:
        assert asked_for(expr), where
        assert asked_for(expr) <= there, where
        used |= asked_for(expr)
    assert recorded <= used, "a rule is recorded and nobody asks for it"
    assert all("$" not in filled_in(one.expr, "r") for one in written()), "a variable no board has"
    assert may_be_empty().keys() <= {one.expr for one in written()}


def test_every_alert_is_made_to_fire_beside_a_run_that_makes_none() -> None:
    tests: list[dict[str, Any]] = yaml.safe_load((DASHBOARDS / "rules_test.yml").read_text())["tests"]
    fired = {
        case["alertname"]: case["exp_alerts"] for one in tests for case in one["alert_rule_test"] if case["exp_alerts"]
    }
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert fired.keys() == alerts
    for name, firing in fired.items():
        assert len(firing) == 1 and firing[0]["exp_labels"].get("run") in (None, "bad"), name
    series = {entry["series"] for entry in tests[0]["input_series"]}
    series -= {one for one in series if 'run="over"' in one}
    assert {s.replace('"bad"', '"good"') for s in series} | {s.replace('"good"', '"bad"') for s in series} == series
    nightly = Counter(bool(case["exp_alerts"]) for case in tests[1]["alert_rule_test"])
    assert nightly == {True: 2, False: 2}


def test_every_alert_says_what_it_means() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"].keys() == {"summary", "description"}
            assert rule["labels"]["severity"] in ("warning", "critical")
    assert RULES.read_text().count("- alert:") == 16
