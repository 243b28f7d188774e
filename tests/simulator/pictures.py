"""Everything a simulated network decided and tells, as plain values: what two runs of one seed are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from loadtest.simulator.faults import Faults
from loadtest.simulator.network import Network
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.tasks import SECOND_NS, Task

START = 1_750_000_000 * SECOND_NS
SCENARIO = msgspec.structs.replace(Scenario(), history_s=600.0)
TASKS = 150
GAP_S = 10  # gentle: no node is ever more than half busy, so that what one task does slows down no other


@dataclass(frozen=True)
class Picture:
    """`tasks` by "SESSION/SERIAL"; the rest by node key, except the ledger."""

    network: Network
    tasks: dict[str, dict[str, Any]]
    copies: list[str]  # keys of duplicates
    stats: dict[str, dict[str, Any]]  # as remembered, without last_active, which user tasks move too
    series: dict[str, Any]  # of network tasks
    user_series: dict[str, Any]
    places: dict[str, Any]  # place and level
    rows: dict[str, dict[str, Any]]  # as told
    lists: dict[str, Any]  # of network tasks, as told
    ledger: list[tuple[Any, ...]]


def play(*switches: str, seed: int = 3, scenario: Scenario = SCENARIO) -> Picture:
    """The same requests against a network with some faults on."""
    network = Network(scenario, seed, START, faults=Faults.read(switches, seed))
    rng = Random(seed)
    sessions = sorted(network.sessions)
    charges: dict[str, int] = {}
    offsets: dict[str, list[int]] = {}
    for i in range(TASKS):
        at_ns = START + i * GAP_S * SECOND_NS
        one = network.submit(at_ns, rng.choice(sessions), prompt_tokens=rng.randint(20, 400), tokens_max=300)
        charges[one.task.key], offsets[one.task.key] = one.charge, one.offsets_ns
    network.advance(START + (TASKS * GAP_S + 303) * SECOND_NS)  # an even number of refreshes
    return picture(network, charges, offsets)


def picture(network: Network, charges: dict[str, int], offsets: dict[str, list[int]]) -> Picture:
    tasks: dict[str, dict[str, Any]] = {}
    copies = []
    for session in network.sessions.values():
        for task in session.tasks.values():
            if task.key in tasks:
                copies.append(task.key)
                continue
            tasks[task.key] = _decisions(task) | {
                "charged": charges.get(task.key),
                "offsets": offsets.get(task.key),
            }
    stats = {key: msgspec.to_builtins(row) for key, row in network.stats.items()}
    for row in stats.values():
        del row["last_active"]
    key_of = {node.node_id: node.key for node in network.nodes}
    levels = network.pipeline.levels
    return Picture(
        network=network,
        tasks=tasks,
        copies=copies,
        stats=stats,
        series={key: one.shape() for key, one in network.reputation.items()},
        user_series={key: one.shape() for key, one in network.session_reputation.items()},
        places={key: (place.value, levels[key].value) for key, place in network.places.items()},
        rows={key_of[row.node_id]: msgspec.to_builtins(row) for row in network.backend.rows},
        lists={key: network.backend.lists(key, one) for key, one in network.reputation.items()},
        ledger=[tuple(line) for line in network.payment.ledger],
    )


def _decisions(task: Task) -> dict[str, Any]:
    works = task.works
    return {
        "id": task.task_id,
        "assigned": [work.node.key for work in works],
        "acked": [work.acked_ns for work in works],
        "precommits": [work.precommit_ns for work in works],
        "commits": [work.commit_ns for work in works],
        "committed": [work.committed for work in works],
        "created": task.created_ns,
        "finished": task.finished_ns,
        "status": int(task.status),
        "tokens": (task.tokens, task.finish_reason),
        "told": task.tokens_told,
        "model": task.model,
        "charge": task.charge,
        "returned": None if task.returned is None else task.returned.node.key,
        "why": task.chosen_because,
        "faults": task.faults,
    }
