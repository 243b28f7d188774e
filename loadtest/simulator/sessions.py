"""Sessions and the node pool: who may serve whom, and for how long.

An ephemeral node is *pooled*; a session takes it out (*reserved*) and releases it after so many tasks or seconds;
a released node must pass a cognitive check again (*checking*) before it is pooled again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from loadtest.simulator.nodes import Node, draw_address
from loadtest.simulator.tasks import SECOND_NS, Task

RESERVE_S = 300  # of the documented session example
RESERVE_TASKS = 60  # the example says 5; at the rates of a load test that would empty the pool in seconds
TASKS_KEPT = 8000  # per session, newest; a look-up of an older one is a 404
IN_FLIGHT_SLOTS = 2  # a node with more than twice its slots in work gets no further task while others have room


class Place(StrEnum):
    """Where a node stands with the node pool."""

    POOLED = "pooled"
    RESERVED = "reserved"
    CHECKING = "checking"


@dataclass(slots=True)
class Session:
    """A session as created on chain: one model, shared by all users of an app; not a chat thread."""

    session_id: str
    owner: str
    model: str
    redundancy: int
    reserve_max: int
    created_ns: int
    updated_ns: int
    drawn_ns: int = 0
    tasks_since_drawn: int = 0
    draws: int = 0
    tasks_started: int = 0
    reserved: list[Node] = field(default_factory=list)
    tasks: dict[int, Task] = field(default_factory=dict)

    def needs_draw(self, now_ns: int) -> bool:
        due = now_ns - self.drawn_ns >= RESERVE_S * SECOND_NS or self.tasks_since_drawn >= RESERVE_TASKS
        return due or not self.reserved

    def keep(self, task: Task) -> None:
        """Store a new task and forget the oldest one beyond TASKS_KEPT, unless it is still open."""
        self.tasks[task.task_id] = task
        if len(self.tasks) > TASKS_KEPT:
            oldest = next(iter(self.tasks))
            if self.tasks[oldest].finished_ns is not None:
                del self.tasks[oldest]


SESSIONS: tuple[tuple[str, int], ...] = (("11", 1), ("12", 2), ("21", 3))  # id, redundancy


def make_sessions(seed: int, nodes: Sequence[Node], created_ns: int) -> dict[str, Session]:
    """The sessions of the network, one model each as far as there are nodes for it."""
    rng = Random(f"{seed}/sessions")
    models = sorted({node.model for node in nodes})
    sessions = {}
    for i, (session_id, redundancy) in enumerate(SESSIONS):
        model = models[i % len(models)]
        able = sum(node.model == model for node in nodes)
        sessions[session_id] = Session(
            session_id=session_id,
            owner=draw_address(rng),
            model=model,
            redundancy=min(redundancy, able),
            reserve_max=min(able, max(redundancy, able // 2)),
            created_ns=created_ns,
            updated_ns=created_ns,
        )
    return sessions


def draw_reserve(rng: Random, session: Session, pooled: Sequence[Node]) -> list[Node]:
    """The nodes a session reserves next: shuffled from the pool, with present ones kept when the pool is short."""
    drawn = rng.sample(pooled, min(len(pooled), session.reserve_max))
    short = session.reserve_max - len(drawn)
    return drawn + rng.sample(session.reserved, min(short, len(session.reserved)))


def choose_nodes(rng: Random, session: Session, in_flight: dict[str, int]) -> list[Node]:
    """The nodes of one task: shuffled among the reserved ones that have room.

    Under overload a task gets fewer nodes than its redundancy rather than one more on a node that is full: else a
    slow node's queue grows without bound. Only when no reserved node has room are all of them eligible again.
    """
    free = [node for node in session.reserved if in_flight[node.key] < IN_FLIGHT_SLOTS * node.slots]
    eligible = free or session.reserved
    return rng.sample(eligible, min(session.redundancy, len(eligible)))
