"""The state of one exchange while it is in the air. Only the reactor touches it."""

from __future__ import annotations

from typing import Any

from loadtest.client.connection import Address, Connection
from loadtest.client.exchange import End, Exchange, Read
from loadtest.client.framing import ResponseFraming


class Flight:
    """Joins an exchange, its connection, its framing and the waiter of the greenlet that asked for it.

    `reads` holds plain tuples with the fields of `Read`: the poll pass appends them, `settle` gives them names.
    """

    __slots__ = (
        "addresses",
        "bytes_max",
        "check_ns",
        "connection",
        "exchange",
        "feed",
        "framing",
        "reads",
        "received",
        "reused",
        "sent_ns",
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
        self.reads: list[tuple[int, int, int, bool]] = []
        self.framing = ResponseFraming(self.reads)
        self.feed = self.framing.feed

    def due(self, now_ns: int) -> End | None:
        """The deadline that has passed, or None; then `check_ns` says when to ask again."""
        limits = self.exchange.deadlines
        if self.reads:
            end, phase_ns = End.TIMEOUT_GAP, self.reads[-1][0] + int(limits.gap_s * 1e9)
        elif self.sent_ns:
            end, phase_ns = End.TIMEOUT_FIRST_BYTE, self.sent_ns + int(limits.first_byte_s * 1e9)
        else:
            end, phase_ns = End.TIMEOUT_CONNECT, self.exchange.started_ns + int(limits.connect_s * 1e9)
        total_ns = self.exchange.started_ns + int(limits.total_s * 1e9)
        if total_ns <= now_ns:
            return End.TIMEOUT_TOTAL
        if phase_ns <= now_ns:
            return end
        # The phase may change before that instant, and the shortest limit then counts from now at the earliest.
        self.check_ns = min(total_ns, phase_ns, now_ns + int(min(limits) * 1e9))
        return None

    def settle(self, end: End, error_text: str, done_ns: int) -> None:
        """Write the results into the exchange."""
        exchange, framing = self.exchange, self.framing
        reads = [Read(*read) for read in self.reads]
        exchange.reads = reads
        exchange.body = bytes(framing.body)
        exchange.bytes_received = self.received
        exchange.status = framing.status
        exchange.headers = framing.headers
        if framing.headers_read is not None and framing.headers_read < len(reads):
            exchange.headers_ns = reads[framing.headers_read].stamp_ns
        exchange.error_text = error_text
        exchange.done_ns = done_ns
        exchange.end = end
        framing.release()
