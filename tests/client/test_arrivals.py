"""Stamps and their bounds against the sender's own clock: one machine, one monotonic clock.

The server notes the instants before and after each send; the bytes reached our socket in between. A stamp and its
bound claim that the first byte of a read arrived in (stamp - bound, stamp], so the two intervals must meet. Nothing
here depends on how fast the machine is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import gevent
import pytest
from scripted import HEAD, LAST, Peer, ScriptedServer, chunk

from loadtest.client.exchange import End, Exchange
from loadtest.client.reactor import Reactor
from loadtest.client.sse import decode
from loadtest.client.stamps import KernelClock
from loadtest.clock import WallOffset, mono_ns

CLOCK_ERROR_NS = 1_000_000  # of the wall offset, and of a packet between its stamp and its socket


def stream(pause_s: float, count: int, sent: list[tuple[int, int]]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD)
        for number in range(count):
            threading.Event().wait(pause_s)
            sent.append(peer.send(chunk(b"data: %d\n\n" % number)))
        peer.send(LAST)
        peer.wait_closed()

    return script


def assert_contained(exchange: Exchange, sent: list[tuple[int, int]]) -> None:
    events = decode(exchange.body)
    assert len(events) == len(sent)
    for event, (before_ns, after_ns) in zip(events, sent, strict=True):
        read = exchange.reads[exchange.read_at(event.end_offset)]
        assert before_ns <= read.stamp_ns + CLOCK_ERROR_NS, "claims to have had the bytes before they were sent"
        assert read.stamp_ns - read.bound_ns <= after_ns + CLOCK_ERROR_NS, "the bound is too tight"


@pytest.mark.parametrize("kernel", [True, False])
def test_stamps_of_an_idle_process_contain_the_send(kernel: bool) -> None:
    sent: list[tuple[int, int]] = []
    reactor = Reactor(kernel_stamps=kernel)
    with ScriptedServer(stream(0.005, 30, sent)) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert exchange.end is End.COMPLETE
    assert_contained(exchange, sent)
    assert {read.kernel for read in exchange.reads} == {kernel}
    figures = reactor.figures()
    assert figures["reads_kernel"] == (figures["reads"] if kernel else 0)


@pytest.mark.parametrize("kernel", [True, False])
def test_bounds_hold_when_the_process_stalls(kernel: bool) -> None:
    sent: list[tuple[int, int]] = []
    reactor = Reactor(kernel_stamps=kernel)
    with ScriptedServer(stream(0.004, 60, sent)) as server:
        exchange = server.exchange()
        greenlet = gevent.spawn(reactor.run, exchange)
        while exchange.end is None:
            gevent.sleep(0.01)
            time.sleep(0.05)  # the whole hub stands still, and what arrives is merged in the kernel
        greenlet.join(10)
        reactor.close()
    assert exchange.end is End.COMPLETE
    assert_contained(exchange, sent)
    events = decode(exchange.body)
    reads = [exchange.read_at(event.end_offset) for event in events]
    assert len(set(reads)) < len(reads), "several events came in one read, or the stall was none"
    # The width tells of the stall: a reader of the stamps alone would not know.
    assert max(read.bound_ns for read in exchange.reads) > 20_000_000
    assert reactor.figures()["passes_late"] > 0


def test_ttft_with_kernel_stamps_is_the_arrival_and_not_the_pass() -> None:
    # The pass comes 40 ms late every time; user time could only say "40 ms late".
    sent: list[tuple[int, int]] = []
    reactor = Reactor(drain_ms=40)
    with ScriptedServer(stream(0.013, 20, sent)) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert_contained(exchange, sent)
    last_of_read = {exchange.read_at(event.end_offset): n for n, event in enumerate(decode(exchange.body))}
    errors = sorted(exchange.reads[read].stamp_ns - sent[n][0] for read, n in last_of_read.items())
    assert errors[len(errors) // 2] < 10_000_000


def test_a_pass_cut_by_its_limit_is_no_complete_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.client.reactor.PASS_NS_MAX", -1)
    reactor = Reactor()
    drained_ns = reactor._drained_ns
    assert reactor._drain(mono_ns()) is False
    assert reactor._drained_ns == drained_ns
    assert reactor.figures()["passes_cut"] == 1
    monkeypatch.undo()
    assert reactor._drain(mono_ns()) is True
    assert reactor._drained_ns > drained_ns
    reactor.close()


def test_a_socket_s_own_last_read_bounds_the_next_when_no_drain_is_ever_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[int, int]] = []
    reactor = Reactor()
    drain = reactor._drain

    def overloaded(started_ns: int) -> bool:
        reactor._drained_ns = 0
        return drain(started_ns)

    monkeypatch.setattr(reactor, "_drain", overloaded)
    with ScriptedServer(stream(0.005, 30, sent)) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert_contained(exchange, sent)
    for earlier, later in pairwise(exchange.reads):
        assert later.bound_ns <= later.stamp_ns - earlier.stamp_ns + CLOCK_ERROR_NS


def test_a_read_that_was_full_says_nothing_of_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each event takes two reads and comes up to 40 ms before the pass: the second read must not claim that its
    # bytes arrived after the first one.
    monkeypatch.setattr("loadtest.client.reactor.READ_BYTES", 10)
    monkeypatch.setattr("loadtest.client.reactor.FULL_BYTES", 10)
    sent: list[tuple[int, int]] = []
    reactor = Reactor(drain_ms=40)
    with ScriptedServer(stream(0.055, 10, sent)) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert len(exchange.reads) > 20
    assert_contained(exchange, sent)


def test_the_passes_that_a_stall_left_out_count_as_late() -> None:
    reactor = Reactor()
    for _ in range(1_000):
        reactor._plan_ns = mono_ns()
        reactor._tick()
    assert (reactor.counted.overshoot.quantile(0.99) or 0) < 5_000_000
    reactor._plan_ns = mono_ns() - 2_000_000_000
    reactor._tick()
    figures = reactor.figures()
    reactor.close()
    # One pass was late, and 2,000 that should have been made meanwhile were late by 0 to 2 s.
    assert figures["passes"] == 1_001 and figures["passes_late"] == 1
    assert figures["overshoot_ns_p99"] > 1_500_000_000


@pytest.mark.parametrize("step_ns", [10_000_000_000, -10_000_000_000])
def test_stamps_that_cannot_be_true_fall_back_to_user_time(step_ns: int) -> None:
    sent: list[tuple[int, int]] = []
    reactor = Reactor()
    true_offset = KernelClock().offset_ns
    reactor._clock = KernelClock(lambda tries: WallOffset(true_offset + step_ns, 0, mono_ns()))
    with ScriptedServer(stream(0.002, 5, sent)) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert not any(read.kernel for read in exchange.reads)
    assert_contained(exchange, sent)
    assert reactor.figures()["stamps_refused"] == len(exchange.reads)


class Clocks:
    """A wall clock that can be stepped, as `measure_wall_offset` would see it."""

    def __init__(self) -> None:
        self.offset_ns, self.at_ns, self.bound_ns = 1_000, 0, 100

    def measure(self, tries: int) -> WallOffset:
        return WallOffset(self.offset_ns, self.bound_ns, self.at_ns)


def test_a_step_of_the_wall_clock_is_seen_by_the_next_pass() -> None:
    clocks = Clocks()
    kernel = KernelClock(clocks.measure)
    clocks.at_ns = 1_000_000
    assert kernel.trusted(clocks.at_ns)
    clocks.offset_ns += 2_000_000
    assert not kernel.trusted(clocks.at_ns)
    assert (kernel.steps, kernel.offset_ns) == (1, 2_001_000)
    assert kernel.trusted(clocks.at_ns)  # one pass of doubt, then the new offset holds


def test_slewing_is_followed_every_second_and_is_no_step() -> None:
    clocks = Clocks()
    kernel = KernelClock(clocks.measure)
    for millisecond in range(1, 3_001):
        clocks.at_ns = millisecond * 1_000_000
        clocks.offset_ns += 500  # 500 ppm, the most NTP slews
        assert kernel.trusted(clocks.at_ns)
        assert abs(kernel.offset_ns - clocks.offset_ns) <= 500_000
    assert kernel.steps == 0


def test_one_torn_measurement_is_no_step() -> None:
    clocks = Clocks()
    answers = {1: WallOffset(50_000_000, 0, 10), 20: WallOffset(1_000, 100, 20)}
    kernel = KernelClock(clocks.measure)
    kernel._measure = answers.__getitem__
    assert kernel.trusted(30)
    assert (kernel.steps, kernel.offset_ns) == (0, 1_000)
