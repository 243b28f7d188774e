"""HTTP/1.1 on plain sockets: as little as the routes need, so that nothing stands between a stamp and a write.

`Connection.write` calls send() at once while nothing is buffered; so an instant read just before it is the instant
the bytes went to the kernel, and with TCP_NODELAY also the instant they leave it. asyncio only says which sockets
are ready: its transports would cost half as much again as the write, and hide the receive stamps.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import httptools

from loadtest.clock import mono_ns
from loadtest.simulator.faults import Faults
from loadtest.simulator.pace import Pace
from loadtest.simulator.stamped import StampedListener, StampedSocket
from loadtest.simulator.statuses import REASONS, nginx_page

BODY_BYTES_MAX = 16 * 1024 * 1024
HEADER_BYTES_MAX = 64 * 1024
PIPELINE_MAX = 16
WRITE_BUFFER_BYTES_MAX = 8 * 1024 * 1024  # a client that does not read is cut off here
READ_BYTES = 256 * 1024
SLOW_ACCEPT_S = 2.0  # of the fault
ACCEPTED_MAX = 16  # connections taken in one turn of the loop, so that streams are not kept waiting
JSON = b"application/json"
HTML = b"text/html"


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


class Connections:
    """Accepts on a listening socket and knows every connection that is open."""

    def __init__(
        self, listening: StampedListener, serve: Callable[[Request], None], pace: Pace, faults: Faults
    ) -> None:
        self._listening = listening
        self._serve = serve
        self._pace = pace
        self._faults = faults
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self.open: set[Connection] = set()
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_MAX):
            try:
                accepted = self._listening.take()
            except (BlockingIOError, ConnectionAbortedError):
                return
            self._count += 1
            connection = Connection(accepted, self._serve, self._pace, self.open)
            if self._faults.strikes("slow-accept", str(self._count)):
                # The kernel has shaken hands already, as it does for any server whose backlog has room.
                connection.faults = ("slow-accept",)
                self._loop.call_later(SLOW_ACCEPT_S, connection.read_on)
            else:
                connection.read_on()

    def hang_up(self) -> None:
        """Take no more, and cut what is under way, each with its row in the truth log."""
        self._loop.remove_reader(self._listening)
        for connection in list(self.open):
            connection.abort()


class Connection:
    """One client connection: parses requests, hands them over one at a time, writes answers."""

    def __init__(
        self,
        accepted: StampedSocket,
        serve: Callable[[Request], None],
        pace: Pace,
        connections: set[Connection],
    ) -> None:
        self._serve = serve
        self._pace = pace
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._socket: StampedSocket | None = accepted
        self._send = accepted.send
        self._unsent: deque[bytes] = deque()  # what the kernel did not take, because the client does not read
        self._unsent_bytes = 0
        self._closing = False
        self._parser: Any = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._busy: Request | None = None
        self.answering: Answering | None = None
        self.faults: tuple[str, ...] = ()  # that struck the connection and not yet a request on it
        self._begins_ns = 0
        self._begin()
        accepted.setblocking(False)
        # Without it a first chunk waits up to 40 ms for the acknowledgement of the headers.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.add(self)

    # The socket.

    def read_on(self) -> None:
        """Begin to read. What came before counts as received now."""
        if self._socket is not None:
            self._begins_ns = mono_ns() if self.faults else 0
            self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            return self.abort()
        if not data:
            return self.abort()  # a client that only half closes is gone too, as for most servers
        self._received_ns = max(self._socket.received_ns, self._begins_ns)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserCallbackError, httptools.HttpParserUpgrade):
            self._refuse(self._refusal or 400)

    def write(self, data: bytes) -> bool:
        """Hand bytes to the kernel, or keep what it does not take. False: the client is gone."""
        if self._socket is None:
            return False
        if self._unsent:
            return self._keep(data)
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._loop.call_soon(self.abort)  # not now: the answer is in the middle of writing
            return False
        return sent == len(data) or self._keep(data[sent:])

    def _keep(self, data: bytes) -> bool:
        assert self._socket is not None
        if not self._unsent:
            self._loop.add_writer(self._socket, self._writable)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > WRITE_BUFFER_BYTES_MAX:
            self._loop.call_soon(self.abort)
        return True

    def _writable(self) -> None:
        while self._socket is not None and self._unsent:
            data = self._unsent[0]
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return self.abort()
            self._unsent_bytes -= sent
            if sent < len(data):
                self._unsent[0] = data[sent:]
            else:
                self._unsent.popleft()
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            if self._closing:
                self.abort()

    def close(self) -> None:
        """Close when everything is written."""
        if self._unsent:
            self._closing = True
        else:
            self.abort()

    def reset(self) -> None:
        """Close so that the client sees a reset and not an end."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def abort(self) -> None:
        """Close now. What was under way is told."""
        closed, self._socket = self._socket, None
        if closed is None:
            return
        self._loop.remove_reader(closed)
        self._loop.remove_writer(closed)
        closed.close()
        # The references go both ways, and what lives longer than a moment is never garbage collected: cut them here.
        self._connections.discard(self)
        self._parser = None
        self._unsent.clear()
        self._waiting.clear()
        self._busy = None
        answering, self.answering = self.answering, None
        if answering is not None:
            answering.cancel()

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
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._unsent:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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
        self._pace.ask(self._answer)

    def _answer(self) -> None:
        request = self._busy
        if request is None:
            return  # the client left while it waited
        try:
            self._serve(request)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.abort()

    # Answers.

    def send(
        self, status: int, body: bytes, content_type: bytes = JSON, headers: bytes = b"", *, torn: bool = False
    ) -> None:
        """A whole answer in one write. `headers` are further lines; `torn`: a reset comes in the middle of the body."""
        head = self._head(status, content_type) + headers + b"content-length: %d\r\n\r\n" % len(body)
        if torn:
            self.write(head + body[: len(body) // 2])
            self.answering = None
            self.reset()
            return
        self.write(head + body)
        self.finished()

    def send_stream_head(self, headers: bytes = b"") -> None:
        """Status line and headers of an event stream whose body follows in chunks."""
        head = self._head(200, b"text/event-stream; charset=utf-8") + headers
        self.write(head + b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n")

    def finished(self) -> None:
        """The answer is complete: close, or take the next request of a client that pipelines."""
        request, self._busy, self.answering = self._busy, None, None
        if self._socket is None or request is None:
            return
        if not request.keep_alive:
            self.close()
        elif self._waiting:
            self._take(self._waiting.popleft())

    def _head(self, status: int, content_type: bytes) -> bytes:
        request = self._busy
        lines = [b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n" % (status, REASONS[status], content_type)]
        # The gateway's 422 comes from its framework, before the id is read; we take the router for the same.
        if request is not None and status != 422 and (request_id := request.header(b"x-request-id")):
            lines.append(b"x-request-id: %s\r\n" % request_id[:200])
        if request is not None and not request.keep_alive:
            lines.append(b"connection: close\r\n")
        return b"".join(lines)

    def _refuse(self, status: int) -> None:
        """Answer what is not acceptable HTTP and close. In the middle of another answer there is nothing to say."""
        if self._socket is None:
            return
        if self._busy is not None:
            return self.abort()
        body = nginx_page(status)  # whoever stands in front answers this, and not the router
        self.write(self._head(status, HTML) + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        self.close()


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
