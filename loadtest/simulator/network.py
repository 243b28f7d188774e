"""The network as a state machine: time goes in, decisions come out. No sockets, no sleeping, no clock.

`advance(now_ns)` plays everything that is due; `submit` starts a user task. Network tasks of the cognitive module,
re-validation of released nodes and user tasks go through the same pipeline, so counters and both reputation series
follow from what the nodes did and from nothing else. Before `start_ns` a seeded history is played the same way.
"""

from __future__ import annotations

import heapq
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from loadtest.simulator.agenda import Agenda
from loadtest.simulator.backend import Backend
from loadtest.simulator.faults import Faults
from loadtest.simulator.nodes import MODELS, Node, draw_nodes
from loadtest.simulator.payment import Payment
from loadtest.simulator.pipeline import Pipeline
from loadtest.simulator.presence import Presence
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.selection import Selection
from loadtest.simulator.sessions import Place, Session, draw_reserve, make_sessions
from loadtest.simulator.tasks import (
    NETWORK_PACE,
    NEVER_NS,
    PRECOMMIT_TIMEOUT_S,
    SECOND_NS,
    Task,
    Work,
    draw_offsets,
    draw_tokens,
    draw_work,
)

ROUNDS_KEPT = 50
LATE_PERCENT = 20  # what a nightly comparison must find
SLOW_FACTOR = 8


