"""What the network says of itself: the documented shapes of the GET routes, built from the state machine.

Pure functions of a Network. Addresses appear in mixed case in the stats backend's routes and in lower case in the
router's, so that a client which forgets to fold them loses its join here and not in the field.
"""

from __future__ import annotations

import hashlib
from typing import Any

from loadtest.simulator.network import Network
from loadtest.simulator.sessions import Session
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
    return answer_pieces(network.seed, task.session, str(task.task_id), work.node.key, task.tokens)


def node_counts(network: Network) -> dict[str, int]:
    """All simulated nodes are ephemeral."""
    return {"dedicated_count": 0, "ephemeral_count": len(network.nodes), "total_count": len(network.nodes)}


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
        "connected_miners": len(network.nodes),
        "active_sessions": len(network.sessions),
    }


def miners(network: Network) -> dict[str, Any]:
    """Keys of `nodes` and fields of an entry are not documented; these are ours."""
    nodes = {
        node.key: {
            "address": node.key,
            "node_id": node.node_id,
            "operator": node.operator,
            "model": node.model,
            "hardware": node.hardware,
            "pool": network.places[node.key].value,
        }
        for node in network.nodes
    }
    return {"nodes": nodes, "stats": node_counts(network)}


def session(one: Session) -> dict[str, Any]:
    """The documented fields of a session, and after them what a chain reader would know of it."""
    return {
        "id": one.session_id,
        "active": True,
        "owner": one.owner,
        "miners_count": len(one.reserved),
        "created_at": one.created_ns // SECOND_NS,
        "updated_at": one.updated_ns // SECOND_NS,
        "model_identifier": one.model,
        "redundant": one.redundancy,
        "miners": [node.key for node in one.reserved],
    }


def sessions(network: Network) -> dict[str, Any]:
    return {"count": len(network.sessions), "sessions": [session(one) for one in network.sessions.values()]}


def task(network: Network, one: Task) -> dict[str, Any]:
    """One task in the shape claim-check reads: results appear in the order in which nodes committed."""
    done = sorted((w for w in one.works if w.committed), key=lambda w: w.commit_ns or 0)
    return {
        "assigned_miners": [w.node.key for w in one.works],
        "created_at": one.created_ns // SECOND_NS,
        "finished_at": None if one.finished_ns is None else one.finished_ns // SECOND_NS,
        "status": int(one.status),
        "results": {"data": [text_of(network, one, w) for w in done], "miners": [w.node.key for w in done]},
    }


def tasks(network: Network, one: Session) -> dict[str, Any]:
    """The list form: flat results, aligned with `assigned_miners`, "" for a node without a commit so far."""
    newest = sorted(one.tasks)[-TASKS_LISTED_MAX:]
    return {"tasks": [_listed(network, one.tasks[task_id]) for task_id in newest]}


def _listed(network: Network, one: Task) -> dict[str, Any]:
    results = [text_of(network, one, w) if w.committed else "" for w in one.works]
    hashes = ["0x" + hashlib.sha256(text.encode()).hexdigest() if text else "" for text in results]
    return {
        "id": one.task_id,
        "status": int(one.status),
        "assigned_miners": [w.node.key for w in one.works],
        "results": results,
        "results_hash": hashes,
    }


def leaderboard_by_address(network: Network) -> list[dict[str, Any]]:
    return [{"miner": stats.miner, "nodes": [stats]} for stats in network.stats.values()]


def network_stats_tasks(network: Network) -> dict[str, Any]:
    """The newest tasks of the cognitive module; readers take the highest number."""
    return {"stats": {str(number): {"session_id": number} for number in network.rounds}}


def model_list(network: Network, created_s: int) -> dict[str, Any]:
    """`GET /v1/models`: the models that some session serves."""
    names = sorted({one.model for one in network.sessions.values()})
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": created_s, "owned_by": "simulator"} for name in names],
    }
