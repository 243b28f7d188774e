"""A simulated contest told by its leaderboards alone: stored, imported and judged, against what the network knows."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from loadtest.analysis.contest_rules import load_rules
from loadtest.analysis.observed_standing import observed_entrants
from loadtest.observe.importing import Import
from loadtest.rank_score import Maxima, rank_score
from loadtest.simulator.contest import START_NS, play_users
from loadtest.simulator.control import leaderboard
from loadtest.simulator.network import Network
from loadtest.simulator.scenario import load_scenario

SECOND = 10**9
QUARTER_S, PING_S = 900.0, 301.0
QUARTERS = 2 * 96


def test_standings_from_leaderboards_are_those_of_the_network(tmp_path: Path) -> None:
    scenario = msgspec.structs.replace(load_scenario("churn"), nodes=16)
    clocks = msgspec.structs.replace(scenario.clocks, refresh_s=QUARTER_S, ping_s=PING_S)
    network = Network(msgspec.structs.replace(scenario, clocks=clocks), 7, START_NS)
    pings = {}
    with (tmp_path / "boards.jsonl").open("w") as file:
        for _ in range(QUARTERS):
            play_users(network, QUARTER_S)
            pings_then = {row.miner.lower(): row.ping_counter for row in network.backend.rows}
            pings = pings or pings_then
            board = msgspec.to_builtins(leaderboard(network))
            file.write(json.dumps({"timestamp": network.now_ns // SECOND, "leaderboard": board}) + "\n")
    rows = {row.miner.lower(): row for row in network.backend.rows}

    run = tmp_path / "run"
    run.mkdir()
    work = Import(run, network.now_ns + SECOND)
    work.add(tmp_path / "boards.jsonl", None, None)
    account = work.finish()
    assert (account["mistaken"], account["leaderboards"], account["nodes"]) == (0, QUARTERS, 16)

    seen = observed_entrants(run, load_rules("phase4-founding").uptime)
    maxima, due = Maxima.of(rows.values()), (QUARTERS - 1) * QUARTER_S / PING_S
    assert {one.node for one in seen.nodes} == rows.keys()
    uptimes = []
    for one in seen.nodes:
        row = rows[one.node]
        assert one.score is not None and one.precommit_score is not None and one.uptime is not None
        assert float(one.score) == rank_score(row, maxima, network.now_ns // SECOND)
        assert float(one.precommit_score) == pytest.approx(row.precommit_point / row.precommit_counter)
        uptimes.append(min(1.0, (row.ping_counter - pings[one.node]) / due))
        assert float(one.uptime) == pytest.approx(uptimes[-1], abs=0.003)  # one ping of the 571 due, rounded down
    assert min(uptimes) < 0.95 and len(set(uptimes)) > 8  # nodes come and go in this scenario