class Refusal(Exception):
    """A user task that the network does not accept. `status` is our guess of what a router answers then."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Submitted:
    """A task just accepted, and when each token of the returned text is there (ns after creation).

    An offset of NEVER_NS means that nothing more comes: the task was lost, or its node went away. `charge` is what the
    request costs in all, a duplicate of its task included.
    """

    task: Task
    offsets_ns: list[int]
    charge: int


class Network:
    """Nodes, pool, sessions, tasks and what is remembered of them. Instants are Unix ns and never run backwards.

    `speed` divides every duration, the slow clocks and the history included.
    """

    def __init__(
        self, scenario: Scenario, seed: int, start_ns: int, speed: float = 1.0, faults: Faults | None = None
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.speed = speed
        self.faults = faults if faults is not None else Faults.read(scenario.faults, seed)
        self.agenda = Agenda(start_ns - self._ns(scenario.history_s))
        self.nodes = draw_nodes(seed, scenario.nodes, scenario.flaky_share)
        self.sessions = make_sessions(seed, scenario.sessions, self.nodes, self.now_ns)
        self.payment = Payment(scenario.payment, self.sessions)
        self._node_speed = speed * scenario.pace / NETWORK_PACE
        self.pipeline = Pipeline(
            self.agenda, self.nodes, scenario.levels, self.payment, self.faults, self._node_speed, self._task_ended
        )
        self.stats = self.pipeline.stats
        self.reputation = self.pipeline.reputation
        self.session_reputation = self.pipeline.session_reputation
        self.in_flight = self.pipeline.in_flight
        self.places = {node.key: Place.POOLED for node in self.nodes}
        self.presence = {
            node.key: Presence(seed, node.node_id, scenario.churn, self.now_ns, speed) for node in self.nodes
        }
        self.rounds: dict[int, int] = {}  # newest network tasks: id -> creation, Unix ns
        self._rounds = 0
        self.network_tasks = 0
        self._checks = {node.key: 0 for node in self.nodes}  # re-validations begun
        self._passed: set[str] = set()  # nodes that have passed one and wait for the oracle's tick
        self._checked_now: set[str] = set()  # nodes with a network task under way
        self._pinged_ns = {node.key: self.now_ns for node in self.nodes}
        self._round_ns = {node.key: 0 for node in self.nodes}  # when it last got a network task
        self._tx_free_ns = 0
        self._lanes = [0] * scenario.router.stream_lanes
        node_ids = [node.node_id for node in self.nodes]
        cooldown_ns = self._ns(scenario.clocks.user_cooldown_s)
        self._selection = Selection(self.nodes, self.in_flight, self.faults, cooldown_ns)
        self._slow = self.faults.victims("slow-but-reputed-node", node_ids)
        self._claiming = self.faults.victims("misreporting-node", node_ids) | self._slow
        self._begin()
        self._play_history(start_ns)
        refresh_s = scenario.clocks.refresh_s
        self.backend = Backend(self.agenda, self.nodes, self.stats, self.faults, refresh_s, speed)

    # Time.

    @property
    def now_ns(self) -> int:
        return self.agenda.now_ns

    @property
    def tasks_started(self) -> int:
        return self.pipeline.tasks_started

    @property
    def tasks_ended(self) -> int:
        return self.pipeline.tasks_ended

    def advance(self, now_ns: int) -> None:
        """Play all that is due up to `now_ns`. An earlier instant than the last one changes nothing."""
        self.agenda.advance(now_ns)

    def _ns(self, seconds: float) -> int:
        """A duration of the network at this speed."""
        return round(seconds / self.speed * SECOND_NS)

    def _begin(self) -> None:
        rng = Random(f"{self.seed}/pings")
        clocks = self.scenario.clocks
        for node in self.nodes:
            self.agenda.at(self.now_ns + round(rng.random() * self._ns(clocks.ping_s)), self._ping, node)
        self.agenda.at(self.now_ns + self._ns(clocks.round_s), self._round)
        self.agenda.at(self.now_ns + self._ns(clocks.pool_tick_s), self._tick_pool)

    def _play_history(self, start_ns: int) -> None:
        rng = Random(f"{self.seed}/history")
        load = self.scenario.load
        sessions = list(self.sessions)
        at_ns = self.now_ns + self._ns(load.task_every_s)
        while at_ns < start_ns:
            session_id = rng.choice(sessions)
            prompt_tokens = rng.randint(20, max(20, load.prompt_tokens_max))
            gap_s = rng.expovariate(1 / load.task_every_s)
            with suppress(Refusal):  # the user of that time goes without
                self.submit(at_ns, session_id, prompt_tokens=prompt_tokens, tokens_max=load.tokens_max)
            at_ns += self._ns(gap_s)
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
        stream: bool = False,
    ) -> Submitted:
        """Accept a user task: choose its nodes and decide all that will happen to it.

        KeyError: unknown session. Refusal: no balance, or too few nodes.
        """
        session = self.sessions[session_id]
        self.advance(now_ns)
        if not self.payment.can_pay(session_id, tokens_max):
            message = f"session {session_id}: balance too low for {tokens_max} tokens"
            raise Refusal(self.scenario.payment.empty_status, "insufficient_balance", message)
        if session.needs_draw(self.now_ns, self.speed):
            self._draw(session)
        if len(session.reserved) < session.rule.min_nodes:
            raise Refusal(503, "no_nodes", f"session {session_id}: no node is free; try again later")
        session.submitted += 1
        session.tasks_since_drawn += 1
        session.updated_ns = self.now_ns
        rng = Random(f"{self.seed}/user/{session_id}/{session.submitted}")
        key = f"{session_id}/{session.submitted}"
        chosen, reason, struck = self._selection.choose(rng, session, key, self.now_ns, prompt_tokens)
        tokens, finish_reason = draw_tokens(rng, tokens_max)
        begins_ns = self._begins_ns()
        works = [self._work(rng, node, begins_ns, prompt_tokens, tokens) for node in chosen]
        task = self._new_task(session, works, tokens, finish_reason, struck)
        self._strike(task)
        self.pipeline.start(rng, task, begins_ns, precommit_timeout_s)
        self.pipeline.bill(task)
        returned = self._return(task, reason)
        charge = task.charge
        if self.faults.strikes("duplicate-task", key, session_id):
            charge += self._duplicate(session, task, prompt_tokens, precommit_timeout_s)
        task.faults = tuple(dict.fromkeys(task.faults))
        if returned is None:
            return Submitted(task, [NEVER_NS], charge)
        offsets = draw_offsets(rng, returned, task.created_ns, tokens)
        return Submitted(task, self._relay(offsets, task.created_ns) if stream else offsets, charge)

    def _new_task(
        self, session: Session, works: list[Work], tokens: int, finish_reason: str, struck: tuple[str, ...]
    ) -> Task:
        session.tasks_started += 1
        number, serial = session.tasks_started, session.submitted
        task = Task(session.session_id, number, self.now_ns, works, tokens, finish_reason, serial, model=session.model)
        task.faults = struck
        session.keep(task)
        return task

    def _strike(self, task: Task) -> None:
        """The faults of tasks and of their nodes that are decided before the stages are planned."""
        for name in ("lost-task", "stuck-task", "wrong-model"):
            if self.faults.strikes(name, task.key, task.session):
                task.faults += (name,)
        task.is_lost = "lost-task" in task.faults
        task.is_stuck = "stuck-task" in task.faults
        if "wrong-model" in task.faults:
            others = [model for model in MODELS if model != task.model]
            task.model = others[self.faults.choose("wrong-model", task.key, len(others))]

    def _return(self, task: Task, reason: str) -> Work | None:
        """Whose text the client gets. With several miners that is not documented: we guess the one that speaks first.

        Called when the stages are planned, which the faults of slow answers leave as they are.
        """
        if self.faults.strikes("late-first-token", task.key, task.session):
            task.faults += ("late-first-token",)
            for work in task.works:
                later_ns = (work.first_ns - task.created_ns) * LATE_PERCENT // 100
                work.first_ns += later_ns
                work.ready_ns += later_ns
        for work in task.works:
            if work.node.node_id in self._slow:
                work.first_ns += (SLOW_FACTOR - 1) * (work.first_ns - task.created_ns)
                work.ready_ns += (SLOW_FACTOR - 1) * (work.ready_ns - task.created_ns)
                task.faults += ("slow-but-reputed-node",)
            elif work.claims and (work.precommit_ns is None or work.commit_ns is None):
                task.faults += ("misreporting-node",)
        speaking = [work for work in task.works if work.first_ns < work.leaves_ns]
        if task.is_lost or not speaking:
            task.chosen_because = f"{reason}, nobody"
            return None
        task.returned = min(speaking, key=lambda work: work.first_ns)
        task.chosen_because = f"{reason}, {'only_node' if len(task.works) == 1 else 'first_token'}"
        return task.returned

    def _duplicate(self, session: Session, task: Task, prompt_tokens: int, precommit_timeout_s: float) -> int:
        """Queue a task once more, on the same nodes; returns what that costs."""
        rng = Random(f"{self.seed}/duplicate/{task.key}")
        nodes = [work.node for work in task.works]
        works = [self._work(rng, node, self.now_ns, prompt_tokens, task.tokens) for node in nodes]
        task.faults += ("duplicate-task",)
        copy = self._new_task(session, works, task.tokens, task.finish_reason, ("duplicate-task",))
        self.pipeline.start(rng, copy, self.now_ns, precommit_timeout_s)
        self.pipeline.bill(copy, faulty=False)
        return copy.charge

    # Queues of the router.

    def _begins_ns(self) -> int:
        """When the chain has the task. With the transaction queue on, transactions go one after the other."""
        router = self.scenario.router
        if not router.tx_queue:
            return self.now_ns
        self._tx_free_ns = max(self._tx_free_ns, self.now_ns) + self._ns(router.tx_s)
        return self._tx_free_ns

    def _relay(self, offsets: list[int], created_ns: int) -> list[int]:
        """When the client gets each token. A blocking stream queue holds a stream back until a lane is free."""
        if not self.scenario.router.stream_queue_blocking:
            return offsets
        open_ns = max(self._lanes[0] - created_ns, offsets[0])
        relayed = [max(offset, open_ns) for offset in offsets]
        last_ns = max((offset for offset in relayed if offset < NEVER_NS), default=0)
        heapq.heapreplace(self._lanes, max(self._lanes[0], created_ns + last_ns))
        return relayed

    # The pool.

    def _draw(self, session: Session) -> None:
        session.draws += 1
        rng = Random(f"{self.seed}/draw/{session.session_id}/{session.draws}")
        able = [n for n in self.nodes if n.model == session.model and self.places[n.key] is not Place.OFFLINE]
        pooled = [node for node in able if self.places[node.key] is Place.POOLED]
        reserved = draw_reserve(rng, session, pooled)
        if not reserved and self.scenario.share_when_short:
            reserved = rng.sample(able, min(session.reserve_max, len(able)))
        kept = {node.key for node in reserved}
        released = [node for node in session.reserved if node.key not in kept]
        session.reserved, session.tasks_since_drawn, session.drawn_ns = reserved, 0, self.now_ns
        for node in reserved:
            self.places[node.key] = Place.RESERVED
        in_use = {node.key for other in self.sessions.values() for node in other.reserved}
        for node in released:
            if node.key not in in_use:
                self._check(node)

    def _check(self, node: Node) -> None:
        """Re-validate a node: a cognitive task of its own, unless one is under way, which counts as well."""
        self.places[node.key] = Place.CHECKING
        self._passed.discard(node.key)
        if node.key not in self._checked_now:
            self._checks[node.key] += 1
            self._network_task(Random(f"{self.seed}/check/{node.node_id}/{self._checks[node.key]}"), [node])

    def _tick_pool(self) -> None:
        """The node pool oracle: who is offline, who is back, and who may be reserved again."""
        alive_ns = self._ns(self.scenario.clocks.alive_s)
        for node in self.nodes:
            key, heard = node.key, self.now_ns - self._pinged_ns[node.key] <= alive_ns
            place = self.places[key]
            if not heard and place is not Place.OFFLINE:
                self.places[key] = Place.OFFLINE
                self._passed.discard(key)
                for session in self.sessions.values():
                    session.reserved = [one for one in session.reserved if one is not node]
            elif heard and place is Place.OFFLINE:
                self._check(node)
            elif place is Place.CHECKING and key in self._passed:
                self.places[key] = Place.POOLED
                self._passed.discard(key)
        self.agenda.at(self.now_ns + self._ns(self.scenario.clocks.pool_tick_s), self._tick_pool)

    def _ping(self, node: Node) -> None:
        if self.presence[node.key].is_up(self.now_ns):
            stats = self.stats[node.key]
            stats.ping_counter += 1
            stats.global_ping_point += 1
            stats.last_active = self.now_ns // SECOND_NS
            self._pinged_ns[node.key] = self.now_ns
        self.agenda.at(self.now_ns + self._ns(self.scenario.clocks.ping_s), self._ping, node)

    # Network tasks.

    def _round(self) -> None:
        """One network task for some pooled nodes, and one for each released node that failed its check."""
        self._rounds += 1
        clocks = self.scenario.clocks
        rng = Random(f"{self.seed}/round/{self._rounds}")
        idle = [node for node in self.nodes if node.key not in self._checked_now]
        rested_ns = self.now_ns - self._ns(clocks.round_cooldown_s)
        pooled = [n for n in idle if self.places[n.key] is Place.POOLED and self._round_ns[n.key] <= rested_ns]
        if pooled:
            self._network_task(rng, rng.sample(pooled, min(clocks.round_miners, len(pooled))))
        for node in idle:
            if self.places[node.key] is Place.CHECKING and node.key not in self._passed:
                self._check(node)
        self.agenda.at(self.now_ns + self._ns(clocks.round_s), self._round)

    def _network_task(self, rng: Random, miners: list[Node]) -> None:
        self.network_tasks += 1
        number = self.network_tasks
        self.rounds[number] = self.now_ns
        if len(self.rounds) > ROUNDS_KEPT:
            del self.rounds[next(iter(self.rounds))]
        tokens = rng.randint(120, 560)
        works = [self._work(rng, node, self.now_ns, 200, tokens) for node in miners]
        task = Task("", number, self.now_ns, works, tokens)
        creator = self.stats[miners[0].key]
        creator.request_point += 1
        creator.create_counter += 1
        creator.prepare_counter += 1
        if rng.random() < miners[0].reliability:
            creator.create_point += 1
            creator.prepare_point += 1
        for node in miners:
            self._checked_now.add(node.key)
            self._round_ns[node.key] = self.now_ns
        self.pipeline.start(rng, task, self.now_ns, PRECOMMIT_TIMEOUT_S)

    def _task_ended(self, task: Task) -> None:
        if not task.is_network:
            return
        for work in task.works:
            self._checked_now.discard(work.node.key)
            if work.committed and self.places[work.node.key] is Place.CHECKING:
                self._passed.add(work.node.key)

    def _work(self, rng: Random, node: Node, begins_ns: int, prompt_tokens: int, tokens: int) -> Work:
        busy = self.in_flight[node.key]
        work = draw_work(rng, node, busy, begins_ns, prompt_tokens, tokens, self._node_speed)
        work.leaves_ns = self.presence[node.key].leaves_ns(self.now_ns)
        work.claims = node.node_id in self._claiming
        return work
