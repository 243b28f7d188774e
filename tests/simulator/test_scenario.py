"""Scenario files: all that are shipped are sound, and a mistake is one line."""

from __future__ import annotations

import pytest

from loadtest.simulator.__main__ import main
from loadtest.simulator.scenario import Scenario, ScenarioError, load_scenario, read_scenario, scenario_names


def test_the_shipped_scenarios() -> None:
    assert scenario_names() == ["churn", "control", "degraded", "phase4", "small"]
    for name in scenario_names():
        assert load_scenario(name).name == name
    assert load_scenario("small") == Scenario()
    phase4 = load_scenario("phase4")
    assert (phase4.nodes, phase4.pace, phase4.clocks.pool_tick_s) == (150, 1.0, 300.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes = ", "Invalid value"),
        ("nodes = 0", "`int` >= 1 - at `$.nodes`"),
        ("nods = 1", "unknown field `nods`"),
        ("[clocks]\nping_s = 0", "at `$.clocks.ping_s`"),
        ("[clocks]\nping = 1", "unknown field `ping` - at `$.clocks`"),
        ('[payment]\non_empty = "shrug"', "at `$.payment.on_empty`"),
        ("sessions = []", "at `$.sessions`"),
        ('sessions = [{id = "a"}]', "id 'a' is no number"),
        ('sessions = [{id = "1"}, {id = "1"}]', "two have the same id"),
        ('sessions = [{id = "1", redundancy = 3, max_nodes = 2}]', "session 1: max_nodes is below"),
    ],
)
def test_a_mistake_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_scenario(text, "mine")
    assert str(caught.value).startswith("scenario mine: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scenario", "smal"], "not known; there are churn, control, degraded, phase4, small"),
        (["--scenario", "no/such.toml"], "No such file or directory"),
        (["--fault", "lost-tsak"], "did you mean lost-task?"),
        (["--fault", "lost-task=1@99"], "no session is called '99'; there are 11, 12, 21"),
        (["--nodes", "3", "--fault", "starved-node=1@node-004"], "there are node-001 to node-003"),
        (["--contest", "0"], "must be above 0"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert told in line


def test_the_command_plays_a_contest(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--scenario", "small", "--nodes", "6", "--seed", "7", "--contest", "0.1", "--fault", "lost-task=0.1"]
    printed = []
    for _ in range(2):
        assert main(command) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    head, _, *lines = printed[0].splitlines()
    assert head.startswith("0.1 days, 6 nodes, ")
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "5", "6"]
