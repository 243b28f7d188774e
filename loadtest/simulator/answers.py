"""Answers over time: the pieces of one answer written at the instants the state machine decided, each one stamped.

Piece k is due at received + offset[k], absolute: a late write never moves the ones after it. The truth of each
request is finished here, whatever happened to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import msgspec

from loadtest.clock import mono_ns
from loadtest.records import TruthRecord
from loadtest.simulator.formats import Frames, error_body, json_string
from loadtest.simulator.pace import Pace
from loadtest.simulator.wire import LAST_CHUNK, Connection, chunk

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


class Whole:
    """One JSON answer when the returned text is complete, or 504 when the body's `timeout` comes first."""

    def __init__(
        self,
        pace: Pace,
        connection: Connection,
        truth: TruthRecord,
        body: bytes,
        offset_ns: int,
        timeout_s: float | None,
        finish: Finish,
    ) -> None:
        self._connection = connection
        self._truth = truth
        self._finish = finish
        self._status, self._body = 200, body
        if timeout_s is not None and offset_ns > timeout_s * 1e9:
            offset_ns = round(timeout_s * 1e9)
            self._status, self._body = 504, timeout_body(timeout_s)
        self._offset_ns = offset_ns
        self._over = False
        connection.answering = self
        pace.at(truth.received_ns + offset_ns, self)

    def play(self) -> int:
        if self._over:
            return 0
        self._over = True
        received_ns, at_ns = self._truth.received_ns, mono_ns()
        self._connection.send(self._status, self._body)
        ok = self._status == 200
        self._finish(
            msgspec.structs.replace(
                self._truth,
                headers_ns=at_ns,
                first_written_ns=at_ns if ok else None,
                last_written_ns=at_ns if ok else None,
                done_ns=mono_ns(),
                chunk_ns=(at_ns - received_ns,) if ok else (),
                late_ns=(at_ns - received_ns - self._offset_ns,) if ok else (),
                http_status=self._status,
                tokens=self._truth.tokens if ok else 0,
            )
        )
        return 0

    def cancel(self) -> None:
        self._over = True
        self._finish(msgspec.structs.replace(self._truth, tokens=0))
