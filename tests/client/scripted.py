"""A server on loopback that does to each connection what the test tells it, in a thread per connection."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from loadtest.client.exchange import Deadlines, Endpoint, Exchange
from loadtest.clock import mono_ns

PATIENT = Deadlines(connect_s=10, first_byte_s=10, gap_s=10, total_s=20)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def plain(body: bytes, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (extra, len(body), body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def request(body: bytes = b"{}") -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Peer:
    """The server's end of one connection. `index` counts the connections of the server from 0."""

    def __init__(self, sock: socket.socket, index: int) -> None:
        self.sock = sock
        self.index = index
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read_request(self) -> bytes:
        """The body of the next request, or b"" when the client has closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sock.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        parts = [body]
        missing = length - len(body)
        while missing:
            part = self.sock.recv(min(missing, 1 << 20))
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def send(self, data: bytes) -> tuple[int, int]:
        """The instants just before and just after the bytes went into the kernel."""
        before = mono_ns()
        self.sock.sendall(data)
        return before, mono_ns()

    def reset(self) -> None:
        """Close so that the client sees a reset and not an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_closed(self) -> None:
        """Until the client has closed, or reset because it left something unread, such as session tickets."""
        with suppress(ConnectionResetError):
            while self.sock.recv(65536):
                pass


class ScriptedServer:
    """`script(peer)` runs for every connection; an exception in it fails the test when the server is left.

    With `tls` it runs once the handshake is done, and not at all when that fails.
    """

    def __init__(
        self, script: Callable[[Peer], None], *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._script = script
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self.endpoint = Endpoint(host, self._listener.getsockname()[1], tls is not None)
        self.connections = 0
        self.errors: list[Exception] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(10)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a script does not end"
        self._listener.close()
        if self.errors:
            raise self.errors[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock, self.connections))
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, index: int) -> None:
        if self._tls is not None:
            sock.settimeout(20)
            try:
                sock = self._tls.wrap_socket(sock, server_side=True)
            except OSError:
                return  # and the client says why
        with sock:
            try:
                self._script(Peer(sock, index))
            except Exception as error:
                self.errors.append(error)

    def exchange(self, *, body: bytes = b"{}", deadlines: Deadlines = PATIENT, bytes_max: int = 1 << 20) -> Exchange:
        return Exchange(self.endpoint, request(body), deadlines, bytes_max)
