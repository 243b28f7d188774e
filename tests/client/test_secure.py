"""TLS records cut and joined in every way, one connection driven by hand against a server made of BIOs."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from certificates import Authority

from loadtest.client.exchange import End, Ended, Endpoint
from loadtest.client.secure import SecureConnection

PIECES = (b"HTTP/1.1 200 OK\r\n\r\n", b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n")


class Link:
    """Both ends of one connection. The server's records are made and sent separately, so they can be cut anywhere."""

    def __init__(self, context: ssl.SSLContext) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            self.due: list[SecureConnection] = []
            endpoint = Endpoint("127.0.0.1", address[1], True)
            self.client = SecureConnection(endpoint, (socket.AF_INET, address), socket.socket, False, self.due.append)
            self.server, _ = listener.accept()
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def close(self) -> None:
        self.client.sock.close()
        self.server.close()

    def shake_hands(self) -> bytes:
        """Until the client is done. The session tickets that the server has for it by then are returned, not sent."""
        assert not self.client.shake_hands()
        done = False
        while not done:
            self.hear()
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            self.send(self._outgoing.read())
            done = self.client.shake_hands()
        self.hear()
        self.tls.do_handshake()
        return self._outgoing.read()

    def open(self) -> None:
        """Ready for the request: the tickets are sent and heard, and are no read."""
        self.send(self.shake_hands())
        assert self.read() is None

    def hear(self) -> None:
        readable(self.server)
        self._incoming.write(self.server.recv(65536))

    def records(self, *plain: bytes) -> bytes:
        for each in plain:
            self.tls.write(each)
        return self._outgoing.read()

    def send(self, ciphertext: bytes) -> None:
        """Returns when the client's kernel has it."""
        if ciphertext:
            self.server.sendall(ciphertext)
            readable(self.client.sock)

    def read(self) -> bytes | None:
        """One read of the client; None when it gave no plain text."""
        try:
            return self.client.receive(65536, 32)[0]
        except BlockingIOError:
            return None


def readable(sock: socket.socket) -> None:
    assert select.select([sock], [], [], 10)[0]


@pytest.fixture
def link(trusted: Authority) -> Iterator[Link]:
    made = Link(trusted.server("plain"))
    yield made
    made.close()


def test_cut_at_every_byte_each_record_comes_with_its_last(link: Link) -> None:
    link.open()
    together = link.records(*PIECES)
    link.send(together)
    assert link.read() == b"".join(PIECES)  # several records in one read
    for cut in range(1, len(together)):
        ends, ciphertext = [], b""
        for piece in PIECES:
            ciphertext += link.records(piece)
            ends.append(len(ciphertext))
        got: list[bytes] = []
        for part in (ciphertext[:cut], ciphertext[cut:]):
            link.send(part)
            got.append(link.read() or b"")
        whole = [piece for piece, end in zip(PIECES, ends, strict=True) if end <= cut]
        assert got == [b"".join(whole), b"".join(PIECES[len(whole) :])], cut


def test_byte_by_byte_only_the_last_byte_of_a_record_is_a_read(link: Link) -> None:
    tickets = link.shake_hands()
    assert tickets, "this server sends session tickets"
    reads: list[tuple[int, bytes]] = []
    ends, ciphertext = [], tickets
    for piece in PIECES:
        ciphertext += link.records(piece)
        ends.append(len(ciphertext))
    for position in range(len(ciphertext)):
        link.send(ciphertext[position : position + 1])
        plain = link.read()
        if plain is not None:
            reads.append((position + 1, plain))
    assert reads == list(zip(ends, PIECES, strict=True))


def test_session_tickets_are_no_read(link: Link) -> None:
    tickets = link.shake_hands()
    assert tickets
    link.send(tickets)
    assert link.read() is None
    link.send(link.records(b"x"))
    assert link.read() == b"x"


def test_more_than_one_record_holds_comes_out_whole(link: Link) -> None:
    link.open()
    big = bytes(range(256)) * 200  # 51,200 bytes: four records
    link.send(link.records(big))
    got = b""
    while len(got) < len(big):
        readable(link.client.sock)
        got += link.read() or b""
    assert got == big


def test_a_close_after_data_is_told_by_the_next_read(link: Link) -> None:
    link.open()
    with suppress(ssl.SSLWantReadError):
        link.tls.write(b"last")
        link.tls.unwrap()
    link.send(link.records())  # and the TCP connection stays open
    assert link.read() == b"last"
    readable(link.client.sock)  # or epoll would never report it again
    assert link.read() == b""


def test_an_end_without_close_notify_is_an_end(link: Link) -> None:
    link.open()
    record = link.records(b"never whole")
    link.send(record[:-1])
    assert link.read() is None
    link.server.close()
    readable(link.client.sock)
    assert link.read() == b""


@pytest.mark.parametrize("before", [b"", b"good"])
def test_bytes_that_are_no_records_are_an_error_after_what_was_good(link: Link, before: bytes) -> None:
    link.open()
    link.send((link.records(before) if before else b"") + b"HTTP/1.1 200 OK\r\n\r\n")
    if before:
        assert link.read() == before
        readable(link.client.sock)
    with pytest.raises(ssl.SSLError):
        link.read()


def test_while_the_handshake_lasts_a_pass_reads_nothing(link: Link) -> None:
    assert link.client.wanted() == select.EPOLLIN | select.EPOLLONESHOT
    assert link.read() is None
    assert (link.due, link.client.mask) == ([link.client], 0)
    link.open()
    assert link.client.wanted() == select.EPOLLIN


def test_a_large_request_waits_for_the_socket(link: Link) -> None:
    link.open()
    body = bytes(range(256)) * 20_000  # 5 MB
    link.client.unsent = memoryview(body)
    got = b""
    done = False
    while not done:
        done = link.client.write()
        assert done or link.client.wanted() == select.EPOLLIN | select.EPOLLOUT
        while select.select([link.server], [], [], 0)[0]:
            link.hear()
        with suppress(ssl.SSLWantReadError):
            while True:
                got += link.tls.read(1 << 20)
    while len(got) < len(body):
        link.hear()
        with suppress(ssl.SSLWantReadError):
            while True:
                got += link.tls.read(1 << 20)
    assert got == body


def wrong_name(link: Link) -> None:
    link.client.endpoint = Endpoint("x" * 70 + ".example", 443, True)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (wrong_name, "tls_hostname"),
        (lambda link: link.server.close(), "tls_closed"),
    ],
)
def test_a_handshake_that_cannot_begin_or_go_on(link: Link, change: Callable[[Link], None], kind: str) -> None:
    change(link)
    with pytest.raises(Ended) as caught:
        for _ in range(2):
            link.client.shake_hands()
            readable(link.client.sock)
    assert (caught.value.end, caught.value.kind) == (End.TLS_ERROR, kind)
    assert "\n" not in caught.value.text
