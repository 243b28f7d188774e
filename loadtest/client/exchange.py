"""One request and what came back, as plain data: the reactor fills it, routes and outcomes read it.

All instants are monotonic ns of this process. None means "did not happen".
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Endpoint(NamedTuple):
    """Where connections go. Connections are pooled by this value, unless it says that they are not kept."""

    host: str  # a name or a literal address, IPv6 without brackets
    port: int
    tls: bool = False
    kept: bool = True  # False: every request opens a connection of its own, which is closed after the answer

    @property
    def authority(self) -> str:
        """HOST:PORT as a Host header wants it, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Deadlines(NamedTuple):
    """How long each wait may last, in seconds. `total_s` runs from the call of `Reactor.run`."""

    connect_s: float
    first_byte_s: float  # from the first write to the first byte of the answer
    gap_s: float  # between two reads of one answer
    total_s: float


class Read(NamedTuple):
    """One read from the socket. The true arrival of its first byte lies in (stamp_ns - bound_ns, stamp_ns].

    With TLS a byte arrives when its record is complete; a read that completes none is not listed.
    """

    stamp_ns: int
    bound_ns: int
    body_end: int  # bytes of the decoded body that were there after this read
    kernel: bool  # True: the kernel's receive timestamp; False: read by us after the fact


class End(StrEnum):
    """How an exchange ended on the wire. A closed set; what it means is decided in `outcomes`."""

    COMPLETE = "complete"
    EOF = "eof"  # the peer closed before the answer was complete
    RESET = "reset"
    CONNECT_ERROR = "connect_error"
    TLS_ERROR = "tls_error"
    PROXY_ERROR = "proxy_error"  # the proxy of our own environment, not one in front of the router
    DNS_ERROR = "dns_error"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_FIRST_BYTE = "timeout_first_byte"
    TIMEOUT_GAP = "timeout_gap"
    TIMEOUT_TOTAL = "timeout_total"
    TOO_LARGE = "too_large"
    BAD_HTTP = "bad_http"
    CANCELLED = "cancelled"  # the greenlet that waited was killed, or the exchange had asked for it


class Ended(Exception):
    """Raised where an exchange cannot go on: how it ends, a short closed word for why ("" for none), and a line."""

    def __init__(self, end: End, kind: str, text: str) -> None:
        super().__init__(text)
        self.end, self.kind, self.text = end, kind, text


@dataclass(slots=True, eq=False)
class Exchange:
    """Inputs above, results below. `request` holds the key, so it is never part of the repr."""

    endpoint: Endpoint
    request: bytes = field(repr=False)
    deadlines: Deadlines
    response_bytes_max: int
    cancel_after_chunks: int | None = None  # hang up after so many events but [DONE]; compressed ones are not seen
    cancel_after_s: float | None = None  # hang up so long after `sent_ns`, as coarsely as deadlines are kept

    connection_new: bool = False
    retried: bool = False  # a pooled connection turned out closed, so the request went out a second time
    started_ns: int = 0  # when `Reactor.run` was called
    connecting_ns: int | None = None  # this and the next two only when this exchange opened the connection
    connected_ns: int | None = None
    secured_ns: int | None = None  # the TLS handshake was done
    sent_ns: int | None = None  # just before the first write
    sent_last_ns: int | None = None  # just after the last write
    headers_ns: int | None = None  # the read that completed the headers
    done_ns: int | None = None
    status: int | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # names in lower case
    body: bytes = field(default=b"", repr=False)
    bytes_received: int = 0  # HTTP framing included, TLS not
    reads: list[Read] = field(default_factory=list, repr=False)
    end: End | None = None
    error_kind: str = ""  # a short closed word where the end alone says too little, such as "tls_expired"
    error_text: str = ""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def read_at(self, body_offset: int) -> int:
        """Index of the read that brought the byte before `body_offset` (an exclusive end offset, at least 1).

        Raises IndexError when the body is shorter than that.
        """
        index = bisect_left(self.reads, body_offset, key=lambda read: read.body_end)
        if index == len(self.reads):
            raise IndexError(f"body offset {body_offset} lies beyond the last read")
        return index
