"""Fault switches: how they are written, and that each decision stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.simulator.faults import FAULTS, FaultError, Faults, Switch, check_targets, read_switch
from loadtest.simulator.scenario import scenario_names

DOCS = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
NODES = [f"node-{i:03d}" for i in range(1, 101)]
keys = st.text(max_size=20)
names = st.sampled_from(list(FAULTS))


@pytest.mark.parametrize(
    ("text", "switch"),
    [
        ("lost-task", Switch("lost-task", FAULTS["lost-task"].usual_rate)),
        ("lost-task=0.5", Switch("lost-task", 0.5)),
        (" lost-task=1@11 ", Switch("lost-task", 1.0, "11")),
        ("starved-node=1@node-007", Switch("starved-node", 1.0, "node-007")),
        ("429-storm=0", Switch("429-storm", 0.0)),
    ],
)
def test_a_switch_is_read(text: str, switch: Switch) -> None:
    assert read_switch(text) == switch


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lost-tsak", "did you mean lost-task?"),
        ("zzz", "there are: biased-shuffle, "),
        ("", "no fault is called ''"),
        ("lost-task=", "'' is no rate; write lost-task=0.1"),
        ("lost-task=often", "'often' is no rate"),
        ("lost-task=nan", "from 0 to 1"),
        ("lost-task=1.1", "from 0 to 1"),
        ("lost-task=-1@11", "from 0 to 1"),
        ("lost-task=1@", "the target after @ is missing"),
        ("stale-snapshot=1@11", "takes no target"),
    ],
)
def test_a_mistake_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(FaultError) as caught:
        read_switch(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_switch_twice_is_a_mistake_and_two_targets_are_not() -> None:
    with pytest.raises(FaultError, match="given twice"):
        Faults.read(["lost-task", "lost-task=0.5"], 1)
    both = Faults.read(["lost-task=1@11", "lost-task=1@12"], 1)
    assert both.strikes("lost-task", "11/1", "11") and both.strikes("lost-task", "12/1", "12")
    assert not both.strikes("lost-task", "21/1", "21")


def test_a_target_nobody_has_is_a_mistake() -> None:
    check_targets(Faults.read(["lost-task=1@11", "starved-node=1@node-002", "crlf"], 1), NODES, ["11", "12"])
    with pytest.raises(FaultError, match="no session is called '13'; there are 11, 12"):
        check_targets(Faults.read(["lost-task=1@13"], 1), NODES, ["11", "12"])
    with pytest.raises(FaultError, match="no node is called '11'; there are node-001 to node-100"):
        check_targets(Faults.read(["starved-node=1@11"], 1), NODES, ["11", "12"])


@given(st.integers(), keys, names)
def test_off_and_zero_never_strike_and_one_always_does(seed: int, key: str, name: str) -> None:
    assert not Faults([], seed).strikes(name, key)
    assert not Faults([Switch(name, 0.0)], seed).strikes(name, key)
    assert Faults([Switch(name, 1.0)], seed).strikes(name, key)


@given(st.integers(), keys, names, names, st.floats(0, 1), st.floats(0, 1))
def test_a_decision_stands_alone_and_grows_with_the_rate(
    seed: int, key: str, name: str, other: str, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    alone = Faults([Switch(name, low)], seed).strikes(name, key)
    if other != name:
        assert Faults([Switch(other, high), Switch(name, low)], seed).strikes(name, key) == alone
    assert not alone or Faults([Switch(name, high)], seed).strikes(name, key)


def test_the_rate_is_kept_and_seed_and_name_matter() -> None:
    struck = {
        (seed, name): [Faults([Switch(name, 0.1)], seed).strikes(name, f"11/{i}") for i in range(5_000)]
        for seed in (1, 2)
        for name in ("lost-task", "stuck-task")
    }
    for decisions in struck.values():
        assert 400 < sum(decisions) < 600  # 500, and five standard deviations to each side
    assert len({tuple(decisions) for decisions in struck.values()}) == 4


@given(st.integers(), st.floats(0.001, 1))
def test_victims_are_some_and_at_least_one(seed: int, rate: float) -> None:
    victims = Faults([Switch("starved-node", rate)], seed).victims("starved-node", NODES[:20])
    assert victims and victims <= set(NODES)
    assert Faults([Switch("starved-node", rate, "node-003")], seed).victims("starved-node", NODES) == {"node-003"}
    assert not Faults([Switch("starved-node", 0.0)], seed).victims("starved-node", NODES)


@given(st.integers(), keys, st.integers(1, 100))
def test_a_choice_is_in_range(seed: int, key: str, count: int) -> None:
    assert 0 <= Faults([], seed).choose("cut-stream", key, count) < count


def test_the_table_of_the_documentation_is_the_code_s() -> None:
    lines = [line for line in DOCS.splitlines() if line.startswith(("| node |", "| task |", "| snapshot |", "| conn"))]
    assert lines == [f"| {one.kind} | `{name}` | {one.usual_rate:g} | {one.what} |" for name, one in FAULTS.items()]
    assert all(f"- `{name}`" in DOCS for name in scenario_names())
