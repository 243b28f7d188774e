"""Clocks: the worker's offset to the master lies within its stated bound, whatever the network does."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.clock import (
    DRIFT_PPM_MAX,
    EXCHANGES_KEPT,
    Deadline,
    MasterOffset,
    OffsetFilter,
    measure_wall_offset,
    mono_ns,
    utc_text,
    wall_ns,
)

SECOND = 1_000_000_000


class Network(NamedTuple):
    """A worker and a master: the master's clock is the worker's plus `offset_ns`, drifting by `drift_ppm`."""

    offset_ns: int
    drift_ppm: int = 0

    def offset_at(self, worker_ns: int) -> int:
        return self.offset_ns + worker_ns * self.drift_ppm // 1_000_000

    def exchange(self, t1: int, there_ns: int, held_ns: int, back_ns: int) -> tuple[int, int, int, int]:
        """The four timestamps of a ping that leaves at `t1` and takes these times on the worker's clock."""
        received = t1 + there_ns
        replied = received + held_ns
        return t1, received + self.offset_at(received), replied + self.offset_at(replied), replied + back_ns


delays = st.integers(0, 5 * SECOND)
pings = st.tuples(st.integers(0, 30 * SECOND), delays, st.integers(0, SECOND // 1000), delays)


@settings(deadline=None)
@given(
    network=st.builds(Network, st.integers(-(10**18), 10**18), st.integers(-DRIFT_PPM_MAX, DRIFT_PPM_MAX)),
    schedule=st.lists(pings, min_size=1, max_size=12),
    age_ns=st.integers(0, 3600 * SECOND),
)
def test_the_true_offset_always_lies_in_the_bound(
    network: Network, schedule: list[tuple[int, int, int, int]], age_ns: int
) -> None:
    filter_ = OffsetFilter()
    now = 0
    for pause_ns, there_ns, held_ns, back_ns in schedule:
        exchange = network.exchange(now + pause_ns, there_ns, held_ns, back_ns + 1000)  # 1 us keeps delta above drift
        filter_.add(*exchange)
        now = exchange[3]
    best = filter_.best(now + age_ns)
    assert best is not None
    assert abs(network.offset_at(now + age_ns) - best.offset_ns) <= best.bound_ns


@pytest.mark.parametrize(
    ("there_ns", "back_ns", "offset_ns", "bound_ns"),
    [
        (1000, 1000, 77, 1000),  # even delays: the estimate is exact, half the round trip bounds it
        (2000, 0, 1077, 1000),  # all of the delay on the way there: wrong by exactly the bound
        (0, 2000, -923, 1000),
        (0, 3, 75, 2),  # an odd round trip: 75.5 is rounded down, 1.5 is rounded up
        (0, 0, 77, 0),
    ],
)
def test_one_exchange_by_hand(there_ns: int, back_ns: int, offset_ns: int, bound_ns: int) -> None:
    filter_ = OffsetFilter()
    filter_.add(*Network(77).exchange(0, there_ns, 0, back_ns))
    assert filter_.best(0) == MasterOffset(offset_ns, bound_ns)


def test_the_master_may_hold_the_ping_for_long() -> None:
    filter_ = OffsetFilter()
    filter_.add(*Network(77).exchange(0, 1000, SECOND, 1000))
    assert filter_.best(0) == MasterOffset(77, 1000)


def test_the_bound_grows_by_50_microseconds_a_second() -> None:
    filter_ = OffsetFilter()
    filter_.add(*Network(0).exchange(0, 1000, 0, 1000))
    bounds_ns = [best.bound_ns for best in map(filter_.best, [0, SECOND, 60 * SECOND]) if best is not None]
    assert bounds_ns == [1000, 51_000, 3_001_000]  # 50 ppm: 3 ms a minute


def test_the_fastest_exchange_is_used_until_drift_makes_it_worse_than_a_later_one() -> None:
    slow_ns, fast_ns = 10_000, 1000  # round trips 20 us and 2 us
    filter_ = OffsetFilter()
    filter_.add(*Network(5).exchange(0, 2 * fast_ns, 0, 0))  # offset read as 1005
    filter_.add(*Network(5).exchange(SECOND // 10, 2 * slow_ns, 0, 0))  # 10,005, a tenth of a second later
    # The fast one's bound is 1 us + 5 us of ageing, the slow one's 10 us.
    assert filter_.best(SECOND // 10) == MasterOffset(1005, 6000)
    # A second later still: 51 us and more against 10 us and 5 us less ageing. The younger one wins.
    filter_.add(*Network(5).exchange(SECOND, 2 * slow_ns, 0, 0))
    assert filter_.best(SECOND) == MasterOffset(10_005, 10_000)


def test_only_the_last_eight_exchanges_count() -> None:
    filter_ = OffsetFilter()
    filter_.add(*Network(5).exchange(0, 0, 0, 0))  # a perfect one
    for i in range(1, EXCHANGES_KEPT):
        filter_.add(*Network(5).exchange(i, 2000, 0, 0))
    assert filter_.best(0) == MasterOffset(5, 0)
    filter_.add(*Network(5).exchange(EXCHANGES_KEPT, 2000, 0, 0))
    best = filter_.best(EXCHANGES_KEPT)
    assert best is not None
    assert best.offset_ns == 1005


def test_no_exchange_no_offset_and_time_never_runs_backwards() -> None:
    filter_ = OffsetFilter()
    assert filter_.best(0) is None
    with pytest.raises(ValueError, match="delta -1 ns"):
        filter_.add(0, 0, 2, 1)  # the master held it for longer than the whole exchange took
    assert filter_.best(0) is None


def test_the_wall_offset_carries_a_monotonic_instant_to_unix_time() -> None:
    before = mono_ns()
    offset = measure_wall_offset()
    after = mono_ns()
    assert before <= offset.at_ns <= after
    assert 0 <= offset.bound_ns <= after - before
    assert offset.bound_ns < SECOND // 100  # the best of 20 tries: microseconds, even on a busy machine
    first, wall, last = mono_ns(), wall_ns(), mono_ns()
    # A clock that is being slewed moves by up to 500 ppm; a millisecond is far beyond that here.
    assert first + offset.offset_ns - SECOND // 1000 <= wall <= last + offset.offset_ns + SECOND // 1000
    assert abs(wall / SECOND - time.time()) < 60


def test_one_try_still_gives_a_bound() -> None:
    offset = measure_wall_offset(tries=1)
    assert offset.bound_ns < SECOND
    assert offset.offset_ns > 10**18  # Unix time is beyond 2001, the machine has not been up that long


def test_a_deadline_runs_on_the_clock_it_is_given() -> None:
    instant = [7 * SECOND]
    deadline = Deadline(2.5, now=lambda: instant[0])
    assert (deadline.left_s(), deadline.over()) == (2.5, False)
    instant[0] += 2 * SECOND
    assert (deadline.left_s(), deadline.over()) == (0.5, False)
    instant[0] += SECOND // 2 - 1
    assert (deadline.left_s(), deadline.over()) == (1e-9, False)
    instant[0] += 1
    assert (deadline.left_s(), deadline.over()) == (0.0, True)
    instant[0] += SECOND
    assert (deadline.left_s(), deadline.over()) == (0.0, True)


def test_a_deadline_of_nothing_is_over_at_once() -> None:
    assert Deadline(0).over()
    assert not Deadline(60).over()


def test_the_simulated_network_is_what_it_says() -> None:
    network = Network(offset_ns=100, drift_ppm=50)
    assert network.exchange(10 * SECOND, 3, 4, 5) == (
        10 * SECOND,
        10 * SECOND + 3 + 100 + 500_000,
        10 * SECOND + 7 + 100 + 500_000,
        10 * SECOND + 12,
    )
    assert Fraction(network.offset_at(20 * SECOND) - network.offset_at(0), 20 * SECOND) == Fraction(50, 10**6)


@given(st.integers(-(10**18), 2**63 - 1))
def test_an_instant_is_told_by_the_second_it_lies_in(at_ns: int) -> None:
    assert utc_text(at_ns) == datetime.fromtimestamp(at_ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_text_of_no_instant_is_of_now() -> None:
    before = wall_ns()
    told = utc_text()
    assert utc_text(before) <= told <= utc_text(wall_ns())
