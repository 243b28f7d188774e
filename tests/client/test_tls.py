"""The reactor over TLS against real servers on loopback: timing, certificates, keep-alive, ends, new keys."""

from __future__ import annotations

import gc
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import gevent
import pytest
from certificates import NAMES, Authority
from exchanges import call, started
from scripted import HEAD, LAST, PATIENT, Peer, ScriptedServer, chunk, plain, request
from test_arrivals import assert_contained, stream

from loadtest.client.answers import Answer
from loadtest.client.control import ControlClient, ControlError
from loadtest.client.departures import HANDSHAKE_STEPS_MAX
from loadtest.client.exchange import End, Endpoint, Exchange
from loadtest.client.flight import Flight
from loadtest.client.outcomes import finish
from loadtest.client.reactor import Reactor
from loadtest.client.secure import SecureConnection
from loadtest.records import Outcome, Target
from loadtest.swarm.preflight import SetupError, check_reachable


def hello(peer: Peer) -> None:
    while body := peer.read_request():
        peer.send(plain(body))


def test_instants_of_a_first_request_and_keep_alive(reactor: Reactor, trusted: Authority) -> None:
    with ScriptedServer(hello, tls=trusted.server("a")) as server:
        made = [server.exchange(body=b"n%d" % number) for number in range(5)]
        for exchange in made:
            reactor.run(exchange)
        assert server.connections == 1
        reactor.close()
    assert [exchange.body for exchange in made] == [b"n%d" % number for number in range(5)]
    assert [exchange.connection_new for exchange in made] == [True] + [False] * 4
    first, later = made[0], made[1]
    assert first.connecting_ns is not None and first.connected_ns is not None and first.secured_ns is not None
    assert first.sent_ns is not None and first.headers_ns is not None
    assert first.connecting_ns <= first.connected_ns < first.secured_ns <= first.sent_ns <= first.headers_ns
    assert later.secured_ns is None
    # The session tickets came before the first answer, and are neither read nor surplus.
    assert [len(exchange.reads) for exchange in made] == [1] * 5
    assert reactor.figures()["retried"] == 0


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_other_ways_to_name_this_machine(reactor: Reactor, trusted: Authority, host: str) -> None:
    listens = "::1" if host == "::1" else "127.0.0.1"  # localhost may be ::1 first: the next address is tried
    with ScriptedServer(hello, tls=trusted.server("a"), host=listens) as server:
        exchange = Exchange(server.endpoint._replace(host=host), request(b"hi"), PATIENT, 1000)
        reactor.run(exchange)
        reactor.close()
    assert (exchange.end, exchange.body, exchange.error_text) == (End.COMPLETE, b"hi", "")


