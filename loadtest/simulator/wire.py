"""HTTP/1.1 on an asyncio transport: as little as the routes need, so that nothing stands between a stamp and a write.

`transport.write` calls send() at once while nothing is buffered; so an instant read just before `write` is the
instant the bytes went to the kernel, and with TCP_NODELAY also the instant they leave it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httptools

from loadtest.simulator.stamped import StampedSocket

BODY_BYTES_MAX = 16 * 1024 * 1024
HEADER_BYTES_MAX = 64 * 1024
PIPELINE_MAX = 16
WRITE_BUFFER_BYTES_MAX = 8 * 1024 * 1024  # a client that does not read is cut off here
JSON = b"application/json"
HTML = b"text/html"

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Payload Too Large",
    422: b"Unprocessable Entity",
    500: b"Internal Server Error",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


@dataclass(slots=True)
class Request:
    """One request, whole. `received_ns` is when the kernel had its last bytes."""

    connection: Connection
    method: str
    path: str
    headers: dict[bytes, bytes]  # names in lower case
    body: bytes
    received_ns: int
    keep_alive: bool

    def header(self, name: bytes) -> bytes:
        return self.headers.get(name, b"")


class Answering(Protocol):
    """What is under way on a connection and must be told when the client goes away."""

    def cancel(self) -> None: ...


class Connection(asyncio.Protocol):
    """One client connection: parses requests, hands them over one at a time, writes answers."""

    def __init__(
        self,
        serve: Callable[[Request], None],
        connections: set[Connection],
        accepted: Mapping[int, StampedSocket],
    ) -> None:
        self._serve = serve
        self._connections = connections
        self._accepted = accepted
        self._parser: Any = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._busy: Request | None = None
        self._transport: asyncio.Transport | None = None
        self.answering: Answering | None = None
        self._begin()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        # asyncio does this only for sockets created with an explicit protocol number, which accepted ones may lack;
        # without it a first chunk waits up to 40 ms for the acknowledgement of the headers.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # asyncio hands out a wrapper; the socket that keeps the stamps is found by its descriptor.
        self._socket = self._accepted[transport.get_extra_info("socket").fileno()]
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        # The references go both ways, and what lives longer than a moment is never garbage collected: cut them here.
        self._connections.discard(self)
        self._transport = None
        self._parser = None
        self._waiting.clear()
        self._busy = None
        answering, self.answering = self.answering, None
        if answering is not None:
            answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._received_ns = self._socket.received_ns
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserCallbackError, httptools.HttpParserUpgrade):
            self._refuse(self._refusal or 400)

    def pause_writing(self) -> None:
        self.abort()

    # httptools callbacks

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body = bytearray()
        self._received_ns = 0
        self._refusal = 0

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        self._headers[name.lower()] = value

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError("headers too large")

    def on_headers_complete(self) -> None:
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if len(self._body) + len(body) > BODY_BYTES_MAX:
            self._refusal = 413
            raise ValueError("body too large")
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_http_version() != "1.1":
            self._refusal = 505  # HTTP/1.0 has no chunked bodies, and no client of a router speaks it
            raise ValueError("not HTTP/1.1")
        path = httptools.parse_url(self._url).path.decode("latin-1")
        method = self._parser.get_method().decode("ascii")
        keep_alive = self._parser.should_keep_alive()
        request = Request(self, method, path, self._headers, bytes(self._body), self._received_ns, keep_alive)
        received_ns = self._received_ns
        self._begin()
        self._received_ns = received_ns
        if self._busy is None:
            self._take(request)
        elif len(self._waiting) < PIPELINE_MAX:
            self._waiting.append(request)
        else:
            raise ValueError("too many pipelined requests")

    def _take(self, request: Request) -> None:
        self._busy = request
        try:
            self._serve(request)
        except Exception:
            # We are in a callback of the parser, which would call any error of ours a bad request of the client's.
            traceback.print_exc(file=sys.stderr)
            self.abort()

    # Answers.

    def send(self, status: int, body: bytes, content_type: bytes = JSON) -> None:
        """A whole answer in one write."""
        head = self._head(status, content_type) + b"content-length: %d\r\n\r\n" % len(body)
        self.write(head + body)
        self.finished()

    def send_stream_head(self) -> None:
        """Status line and headers of an event stream whose body follows in `write_chunk` calls."""
        head = self._head(200, b"text/event-stream; charset=utf-8")
        self.write(head + b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n")

    def write(self, data: bytes) -> bool:
        """Hand bytes to the kernel. False: the client is gone, `connection_lost` follows."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        return True

    def finished(self) -> None:
        """The answer is complete: close, or take the next request of a client that pipelines."""
        request, self._busy, self.answering = self._busy, None, None
        if self._transport is None or request is None:
            return
        if not request.keep_alive:
            self._transport.close()
        elif self._waiting:
            self._take(self._waiting.popleft())

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _head(self, status: int, content_type: bytes) -> bytes:
        request = self._busy
        lines = [b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n" % (status, REASONS[status], content_type)]
        if request is not None and (request_id := request.header(b"x-request-id")):
            lines.append(b"x-request-id: %s\r\n" % request_id[:200])
        if request is not None and not request.keep_alive:
            lines.append(b"connection: close\r\n")
        return b"".join(lines)

    def _refuse(self, status: int) -> None:
        """Answer what is not acceptable HTTP and close. In the middle of another answer there is nothing to say."""
        if self._transport is None:
            return
        if self._busy is not None:
            self._transport.abort()
            return
        body = b'{"error":{"message":"%s","code":"bad_http"}}' % REASONS[status]
        self.write(self._head(status, JSON) + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        self._transport.close()


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
