"""A task and its way through the pipeline: queued, acked, precommitted, committed, ended.

Everything random about a task is drawn once, when it is submitted, from its own stream (seed, kind, session, id);
so the decision on task 17 does not depend on how many others are under way, only its load-dependent speed does.
Instants are Unix nanoseconds on the machine's clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate
from random import Random

from loadtest.simulator.nodes import Node

SECOND_NS = 1_000_000_000
NEVER_NS = 1 << 62  # an instant that does not come
NETWORK_PACE = 4  # simulated nodes are so much faster than the documented ones; documented deadlines shrink likewise
PRECOMMIT_TIMEOUT_S = 90.0  # what clients of a real router send
TRANSACTION_S = 3.0  # median until a chain transaction confirms, with a tail; tools give up after 30 to 45 s
ORACLE_TICK_S = 5.0  # an oracle that watches deadlines closes a phase this long after the last node could have answered
NATURAL_TOKENS_MEDIAN = 160  # an answer that no cap stops: lognormal
NATURAL_TOKENS_SIGMA = 0.7
NATURAL_TOKENS_MAX = 1500

_GAPS = tuple(  # relative decode intervals: mostly even, sometimes a pause. One table for all; each task draws from it.
    Random(f"gap/{i}").lognormvariate(-0.03, 0.25) * (Random(f"pause/{i}").uniform(3, 12) if i % 97 == 0 else 1.0)
    for i in range(1024)
)


class Status(IntEnum):
    """Task status as the router's REST API numbers it; 4 is documented, 0 to 3 follow the order of the states."""

    QUEUED = 0
    ACKED = 1
    PRECOMMITTED = 2
    COMMITTED = 3
    ENDED = 4


@dataclass(slots=True)
class Work:
    """One node's part in a task. `precommit_ns` and `commit_ns` are None when the node misses that stage."""

    node: Node
    first_ns: int  # its first token
    ready_ns: int  # its last token
    acked_ns: int
    precommit_ns: int | None = None
    commit_ns: int | None = None
    leaves_ns: int = NEVER_NS  # when the node goes away: what is not done by then is lost
    claims: bool = False  # a fault: what it misses is recorded as done
    precommit_entry_s: int = 0  # what the timestamp lists say of it
    commit_entry_s: int = 0
    precommitted: bool = False
    committed: bool = False


@dataclass(slots=True)
class Task:
    """A user task of a session, or a network task of the cognitive module (session "")."""

    session: str
    task_id: int
    created_ns: int
    works: list[Work]
    tokens: int
    finish_reason: str = "stop"
    serial: int = 0  # counts what clients submitted to the session; equals `task_id` unless tasks were duplicated
    returned: Work | None = None  # whose text the client gets; None: nobody's
    chosen_because: str = ""  # why these nodes, and why this one's text
    model: str = ""
    tokens_told: int = 0  # what usage and charge count
    charge: int = 0  # all that this task costs its session
    faults: tuple[str, ...] = ()  # that struck it
    is_lost: bool = False
    is_stuck: bool = False
    status: Status = Status.QUEUED
    finished_ns: int | None = None
    precommit_end_ns: int = 0
    commit_end_ns: int = 0
    acks_left: int = field(init=False)

    def __post_init__(self) -> None:
        self.acks_left = len(self.works)

    @property
    def is_network(self) -> bool:
        return not self.session

    @property
    def key(self) -> str:
        """What a fault's decision about this task is keyed by."""
        return f"{self.session}/{self.serial}"


def draw_tokens(rng: Random, tokens_max: int) -> tuple[int, str]:
    """Length of an answer and its finish reason: a seeded natural stop, or "length" when the cap comes first."""
    natural = round(NATURAL_TOKENS_MEDIAN * rng.lognormvariate(0.0, NATURAL_TOKENS_SIGMA))
    natural = min(max(natural, 8), NATURAL_TOKENS_MAX)
    return (natural, "stop") if natural <= tokens_max else (tokens_max, "length")


