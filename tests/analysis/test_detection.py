"""A small part of benchmarks/detection.py: what is found in runs in virtual time, and that clean runs are quiet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from detected import BLIND, CASES, CLEAN
from played import DEFAULT, Play, play

from loadtest.analysis.checks import check, check_run
from loadtest.analysis.dependence import BY_HOUR, BY_PROMPT, BY_WORKER
from loadtest.analysis.evidence import Evidence
from loadtest.analysis.findings import Finding
from loadtest.simulator.faults import FAULTS

SHORT = replace(DEFAULT, seconds=700.0, settle_s=320.0)
SMALL = [  # one fault of each check, at a size that shows in a run half as long
    ("biased-shuffle=0.25", "shuffling"),
    ("long-prompts-apart=0.5", BY_PROMPT),
    ("starved-node=0.05", "starvation"),
    ("lost-task=0.02", "tasks end"),
    ("duplicate-task=0.02", "tasks count once"),
    ("misreporting-node=0.2", "claims"),
    ("stale-snapshot=1", "leaderboard counters"),
    ("missing-node=0.1", "nodes are listed"),
    ("billed-failure=1", "balances"),
    ("wrong-model=0.05", "promised model"),
    ("token-over-count=0.05", "usage"),
]


def findings(folder: Path, seed: int, *faults: str, plan: Play = SHORT) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_run(Evidence.of(play(folder, seed, faults, plan)))}


def test_with_a_bill_each_wrong_charge_is_found(tmp_path: Path) -> None:
    found = findings(tmp_path, 2, "double-billing=0.005", plan=replace(SHORT, bill=True))["charges"]
    assert found.verdict == "found" and "charged more than once" in found.text


@pytest.mark.parametrize(("switch", "name"), SMALL)
def test_a_fault_is_found_by_its_check(tmp_path: Path, switch: str, name: str) -> None:
    found = findings(tmp_path, 2, switch)
    assert found[name].verdict == "found", found[name].text
    assert found[name].evidence and found[name].text


def test_clean_runs_are_quiet(tmp_path: Path) -> None:
    by_chance = 0
    for seed in (2, 3, 4):
        alone = check(Evidence.of(play(tmp_path / str(seed), seed, (), replace(SHORT, bill=seed > 2))))
        exact = [f for f in alone if f.verdict == "found" and f.p_value is None]
        assert not exact, f"seed {seed}: an account that adds up was called wrong: {exact}"
        assert {name for case in CASES for name in case.checks} <= {f.check for f in alone}
        by_chance += sum(f.verdict == "found" for f in alone)
        blind = {f.check for f in alone if f.verdict == "cannot tell"}
        assert blind <= {BY_HOUR, BY_WORKER, "failover", "promised model", *(["charges"] if seed == 2 else [])}
    assert by_chance <= 1


def test_each_check_can_tell_in_one_of_the_clean_plans_and_is_quiet_there(tmp_path: Path) -> None:
    """Else its false alarms would be none because it never speaks."""
    told: set[str] = set()
    for clean in CLEAN:
        findings = check_run(Evidence.of(play(tmp_path / clean.name, 105, (), clean.plan)))
        wrong = [f for f in findings if f.verdict == "found" and f.check not in clean.right]
        assert not wrong, f"{clean.name}: {wrong}"
        told |= {f.check for f in findings if f.verdict != "cannot tell"}
    assert told == {f.check for f in findings}


def test_every_fault_of_the_machine_has_its_place_in_the_table() -> None:
    """Either it must be found at a stated size, or it is said that it cannot be, and why."""
    assert {case.fault for case in CASES if case.switches} | set(BLIND) == set(FAULTS)
