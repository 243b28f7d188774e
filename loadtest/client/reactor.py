"""All streams of a process in one epoll set, drained by a timer of the gevent hub.

A pass takes the bytes that wait on every socket with the kernel's receive timestamp and feeds the HTTP framing;
everything else is decoded after the end, in the greenlet that asked. A look that named every socket with something in
it, all of which was then taken, is a *complete drain*, and the instant before it is carried by the reads that follow:
when the process stalls, the kernel merges what waited and keeps the last stamp, so the true arrival of a read's first
byte lies in (that instant, stamp]. So does what followed the socket's own last read, if that took all there was.

Greenlets are woken through one Waiter per request, after the pass and for about a millisecond: each decodes its
answer, and gevent itself would run fifty of them, 40 ms, before it looks at the sockets again. One that was killed
has left its Waiter, so nothing can switch into it; its socket is closed and its descriptor may be reused at once.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import ssl
from collections import deque
from struct import Struct

import gevent
import httptools
from gevent.hub import Waiter
from gevent.monkey import get_original

from loadtest.client.connection import Connection
from loadtest.client.connections import Connections
from loadtest.client.departures import Departures
from loadtest.client.encoding import unpack_answer
from loadtest.client.exchange import End, Ended, Exchange
from loadtest.client.figures import Figures
from loadtest.client.flight import Flight
from loadtest.client.proxies import proxy_for
from loadtest.client.resolver import Resolver
from loadtest.client.secure import tls_ended
from loadtest.client.stamps import EARLY_NS_MAX, SO_TIMESTAMPNS, STAMP_SPACE_BYTES, KernelClock
from loadtest.clock import mono_ns

PASS_NS_MAX = 2_000_000  # heartbeats and wake-ups share the loop with us
WAKE_NS_MAX = 1_000_000  # of what woken greenlets do between two passes; at least one is woken
LEAVE_NS_MAX = 500_000  # for which what a woken greenlet wants to send may wait for others
EVENTS_MAX = 64  # per look, so that the limit is checked about every half millisecond
READ_BYTES = 65_536
# A read that gave less took all there was. Under TLS a full read may give far less: a record of one byte is 23 on the
# wire, so that 65,536 bytes hold 2,849 at least.
FULL_BYTES = 2_048
SWEEP_NS = 50_000_000  # deadlines are this coarse
SWEEP_LATE_NS_MAX = 1_000_000_000  # under overload no drain is complete, and deadlines must end some day
LATE_NS = 10_000_000  # a pass this late is counted as late

_timespec = Struct("qq").unpack
_EPOLLIN = int(select.EPOLLIN)
_EPOLLOUT = int(select.EPOLLOUT)


class Reactor:
    """Runs exchanges for the greenlets of one hub. Make it after the fork, in the thread of the hub."""

    def __init__(self, *, drain_ms: float = 1.0, kernel_stamps: bool = True) -> None:
        self.counted = Figures()
        self._hub = gevent.get_hub()
        # Locust's monkey patching takes epoll away and makes sockets cooperative: we need the originals.
        epoll, socket_type = get_original("select", "epoll"), get_original("socket", "socket")
        self._connections = Connections(epoll(), socket_type, stamps=kernel_stamps)
        self._departures = Departures(self._connections, self.counted, self._end)
        self._resolver = Resolver(self._hub.resolver)
        self._proxy_for = functools.cache(functools.partial(proxy_for, environ=dict(os.environ)))
        self._clock = KernelClock() if kernel_stamps else None
        # The kernel switches stamping on a little after the first socket wants it, and off after the last one is
        # gone; packets in between carry none. A silent socket keeps it on.
        self._stamp_keeper = socket_type(socket.AF_INET, socket.SOCK_DGRAM)
        if kernel_stamps:
            self._stamp_keeper.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._flights: set[Flight] = set()
        self._waking = False
        self._leaving: list[tuple[Flight, Connection]] = []  # what greenlets being woken want to send
        self._ended: deque[Waiter] = deque()  # whose greenlets are to be woken
        self._closed = False
        self._drained_ns = 0
        self._sweep_ns = 0
        self._plan_ns = 0
        self._period_ns = int(drain_ms * 1e6)
        self._ticking = False
        self._timer = self._hub.loop.timer(drain_ms / 1e3, drain_ms / 1e3)

    def run(self, exchange: Exchange) -> None:
        """Send the request and block the calling greenlet until `exchange.end` is set. Never raises for what the
        network does. When the greenlet is killed the exchange ends as cancelled, its connection is closed, the
        exception goes on, and the caller keeps what had arrived."""
        exchange.started_ns = mono_ns()
        flight = Flight(exchange, Waiter(self._hub))
        self.counted.exchanges += 1
        try:
            self._start(flight)
            if exchange.end is None:
                flight.waiter.get()
        except BaseException:
            self._finish(flight, End.CANCELLED)
            raise
        finally:
            unpack_answer(exchange)  # here and not in the pass: it may take milliseconds

    def close(self) -> None:
        """End what is in the air as cancelled and give all descriptors back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for flight in list(self._flights):
            self._finish(flight, End.CANCELLED, "the reactor was closed")
        while self._ended:
            self._hub.loop.run_callback(self._ended.popleft().switch, None)
        self._connections.close()
        self._timer.stop()
        self._timer.close()
        self._stamp_keeper.close()

    def figures(self) -> dict[str, int]:
        """The counts of `Figures`, and gauges of now: what is in flight, how much of it has brought a byte of its
        answer's body, and the age of the oldest."""
        now_ns = mono_ns()
        return self.counted.flat() | {
            "clock_steps": self._clock.steps if self._clock else 0,
            "in_flight": len(self._flights),
            "in_flight_answering": sum(bool(f.body_ends and f.body_ends[-1]) for f in self._flights),
            "in_flight_oldest_ns": max((now_ns - f.exchange.started_ns for f in self._flights), default=0),
            "connections": len(self._connections.by_fd),
        }

    # Starting, in the greenlet of the caller.

    def _start(self, flight: Flight) -> None:
        exchange = flight.exchange
        try:
            flight.proxy = self._proxy_for(exchange.endpoint)
        except Ended as ended:
            self._end(flight, ended)
            return
        connection = self._connections.take(exchange.endpoint)
        if connection is None and not self._resolve(flight):
            return
        if self._closed:
            self._finish(flight, End.CANCELLED, "the reactor was closed")
            return
        self._flights.add(flight)
        self._tick_on()
        if connection is None:
            self._departures.open(flight)
            return
        self.counted.connections_reused += 1
        flight.reused = True
        flight.connection, connection.flight = connection, flight
        if self._waking:
            self._leaving.append((flight, connection))
        else:
            self._departures.send(flight, connection)

    def _resolve(self, flight: Flight) -> bool:
        exchange = flight.exchange
        hop = exchange.endpoint if flight.proxy is None else flight.proxy.endpoint
        timeout = gevent.Timeout.start_new(exchange.deadlines.connect_s)
        try:
            flight.addresses = self._resolver.addresses(hop)
        except (OSError, UnicodeError) as error:
            text = getattr(error, "strerror", None) or str(error)
            if flight.proxy is None:
                self._finish(flight, End.DNS_ERROR, f"{hop.host}: {text}")
            else:
                self._finish(flight, End.PROXY_ERROR, f"proxy {hop.host}: {text}", kind="proxy_dns")
            return False
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise
            self._finish(flight, End.TIMEOUT_CONNECT, f"{hop.host}: no address within the deadline")
            return False
        finally:
            timeout.close()
        return True

    # The pass, in the hub. Nothing here switches greenlets.

    def _tick_on(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._plan_ns = mono_ns() + self._period_ns
            self._timer.start(self._beat)

    def _beat(self) -> None:
        self._tick()
        self._wake()

    def _tick(self) -> None:
        now_ns = mono_ns()
        late_ns = max(0, now_ns - self._plan_ns)
        self._plan_ns = max(self._plan_ns + self._period_ns, now_ns)
        # The passes that a stall left out were late as well (Tene's coordinated omission): without them two seconds
        # of standing still would be one pass among thousands.
        self.counted.overshoot.add_all(range(late_ns, -1, -self._period_ns))
        self.counted.passes += 1
        self.counted.passes_late += late_ns > LATE_NS
        self._connections.hold()
        try:
            complete = self._drain(now_ns)
            if self._connections.handshakes:
                self._departures.shake_hands()
            # A deadline is judged only when nothing waits in the kernel: the answer may be there already.
            if now_ns >= self._sweep_ns and (complete or now_ns >= self._sweep_ns + SWEEP_LATE_NS_MAX):
                self._sweep()
        except Exception:
            # Never seen; a dead timer would stop every stream of the process.
            self.counted.passes_failed += 1
        finally:
            self._connections.release()

    def _wake(self) -> None:
        """Let greenlets go on whose exchange has ended. They run here, in the hub's timer, until they wait again.

        What several send next leaves in one go: the peer is then woken for the first of these requests and busy when
        the others come, and waking another core is most of what a send costs.
        """
        now_ns = mono_ns()
        until_ns, leave_ns = now_ns + WAKE_NS_MAX, now_ns + LEAVE_NS_MAX
        self._waking = True
        try:
            while self._ended and now_ns <= until_ns:
                self._ended.popleft().switch(None)
                now_ns = mono_ns()
                if now_ns > leave_ns:
                    self._leave()
                    leave_ns = now_ns + LEAVE_NS_MAX
        finally:
            self._waking = False
            self._leave()

    def _leave(self) -> None:
        """Send what woken greenlets had to send."""
        for flight, connection in self._leaving:
            if connection.flight is flight:  # it may have been ended meanwhile
                self._departures.send(flight, connection)
        self._leaving.clear()

    def _drain(self, started_ns: int) -> bool:
        """Take what waits on all sockets. True when at the end every socket was seen to be empty at once."""
        clock = self._clock
        stamping = clock is not None and clock.trusted(started_ns)
        offset_ns = clock.offset_ns if clock is not None else 0
        drained_ns = self._drained_ns
        poll, connections = self._connections.poll, self._connections.by_fd
        while True:
            looked_ns = mono_ns()
            if looked_ns - started_ns > PASS_NS_MAX:
                self.counted.passes_cut += 1
                return False
            events = poll(0, EVENTS_MAX)
            if not events:
                self._drained_ns = looked_ns
                return True
            ready_ns = mono_ns()
            emptied = len(events) < EVENTS_MAX  # none was left out; a full read may leave something
            for fd, mask in events:
                connection = connections.get(fd)
                if connection is None:
                    continue  # closed earlier in this batch
                flight = connection.flight
                try:
                    if (mask != _EPOLLIN or flight is None) and not self._attend(connection, mask):
                        continue
                    data, ancillary, _, _ = connection.receive(READ_BYTES, STAMP_SPACE_BYTES)
                    if not data:
                        self._hung_up(flight)
                        continue
                    floor_ns = flight.emptied_ns or flight.sent_ns
                    if drained_ns > floor_ns:
                        floor_ns = drained_ns
                    kernel = False
                    if stamping and ancillary:
                        seconds, rest = _timespec(ancillary[0][2])
                        stamp_ns = seconds * 1_000_000_000 + rest - offset_ns
                        # What arrived since the poll is later than `ready_ns`; only then is the clock read.
                        kernel = stamp_ns >= floor_ns - EARLY_NS_MAX and (stamp_ns <= ready_ns or stamp_ns <= mono_ns())
                        if not kernel:
                            self.counted.stamps_refused += 1
                    if not kernel:
                        stamp_ns = mono_ns()
                        flight.user_timed.add(len(flight.stamps_ns))
                    bound_ns = stamp_ns - floor_ns
                    if bound_ns < 0:
                        # Within the errors of the two clocks; an answer never precedes its request.
                        bound_ns = 0
                        stamp_ns = max(stamp_ns, flight.sent_ns)
                    if len(data) < FULL_BYTES:
                        flight.emptied_ns = ready_ns
                    else:
                        emptied = False
                    flight.received += len(data)
                    framing = flight.framing
                    flight.feed(data)
                    flight.stamps_ns.append(stamp_ns)
                    flight.bounds_ns.append(bound_ns)
                    flight.body_ends.append(len(framing.body))
                    if framing.complete:
                        self._finish(flight, End.COMPLETE)
                    elif flight.received > flight.bytes_max:
                        self._end(flight, flight.overfull())
                except BlockingIOError:
                    emptied = False  # no whole record of TLS yet
                except Exception as error:
                    if connection.flight is not None:
                        self._broken(connection.flight, error)
            if emptied:
                self._drained_ns = drained_ns = looked_ns

    def _attend(self, connection: Connection, mask: int) -> bool:
        """Whatever is not a plain read. True when there may be something to read as well."""
        flight = connection.flight
        if flight is None:
            self._connections.discard(connection)  # an idle connection was closed by the peer, or spoke unasked
            return False
        if not connection.connected:
            self._departures.resume(flight, connection)
            return False
        if mask & _EPOLLOUT:
            self._departures.write(flight, connection)
        return bool(mask & ~_EPOLLOUT) and connection.flight is flight

    def _sweep(self) -> None:
        now_ns = mono_ns()
        self._sweep_ns = now_ns + SWEEP_NS
        for flight in list(self._flights):
            if flight.check_ns <= now_ns:
                ended = flight.due(now_ns)
                if ended is not None:
                    self._end(flight, ended)
        if not self._flights and not self._ended:
            self._timer.stop()
            self._ticking = False

    # Ends.

    def _hung_up(self, flight: Flight) -> None:
        if flight.framing.end_of_file():
            self._finish(flight, End.COMPLETE, done_ns=mono_ns())  # the close itself carries no stamp
        elif not self._departures.again(flight):
            self._finish(flight, End.EOF, f"the peer closed after {flight.received} bytes")

    def _broken(self, flight: Flight, error: Exception) -> None:
        """A read, a write or the framing failed."""
        if isinstance(error, OSError):
            if self._departures.again(flight):
                return
            if isinstance(error, ssl.SSLError):
                self._end(flight, tls_ended(error))
            else:
                self._finish(flight, End.RESET, error.strerror or str(error))
            return
        # The read that brought the offending bytes was not noted; it gets user time.
        now_ns, framing = mono_ns(), flight.framing
        flight.user_timed.add(len(flight.stamps_ns))
        flight.stamps_ns.append(now_ns)
        flight.bounds_ns.append(max(0, now_ns - max(flight.sent_ns, self._drained_ns)))
        flight.body_ends.append(len(framing.body))
        if framing.complete:
            framing.keep_alive = False  # bytes after the end of the answer
            self._finish(flight, End.COMPLETE)
        elif isinstance(error, (httptools.HttpParserError, httptools.HttpParserUpgrade)):
            self._finish(flight, End.BAD_HTTP, f"no HTTP answer: {error}")
        else:
            self.counted.errors_unexpected += 1
            self._finish(flight, End.BAD_HTTP, f"unexpected {type(error).__name__}: {error}")

    def _end(self, flight: Flight, ended: Ended) -> None:
        self._finish(flight, ended.end, ended.text, kind=ended.kind)

    def _finish(self, flight: Flight, end: End, text: str = "", done_ns: int | None = None, *, kind: str = "") -> None:
        """End an exchange and wake its greenlet. A complete answer is done with its last read, all else is now."""
        if flight.exchange.end is not None:
            return
        connection, framing = flight.connection, flight.framing
        if done_ns is None:
            done_ns = flight.stamps_ns[-1] if end is End.COMPLETE else mono_ns()
        flight.settle(end, kind, text, done_ns)
        self.counted.reads += len(flight.stamps_ns)
        self.counted.reads_kernel += len(flight.stamps_ns) - len(flight.user_timed)
        self._flights.discard(flight)
        flight.connection = None
        if connection is not None:
            connection.flight = None
            sent = flight.exchange.sent_last_ns is not None
            if end is End.COMPLETE and framing.keep_alive and sent and not self._closed:
                self._connections.keep(connection)
            else:
                self._connections.discard(connection)
        # After the pass; a Waiter whose greenlet has left does nothing.
        self._ended.append(flight.waiter)
