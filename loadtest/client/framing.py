"""HTTP/1.1 response framing on httptools (llhttp): where the body is, and where the answer ends."""

from __future__ import annotations

from collections.abc import Sized

import httptools


class SurplusData(Exception):
    """The peer sent bytes beyond the end of its answer, so the connection must not be used again."""


class ResponseFraming:
    """Feeds bytes to the parser and knows when the answer is complete. One per response.

    `feed` is the parser's own bound method and `body` grows by `bytearray.extend`, called from C: the poll pass
    runs no Python per HTTP chunk. `feed` raises `httptools.HttpParserError` on bytes that are no HTTP response,
    and also on surplus bytes after a complete answer: look at `complete` first. Chunked, content-length,
    close-delimited and empty bodies are understood; 1xx answers are skipped; content encodings are left alone.
    `reads` is the caller's list, to which it appends after each feed: `headers_read` is the index of the read that
    completed the headers.
    """

    __slots__ = (
        "_headers_length",
        "_parser",
        "_reads",
        "body",
        "complete",
        "feed",
        "headers",
        "headers_read",
        "keep_alive",
        "on_body",
        "status",
    )

    def __init__(self, reads: Sized = ()) -> None:
        self._reads = reads
        self.body = bytearray()
        self.headers: list[tuple[bytes, bytes]] = []
        self.headers_read: int | None = None
        self.status: int | None = None  # set when the headers of the final answer are complete
        self.complete = False
        self.keep_alive = False
        self._headers_length = 0
        self.on_body = self.body.extend
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.feed = self._parser.feed_data

    def end_of_file(self) -> bool:
        """The peer has closed. True when that is a proper end: the body was delimited by the close."""
        if self.status is None or self.complete:
            return self.complete
        names = self.headers[: self._headers_length]
        chunked = any(name == b"transfer-encoding" and b"chunked" in value.lower() for name, value in names)
        if chunked or any(name == b"content-length" for name, _ in names):
            return False
        self.complete = True
        return True

    def release(self) -> None:
        """Break the cycle with the parser: the garbage collector is frozen during a run and would never do it."""
        self._parser = None
        del self.feed, self.on_body

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self.complete:
            raise SurplusData("bytes after the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self.headers_read = len(self._reads)
            # Trailers of a chunked body are appended later and must not pass for headers.
            self._headers_length = len(self.headers)

    def on_message_complete(self) -> None:
        if self.status is None:
            self.headers.clear()  # those of a 1xx answer
            return
        assert self._parser is not None
        self.keep_alive = self._parser.should_keep_alive()
        del self.headers[self._headers_length :]
        self.complete = True
