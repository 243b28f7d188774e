"""Streams that are not as they should be: what a faulty answer writes, when, and how it ends.

Pure. A sound stream is made chunk by chunk while it runs (`answers.Stream`); one that faults have struck is laid out
here beforehand, from events to lines to packets, and played by `answers.Scripted`. Each fault of `faults.FAULTS` is
one step, so they combine: an interleaved stream with CR LF behind a buffering proxy is three of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from loadtest.simulator.formats import Frames, error_body, json_string

SPLIT_GAP_NS = 300_000  # between the parts of an event that is written in pieces: else the kernel joins them again
EOS = "</s>"
DONE = b"[DONE]"
HTML_200 = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><p>Please sign in.</p></body></html>\n"
Choose = Callable[[str, int], int]  # a fault's name and a count: a number below it, always the same for this task


class Ending(StrEnum):
    """What comes after the last write."""

    WHOLE = "whole"  # the last chunk of the body
    CUT = "cut"  # the connection is closed without it
    RESET = "reset"  # the connection is reset


class Event(NamedTuple):
    """One event: a line of JSON or [DONE], and whether it carries a piece of the text that counts."""

    offset_ns: int  # after the request was received
    data: bytes
    tokens: int = 0


class Write(NamedTuple):
    """Bytes of the body that go out together; `tokens` pieces of text are complete with them."""

    offset_ns: int
    data: bytes
    tokens: int


@dataclass(slots=True)
class Script:
    """The whole plan of one answer. `headers` are further header lines; `silent`: no headers are sent either."""

    writes: list[Write]
    end_ns: int  # offset of the ending
    ending: Ending = Ending.WHOLE
    headers: bytes = b""
    silent: bool = False


@dataclass(slots=True)
class Plan:
    """A stream's events on their way through the faults."""

    events: list[Event]
    choose: Choose
    ending: Ending = Ending.WHOLE
    cut_event: Event | None = field(default=None)  # of which only the first half is written

    def half(self) -> Event | None:
        """Keep the events up to the middle of the text; returns the first one that was dropped."""
        content = [i for i, event in enumerate(self.events) if event.tokens]
        kept = content[max(1, len(content) // 2) - 1] + 1 if content else len(self.events)
        dropped = self.events[kept:]
        del self.events[kept:]
        return dropped[0] if dropped else None

    def end_ns(self) -> int:
        return self.events[-1].offset_ns if self.events else 0


def altered_text(
    struck: Sequence[str], pieces: Sequence[str], offsets_ns: Sequence[int]
) -> tuple[list[str], list[int]]:
    """The text after the faults that change it, and the offsets of its pieces."""
    if "only-eos" in struck:
        return [EOS], [offsets_ns[-1]]
    changed = list(pieces)
    if "unfinished-think" in struck:
        changed[0] = f"<think>{changed[0]}"
    return changed, list(offsets_ns)


def lay_out(
    struck: Sequence[str],
    frames: Frames,
    pieces: Sequence[str],
    offsets_ns: Sequence[int],
    choose: Choose,
    *,
    second: Frames,
    second_pieces: Sequence[str],
    usage_chunk: bytes,
) -> Script:
    """The script of a stream. `second` and its pieces are another node's, `usage_chunk` is an event without choices."""
    if "reset-before-headers" in struck:
        return Script([], offsets_ns[0], Ending.RESET, silent=True)
    plan = Plan(_events(frames, pieces, offsets_ns), choose)
    if "usage-only-chunk" in struck and usage_chunk not in [event.data for event in plan.events]:
        at = len(plan.events) - (plan.events[-1].data == DONE)
        plan.events.insert(at, Event(plan.end_ns(), usage_chunk))
    if "interleaved-miners" in struck:
        _interleave(plan, second, second_pieces)
    if "missing-done" in struck:
        plan.events = [event for event in plan.events if event.data != DONE]
    if "error-in-stream" in struck:
        lost = plan.half()
        at_ns = lost.offset_ns if lost is not None else plan.end_ns()
        plan.events.append(Event(at_ns, error_body("a miner went away", "miner_error", "server_error")))
    if "early-end" in struck:
        plan.half()
    if "cut-stream" in struck:
        plan.cut_event, plan.ending = plan.half(), Ending.CUT
    if "connection-reset" in struck:
        plan.half()
        plan.cut_event, plan.ending = None, Ending.RESET
    return _packed(struck, plan)


def _events(frames: Frames, pieces: Sequence[str], offsets_ns: Sequence[int]) -> list[Event]:
    first, last = offsets_ns[0], offsets_ns[min(len(pieces), len(offsets_ns)) - 1]
    before, after = frames.before.removeprefix(b"data: "), frames.after.removesuffix(b"\n\n")
    return [
        *(Event(first, data) for data in _datas(frames.head)),
        *(Event(at, before + json_string(p) + after, 1) for at, p in zip(offsets_ns, pieces, strict=False)),
        *(Event(last, data) for data in _datas(frames.tail)),
    ]


def _datas(events: bytes) -> list[bytes]:
    return [event.removeprefix(b"data: ") for event in events.split(b"\n\n") if event]


def _interleave(plan: Plan, second: Frames, pieces: Sequence[str]) -> None:
    """Each chunk of ours is followed by one of the second node. Ours is first, and [DONE] is of both."""
    content = [event for event in plan.events if event.tokens]
    offsets = [event.offset_ns for event in content]
    others = iter([event._replace(tokens=0) for event in _events(second, pieces[: len(offsets)], offsets)])
    mixed: list[Event] = []
    for event in plan.events:
        if event.data == DONE:
            mixed += [other for other in others if other.data != DONE]
        mixed.append(event)
        if event.tokens and (other := next(others, None)) is not None:
            mixed.append(other)
    plan.events = mixed


def _packed(struck: Sequence[str], plan: Plan) -> Script:
    writes = [
        Write(event.offset_ns, _lines(struck, i, event.data), event.tokens) for i, event in enumerate(plan.events)
    ]
    if plan.cut_event is not None:
        data = _lines(struck, len(writes), plan.cut_event.data)
        writes.append(Write(plan.cut_event.offset_ns, data[: len(data) // 2], 0))
    if "bom" in struck and writes:
        writes[0] = writes[0]._replace(data=b"\xef\xbb\xbf" + writes[0].data)
    if "two-events-in-one-packet" in struck:
        writes = [_joined(writes[i : i + 2]) for i in range(0, len(writes), 2)]
    if "byte-splits" in struck:
        writes = _split(writes, plan.choose)
    if "buffering-proxy" in struck and writes:
        writes = [_joined(writes)]
    headers = b""
    if "gzip" in struck:
        writes, headers = _squeezed(writes, plan.ending), b"content-encoding: gzip\r\n"
    return Script(writes, writes[-1].offset_ns if writes else 0, plan.ending, headers)


def _lines(struck: Sequence[str], number: int, data: bytes) -> bytes:
    """One event in lines as the faults want them; a blank line ends it."""
    end = b"\r\n" if "crlf" in struck else b"\n"
    name = b"data:" if "no-space" in struck else b"data: "
    lines = [b": keep-alive", b""] if "keep-alive-comment" in struck else []
    if "event-line" in struck:
        lines += [b"event: message", b"id: %d" % number]
    if "several-data-lines" in struck and b',"' in data:
        # The first comma before a quote follows the first member, whose value has none in it; there JSON may be broken.
        first, _, rest = data.partition(b',"')
        lines += [name + first + b",", name + b'"' + rest]
    else:
        lines.append(name + data)
    return end.join([*lines, b"", b""])


def _joined(writes: Sequence[Write]) -> Write:
    return Write(writes[-1].offset_ns, b"".join(w.data for w in writes), sum(w.tokens for w in writes))


def _split(writes: Sequence[Write], choose: Choose) -> list[Write]:
    """Each write in up to three parts at any byte; the text is complete with the last part."""
    parts: list[Write] = []
    for number, write in enumerate(writes):
        places = sorted({choose(f"byte-splits/{number}/{k}", len(write.data)) for k in range(2)} - {0})
        cuts = [0, *places, len(write.data)]
        for part, (start, end) in enumerate(pairwise(cuts)):
            due_ns = write.offset_ns + part * SPLIT_GAP_NS
            if parts:
                due_ns = max(due_ns, parts[-1].offset_ns)
            parts.append(Write(due_ns, write.data[start:end], write.tokens if end == len(write.data) else 0))
    return parts


def _squeezed(writes: Sequence[Write], ending: Ending) -> list[Write]:
    """Each write compressed so that its reader has all of it at once."""
    squeeze = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    packed = [w._replace(data=squeeze.compress(w.data) + squeeze.flush(zlib.Z_SYNC_FLUSH)) for w in writes]
    if packed and ending is Ending.WHOLE:
        packed[-1] = packed[-1]._replace(data=packed[-1].data + squeeze.flush())
    return packed
