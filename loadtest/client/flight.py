"""The state of one exchange while it is in the air. Only the reactor touches it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

from loadtest.client.connection import Address, Connection
from loadtest.client.exchange import End, Ended, Exchange, Read
from loadtest.client.framing import ResponseFraming
from loadtest.client.proxies import Proxy
from loadtest.client.sse import Decoder


class Flight:
    """Joins an exchange, its connection, its framing and the waiter of the greenlet that asked for it.

    The fields of the reads are kept in flat lists of integers until the end: a tuple per read is an object for the
    garbage collector, and with many streams in the air its collections stopped the loop for 40 to 70 ms.
    """

    __slots__ = (
        "_chunks_left",
        "_decoder",
        "_scanned",
        "addresses",
        "body_ends",
        "bounds_ns",
        "bytes_max",
        "check_ns",
        "connection",
        "emptied_ns",
        "exchange",
        "feed",
        "framing",
        "proxy",
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
        self.proxy: Proxy | None = None
        self.check_ns = 0  # no deadline can pass before this instant
        self.reset(reused=False)

    def reset(self, *, reused: bool) -> None:
        """Ready for the first byte of an answer on a connection that is new or reused."""
        self.reused = reused
        self.received = 0
        self.sent_ns = 0
        self.emptied_ns = 0  # just before the last read, if that left nothing in the socket
        self.stamps_ns: list[int] = []
        self.bounds_ns: list[int] = []
        self.body_ends: list[int] = []
        self.user_timed: set[int] = set()  # indices of the reads without a kernel stamp
        self.framing = ResponseFraming(self.body_ends)
        self.feed: Callable[[bytes], Any] = self.framing.feed
        if self.exchange.cancel_after_chunks is not None:
            self.feed = self._feed_and_count
            self._decoder, self._scanned = Decoder(), 0
            self._chunks_left = self.exchange.cancel_after_chunks

    def _feed_and_count(self, data: bytes) -> None:
        """Stands for `feed` where the answer is to be cancelled after so many chunks: events but [DONE]."""
        self.framing.feed(data)
        new = bytes(self.framing.body[self._scanned :])
        self._scanned += len(new)
        self._chunks_left -= sum(event.data.strip() != b"[DONE]" for event in self._decoder.feed(new))
        if self._chunks_left <= 0:
            self.bytes_max = -1  # so that the pass, which knows nothing of chunks, finds it full

    def overfull(self) -> Ended:
        """Why no more than `bytes_max` is wanted."""
        if self.bytes_max < 0:
            return Ended(End.CANCELLED, "after_chunks", f"after {self.exchange.cancel_after_chunks} chunks, as asked")
        return Ended(End.TOO_LARGE, "", f"more than {self.bytes_max} bytes")

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
        cancel_s = self.exchange.cancel_after_s
        if cancel_s is not None and self.sent_ns:
            cancel_ns = self.sent_ns + int(cancel_s * 1e9)
            if cancel_ns <= now_ns:
                return Ended(End.CANCELLED, "after_s", f"{cancel_s:g} s after it was sent, as asked")
            phase_ns = min(phase_ns, cancel_ns)
        if total_ns <= now_ns:
            return Ended(End.TIMEOUT_TOTAL, "", "")
        if phase_ns <= now_ns:
            if end is End.TIMEOUT_CONNECT and self.exchange.connected_ns is not None:
                return Ended(end, "tls_timeout", "connected, but no TLS handshake in time")
            return Ended(end, "", "")
        # The phase may change before that instant, and the shortest limit then counts from now at the earliest.
        shortest_s = min(limits) if cancel_s is None else min(*limits, cancel_s)
        self.check_ns = min(total_ns, phase_ns, now_ns + int(shortest_s * 1e9))
        return None

    def settle(self, end: End, error_kind: str, error_text: str, done_ns: int) -> None:
        """Write the results into the exchange."""
        exchange, framing = self.exchange, self.framing
        kernel = [True] * len(self.stamps_ns)
        for index in self.user_timed:
            kernel[index] = False
        fields = zip(self.stamps_ns, self.bounds_ns, self.body_ends, kernel, strict=True)
        reads = list(map(tuple.__new__, repeat(Read), fields))  # Read(...) for each would cost three times as much
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
        del self.feed  # it may be our own method, and nobody would collect that cycle
