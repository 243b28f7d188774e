"""Who sends the next arrival, and when. Open: arrivals at absolute times meet free slots. Closed: members take turns.

Locust's users are the slots (open) or the members (closed), so `-u` is the cap of conversations in flight or the
number of members, and Locust's own table shows them as users know them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import gevent
from gevent.event import AsyncResult, Event

from loadtest.clock import mono_ns
from loadtest.swarm.alarm import sleep_until
from loadtest.swarm.ledger import Ledger
from loadtest.swarm.turns import LEAD_NS, Prepared, Turns
from loadtest.traffic.plan import Plan
from loadtest.traffic.schedule import ConversationShape, Schedule

PREPARED_ARRIVALS_MAX = 256
PREPARED_AHEAD_NS = 5_000_000_000
REST_S = 1.0


class Person(Protocol):
    """What the drivers need of a Locust user."""

    def waiting(self) -> None:
        """From here on a stop may end this user at once: nothing of it is in flight."""

    def busy(self) -> None:
        """From here on a stop has to wait: a request is in flight. GreenletExit when one has come already."""

    def stopping(self) -> bool:
        """A stop was asked for."""


class Due(NamedTuple):
    """An arrival that is ready to go."""

    at_ns: int
    shape: ConversationShape
    first: Prepared


class OpenDriver:
    """Wakes at every due instant of its stripe and hands the arrival to a free slot.

    Times are absolute: `t0 + offset`, never an interval after the last send. An arrival that meets no free slot is
    dropped, reason "cap"; one that is `late_max` overdue is dropped, reason "late", and not sent in a burst.
    """

    def __init__(self, schedule: Schedule, turns: Turns, ledger: Ledger, worker: int, late_max_s: float) -> None:
        self._schedule = schedule
        self._turns = turns
        self._ledger = ledger
        self._worker = worker
        self._late_max_ns = int(late_max_s * 1e9)
        self._free: deque[AsyncResult] = deque()
        self._prepared: deque[Due] = deque()
        self._more = Event()
        self._room = Event()
        self._all_prepared = False
        self._greenlets: list[gevent.Greenlet] = []
        self.until_us = 0  # arrivals due before it have been started or dropped

    def start(self, plan: Plan, t0_ns: int) -> None:
        """Begin at `t0_ns` on this machine's monotonic clock."""
        self._turns.begin(plan, t0_ns)
        self._greenlets = [gevent.spawn(self._prepare, plan, t0_ns), gevent.spawn(self._offer, plan, t0_ns)]

    def stop(self) -> None:
        """Offer nothing more. What was due until now has been offered or dropped; later arrivals are not planned."""
        running = [greenlet for greenlet in self._greenlets if not greenlet.dead]
        if running:
            gevent.killall(running, timeout=5)
            self._turns.end_ns = min(self._turns.end_ns, mono_ns())
        self._greenlets = []

    def serve(self, person: Person) -> None:
        """One slot: wait for an arrival, carry its conversation through."""
        mine: AsyncResult = AsyncResult()
        self._free.append(mine)
        person.waiting()
        try:
            due: Due = mine.get()
            person.busy()
        except BaseException:
            # Killed while idle. If an arrival was handed over in the same moment it still needs its rows.
            if mine in self._free:
                self._free.remove(mine)
            elif mine.ready():
                self._turns.give_up(mine.value.shape, 0, mine.value.at_ns)
            raise
        self._turns.converse(due.shape, due.at_ns, due.first, _pause(person), person.stopping)

    def _prepare(self, plan: Plan, t0_ns: int) -> None:
        """Build requests a few seconds ahead of their time, in schedule order."""
        for arrival in self._schedule.arrivals(plan.horizon_us, self._worker, plan.workers):
            at_ns = t0_ns + arrival.due_us * 1000
            while len(self._prepared) >= PREPARED_ARRIVALS_MAX or at_ns - mono_ns() > PREPARED_AHEAD_NS:
                self._room.clear()
                self._room.wait(timeout=0.5)
            shape = self._schedule.shape(arrival.index)
            self._prepared.append(Due(at_ns, shape, self._turns.prepare(shape, 0)))
            self._more.set()
            # A prompt can cost milliseconds: let the reactor read between two of them.
            gevent.sleep(0)
        self._all_prepared = True
        self._more.set()

    def _offer(self, plan: Plan, t0_ns: int) -> None:
        while True:
            while not self._prepared:
                if self._all_prepared:
                    self.until_us = plan.horizon_us
                    return
                self._more.clear()
                self._more.wait()
            due = self._prepared[0]
            sleep_until(due.at_ns - LEAD_NS)
            self._prepared.popleft()
            self._room.set()
            self._ledger.arrival(len(due.shape.turns))
            self.until_us = (due.at_ns - t0_ns) // 1000 + 1
            if mono_ns() - due.at_ns > self._late_max_ns:
                self._turns.drop(due.shape, due.at_ns, "late")
            elif not self._free:
                self._turns.drop(due.shape, due.at_ns, "cap")
            else:
                self._free.popleft().set(due)


class ClosedDriver:
    """N members, each in one conversation at a time, with a pause before each. Planned = started.

    Worker k of n takes the content of arrivals k, k + n, k + 2n ... in the order in which its members come free.
    """

    def __init__(self, schedule: Schedule, turns: Turns, ledger: Ledger, worker: int) -> None:
        self._schedule = schedule
        self._turns = turns
        self._ledger = ledger
        self._next, self._step = worker, 1
        self._begun = Event()
        self.until_us = 0

    def start(self, plan: Plan, t0_ns: int) -> None:
        """Let the members begin at `t0_ns` on this machine's monotonic clock."""
        self._turns.begin(plan, t0_ns)
        self._step = plan.workers
        self._begun.set()

    def stop(self) -> None:
        self._turns.end_ns = min(self._turns.end_ns, mono_ns())

    def serve(self, person: Person) -> None:
        """One member: a pause, then a whole conversation."""
        person.waiting()
        self._begun.wait()
        sleep_until(self._turns.t0_ns)
        index, self._next = self._next, self._next + self._step
        shape = self._schedule.shape(index)
        starts_ns = mono_ns() + shape.turns[0].think_us * 1000
        if starts_ns >= self._turns.end_ns:
            # This member's next conversation lies behind the end: it rests until Locust stops it.
            gevent.sleep(REST_S)
            return
        first = self._turns.prepare(shape, 0)
        sleep_until(starts_ns - LEAD_NS)
        person.busy()
        self._ledger.arrival(len(shape.turns))
        self._turns.converse(shape, starts_ns, first, _pause(person), person.stopping)


def _pause(person: Person) -> Callable[[int], None]:
    """Think time between turns: nothing is in flight, so a stop may end the user in it."""

    def pause_until(at_ns: int) -> None:
        person.waiting()
        sleep_until(at_ns)
        person.busy()

    return pause_until
