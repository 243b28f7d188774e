"""The drivers against a clock that runs: who is sent when, and what becomes of those who cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from loadtest.clock import mono_ns
from loadtest.swarm.alarm import sleep_until
from loadtest.swarm.driver import ClosedDriver, OpenDriver
from loadtest.swarm.ledger import Ledger
from loadtest.swarm.turns import LEAD_NS
from loadtest.traffic.plan import Plan
from loadtest.traffic.profile import load_profile
from loadtest.traffic.schedule import ConversationShape, Schedule

TIMEOUT_S = 20


class FakeTurns:
    """Stands in for the network: notes who was sent, dropped or given up, and holds conversations open at will."""

    def __init__(self, holds: Callable[[], None] = lambda: None) -> None:
        self.sent: list[tuple[int, int]] = []
        self.dropped: list[tuple[int, str]] = []
        self.given_up: list[int] = []
        self.end_ns = 0
        self.t0_ns = 0
        self._holds = holds

    def begin(self, plan: Plan, t0_ns: int) -> None:
        self.t0_ns, self.end_ns = t0_ns, t0_ns + plan.horizon_us * 1000

    def prepare(self, shape: ConversationShape, turn: int) -> int:
        return shape.index

    def converse(self, shape: ConversationShape, due_ns: int, first: Any, *_: Any) -> None:
        self.sent.append((shape.index, mono_ns() - due_ns))
        sleep_until(due_ns)
        self._holds()

    def drop(self, shape: ConversationShape, due_ns: int, reason: str) -> None:
        self.dropped.append((shape.index, reason))

    def give_up(self, shape: ConversationShape, first: int, at_ns: int) -> None:
        self.given_up.append(shape.index)


class FakePerson:
    def waiting(self) -> None: ...

    def busy(self) -> None: ...

    def stopping(self) -> bool:
        return False


def plan_of(horizon_us: int, workers: int = 1, profile: str = "smoke") -> tuple[Plan, Schedule]:
    loaded = load_profile(profile)
    plan = Plan(
        run="r",
        profile_text=loaded.text,
        profile_source=loaded.source,
        seed=1,
        host="",
        workers=workers,
        warmup_us=0,
        horizon_us=horizon_us,
    )
    return plan, plan.schedule()


def slots(driver: OpenDriver | ClosedDriver, count: int) -> list[gevent.Greenlet]:
    def serve() -> None:
        while True:
            driver.serve(FakePerson())

    return [gevent.spawn(serve) for _ in range(count)]


@pytest.fixture
def greenlets() -> Any:
    started: list[gevent.Greenlet] = []
    yield started
    gevent.killall(started, timeout=TIMEOUT_S)


def finish(driver: OpenDriver) -> None:
    """Wait until everything planned has been offered."""
    with gevent.Timeout(TIMEOUT_S):
        gevent.joinall(driver._greenlets)


def test_each_arrival_is_handed_over_once_shortly_before_its_time(greenlets: list[gevent.Greenlet]) -> None:
    plan, schedule = plan_of(2_000_000)
    turns, ledger = FakeTurns(), Ledger()
    driver = OpenDriver(schedule, turns, ledger, 0, late_max_s=5.0)  # type: ignore[arg-type]
    greenlets += slots(driver, 50)
    driver.start(plan, mono_ns())
    finish(driver)
    gevent.sleep(0)
    expected = [arrival.index for arrival in schedule.arrivals(2_000_000)]
    assert [index for index, _ in turns.sent] == expected
    assert all(lag_ns >= -LEAD_NS for _, lag_ns in turns.sent)
    assert not turns.dropped
    assert ledger.arrivals == len(expected)
    assert ledger.planned_turns == schedule.planned_turns(2_000_000)
    assert driver.until_us == 2_000_000


def test_two_workers_share_the_schedule(greenlets: list[gevent.Greenlet]) -> None:
    plan, schedule = plan_of(2_000_000, workers=2)
    sent = []
    for worker in (0, 1):
        turns = FakeTurns()
        driver = OpenDriver(schedule, turns, Ledger(), worker, late_max_s=5.0)  # type: ignore[arg-type]
        greenlets += slots(driver, 50)
        driver.start(plan, mono_ns())
        finish(driver)
        gevent.sleep(0)
        sent += [index for index, _ in turns.sent]
    assert sorted(sent) == [arrival.index for arrival in schedule.arrivals(2_000_000)]


def test_without_a_free_slot_an_arrival_is_dropped_not_queued(greenlets: list[gevent.Greenlet]) -> None:
    plan, schedule = plan_of(2_000_000)
    hold = gevent.event.Event()
    turns = FakeTurns(holds=hold.wait)
    driver = OpenDriver(schedule, turns, Ledger(), 0, late_max_s=5.0)  # type: ignore[arg-type]
    greenlets += slots(driver, 1)
    gevent.sleep(0)
    driver.start(plan, mono_ns())
    finish(driver)
    indexes = [arrival.index for arrival in schedule.arrivals(2_000_000)]
    assert [index for index, _ in turns.sent] == indexes[:1]
    assert turns.dropped == [(index, "cap") for index in indexes[1:]]


def test_what_is_overdue_is_dropped_and_not_sent_in_a_burst(greenlets: list[gevent.Greenlet]) -> None:
    plan, schedule = plan_of(2_000_000)
    turns = FakeTurns()
    driver = OpenDriver(schedule, turns, Ledger(), 0, late_max_s=0.5)  # type: ignore[arg-type]
    greenlets += slots(driver, 50)
    gevent.sleep(0)
    driver.start(plan, mono_ns() - 1_500_000_000)  # as after a stall of 1.5 s
    finish(driver)
    gevent.sleep(0)
    arrivals = list(schedule.arrivals(2_000_000))
    late = [arrival.index for arrival in arrivals if arrival.due_us < 1_000_000]
    assert late and turns.dropped[: len(late)] == [(index, "late") for index in late]
    assert len(turns.sent) + len(turns.dropped) == len(arrivals)


def test_stop_ends_the_plan_where_it_stands(greenlets: list[gevent.Greenlet]) -> None:
    plan, schedule = plan_of(60_000_000)
    turns, ledger = FakeTurns(), Ledger()
    driver = OpenDriver(schedule, turns, ledger, 0, late_max_s=5.0)  # type: ignore[arg-type]
    greenlets += slots(driver, 50)
    driver.start(plan, mono_ns())
    with gevent.Timeout(TIMEOUT_S):
        while len(turns.sent) < 3:
            gevent.sleep(0.01)
    driver.stop()
    planned = list(schedule.arrivals(driver.until_us))
    assert [index for index, _ in turns.sent] == [arrival.index for arrival in planned]
    assert ledger.arrivals == len(planned)


def test_an_arrival_handed_to_a_slot_that_is_killed_still_gets_its_rows(greenlets: list[gevent.Greenlet]) -> None:
    plan, schedule = plan_of(2_000_000)
    turns = FakeTurns()
    driver = OpenDriver(schedule, turns, Ledger(), 0, late_max_s=5.0)  # type: ignore[arg-type]
    (slot,) = slots(driver, 1)
    gevent.sleep(0)
    original = driver._free[0].set

    class Handed:
        def set(self, due: Any) -> None:
            slot.kill(block=False)  # in the same moment: the slot wakes to its end, not to serve
            original(due)

    driver._free[0] = Handed()  # type: ignore[assignment]
    driver.start(plan, mono_ns())
    finish(driver)
    with gevent.Timeout(TIMEOUT_S):
        slot.join()
    indexes = [arrival.index for arrival in schedule.arrivals(2_000_000)]
    assert turns.given_up == indexes[:1] and not turns.sent
    assert [index for index, _ in turns.dropped] == indexes[1:]


def test_an_arrival_handed_to_a_slot_that_a_stop_has_chosen_gets_its_rows_too(
    greenlets: list[gevent.Greenlet],
) -> None:
    plan, schedule = plan_of(2_000_000)
    turns = FakeTurns()
    driver = OpenDriver(schedule, turns, Ledger(), 0, late_max_s=5.0)  # type: ignore[arg-type]

    class Chosen(FakePerson):
        def busy(self) -> None:
            raise gevent.GreenletExit

    greenlets.append(gevent.spawn(driver.serve, Chosen()))
    gevent.sleep(0)
    driver.start(plan, mono_ns())
    finish(driver)
    indexes = [arrival.index for arrival in schedule.arrivals(2_000_000)]
    assert turns.given_up == indexes[:1] and not turns.sent
    assert [index for index, _ in turns.dropped] == indexes[1:]


def test_members_take_the_contents_of_their_stripe_in_turn(greenlets: list[gevent.Greenlet]) -> None:
    plan, schedule = plan_of(600_000_000, workers=3, profile="members")
    turns, ledger = FakeTurns(), Ledger()
    quick = _without_think_time(schedule)
    driver = ClosedDriver(quick, turns, ledger, 1)  # type: ignore[arg-type]
    greenlets += slots(driver, 4)
    driver.start(plan, mono_ns())
    with gevent.Timeout(TIMEOUT_S):
        while len(turns.sent) < 12:
            gevent.sleep(0.01)
    driver.stop()
    indexes = [index for index, _ in turns.sent]
    assert indexes == [1 + 3 * n for n in range(len(indexes))]
    assert ledger.arrivals == len(indexes)


def _without_think_time(schedule: Schedule) -> Any:
    from dataclasses import replace

    class Quick:
        def shape(self, index: int) -> ConversationShape:
            shape = schedule.shape(index)
            return replace(shape, turns=tuple(replace(turn, think_us=1000) for turn in shape.turns))

    return Quick()
