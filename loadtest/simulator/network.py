"""The network as a state machine: time goes in, decisions come out. No sockets, no sleeping, no clock.

`advance(now_ns)` plays everything that is due; `submit` starts a user task. Network tasks of the cognitive module,
re-validation of released nodes and user tasks go through the same pipeline, so counters and both reputation series
follow from what the nodes did and from nothing else. Before `start_ns` a seeded history is played the same way.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from loadtest.simulator.nodes import Node, draw_nodes
from loadtest.simulator.reputation import NodeStats, Reputation, Stage
from loadtest.simulator.sessions import Place, Session, choose_nodes, draw_reserve, make_sessions
from loadtest.simulator.tasks import (
    NETWORK_PACE,
    PRECOMMIT_TIMEOUT_S,
    SECOND_NS,
    TRANSACTION_S,
    Status,
    Task,
    Work,
    draw_offsets,
    draw_tokens,
    draw_work,
    plan_stages,
)

HISTORY_S = 8 * 3600
PING_S = 301  # nodes ping just over every five minutes
ROUND_S = 10  # a network task is created this often
ROUND_MINERS = 3
HISTORY_USER_TASK_S = 45
ROUNDS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Submitted:
    """A task just accepted, and when each token of the returned text is there (ns after creation)."""

    task: Task
    offsets_ns: list[int]


class Network:
    """Nodes, pool, sessions, tasks and what is remembered of them. Instants are Unix ns and never run backwards."""

    def __init__(self, seed: int, nodes: int, start_ns: int, speed: float = 1.0, history_s: int = HISTORY_S) -> None:
        self.seed = seed
        self.speed = speed
        self.now_ns = start_ns - history_s * SECOND_NS
        self.nodes = draw_nodes(seed, nodes)
        self.sessions = make_sessions(seed, self.nodes, self.now_ns)
        self.places = {node.key: Place.POOLED for node in self.nodes}
        self.stats = {node.key: NodeStats(node.address, node.node_id) for node in self.nodes}
        self.reputation = {node.key: Reputation() for node in self.nodes}
        self.session_reputation = {node.key: Reputation() for node in self.nodes}
        self.in_flight = {node.key: 0 for node in self.nodes}
        self.rounds: dict[int, int] = {}  # newest network tasks: id -> creation, Unix ns
        self.tasks_started = 0
        self.tasks_ended = 0
        self._rounds_started = 0
        self._checked_now: set[str] = set()  # nodes with a network task under way
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._event_count = 0
        self._begin()
        self._play_history(start_ns)

    # Time.

    def advance(self, now_ns: int) -> None:
        """Play all that is due up to `now_ns`. An earlier instant than the last one changes nothing."""
        events = self._events
        while events and events[0][0] <= now_ns:
            at_ns, _, action, arguments = heapq.heappop(events)
            self.now_ns = at_ns
            action(*arguments)
        self.now_ns = max(self.now_ns, now_ns)

    def _at(self, at_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        self._event_count += 1  # breaks ties, so that equal instants play in the order they were planned
        heapq.heappush(self._events, (at_ns, self._event_count, action, arguments))

    def _begin(self) -> None:
        rng = Random(f"{self.seed}/pings")
        for node in self.nodes:
            self._at(self.now_ns + rng.randrange(PING_S * SECOND_NS), self._ping, node)
        self._at(self.now_ns + ROUND_S * SECOND_NS, self._round)

    def _play_history(self, start_ns: int) -> None:
        rng = Random(f"{self.seed}/history")
        sessions = list(self.sessions)
        at_ns = self.now_ns + HISTORY_USER_TASK_S * SECOND_NS
        while at_ns < start_ns:
            self.submit(at_ns, rng.choice(sessions), prompt_tokens=rng.randint(20, 800), tokens_max=512)
            at_ns += round(rng.expovariate(1 / HISTORY_USER_TASK_S) * SECOND_NS)
        self.advance(start_ns)

    # User tasks.

    def submit(
        self,
        now_ns: int,
        session_id: str,
        *,
        prompt_tokens: int,
        tokens_max: int,
        precommit_timeout_s: float = PRECOMMIT_TIMEOUT_S,
    ) -> Submitted:
        """Accept a user task: choose its nodes and decide all that will happen to it. KeyError: unknown session."""
        session = self.sessions[session_id]
        self.advance(now_ns)
        if session.needs_draw(self.now_ns):
            self._draw(session)
        session.tasks_started += 1
        session.tasks_since_drawn += 1
        session.updated_ns = self.now_ns
        rng = Random(f"{self.seed}/user/{session_id}/{session.tasks_started}")
        chosen = choose_nodes(rng, session, self.in_flight)
        tokens, finish_reason = draw_tokens(rng, tokens_max)
        works = [self._work(rng, node, prompt_tokens, tokens) for node in chosen]
        task = Task(session_id, session.tasks_started, self.now_ns, works, tokens, finish_reason)
        # Whose text a router returns with several miners is not documented. We guess the one that speaks first.
        task.returned = min(works, key=lambda work: work.first_ns)
        task.chosen_because = "only_node" if len(works) == 1 else "first_token"
        session.keep(task)
        self._start(rng, task, precommit_timeout_s)
        return Submitted(task, draw_offsets(rng, task.returned, task.created_ns, tokens))

    def _draw(self, session: Session) -> None:
        session.draws += 1
        rng = Random(f"{self.seed}/draw/{session.session_id}/{session.draws}")
        able = [node for node in self.nodes if node.model == session.model]
        pooled = [node for node in able if self.places[node.key] is Place.POOLED]
        # With very few nodes the pool can be empty at the first draw: then sessions share nodes rather than fail.
        reserved = draw_reserve(rng, session, pooled) or rng.sample(able, min(session.reserve_max, len(able)))
        released = [node for node in session.reserved if node not in reserved]
        session.reserved, session.tasks_since_drawn, session.drawn_ns = reserved, 0, self.now_ns
        for node in reserved:
            self.places[node.key] = Place.RESERVED
        for node in released:
            self.places[node.key] = Place.CHECKING
            self._network_task([node])

    # Network tasks.

    def _round(self) -> None:
        """One network task for some pooled nodes, and one for each released node that failed its check."""
        rng = Random(f"{self.seed}/round/{self._rounds_started}")
        idle = [node for node in self.nodes if node.key not in self._checked_now]
        pooled = [node for node in idle if self.places[node.key] is Place.POOLED]
        if pooled:
            self._network_task(rng.sample(pooled, min(ROUND_MINERS, len(pooled))))
        for node in idle:
            if self.places[node.key] is Place.CHECKING:
                self._network_task([node])
        self._at(self.now_ns + ROUND_S * SECOND_NS, self._round)

    def _network_task(self, miners: list[Node]) -> None:
        self._rounds_started += 1
        number = self._rounds_started
        self.rounds[number] = self.now_ns
        if len(self.rounds) > ROUNDS_KEPT:
            del self.rounds[next(iter(self.rounds))]
        rng = Random(f"{self.seed}/network/{number}")
        tokens = rng.randint(120, 560)
        task = Task("", number, self.now_ns, [self._work(rng, node, 200, tokens) for node in miners], tokens)
        creator = self.stats[miners[0].key]
        creator.request_point += 1
        creator.create_counter += 1
        creator.prepare_counter += 1
        if rng.random() < miners[0].reliability:
            creator.create_point += 1
            creator.prepare_point += 1
        self._checked_now.update(node.key for node in miners)
        self._start(rng, task, PRECOMMIT_TIMEOUT_S)

    def _ping(self, node: Node) -> None:
        stats = self.stats[node.key]
        stats.ping_counter += 1
        stats.global_ping_point += 1
        stats.last_active = self.now_ns // SECOND_NS
        self._at(self.now_ns + PING_S * SECOND_NS, self._ping, node)

    # The pipeline, the same for both kinds.

    def _work(self, rng: Random, node: Node, prompt_tokens: int, tokens: int) -> Work:
        return draw_work(rng, node, self.in_flight[node.key], self.now_ns, prompt_tokens, tokens, self.speed)

    def _start(self, rng: Random, task: Task, precommit_timeout_s: float) -> None:
        self.tasks_started += 1
        ends = plan_stages(rng, task.works, task.created_ns, precommit_timeout_s, self.speed)
        task.precommit_end_ns, task.commit_end_ns = ends
        for work in task.works:
            self.in_flight[work.node.key] += 1
            self._at(work.acked_ns, self._acked, task, work)
            self._at(work.ready_ns, self._ready, work)
            if work.precommit_ns is not None:
                self._at(max(work.precommit_ns, work.acked_ns), self._precommitted, task, work)
            if work.commit_ns is not None:
                self._at(work.commit_ns, self._committed, task, work)
        # Planned last: at equal instants a phase must close after the successes that close it, never before.
        self._at(task.precommit_end_ns, self._end_precommit, task)
        self._at(task.commit_end_ns, self._end_commit, task)

    def _acked(self, task: Task, work: Work) -> None:
        work.precommit_entry_s = self._enter(task, work, "precommit")
        task.acks_left -= 1
        if not task.acks_left:
            task.status = Status.ACKED
        if task.is_network:
            self.stats[work.node.key].start_point += 1

    def _ready(self, work: Work) -> None:
        self.in_flight[work.node.key] -= 1

    def _precommitted(self, task: Task, work: Work) -> None:
        work.precommitted = True
        self._stage(task, work, "precommit").succeeded.add(work.precommit_entry_s)
        if task.is_network:
            self.stats[work.node.key].precommit_point += 1

    def _end_precommit(self, task: Task) -> None:
        task.status = Status.PRECOMMITTED
        for work in task.works:
            if work.precommitted:
                work.commit_entry_s = self._enter(task, work, "commit")

    def _committed(self, task: Task, work: Work) -> None:
        work.committed = True
        self._stage(task, work, "commit").succeeded.add(work.commit_entry_s)
        if task.is_network:
            self.stats[work.node.key].commit_point += 1

    def _end_commit(self, task: Task) -> None:
        """All results are there; the transaction that ends the task follows."""
        task.status = Status.COMMITTED
        end_ns = round(TRANSACTION_S / (NETWORK_PACE * self.speed) * SECOND_NS)
        self._at(self.now_ns + end_ns, self._end, task)

    def _end(self, task: Task) -> None:
        task.status = Status.ENDED
        task.finished_ns = self.now_ns
        self.tasks_ended += 1
        if not task.is_network:
            return
        for work in task.works:
            self._checked_now.discard(work.node.key)
            if work.committed:
                stats = self.stats[work.node.key]
                stats.end_point += 1
                stats.correctness_point += 1
                if self.places[work.node.key] is Place.CHECKING:
                    self.places[work.node.key] = Place.POOLED

    def _enter(self, task: Task, work: Work, stage: str) -> int:
        second = self.now_ns // SECOND_NS
        self._stage(task, work, stage).entered.add(second)
        stats = self.stats[work.node.key]
        stats.last_active = second
        if task.is_network and stage == "precommit":
            stats.precommit_counter += 1
        elif task.is_network:
            stats.commit_counter += 1
        return second

    def _stage(self, task: Task, work: Work, stage: str) -> Stage:
        series = self.reputation if task.is_network else self.session_reputation
        reputation = series[work.node.key]
        return reputation.precommit if stage == "precommit" else reputation.commit