def draw_work(
    rng: Random, node: Node, in_flight: int, now_ns: int, prompt_tokens: int, tokens: int, speed: float
) -> Work:
    """One node's service times. It slows down as soon as more than half of its slots are busy."""
    slowdown = 1.0 + max(0.0, in_flight - node.slots / 2) / node.slots
    overhead_ns = 35e6 * rng.lognormvariate(0.0, 0.5)  # router, queue and WebSocket, without a published figure
    prefill_ns = prompt_tokens * node.prefill_ns * slowdown * rng.lognormvariate(0.0, 0.15)
    decode_ns = (tokens - 1) * node.decode_ns * slowdown * rng.lognormvariate(0.0, 0.1)
    first_ns = now_ns + round((overhead_ns + node.distance_ns + prefill_ns) / speed)
    return Work(
        node=node,
        first_ns=first_ns,
        ready_ns=first_ns + round(decode_ns / speed),
        acked_ns=now_ns + round(80e6 * rng.lognormvariate(0.0, 0.4) / speed),
    )


def draw_offsets(rng: Random, work: Work, created_ns: int, tokens: int) -> list[int]:
    """When each token of the returned text is there, in ns after creation; the last one exactly at `ready_ns`.

    What a node that goes away has not said by then never comes: the list ends with NEVER_NS.
    """
    first = work.first_ns - created_ns
    ends = list(accumulate(rng.choices(_GAPS, k=tokens - 1)))
    scale = (work.ready_ns - work.first_ns) / ends[-1] if ends else 0.0
    offsets = [first, *(first + round(end * scale) for end in ends)]
    if work.leaves_ns < work.ready_ns:
        offsets = [*offsets[: bisect_left(offsets, work.leaves_ns - created_ns)], NEVER_NS]
    return offsets


def plan_stages(
    rng: Random, works: Sequence[Work], created_ns: int, precommit_timeout_s: float, speed: float
) -> tuple[int, int]:
    """Decide who precommits and commits, and when; returns the ends of both phases.

    A precommit is missed when the node loses the task (its reliability) or when text and chain transaction
    together come after the deadline. The phase ends when all have precommitted, or an oracle tick after the last
    node could have. Commits start then; nodes that missed the precommit have no part in them. A node that goes away
    misses what comes after.
    """
    pace = NETWORK_PACE * speed
    tick_ns = round(ORACLE_TICK_S / pace * SECOND_NS)
    deadline_ns = created_ns + round(precommit_timeout_s / pace * SECOND_NS)
    for work in works:
        at_ns = max(work.ready_ns, work.acked_ns) + _transaction_ns(rng, pace)
        kept = rng.random() < 1.0 - 0.7 * (1.0 - work.node.reliability)
        work.precommit_ns = at_ns if kept and at_ns <= min(deadline_ns, work.leaves_ns) else None
    precommit_end = _phase_end([w.precommit_ns for w in works], max(w.ready_ns for w in works) + tick_ns, deadline_ns)
    precommit_end = max(precommit_end, max(w.acked_ns for w in works))
    for work in works:
        at_ns = precommit_end + _transaction_ns(rng, pace)
        kept = rng.random() < 1.0 - 0.3 * (1.0 - work.node.reliability)
        kept = kept and at_ns <= work.leaves_ns
        work.commit_ns = at_ns if kept and work.precommit_ns is not None else None
    expected = [w.commit_ns for w in works if w.precommit_ns is not None]
    return precommit_end, _phase_end(expected, precommit_end + tick_ns, deadline_ns + precommit_end - created_ns)


def _phase_end(successes: list[int | None], oracle_ns: int, deadline_ns: int) -> int:
    """All in: at the last success. Somebody missing: when the oracle notices, never before a success in time."""
    last = max((s for s in successes if s is not None), default=0)
    if successes and all(s is not None for s in successes):
        return last
    return max(last, min(oracle_ns, deadline_ns))


def _transaction_ns(rng: Random, pace: float) -> int:
    return round(TRANSACTION_S * rng.lognormvariate(0.0, 0.6) / pace * SECOND_NS)
