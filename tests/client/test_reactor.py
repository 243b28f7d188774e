"""The reactor against a real server on loopback: ends, deadlines, keep-alive, kills."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import gevent
import pytest
from scripted import HEAD, LAST, PATIENT, Peer, ScriptedServer, chunk, plain, request

from loadtest.client.exchange import End, Endpoint, Exchange
from loadtest.client.reactor import Reactor


def run_all(reactor: Reactor, exchanges: list[Exchange]) -> None:
    greenlets = [gevent.spawn(reactor.run, exchange) for exchange in exchanges]
    gevent.joinall(greenlets, timeout=20, raise_error=True)
    assert all(exchange.end is not None for exchange in exchanges)


def test_a_plain_answer_and_its_instants(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request() == b"{}"
        peer.send(plain(b"hello", b"X-Node: n1\r\n"))
        peer.wait_closed()

    with ScriptedServer(script) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert (exchange.end, exchange.status, exchange.body) == (End.COMPLETE, 200, b"hello")
    assert exchange.header(b"x-node") == b"n1"
    assert exchange.connection_new
    assert exchange.sent_ns is not None and exchange.sent_last_ns is not None and exchange.headers_ns is not None
    assert exchange.connected_ns is not None and exchange.done_ns == exchange.reads[-1].stamp_ns
    assert exchange.connecting_ns is not None and exchange.secured_ns is None
    assert exchange.started_ns <= exchange.connecting_ns <= exchange.connected_ns
    assert exchange.connected_ns <= exchange.sent_ns <= exchange.sent_last_ns
    assert exchange.sent_ns <= exchange.headers_ns <= exchange.done_ns
    assert exchange.bytes_received == len(plain(b"hello", b"X-Node: n1\r\n"))


def test_connections_are_kept_and_used_again(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(HEAD + chunk(b"x") + LAST)

    with ScriptedServer(script) as server:
        exchanges = [server.exchange() for _ in range(20)]
        for exchange in exchanges:
            reactor.run(exchange)
        assert [exchange.connection_new for exchange in exchanges] == [True] + [False] * 19
        assert server.connections == 1
        reactor.close()
    assert reactor.figures()["connections_reused"] == 19


def test_no_more_than_a_bound_of_idle_connections_is_kept(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.client.connections.IDLE_PER_ENDPOINT_MAX", 3)
    together = threading.Barrier(8, timeout=10)

    def script(peer: Peer) -> None:
        peer.read_request()
        together.wait()  # nobody is answered before all have a connection of their own
        peer.send(plain(b"hi"))
        peer.wait_closed()

    with ScriptedServer(script) as server:
        run_all(reactor, [server.exchange() for _ in range(8)])
        assert reactor.figures()["connections"] == 3
        reactor.close()


def test_many_greenlets_each_get_their_own_answer(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        while body := peer.read_request():
            peer.send(HEAD)
            for _ in range(5):
                peer.send(chunk(body))
            peer.send(LAST)

    with ScriptedServer(script) as server:
        for _ in range(2):
            exchanges = [server.exchange(body=b"request %d;" % i) for i in range(100)]
            run_all(reactor, exchanges)
            assert all(exchange.body == b"request %d;" % i * 5 for i, exchange in enumerate(exchanges))
        reactor.close()


def test_a_close_delimited_body_is_complete(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nuntil ")
        peer.send(b"the end")

    with ScriptedServer(script) as server:
        exchange = server.exchange()
        reactor.run(exchange)
    assert (exchange.end, exchange.body) == (End.COMPLETE, b"until the end")
    assert reactor.figures()["connections"] == 0


@pytest.mark.parametrize(
    ("wire", "end"),
    [
        (b"", End.EOF),
        (b"HTTP/1.1 200 O", End.EOF),
        (HEAD + chunk(b"some"), End.EOF),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", End.EOF),
        (b"SSH-2.0-OpenSSH\r\n", End.BAD_HTTP),
        (HEAD + chunk(b"some") + b"zz\r\n", End.BAD_HTTP),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", End.BAD_HTTP),
        (HEAD + chunk(b"x" * 70_000), End.TOO_LARGE),
        (plain(b"ok") + b"surplus", End.COMPLETE),
    ],
)
def test_ends(reactor: Reactor, wire: bytes, end: End) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        with suppress(OSError):  # the client may hang up on us
            peer.send(wire)

    with ScriptedServer(script) as server:
        exchange = server.exchange(bytes_max=60_000)
        reactor.run(exchange)
    assert exchange.end is end, exchange
    assert bool(exchange.error_text) is (end is not End.COMPLETE)
    assert len(exchange.body) == (exchange.reads[-1].body_end if exchange.reads else 0)
    assert reactor.figures()["connections"] == 0


def test_a_reset_in_the_middle(reactor: Reactor) -> None:
    got_first = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(b"some"))
        assert got_first.wait(10)  # a reset throws away what the client has not read yet
        peer.reset()

    with ScriptedServer(script) as server:
        exchange = server.exchange()
        greenlet = gevent.spawn(reactor.run, exchange)
        while reactor.figures()["connections"] == 0 or not _body_seen(reactor):
            gevent.sleep(0.001)
        got_first.set()
        greenlet.join(10)
    assert (exchange.end, exchange.body) == (End.RESET, b"some")


def _body_seen(reactor: Reactor) -> bool:
    return any(flight.framing.body for flight in reactor._flights)


def test_connection_refused(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    exchange = Exchange(Endpoint("127.0.0.1", port), request(), PATIENT, 1000)
    reactor.run(exchange)
    assert (exchange.end, exchange.sent_ns) == (End.CONNECT_ERROR, None)
    assert "refused" in exchange.error_text


def test_a_literal_ipv6_address(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        while body := peer.read_request():
            peer.send(plain(body))

    with ScriptedServer(script, host="::1") as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert (exchange.end, exchange.body, exchange.reads[0].kernel) == (End.COMPLETE, b"{}", True)


def test_names_are_looked_up_and_unknown_ones_are_a_dns_error(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(plain(b"hi", b"Connection: close\r\n"))

    with ScriptedServer(script) as server:
        # localhost may be ::1 first, where nobody listens: the next address is tried.
        exchange = Exchange(Endpoint("localhost", server.endpoint.port), request(), PATIENT, 1000)
        reactor.run(exchange)
        assert exchange.end is End.COMPLETE
    unknown = Exchange(Endpoint("a" * 70 + ".invalid", 80), request(), PATIENT, 1000)  # a label is at most 63 long
    reactor.run(unknown)
    assert unknown.end is End.DNS_ERROR


@pytest.mark.parametrize(
    ("sends", "limits", "end"),
    [
        (b"", {"first_byte_s": 0.1}, End.TIMEOUT_FIRST_BYTE),
        (HEAD, {"gap_s": 0.1}, End.TIMEOUT_GAP),
        (HEAD + chunk(b"x"), {"gap_s": 0.1}, End.TIMEOUT_GAP),
        (HEAD + chunk(b"x"), {"total_s": 0.1}, End.TIMEOUT_TOTAL),
    ],
)
def test_deadlines(reactor: Reactor, sends: bytes, limits: dict[str, float], end: End) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(sends)
        peer.wait_closed()

    with ScriptedServer(script) as server:
        exchange = server.exchange(deadlines=PATIENT._replace(**limits))
        reactor.run(exchange)
    assert exchange.end is end
    assert exchange.done_ns is not None
    assert exchange.done_ns - exchange.started_ns >= 100_000_000


def test_a_stream_longer_than_the_first_byte_deadline_lives(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD)
        for _ in range(8):
            threading.Event().wait(0.05)
            peer.send(chunk(b"x"))
        peer.send(LAST)

    with ScriptedServer(script) as server:
        # 0.4 s in all: a gap deadline of 0.3 s must start anew with each read.
        exchange = server.exchange(deadlines=PATIENT._replace(first_byte_s=0.3, gap_s=0.3))
        reactor.run(exchange)
        reactor.close()
    assert exchange.end is End.COMPLETE


def test_connect_deadline(reactor: Reactor) -> None:
    # A listener whose queue is full drops further handshakes: the connect neither succeeds nor fails.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            exchange = Exchange(Endpoint(*address), request(), PATIENT._replace(connect_s=0.1), 1000)
            reactor.run(exchange)
        finally:
            for filler in fillers:
                filler.close()
    assert (exchange.end, exchange.sent_ns) == (End.TIMEOUT_CONNECT, None)


def test_a_large_request_goes_out_in_parts(reactor: Reactor) -> None:
    body = bytes(range(256)) * 40_000  # 10 MB: more than any socket buffer
    seen: list[str] = []

    def script(peer: Peer) -> None:
        seen.append(hashlib.sha256(peer.read_request()).hexdigest())
        peer.send(plain(b"ok", b"Connection: close\r\n"))

    with ScriptedServer(script) as server:
        exchange = server.exchange(body=body)
        reactor.run(exchange)
    assert (exchange.end, seen) == (End.COMPLETE, [hashlib.sha256(body).hexdigest()])
    assert exchange.sent_ns is not None and exchange.sent_last_ns is not None
    assert exchange.sent_last_ns > exchange.sent_ns


def test_an_answer_to_a_request_that_was_never_read_is_heard(reactor: Reactor) -> None:
    # A proxy refuses a large body unread and closes: our write fails, but its answer is there to be read.
    def script(peer: Peer) -> None:
        while b"\r\n\r\n" not in peer.sock.recv(4096, socket.MSG_PEEK):
            pass
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    with ScriptedServer(script) as server:
        exchange = server.exchange(body=bytes(10_000_000))
        reactor.run(exchange)
    assert (exchange.end, exchange.status, exchange.sent_last_ns) == (End.COMPLETE, 413, None)
    assert reactor.figures()["connections"] == 0


def test_a_stale_connection_is_retried_once_on_a_fresh_one(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.index == 0:
            peer.send(plain(b"first"))
            peer.read_request()  # the second request meets a server that closes without an answer
            return
        peer.send(plain(b"second", b"Connection: close\r\n"))

    with ScriptedServer(script) as server:
        first, second = server.exchange(), server.exchange()
        reactor.run(first)
        reactor.run(second)
        assert server.connections == 2
    assert (first.end, second.end, second.body) == (End.COMPLETE, End.COMPLETE, b"second")
    assert (second.retried, second.connection_new) == (True, True)
    assert reactor.figures()["retried"] == 1


def test_a_fresh_connection_that_closes_is_not_retried(reactor: Reactor) -> None:
    with ScriptedServer(lambda peer: peer.read_request() and None) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        assert server.connections == 1
    assert (exchange.end, exchange.retried) == (End.EOF, False)


def test_a_connection_that_answered_a_byte_is_not_retried(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(plain(b"first"))
        peer.read_request()
        peer.send(b"H")

    with ScriptedServer(script) as server:
        reactor.run(server.exchange())
        exchange = server.exchange()
        reactor.run(exchange)
        assert server.connections == 1
    assert (exchange.end, exchange.retried) == (End.EOF, False)


def test_an_idle_connection_closed_by_the_peer_is_not_used(reactor: Reactor) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(plain(b"hi"))
        if peer.index == 0:
            peer.sock.close()
            closed.set()
        else:
            peer.wait_closed()

    with ScriptedServer(script) as server:
        reactor.run(server.exchange())
        assert closed.wait(10)
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert (exchange.end, exchange.connection_new, exchange.retried) == (End.COMPLETE, True, False)


def test_a_killed_greenlet_leaves_no_trace_in_the_next_request_on_its_descriptor(reactor: Reactor) -> None:
    killed = threading.Event()

    def script(peer: Peer) -> None:
        body = peer.read_request()
        peer.send(HEAD + chunk(b"for " + body))
        if body == b"killed":
            assert killed.wait(10)
            try:
                for _ in range(20):  # late data for a connection that is gone
                    peer.send(chunk(b"late"))
            except OSError:
                return
        else:
            peer.send(LAST)
            peer.wait_closed()

    with ScriptedServer(script) as server:
        old = server.exchange(body=b"killed")
        greenlet = gevent.spawn(reactor.run, old)
        while not _body_seen(reactor):
            gevent.sleep(0.001)
        (old_fd,) = reactor._connections.by_fd
        greenlet.kill()
        assert (old.end, old.body) == (End.CANCELLED, b"for killed")
        assert not reactor._connections.by_fd
        new = server.exchange(body=b"living")
        heir = gevent.spawn(reactor.run, new)
        gevent.sleep(0)
        assert list(reactor._connections.by_fd) == [old_fd]  # the kernel gives out the lowest free number
        killed.set()
        heir.join(10)
        reactor.close()
    assert (new.end, new.body) == (End.COMPLETE, b"for living")


def test_a_kill_that_meets_a_finished_answer_keeps_the_answer(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        while body := peer.read_request():
            peer.send(plain(body))

    with ScriptedServer(script) as server:
        exchange, after = server.exchange(body=b"one"), server.exchange(body=b"two")
        greenlet = gevent.spawn(reactor.run, exchange)
        gevent.sleep(0)
        while exchange.end is None:
            threading.Event().wait(0.001)
            reactor._tick()
        greenlet.kill()  # finished in a pass, and killed before the wake-up was delivered
        reactor.run(after)  # on the connection that went back to the pool
        reactor.close()
    assert (exchange.end, exchange.body) == (End.COMPLETE, b"one")
    assert (after.end, after.body, after.connection_new) == (End.COMPLETE, b"two", False)


def test_a_request_that_was_to_leave_when_the_reactor_was_closed_does_not_leave(reactor: Reactor) -> None:
    both_asked = threading.Barrier(2, timeout=10)
    both_answered = threading.Barrier(3, timeout=10)
    left: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.read_request()
        both_asked.wait()
        peer.send(plain(b"hi"))
        both_answered.wait()
        left.append(peer.read_request())

    with ScriptedServer(script) as server:
        firsts, second = [server.exchange() for _ in range(2)], server.exchange()

        woken: list[Exchange] = []

        def one(first: Exchange) -> None:
            reactor.run(first)
            woken.append(first)
            if len(woken) == 1:
                reactor.run(second)
            else:
                reactor.close()

        greenlets = [gevent.spawn(one, first) for first in firsts]
        while reactor.figures()["in_flight"] < 2 or any(each.sent_last_ns is None for each in firsts):
            gevent.sleep(0.001)
        both_answered.wait()  # the loop stands still, so that one pass finds both answers and wakes both greenlets
        gevent.joinall(greenlets, timeout=20, raise_error=True)
    assert [each.end for each in firsts] == [End.COMPLETE, End.COMPLETE]
    assert (second.end, second.sent_ns) == (End.CANCELLED, None)
    assert left == [b"", b""]


def test_close_ends_what_is_in_the_air(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.wait_closed()

    with ScriptedServer(script) as server:
        exchange = server.exchange()
        greenlet = gevent.spawn(reactor.run, exchange)
        gevent.sleep(0.01)
        reactor.close()
        greenlet.join(10)
        late = server.exchange()
        reactor.run(late)
    assert (exchange.end, late.end) == (End.CANCELLED, End.CANCELLED)


def test_an_error_of_ours_in_one_exchange_ends_only_that_one() -> None:
    reactor = Reactor()

    def script(peer: Peer) -> None:
        body = peer.read_request()
        peer.send(HEAD)
        peer.send(chunk(body) + LAST)
        peer.wait_closed()

    def broken(data: bytes) -> None:
        raise KeyError("a bug")

    with ScriptedServer(script) as server:
        bad, good = server.exchange(body=b"bad"), server.exchange(body=b"good")
        greenlets = [gevent.spawn(reactor.run, bad), gevent.spawn(reactor.run, good)]
        gevent.sleep(0)
        for flight in reactor._flights:
            if flight.exchange is bad:
                flight.feed = broken
        gevent.joinall(greenlets, timeout=10, raise_error=True)
        figures = reactor.figures()
        reactor.close()
    assert (bad.end, good.end, good.body) == (End.BAD_HTTP, End.COMPLETE, b"good")
    assert "KeyError" in bad.error_text
    assert (figures["errors_unexpected"], figures["passes_failed"]) == (1, 0)


def test_the_timer_rests_when_nothing_is_in_the_air(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(plain(b"hi"))

    with ScriptedServer(script) as server:
        reactor.run(server.exchange())
        while reactor._ticking:
            gevent.sleep(0.01)
        passes = reactor.figures()["passes"]
        gevent.sleep(0.02)
        assert reactor.figures()["passes"] == passes
        exchange = server.exchange()
        reactor.run(exchange)  # and starts again
        assert exchange.end is End.COMPLETE
        reactor.close()


def test_more_descriptors_than_select_can_name(reactor: Reactor) -> None:
    spare = [socket.socket() for _ in range(1030)]
    try:

        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(plain(b"hi", b"Connection: close\r\n"))

        with ScriptedServer(script) as server:
            exchange = server.exchange()
            reactor.run(exchange)
        assert exchange.end is End.COMPLETE
    finally:
        for each in spare:
            each.close()


PATCHED = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent, select, socket
assert not hasattr(select, "epoll"), "patching no longer hides epoll: this test has lost its point"
from loadtest.client.exchange import Deadlines, Endpoint, Exchange
from loadtest.client.reactor import Reactor
reactor = Reactor()
made = [Exchange(Endpoint("localhost", int(sys.argv[1])), b"POST / HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\nhi",
                 Deadlines(10, 10, 10, 20), 1000) for _ in range(20)]
gevent.joinall([gevent.spawn(reactor.run, each) for each in made], raise_error=True)
print({(each.end, each.body, each.reads[-1].kernel) for each in made})
reactor.close()
"""


def test_under_monkey_patching_as_locust_does_it() -> None:
    def script(peer: Peer) -> None:
        while body := peer.read_request():
            peer.send(plain(body))

    with ScriptedServer(script) as server:
        told = subprocess.run(
            [sys.executable, "-c", PATCHED, str(server.endpoint.port)],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert told.stdout.strip() == "{(<End.COMPLETE: 'complete'>, b'hi', True)}"
