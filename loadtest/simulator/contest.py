"""A contest played on a virtual clock: days of network and user tasks in seconds, and the scores at its end."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from random import Random

import msgspec

from loadtest.rank_score import Maxima, label, rank_score
from loadtest.simulator.faults import Faults
from loadtest.simulator.network import Network, Refusal
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.tasks import SECOND_NS

START_NS = 1_750_000_000 * SECOND_NS  # the same in every contest, so that two of one seed print the same
DAY_S = 86_400
SNAPSHOT_S = 900.0
_COLUMNS = ("node", "operator", "score", "precommit_score", "level", "stake_cor", "uptime", "observed_days")


@dataclass(frozen=True, slots=True)
class Standing:
    """One node at the end. Rates are None where nothing was counted; uptime is pings made over pings due."""

    node_id: str
    address: str  # lower case
    operator: str
    stake_cor: int
    hardware: str
    level: int
    score: float
    precommit_rate: float | None
    commit_rate: float | None
    uptime: float
    network_tasks: int
    earned: int  # smallest unit of COR


@dataclass(frozen=True, slots=True)
class Contest:
    """Standings, best first, and what was played."""

    days: float
    user_tasks: int
    refused: int
    network_tasks: int
    standings: tuple[Standing, ...]

    def table(self) -> str:
        """As text, one node a line."""
        head = (
            f"{self.days:g} days, {len(self.standings)} nodes, {self.user_tasks} user tasks ({self.refused} refused), "
            f"{self.network_tasks} network tasks\n"
            "rank  node      operator     hardware  level  score  label          precommit  commit  uptime   COR earned"
        )
        lines = [
            f"{rank:4d}  {one.node_id:<8}  {one.operator:<11}  {one.hardware:<8}  {one.level:5d}  {one.score:5.2f}  "
            f"{label(one.score):<13}  {_percent(one.precommit_rate):>9}  {_percent(one.commit_rate):>6}  "
            f"{_percent(one.uptime):>6}  {one.earned / 10**18:11.3f}"
            for rank, one in enumerate(self.standings, start=1)
        ]
        return "\n".join([head, *lines])

    def csv(self) -> str:
        """As `loadtest contest` reads it, one node a line. Roles and reports are nothing a network knows of."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_COLUMNS, "hardware", "commit_score", "network_tasks"])
        for one in self.standings:
            rates = [one.precommit_rate, one.commit_rate]
            precommit, commit = ("" if rate is None else f"{rate:.6f}" for rate in rates)
            standing = [one.address, one.operator, f"{one.score:.2f}", precommit, one.level, one.stake_cor]
            writer.writerow([*standing, f"{one.uptime:.6f}", f"{self.days:g}", one.hardware, commit, one.network_tasks])
        return text.getvalue()


def play_contest(scenario: Scenario, seed: int, days: float, faults: Faults | None = None) -> Contest:
    """Play a contest of so many days after the scenario's history. Same arguments, same result."""
    # Nobody reads the leaderboard here; community loggers take a snapshot every 15 minutes.
    clocks = msgspec.structs.replace(scenario.clocks, refresh_s=max(scenario.clocks.refresh_s, SNAPSHOT_S))
    network = Network(msgspec.structs.replace(scenario, clocks=clocks), seed, START_NS, faults=faults)
    begun = {key: (row.ping_counter, row.precommit_counter) for key, row in network.stats.items()}
    started = network.tasks_started
    users, refused = play_users(network, days * DAY_S)
    return Contest(days, users, refused, network.tasks_started - started - users, _standings(network, days, begun))


def play_users(network: Network, seconds: float) -> tuple[int, int]:
    """Offer the scenario's load for so long; returns how many tasks were accepted and how many refused."""
    rng = Random(f"{network.seed}/contest")
    load = network.scenario.load
    sessions = list(network.sessions)
    at_s, start_ns = 0.0, network.now_ns
    accepted = refused = 0
    while (at_s := at_s + rng.expovariate(1 / load.task_every_s)) < seconds:
        try:
            network.submit(
                start_ns + round(at_s * SECOND_NS),
                rng.choice(sessions),
                prompt_tokens=rng.randint(20, max(20, load.prompt_tokens_max)),
                tokens_max=load.tokens_max,
            )
            accepted += 1
        except Refusal:
            refused += 1
    network.advance(start_ns + round(seconds * SECOND_NS))
    return accepted, refused


def _standings(network: Network, days: float, begun: dict[str, tuple[int, int]]) -> tuple[Standing, ...]:
    maxima = Maxima.of(network.stats.values())
    now_s = network.now_ns // SECOND_NS
    pings_due = days * DAY_S / network.scenario.clocks.ping_s
    standings = []
    for node in network.nodes:
        row = network.stats[node.key]
        pings, precommits = begun[node.key]
        standings.append(
            Standing(
                node_id=node.node_id,
                address=node.key,
                operator=node.operator,
                stake_cor=node.stake,
                hardware=node.hardware,
                level=network.pipeline.levels[node.key].value,
                score=rank_score(row, maxima, now_s),
                precommit_rate=_rate(row.precommit_point, row.precommit_counter),
                commit_rate=_rate(row.commit_point, row.commit_counter),
                uptime=min(1.0, (row.ping_counter - pings) / pings_due),
                network_tasks=row.precommit_counter - precommits,
                earned=network.payment.earned.get(node.key, 0),
            )
        )
    return tuple(sorted(standings, key=lambda one: (-one.score, -(one.precommit_rate or 0.0), one.node_id)))


def _rate(points: int, counter: int) -> float | None:
    return points / counter if counter else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
