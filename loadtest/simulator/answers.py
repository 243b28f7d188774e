"""Answers over time: the pieces of one answer written at the instants the state machine decided, each one stamped.

Piece k is due at received + offset[k], absolute: a late write never moves the ones after it. The truth of each
request is finished here, whatever happened to it.
"""

from __future__ import annotations

import gzip
from bisect import bisect_right
from collections.abc import Callable, Sequence

import msgspec

from loadtest.clock import mono_ns
from loadtest.records import TruthRecord
from loadtest.simulator.formats import Frames, error_body, json_string
from loadtest.simulator.pace import Pace
from loadtest.simulator.script import Ending, Script, Write
from loadtest.simulator.statuses import nginx_page
from loadtest.simulator.wire import HTML, JSON, LAST_CHUNK, Connection, chunk

PROXY_TIMEOUT_S = 300.0  # proxy_read_timeout of the published nginx configuration
Finish = Callable[[TruthRecord], None]


def timeout_body(timeout_s: float) -> bytes:
    """What the router says when nobody answered in the body's `timeout`. Not documented: HTTP 504 JSON is a guess."""
    return error_body(f"task did not complete within {timeout_s:g} s", "task_timeout", "timeout_error")


class Stream:
    """Server-sent events of one task. Headers go out at once, as a router does that has accepted the task."""

    def __init__(
        self,
        pace: Pace,
        connection: Connection,
        truth: TruthRecord,
        frames: Frames,
        pieces: Sequence[str],
        offsets_ns: Sequence[int],
        timeout_s: float | None,
        finish: Finish,
    ) -> None:
        self._connection = connection
        self._truth = truth
        self._received_ns = truth.received_ns
        self._frames = frames
        self._around = len(frames.before) + len(frames.after)
        self._finish = finish
        self._stamps_ns: list[int] = []  # minus received
        end_ns, tail = offsets_ns[-1], frames.tail
        kept = len(offsets_ns)
        if timeout_s is not None and end_ns > timeout_s * 1e9:
            end_ns = round(timeout_s * 1e9)
            kept = bisect_right(offsets_ns, end_ns)
            # The status line is long gone: an error object as last event and no [DONE] is our guess of a router.
            tail = b"data: " + timeout_body(timeout_s) + b"\n\n"
        self._pieces = pieces[:kept]
        self._offsets_ns = [*offsets_ns[:kept], end_ns]  # of the pieces and, last, of the end
        self._tail = chunk(tail) + LAST_CHUNK
        self._over = False
        headers_ns = mono_ns()
        connection.answering = self
        connection.send_stream_head()
        self._truth = msgspec.structs.replace(truth, headers_ns=headers_ns, http_status=200)
        pace.at(self._received_ns + self._offsets_ns[0], self)

    def play(self) -> int:
        """Write the next piece, or the end. This runs for every chunk: what can be made beforehand is."""
        if self._over:
            return 0
        stamps = self._stamps_ns
        position = len(stamps)
        if position == len(self._pieces):
            self._end()
            return 0
        piece = json_string(self._pieces[position])
        frames = self._frames
        if position:
            data = b"%x\r\n%b%b%b\r\n" % (self._around + len(piece), frames.before, piece, frames.after)
        else:
            data = chunk(frames.head + frames.before + piece + frames.after)
        stamps.append(mono_ns() - self._received_ns)
        if not self._connection.write(data):
            stamps.pop()
            return 0  # the connection is gone and tells us so
        return self._received_ns + self._offsets_ns[position + 1]

    def _end(self) -> None:
        self._over = True
        self._connection.write(self._tail)
        self._record(done_ns=mono_ns())
        self._connection.finished()

    def cancel(self) -> None:
        """The client is gone. The network still works on the task: a router does not take a task back."""
        self._over = True
        self._record(done_ns=None)

    def _record(self, done_ns: int | None) -> None:
        stamps, received_ns = self._stamps_ns, self._received_ns
        self._finish(
            msgspec.structs.replace(
                self._truth,
                first_written_ns=received_ns + stamps[0] if stamps else None,
                last_written_ns=received_ns + stamps[-1] if stamps else None,
                done_ns=done_ns,
                chunk_ns=tuple(stamps),
                late_ns=tuple(map(int.__sub__, stamps, self._offsets_ns)),
                tokens=len(stamps),
            )
        )


