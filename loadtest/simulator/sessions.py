"""Sessions and the node pool: who may serve whom, and for how long.

An ephemeral node is *pooled*; a session takes it out (*reserved*) and releases it after so many tasks or seconds;
a released node must pass a cognitive check again (*checking*) before the oracle's tick pools it again. A node that
has not pinged for too long is *offline*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from loadtest.simulator.nodes import Node, draw_address
from loadtest.simulator.scenario import SessionRule
from loadtest.simulator.tasks import SECOND_NS, Task

TASKS_KEPT = 8000  # per session, newest; a look-up of an older one is a 404
IN_FLIGHT_SLOTS = 2  # a node with more than twice its slots in work gets no further task while others have room


class Place(StrEnum):
    """Where a node stands with the node pool."""

    POOLED = "pooled"
    RESERVED = "reserved"
    CHECKING = "checking"
    OFFLINE = "offline"


@dataclass(slots=True)
class Session:
    """A session as created on chain: one model, shared by all users of an app; not a chat thread."""

    session_id: str
    owner: str
    model: str
    rule: SessionRule
    redundancy: int
    reserve_max: int
    created_ns: int
    updated_ns: int
    drawn_ns: int = 0
    tasks_since_drawn: int = 0
    draws: int = 0
    tasks_started: int = 0  # task ids given; duplicates included
    submitted: int = 0
    reserved: list[Node] = field(default_factory=list)
    tasks: dict[int, Task] = field(default_factory=dict)

    def needs_draw(self, now_ns: int, speed: float) -> bool:
        due = now_ns - self.drawn_ns >= self.rule.reserve_s / speed * SECOND_NS
        return due or self.tasks_since_drawn >= self.rule.reserve_tasks or len(self.reserved) < self.redundancy

    def keep(self, task: Task) -> None:
        """Store a new task and forget the oldest beyond TASKS_KEPT."""
        self.tasks[task.task_id] = task
        if len(self.tasks) > TASKS_KEPT:
            del self.tasks[next(iter(self.tasks))]


def make_sessions(
    seed: int, rules: Sequence[SessionRule], nodes: Sequence[Node], created_ns: int
) -> dict[str, Session]:
    """The sessions of the network, one model each as far as there are nodes for it."""
    rng = Random(f"{seed}/sessions")
    models = sorted({node.model for node in nodes})
    sessions = {}
    for i, rule in enumerate(rules):
        model = models[i % len(models)]
        able = sum(node.model == model for node in nodes)
        wanted = rule.max_nodes or max(rule.redundancy, able // 2)
        sessions[rule.id] = Session(
            session_id=rule.id,
            owner=draw_address(rng),
            model=model,
            rule=rule,
            redundancy=min(rule.redundancy, able),
            reserve_max=min(able, wanted),
            created_ns=created_ns,
            updated_ns=created_ns,
        )
    return sessions


def draw_reserve(rng: Random, session: Session, pooled: Sequence[Node]) -> list[Node]:
    """The nodes a session reserves next: shuffled from the pool, with present ones kept when the pool is short."""
    drawn = rng.sample(pooled, min(len(pooled), session.reserve_max))
    short = session.reserve_max - len(drawn)
    return drawn + rng.sample(session.reserved, min(short, len(session.reserved)))
