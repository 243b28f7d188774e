"""Answers over time: the pieces of one answer written at the instants the state machine decided, each one stamped.

Piece k is due at received + offset[k], absolute: a late write never moves the ones after it. The truth of each
request is finished here, whatever happened to it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence

import msgspec

from loadtest.clock import mono_ns
from loadtest.records import TruthRecord
from loadtest.simulator.formats import Frames, error_body, json_string
from loadtest.simulator.wire import LAST_CHUNK, Connection, chunk

Finish = Callable[[TruthRecord], None]


def timeout_body(timeout_s: float) -> bytes:
    """What the router says when nobody answered in the body's `timeout`. Not documented: HTTP 504 JSON is a guess."""
    return error_body(f"task did not complete within {timeout_s:g} s", "task_timeout", "timeout_error")


class Stream:
    """Server-sent events of one task. Headers go out at once, as a router does that has accepted the task."""

    def __init__(
        self,
        connection: Connection,
        truth: TruthRecord,
        frames: Frames,
        pieces: Sequence[str],
        offsets_ns: Sequence[int],
        timeout_s: float | None,
        finish: Finish,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._truth = truth
        self._frames = frames
        self._finish = finish
        self._chunk_ns: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        end_ns, tail = offsets_ns[-1], frames.tail
        kept = len(offsets_ns)
        if timeout_s is not None and end_ns > timeout_s * 1e9:
            end_ns = round(timeout_s * 1e9)
            kept = bisect_right(offsets_ns, end_ns)
            # The status line is long gone: an error object as last event and no [DONE] is our guess of a router.
            tail = b"data: " + timeout_body(timeout_s) + b"\n\n"
        self._pieces = pieces[:kept]
        self._due_ns = [truth.received_ns + offset for offset in offsets_ns[:kept]]
        self._end_ns = truth.received_ns + end_ns
        self._tail = chunk(tail) + LAST_CHUNK
        headers_ns = mono_ns()
        connection.answering = self
        connection.send_stream_head()
        self._truth = msgspec.structs.replace(truth, headers_ns=headers_ns, http_status=200)
        self._wait(self._due_ns[0] if self._due_ns else self._end_ns)

    def _wait(self, due_ns: int) -> None:
        # loop.time() is the monotonic clock in seconds, the scale of mono_ns().
        self._timer = self._loop.call_at(due_ns / 1e9, self._write_due)

    def _write_due(self) -> None:
        """Write every piece that is due, one write each; then wait for the next one or end."""
        due, stamps, received_ns = self._due_ns, self._chunk_ns, self._truth.received_ns
        while len(stamps) < len(due) and due[len(stamps)] <= mono_ns():
            position = len(stamps)
            frames = self._frames
            event = frames.before + json_string(self._pieces[position]) + frames.after
            data = chunk(event if position else frames.head + event)
            stamps.append(mono_ns() - received_ns)
            if not self._connection.write(data):
                stamps.pop()
                return
        if len(stamps) < len(due):
            self._wait(due[len(stamps)])
        elif self._end_ns > mono_ns():
            self._wait(self._end_ns)
        else:
            self._end()

    def _end(self) -> None:
        self._timer = None
        self._connection.write(self._tail)
        self._record(done_ns=mono_ns())
        self._connection.finished()

    def cancel(self) -> None:
        """The client is gone. The network still works on the task: a router does not take a task back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._record(done_ns=None)

    def _record(self, done_ns: int | None) -> None:
        stamps, received_ns = self._chunk_ns, self._truth.received_ns
        self._finish(
            msgspec.structs.replace(
                self._truth,
                first_written_ns=received_ns + stamps[0] if stamps else None,
                last_written_ns=received_ns + stamps[-1] if stamps else None,
                done_ns=done_ns,
                chunk_ns=tuple(stamps),
                tokens=len(stamps),
            )
        )


class Whole:
    """One JSON answer when the returned text is complete, or 504 when the body's `timeout` comes first."""

    def __init__(
        self,
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
        connection.answering = self
        due_s = (truth.received_ns + offset_ns) / 1e9
        self._timer = asyncio.get_running_loop().call_at(due_s, self._write)

    def _write(self) -> None:
        at_ns = mono_ns()
        self._connection.send(self._status, self._body)
        ok = self._status == 200
        self._finish(
            msgspec.structs.replace(
                self._truth,
                headers_ns=at_ns,
                first_written_ns=at_ns if ok else None,
                last_written_ns=at_ns if ok else None,
                done_ns=mono_ns(),
                chunk_ns=(at_ns - self._truth.received_ns,) if ok else (),
                http_status=self._status,
                tokens=self._truth.tokens if ok else 0,
            )
        )

    def cancel(self) -> None:
        self._timer.cancel()
        self._finish(msgspec.structs.replace(self._truth, tokens=0))