class Scripted:
    """A stream that faults have struck: plays its script. The body's `timeout` ends it as it ends a sound one."""

    def __init__(
        self,
        pace: Pace,
        connection: Connection,
        truth: TruthRecord,
        script: Script,
        timeout_s: float | None,
        finish: Finish,
    ) -> None:
        self._connection = connection
        self._finish = finish
        self._script = script
        if timeout_s is not None and script.end_ns > timeout_s * 1e9:
            end_ns = round(timeout_s * 1e9)
            kept = [write for write in script.writes if write.offset_ns <= end_ns]
            last = Write(end_ns, b"data: " + timeout_body(timeout_s) + b"\n\n", 0)
            whole = Script([*kept, last], end_ns, headers=script.headers)
            self._script = Script([], end_ns, Ending.RESET, silent=True) if script.silent else whole
        self._position = 0
        self._stamps_ns: list[int] = []  # minus received, one for each piece of the text
        self._late_ns: list[int] = []
        self._over = False
        self._truth = truth
        self._received_ns = truth.received_ns
        connection.answering = self
        if not script.silent:
            headers_ns = mono_ns()
            connection.send_stream_head(script.headers)
            self._truth = msgspec.structs.replace(truth, headers_ns=headers_ns, http_status=200)
        pace.at(self._due_ns(), self)

    def _due_ns(self) -> int:
        writes = self._script.writes
        offset_ns = writes[self._position].offset_ns if self._position < len(writes) else self._script.end_ns
        return self._received_ns + offset_ns

    def play(self) -> int:
        if self._over:
            return 0
        if self._position == len(self._script.writes):
            self._end()
            return 0
        write = self._script.writes[self._position]
        at_ns = mono_ns() - self._received_ns
        if not self._connection.write(chunk(write.data)):
            return 0  # the connection is gone and tells us so
        self._stamps_ns += [at_ns] * write.tokens
        self._late_ns += [at_ns - write.offset_ns] * write.tokens
        self._position += 1
        return self._due_ns()

    def _end(self) -> None:
        self._over = True
        if self._script.ending is Ending.WHOLE:
            self._connection.write(LAST_CHUNK)
        self._record(done_ns=mono_ns())
        if self._script.ending is Ending.WHOLE:
            self._connection.finished()
        else:
            self._connection.answering = None
            (self._connection.reset if self._script.ending is Ending.RESET else self._connection.close)()

    def cancel(self) -> None:
        self._over = True
        self._record(done_ns=None)

    def _record(self, done_ns: int | None) -> None:
        stamps, received_ns = self._stamps_ns, self._received_ns
        self._finish(
            msgspec.structs.replace(
                self._truth,
                first_written_ns=received_ns + stamps[0] if stamps else None,
                last_written_ns=received_ns + stamps[-1] if stamps else None,
                done_ns=done_ns,
                chunk_ns=tuple(stamps),
                late_ns=tuple(self._late_ns),
                tokens=len(stamps),
            )
        )


class Whole:
    """One answer when the returned text is complete, or 504 when the body's `timeout` comes first, or the proxy's."""

    def __init__(
        self,
        pace: Pace,
        connection: Connection,
        truth: TruthRecord,
        body: bytes,
        offset_ns: int,
        timeout_s: float | None,
        finish: Finish,
        *,
        content_type: bytes = JSON,
        struck: Sequence[str] = (),
        proxy_timeout_s: float = PROXY_TIMEOUT_S,
    ) -> None:
        self._connection = connection
        self._truth = truth
        self._finish = finish
        self._status, self._body = 200, body
        self._content_type, self._headers = content_type, b""
        self._is_torn = "connection-reset" in struck
        self._is_silent = "reset-before-headers" in struck
        if "gzip" in struck:
            self._body, self._headers = gzip.compress(body, 1), b"content-encoding: gzip\r\n"
        if offset_ns > proxy_timeout_s * 1e9 and (timeout_s is None or proxy_timeout_s < timeout_s):
            # The stock proxy waits so long for a silent router whatever the body's `timeout` says.
            timeout_s, offset_ns = None, round(proxy_timeout_s * 1e9)
            self._status, self._body, self._content_type, self._headers = 504, nginx_page(504), HTML, b""
        if timeout_s is not None and offset_ns > timeout_s * 1e9:
            offset_ns = round(timeout_s * 1e9)
            self._status, self._body, self._headers = 504, timeout_body(timeout_s), b""
        self._offset_ns = offset_ns
        self._over = False
        connection.answering = self
        pace.at(truth.received_ns + offset_ns, self)

    def play(self) -> int:
        if self._over:
            return 0
        self._over = True
        received_ns, at_ns = self._truth.received_ns, mono_ns()
        ok = self._status == 200
        if self._is_silent:
            ok = False
            self._connection.answering = None
            self._connection.reset()
        else:
            torn = self._is_torn and ok
            self._connection.send(self._status, self._body, self._content_type, self._headers, torn=torn)
        self._finish(
            msgspec.structs.replace(
                self._truth,
                headers_ns=None if self._is_silent else at_ns,
                first_written_ns=at_ns if ok else None,
                last_written_ns=at_ns if ok else None,
                done_ns=mono_ns(),
                chunk_ns=(at_ns - received_ns,) if ok else (),
                late_ns=(at_ns - received_ns - self._offset_ns,) if ok else (),
                http_status=0 if self._is_silent else self._status,
                tokens=self._truth.tokens if ok else 0,
            )
        )
        return 0

    def cancel(self) -> None:
        self._over = True
        self._finish(msgspec.structs.replace(self._truth, tokens=0))