@pytest.mark.parametrize("stalls", [False, True])
def test_arrivals_contain_the_send(reactor: Reactor, trusted: Authority, stalls: bool) -> None:
    sent: list[tuple[int, int]] = []
    with ScriptedServer(stream(0.004, 60, sent), tls=trusted.server("a")) as server:
        exchange = server.exchange()
        greenlet = gevent.spawn(reactor.run, exchange)
        while stalls and exchange.end is None:
            gevent.sleep(0.01)
            time.sleep(0.05)  # the whole hub stands still, and the kernel merges records
        greenlet.join(20)
        reactor.close()
    assert exchange.end is End.COMPLETE
    assert_contained(exchange, sent)
    assert all(read.kernel for read in exchange.reads)
    if not stalls:
        # The chunks are told apart: 60 of them, 4 ms apart, did not come as a lump at the end.
        assert len(exchange.reads) > 30
        errors = sorted(read.stamp_ns - at[0] for read, at in zip(exchange.reads[-61:-1], sent, strict=False))
        assert errors[len(errors) // 2] < 10_000_000


def row(exchange: Exchange) -> tuple[str, str, str]:
    record = finish(started(), call(), exchange, Answer(), None)
    return record.outcome, record.error_kind, record.error_text


@pytest.mark.parametrize(
    ("names", "days", "kind", "says"),
    [
        ("subjectAltName=DNS:other.example", 2, "tls_hostname", "not valid for"),
        (NAMES, -1, "tls_expired", "expired"),
    ],
)
def test_certificates_that_are_not_accepted(
    reactor: Reactor, trusted: Authority, names: str, days: int, kind: str, says: str
) -> None:
    with ScriptedServer(hello, tls=trusted.server(kind, names, days)) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert (exchange.end, exchange.sent_ns, exchange.secured_ns) == (End.TLS_ERROR, None, None)
    outcome, told_kind, text = row(exchange)
    assert (outcome, told_kind) == (Outcome.TLS_ERROR, kind)
    assert says in text and "\n" not in text


def test_an_authority_nobody_named(reactor: Reactor, trusted: Authority, tmp_path: Path) -> None:
    with ScriptedServer(hello, tls=Authority(tmp_path, "stranger").server("b")) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
        with pytest.raises(ControlError, match=r"connect: .*certificate verify failed"):
            ControlClient(f"https://127.0.0.1:{server.endpoint.port}", None).get_json("/")
    assert row(exchange)[:2] == (Outcome.TLS_ERROR, "tls_unknown_ca")
    assert "SSL_CERT_FILE" in exchange.error_text


def test_a_server_that_speaks_no_tls(reactor: Reactor, trusted: Authority) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with ScriptedServer(script) as server:
        exchange = Exchange(server.endpoint._replace(tls=True), request(), PATIENT, 1000)
        reactor.run(exchange)
    assert row(exchange)[:2] == (Outcome.TLS_ERROR, "tls_protocol")
    assert exchange.error_text == "TLS: wrong version number"


def test_a_handshake_has_a_deadline_and_an_early_close_is_told(reactor: Reactor, trusted: Authority) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        if peer.index == 0:
            peer.wait_closed()

    with ScriptedServer(script) as server:
        silent = Exchange(server.endpoint._replace(tls=True), request(), PATIENT._replace(connect_s=0.1), 1000)
        reactor.run(silent)
        closed = Exchange(server.endpoint._replace(tls=True), request(), PATIENT, 1000)
        reactor.run(closed)
    assert (silent.end, silent.error_kind) == (End.TIMEOUT_CONNECT, "tls_timeout")
    assert (closed.end, closed.error_kind) == (End.TLS_ERROR, "tls_closed")


def test_an_alert_after_the_handshake(reactor: Reactor, trusted: Authority) -> None:
    # In TLS 1.3 a server that insists on a client certificate says so when ours is already "done".
    context = trusted.server("a")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(trusted.file)
    with ScriptedServer(hello, tls=context) as server:
        exchange = server.exchange()
        reactor.run(exchange)
    assert (exchange.end, exchange.error_kind) in [(End.TLS_ERROR, "tls_protocol"), (End.RESET, "")]
    if exchange.end is End.TLS_ERROR:
        assert exchange.error_text == "TLS: tlsv13 alert certificate required"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("notified", [False, True])
@pytest.mark.parametrize(
    ("wire", "end"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", End.COMPLETE),
        (plain(b"until the end"), End.COMPLETE),
        (HEAD + chunk(b"until the end"), End.EOF),
    ],
)
def test_ends_with_and_without_close_notify(
    reactor: Reactor, trusted: Authority, version: ssl.TLSVersion, notified: bool, wire: bytes, end: End
) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(wire)
        assert isinstance(peer.sock, ssl.SSLSocket)
        with suppress(OSError):  # a client that has all it wants may be gone
            if notified:
                peer.sock.setblocking(False)
                with suppress(ssl.SSLWantReadError):
                    peer.sock.unwrap()
                peer.sock.settimeout(20)
                peer.sock.recv(1)  # the TCP connection stays open: the client must not wait for its end
            peer.sock.shutdown(socket.SHUT_WR)

    context = trusted.server("a")
    context.maximum_version = version
    with ScriptedServer(script, tls=context) as server:
        exchange = server.exchange()
        reactor.run(exchange)
        reactor.close()
    assert (exchange.end, exchange.body) == (end, b"until the end")


def test_a_burst_of_handshakes_is_spread_over_passes(
    reactor: Reactor, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    shake_hands = reactor._departures.shake_hands

    def counted() -> None:
        before = len(reactor._connections.handshakes)
        shake_hands()
        steps.append(before - len(reactor._connections.handshakes))

    monkeypatch.setattr(reactor._departures, "shake_hands", counted)
    with ScriptedServer(hello, tls=trusted.server("a")) as server:
        made = [server.exchange() for _ in range(20)]
        gevent.joinall([gevent.spawn(reactor.run, exchange) for exchange in made], timeout=20, raise_error=True)
        reactor.close()
    assert {exchange.end for exchange in made} == {End.COMPLETE}
    assert all(exchange.secured_ns for exchange in made)
    assert max(steps) == HANDSHAKE_STEPS_MAX and sum(steps) >= 40


def test_a_kill_in_the_handshake_leaves_nothing(reactor: Reactor, trusted: Authority) -> None:
    def script(peer: Peer) -> None:
        peer.wait_closed()

    with ScriptedServer(script) as server:
        exchange = Exchange(server.endpoint._replace(tls=True), request(), PATIENT, 1000)
        greenlet = gevent.spawn(reactor.run, exchange)
        gevent.sleep(0)
        assert reactor._connections.handshakes
        greenlet.kill()
        reactor._tick()
        assert not reactor._connections.handshakes and not reactor._connections.by_fd
    assert exchange.end is End.CANCELLED


class OpensslServer:
    """`openssl s_server`: sends what it is told on its input, and new keys for a line with K."""

    def __init__(self, authority: Authority) -> None:
        authority.server("s_server")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        files = ["-cert", str(authority.folder / "s_server.pem"), "-key", str(authority.folder / "s_server.key")]
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", *files, "-tls1_3", "-msg"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.endpoint = Endpoint("127.0.0.1", port, True)
        self._told = b""

    def __enter__(self) -> Self:
        self.wait_for(b"ACCEPT")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def wait_for(self, words: bytes) -> None:
        """Until its output has them, after what was waited for before."""
        assert self._process.stdout is not None
        with gevent.Timeout(10):
            while words not in self._told:
                if select.select([self._process.stdout], [], [], 0)[0]:
                    self._told += self._process.stdout.read(4096)
                gevent.sleep(0.001)
        self._told = self._told.partition(words)[2]


def test_new_keys_in_the_middle_of_a_stream(reactor: Reactor, trusted: Authority) -> None:
    # Python's ssl cannot ask for a KeyUpdate, so the server is OpenSSL's own.
    def wait_for_body(words: bytes) -> None:
        with gevent.Timeout(10):
            while not any(words in flight.framing.body for flight in reactor._flights):
                gevent.sleep(0.001)

    with OpensslServer(trusted) as server:
        exchange = Exchange(server.endpoint, request(b"first"), PATIENT, 1000)
        greenlet = gevent.spawn(reactor.run, exchange)
        server.wait_for(b"first")
        server.write(HEAD + chunk(b"data: 1"))
        wait_for_body(b"data: 1")
        for number in (2, 3):
            server.write(b"K\n")  # new keys, and ours are asked for in return
            server.wait_for(b">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
            server.write(chunk(b"data: %d" % number))
            wait_for_body(b"data: %d" % number)
        server.write(LAST)
        greenlet.join(10)
        assert (exchange.end, exchange.body) == (End.COMPLETE, b"data: 1data: 2data: 3")
        assert len(exchange.reads) == 4  # the new keys are none
        again = Exchange(server.endpoint, request(b"second"), PATIENT, 1000)
        greenlet = gevent.spawn(reactor.run, again)
        server.wait_for(b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
        server.wait_for(b"second")  # written with the new keys
        greenlet.kill()
        assert not again.connection_new


def test_control_verifies_too(trusted: Authority) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(plain(b'{"a":1}'))
        peer.wait_closed()

    with (
        ScriptedServer(script, tls=trusted.server("a")) as server,
        ControlClient(f"https://localhost:{server.endpoint.port}", None) as control,
    ):
        assert control.get_json("/") == {"a": 1}


def test_nothing_is_left_for_the_garbage_collector(reactor: Reactor, trusted: Authority) -> None:
    # It is all but switched off during a run, and a TLS connection holds tens of kilobytes.
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(plain(b"hi", b"Connection: close\r\n"))

    gc.collect()
    gc.disable()
    try:
        with (
            ScriptedServer(script, tls=trusted.server("a")) as server,
            ScriptedServer(script, tls=trusted.server("expired", days=-1)) as refused,
        ):
            for each in (server, refused):
                exchange = each.exchange()
                exchange.cancel_after_chunks = 5
                reactor.run(exchange)
        while reactor._ticking:
            gevent.sleep(0.01)
        left = [type(each).__name__ for each in gc.get_objects() if isinstance(each, SecureConnection | Flight)]
    finally:
        gc.enable()
    assert left == []


def test_preflight_reaches_a_target_with_a_private_authority(trusted: Authority, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(plain(b"{}"))
        peer.wait_closed()

    def target(server: ScriptedServer) -> Target:
        return Target(name="t", route="cortensor", url=f"https://localhost:{server.endpoint.port}")

    with ScriptedServer(script, tls=trusted.server("a")) as server:
        check_reachable([target(server)])
    stranger = Authority(tmp_path, "stranger").server("b")
    with (
        ScriptedServer(script, tls=stranger) as server,
        pytest.raises(SetupError, match="certificate verify failed"),
    ):
        check_reachable([target(server)])


PATCHED = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from loadtest.client.exchange import Deadlines, Endpoint, Exchange
from loadtest.client.reactor import Reactor
reactor = Reactor()
made = [Exchange(Endpoint("localhost", int(sys.argv[1]), True), b"POST / HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\nhi",
                 Deadlines(10, 10, 10, 20), 1000) for _ in range(20)]
gevent.joinall([gevent.spawn(reactor.run, each) for each in made], raise_error=True)
print({(each.end, each.body, each.reads[-1].kernel) for each in made})
reactor.close()
"""


def test_under_monkey_patching_as_locust_does_it(trusted: Authority) -> None:
    with ScriptedServer(hello, tls=trusted.server("a")) as server:
        told = subprocess.run(
            [sys.executable, "-c", PATCHED, str(server.endpoint.port)],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert told.stdout.strip() == "{(<End.COMPLETE: 'complete'>, b'hi', True)}"


def test_many_greenlets_over_tls_each_get_their_own_answer(reactor: Reactor, trusted: Authority) -> None:
    together = threading.Barrier(30, timeout=20)

    def script(peer: Peer) -> None:
        body = peer.read_request()
        together.wait()
        peer.send(HEAD)
        for _ in range(5):
            peer.send(chunk(body))
        peer.send(LAST)
        peer.wait_closed()

    with ScriptedServer(script, tls=trusted.server("a")) as server:
        made = [server.exchange(body=b"request %d;" % number) for number in range(30)]
        gevent.joinall([gevent.spawn(reactor.run, each) for each in made], timeout=20, raise_error=True)
        reactor.close()
    assert all(each.body == b"request %d;" % number * 5 for number, each in enumerate(made))
