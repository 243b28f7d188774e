"""The state of one exchange while it is in the air. Only the reactor touches it."""

from __future__ import annotations

from typing import Any

from loadtest.client.connection import Address, Connection
from loadtest.client.exchange import End, Ended, Exchange, Read
from loadtest.client.framing import ResponseFraming


class Flight:
    """Joins an exchange, its connection, its framing and the waiter of the greenlet that asked for it.

    The fields of the reads are kept in flat lists of integers until the end: a tuple per read is an object for the
    garbage collector, and with many streams in the air its collections stopped the loop for 40 to 70 ms.
    """

    __slots__ = (
        "addresses",
        "body_ends",
        "bounds_ns",
        "bytes_max",
        "check_ns",
        "connection",
        "exchange",
        "feed",
        "framing",
        "received",
        "reused",
        "sent_ns",
        "stamps_ns",
        "user_timed",
        "waiter",
    )

    def __init__(self, exchange: Exchange, waiter: Any) -> None:
        self.exchange = exchange
        self.waiter = waiter
        self.bytes_max = exchange.response_bytes_max
        self.addresses: list[Address] = []  # still to be tried
        self.connection: Connection | None = None
        self.check_ns = 0  # no deadline can pass before this instant
        self.reset(reused=False)

    def reset(self, *, reused: bool) -> None:
        """Ready for the first byte of an answer on a connection that is new or reused."""
        self.reused = reused
        self.received = 0
        self.sent_ns = 0
        self.stamps_ns: list[int] = []
        self.bounds_ns: list[int] = []
        self.body_ends: list[int] = []
        self.user_timed: set[int] = set()  # indices of the reads without a kernel stamp
        self.framing = ResponseFraming(self.body_ends)
        self.feed = self.framing.feed

    def due(self, now_ns: int) -> Ended | None:
        """The deadline that has passed, or None; then `check_ns` says when to ask again."""
        limits = self.exchange.deadlines
        if self.stamps_ns:
            end, phase_ns = End.TIMEOUT_GAP, self.stamps_ns[-1] + int(limits.gap_s * 1e9)
        elif self.sent_ns:
            end, phase_ns = End.TIMEOUT_FIRST_BYTE, self.sent_ns + int(limits.first_byte_s * 1e9)
        else:
            end, phase_ns = End.TIMEOUT_CONNECT, self.exchange.started_ns + int(limits.connect_s * 1e9)
        total_ns = self.exchange.started_ns + int(limits.total_s * 1e9)
        if total_ns <= now_ns:
            return Ended(End.TIMEOUT_TOTAL, "", "")
        if phase_ns <= now_ns:
            if end is End.TIMEOUT_CONNECT and self.exchange.connected_ns is not None:
                return Ended(end, "tls_timeout", "connected, but no TLS handshake in time")
            return Ended(end, "", "")
        # The phase may change before that instant, and the shortest limit then counts from now at the earliest.
        self.check_ns = min(total_ns, phase_ns, now_ns + int(min(limits) * 1e9))
        return None

    def settle(self, end: End, error_kind: str, error_text: str, done_ns: int) -> None:
        """Write the results into the exchange."""
        exchange, framing = self.exchange, self.framing
        fields = zip(self.stamps_ns, self.bounds_ns, self.body_ends, strict=True)
        reads = [Read(*read, index not in self.user_timed) for index, read in enumerate(fields)]
        exchange.reads = reads
        exchange.body = bytes(framing.body)
        exchange.bytes_received = self.received
        exchange.status = framing.status
        exchange.headers = framing.headers
        if framing.headers_read is not None and framing.headers_read < len(reads):
            exchange.headers_ns = reads[framing.headers_read].stamp_ns
        exchange.error_kind, exchange.error_text = error_kind, error_text
        exchange.done_ns = done_ns
        exchange.end = end
        framing.release()
