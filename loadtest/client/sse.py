"""Server-sent events by the WHATWG standard, with the offset at which each event became complete.

No I/O. Offsets count bytes of the body from its start and are exclusive: `body[:event.end_offset]` is the least
that must have arrived for the event to be known, so the read that brought that byte is the event's arrival. For
CRLF line ends that is the CR of the blank line: the LF adds nothing and may come in a later read.
"""

from __future__ import annotations

from typing import NamedTuple

_new = tuple.__new__
_BOM = b"\xef\xbb\xbf"
_LF = 10


class Event(NamedTuple):
    """One dispatched event. `data` is raw bytes (UTF-8 by the standard), its lines joined by LF."""

    event: str  # the type; "message" when none was given
    data: bytes
    id: str  # the last event id seen so far
    end_offset: int


class Decoder:
    """Feed bytes cut anywhere; the events do not depend on the cuts."""

    __slots__ = ("_begun", "_data", "_id", "_offset", "_pending", "_skip_lf", "_type")

    def __init__(self) -> None:
        self._pending = b""  # an unfinished line
        self._offset = 0  # of the first pending byte in the body
        self._begun = False  # a byte order mark has been looked for
        self._skip_lf = False  # the last line ended in CR: an LF that follows belongs to it
        self._data: list[bytes] = []
        self._type = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        buffer = self._pending + data if self._pending else data
        position = 0
        if not self._begun:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._pending = buffer
                return []
            self._begun = True
            position = len(_BOM) if buffer.startswith(_BOM) else 0
        events: list[Event] = []
        returns = b"\r" in buffer
        size = len(buffer)
        while position < size:
            if not (returns or self._data or self._type or self._skip_lf):
                position = self._usual(buffer, position, events)
            if self._skip_lf:
                self._skip_lf = False
                if buffer[position] == _LF:
                    position += 1
                    continue
            end = buffer.find(b"\n", position)
            if returns:
                ret = buffer.find(b"\r", position, end if end >= 0 else size)
                if ret >= 0:
                    end = ret
                    self._skip_lf = True
            if end < 0:
                break
            if end > position:
                self._line(buffer[position:end])
            elif self._data:
                events.append(Event(self._type or "message", b"\n".join(self._data), self._id, self._offset + end + 1))
                self._data = []
                self._type = ""
            else:
                self._type = ""
            position = end + 1
        self._pending = buffer[position:]
        self._offset += position
        return events

    def _usual(self, buffer: bytes, position: int, events: list[Event]) -> int:
        """Events of one line, `data: ...` between LF ends, as nearly all are: the same events at half the cost.

        Takes those that begin at `position` and returns where the first other line begins.
        """
        last_id, offset = self._id, self._offset
        while buffer.startswith(b"data: ", position):
            end = buffer.find(b"\n", position)
            if end < 0 or not buffer.startswith(b"\n", end + 1):
                break
            # Event(...) would cost twice as much.
            events.append(_new(Event, ("message", buffer[position + 6 : end], last_id, offset + end + 2)))
            position = end + 2
        return position

    def flush(self) -> bool:
        """The stream has ended: True when an unfinished event was left, which the standard discards."""
        left = bool(self._pending or self._data or self._type)
        self._pending = b""
        self._data = []
        self._type = ""
        return left

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        # `retry` is for clients that reconnect, a comment has an empty name, and the rest is ignored.


def decode(body: bytes) -> list[Event]:
    """All events of a whole body."""
    return Decoder().feed(body)
