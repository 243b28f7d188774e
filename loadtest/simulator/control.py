"""What the network says of itself: the documented shapes of the GET routes, built from the state machine.

Pure functions of a Network. Addresses appear in mixed case in the stats backend's routes and in lower case in the
router's, so that a client which forgets to fold them loses its join here and not in the field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from loadtest.simulator.network import Network
from loadtest.simulator.reputation import Reputation
from loadtest.simulator.sessions import Place, Session
from loadtest.simulator.tasks import SECOND_NS, Task, Work
from loadtest.simulator.words import answer_pieces

VERSION = "sim-0.1"
TASKS_LISTED_MAX = 8  # the list route gives the newest; texts are drawn again for each, which must not stall streams
ROUTER_ADDRESS = "0x" + "5e" * 20


def text_of(network: Network, task: Task, work: Work) -> str:
    """The text one node gave for a task."""
    return "".join(pieces_of(network, task, work))


def pieces_of(network: Network, task: Task, work: Work) -> tuple[str, ...]:
    """The same, one piece per token."""
    return answer_pieces(network.seed, task.session, str(task.serial), work.node.key, task.tokens)


def connected(network: Network) -> int:
    """Nodes that the router believes to be there: those that pinged in time."""
    return sum(place is not Place.OFFLINE for place in network.places.values())


def node_counts(network: Network) -> dict[str, int]:
    """All simulated nodes are ephemeral."""
    count = connected(network)
    return {"dedicated_count": 0, "ephemeral_count": count, "total_count": count}


def info(network: Network, host: str) -> dict[str, Any]:
    return {
        "name": "simulated router",
        "version": VERSION,
        "address": ROUTER_ADDRESS,
        "ip_address": host,
        "active_sessions": len(network.sessions),
        "total_sessions": len(network.sessions),
        "node_stats": node_counts(network),
    }


def status(network: Network, uptime_s: int, cpu_percent: float, memory_percent: float) -> dict[str, Any]:
    """Units of the real route are not documented: seconds and percent here."""
    return {
        "uptime": uptime_s,
        "cpu_usage": cpu_percent,
        "memory_usage": memory_percent,
        "connected_miners": connected(network),
        "active_sessions": len(network.sessions),
    }


def miners(network: Network) -> dict[str, Any] | list[Any]:
    """Keys of `nodes` and fields of an entry are not documented; these are ours. Three variants of the whole."""
    nodes = {
        node.key: {
            "address": node.key,
            "node_id": node.node_id,
            "operator": node.operator,
            "model": node.model,
            "hardware": node.hardware,
            "region": node.region,
            "stake": node.stake,
            "level": network.pipeline.levels[node.key].value,
            "pool": network.places[node.key].value,
        }
        for node in network.nodes
        if network.places[node.key] is not Place.OFFLINE
    }
    variant = network.scenario.variants.miners
    if variant == "bare-list":
        return list(nodes.values())
    if variant == "list":
        return {"miners": list(nodes.values())}
    return {"nodes": nodes, "stats": node_counts(network)}


def session(network: Network, one: Session) -> dict[str, Any]:
    """The documented fields of a session, and after them what a chain reader would know of it."""
    return {
        network.scenario.variants.session_key: one.session_id,
        "active": True,
        "owner": one.owner,
        "miners_count": len(one.reserved),
        "created_at": one.created_ns // SECOND_NS,
        "updated_at": one.updated_ns // SECOND_NS,
        "model_identifier": one.model,
        "redundant": one.redundancy,
        "miners": [node.key for node in one.reserved],
        "balance": str(network.payment.balance[one.session_id]),  # too large for many a JSON reader's numbers
    }


def sessions(network: Network) -> dict[str, Any]:
    listed = [session(network, one) for one in network.sessions.values()]
    return {"count": len(listed), "sessions": listed}


def task(network: Network, one: Task) -> dict[str, Any]:
    """One task in the shape claim-check reads: results appear in the order in which nodes committed.

    The variant "flat" gives them as the list form does.
    """
    shape: dict[str, Any] = {
        "assigned_miners": [w.node.key for w in one.works],
        "created_at": one.created_ns // SECOND_NS,
        "finished_at": None if one.finished_ns is None else one.finished_ns // SECOND_NS,
        "status": int(one.status),
    }
    if network.scenario.variants.task_results == "flat":
        return shape | _flat_results(network, one)
    done = sorted((w for w in one.works if w.committed), key=lambda w: w.commit_ns or 0)
    texts = [text_of(network, one, w) for w in done]
    return shape | {"results": {"data": texts, "miners": [w.node.key for w in done]}}


def tasks(network: Network, one: Session) -> dict[str, Any]:
    """The list form: flat results, aligned with `assigned_miners`, "" for a node without a commit so far."""
    newest = sorted(one.tasks)[-TASKS_LISTED_MAX:]
    return {"tasks": [_listed(network, one.tasks[task_id]) for task_id in newest]}


def _listed(network: Network, one: Task) -> dict[str, Any]:
    assigned = [w.node.key for w in one.works]
    shape = {"id": one.task_id, "status": int(one.status), "assigned_miners": assigned}
    return shape | _flat_results(network, one)


def _flat_results(network: Network, one: Task) -> dict[str, list[str]]:
    results = [text_of(network, one, w) if w.committed else "" for w in one.works]
    hashes = ["0x" + hashlib.sha256(text.encode()).hexdigest() if text else "" for text in results]
    return {"results": results, "results_hash": hashes}


def leaderboard(network: Network) -> list[Any]:
    return network.backend.leaderboard(network.scenario.variants.leaderboard)


def leaderboard_by_address(network: Network) -> list[dict[str, Any]]:
    """Each simulated node has an address of its own, so each has one row."""
    rows = zip(network.backend.rows, leaderboard(network), strict=True)
    return [{"miner": row.miner, "nodes": [shape]} for row, shape in rows]


def reputation(network: Network, address: str, series: Mapping[str, Reputation]) -> dict[str, Any] | None:
    """Timestamp lists of one series, or None for a node the backend does not know. Any case of the address does."""
    key = address.lower()
    found = series.get(key)
    return None if found is None else network.backend.lists(key, found)


def network_stats_tasks(network: Network) -> dict[str, Any]:
    """The newest tasks of the cognitive module; readers take the highest number. Three variants of the whole."""
    stats = {str(number): {"session_id": number} for number in network.rounds}
    variant = network.scenario.variants.network_tasks
    return stats if variant == "bare" else {variant: stats}


def model_list(network: Network, created_s: int) -> dict[str, Any]:
    """`GET /v1/models`: the models that some session serves."""
    names = sorted({one.model for one in network.sessions.values()})
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": created_s, "owned_by": "simulator"} for name in names],
    }
