"""The way of a task through its stages, and what the network remembers of it: one way for both kinds of task.

Counters, points and both reputation series are written here and nowhere else, when a stage is entered or passed. So
they follow from what the nodes did, except where a fault says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from loadtest.simulator.agenda import Agenda
from loadtest.simulator.faults import Faults
from loadtest.simulator.nodes import Node
from loadtest.simulator.payment import Charge, Payment
from loadtest.simulator.reputation import Level, NodeStats, Reputation, Stage
from loadtest.simulator.scenario import LevelRule
from loadtest.simulator.tasks import (
    NETWORK_PACE,
    SECOND_NS,
    TRANSACTION_S,
    Status,
    Task,
    Work,
    plan_stages,
)

OVER_COUNT = 1.5
BILLING_FAULTS = ("double-billing", "unbilled-success")


class Pipeline:
    """Tasks under way and the memory of those that were. `speed` is that of the nodes (see nodes.py)."""

    def __init__(
        self,
        agenda: Agenda,
        nodes: Sequence[Node],
        levels: LevelRule,
        payment: Payment,
        faults: Faults,
        speed: float,
        ended: Callable[[Task], None],
    ) -> None:
        self._agenda = agenda
        self._payment = payment
        self._faults = faults
        self._speed = speed
        self._ended = ended
        self.stats = {node.key: NodeStats(node.address, node.node_id) for node in nodes}
        self.reputation = {node.key: Reputation() for node in nodes}
        self.session_reputation = {node.key: Reputation() for node in nodes}
        self.levels = {node.key: Level(levels) for node in nodes}
        self.in_flight = {node.key: 0 for node in nodes}
        self.tasks_started = 0
        self.tasks_ended = 0

    # Planning.

    def start(self, rng: Random, task: Task, begins_ns: int, precommit_timeout_s: float) -> None:
        """Decide all that will happen to a task whose works are drawn, and put it on the agenda."""
        self.tasks_started += 1
        ends = plan_stages(rng, task.works, begins_ns, precommit_timeout_s, self._speed)
        task.precommit_end_ns, task.commit_end_ns = ends
        at = self._agenda.at
        for work in task.works:
            self.in_flight[work.node.key] += 1
            at(max(min(work.ready_ns, work.leaves_ns), begins_ns), self._ready, work)
            if task.is_lost:
                continue
            at(work.acked_ns, self._acked, task, work)
            if work.precommit_ns is not None:
                at(max(work.precommit_ns, work.acked_ns), self._precommitted, task, work)
            if work.commit_ns is not None and not task.is_stuck:
                at(work.commit_ns, self._committed, task, work)
        # Planned last: at equal instants a phase must close after the successes that close it, never before.
        if not task.is_lost:
            at(task.precommit_end_ns, self._end_precommit, task)
        if not (task.is_lost or task.is_stuck):
            at(task.commit_end_ns, self._end_commit, task)

    def bill(self, task: Task, *, faulty: bool = True) -> None:
        """Decide what a planned user task will cost: the price if any node commits, else nothing."""
        faults, key, session = self._faults, task.key, task.session
        struck = [name for name in BILLING_FAULTS if faulty and faults.strikes(name, key, session)]
        done = not (task.is_lost or task.is_stuck) and any(work.commit_ns is not None for work in task.works)
        reasons = ["task"] if done else []
        if done and "unbilled-success" in struck:
            reasons = []
        elif done and "double-billing" in struck:
            reasons.append("double-billing")
        elif not done and faulty and faults.strikes("billed-failure", key, session):
            reasons = struck = ["billed-failure"]
        task.tokens_told = task.tokens
        if faulty and faults.strikes("token-over-count", key, session):
            task.tokens_told = round(task.tokens * OVER_COUNT + 0.5)
            task.faults += ("token-over-count",)
        if done or reasons:
            task.faults += tuple(struck)
        price = self._payment.price(task.tokens_told)
        task.charge = price * len(reasons)
        if reasons:
            self._payment.hold(session, task.charge)
            self._agenda.at(task.commit_end_ns + self._transaction_ns(), self._charge, task, price, reasons)

    def _charge(self, task: Task, price: int, reasons: list[str]) -> None:
        payment = self._payment
        payment.release(task.session, task.charge)
        nodes = [work.node.key for work in task.works if work.committed]
        for reason in reasons:
            at_ns = self._agenda.now_ns
            payment.charge(Charge(task.session, task.task_id, at_ns, task.tokens_told, price, reason), nodes)

    def _transaction_ns(self) -> int:
        return round(TRANSACTION_S / (NETWORK_PACE * self._speed) * SECOND_NS)

    # Stages.

    def _acked(self, task: Task, work: Work) -> None:
        """The precommit phase opens for the node, and with an answer from all of them the task is acked."""
        work.precommit_entry_s = self._enter(task, work, "precommit")
        if work.leaves_ns <= work.acked_ns:
            return
        task.acks_left -= 1
        if not task.acks_left:
            task.status = Status.ACKED
        if task.is_network:
            self.stats[work.node.key].start_point += 1

    def _ready(self, work: Work) -> None:
        self.in_flight[work.node.key] -= 1

    def _precommitted(self, task: Task, work: Work) -> None:
        work.precommitted = True
        self._pass_precommit(task, work)

    def _pass_precommit(self, task: Task, work: Work) -> None:
        self._stage(task, work, "precommit").succeeded.add(work.precommit_entry_s)
        if task.is_network:
            self.stats[work.node.key].precommit_point += 1

    def _end_precommit(self, task: Task) -> None:
        task.status = Status.PRECOMMITTED
        for work in task.works:
            if work.claims and not work.precommitted:
                self._pass_precommit(task, work)
            if work.precommitted or work.claims:
                work.commit_entry_s = self._enter(task, work, "commit")

    def _committed(self, task: Task, work: Work) -> None:
        work.committed = True
        self._pass_commit(task, work)

    def _pass_commit(self, task: Task, work: Work) -> None:
        self._stage(task, work, "commit").succeeded.add(work.commit_entry_s)
        if task.is_network:
            self.stats[work.node.key].commit_point += 1

    def _end_commit(self, task: Task) -> None:
        """All results are there; the transaction that ends the task follows."""
        task.status = Status.COMMITTED
        for work in task.works:
            if work.claims and not work.committed:
                self._pass_commit(task, work)
        self._agenda.at(self._agenda.now_ns + self._transaction_ns(), self._end, task)

    def _end(self, task: Task) -> None:
        task.status = Status.ENDED
        task.finished_ns = self._agenda.now_ns
        self.tasks_ended += 1
        if task.is_network:
            for work in task.works:
                self.levels[work.node.key].add(work.committed)
                if work.committed:
                    stats = self.stats[work.node.key]
                    stats.end_point += 1
                    stats.correctness_point += 1
        self._ended(task)

    def _enter(self, task: Task, work: Work, stage: str) -> int:
        second = self._agenda.now_ns // SECOND_NS
        self._stage(task, work, stage).entered.add(second)
        stats = self.stats[work.node.key]
        if work.leaves_ns > self._agenda.now_ns:
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
