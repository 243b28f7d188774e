"""SSE: the events do not depend on where the bytes were cut, and each knows the byte that completed it."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import STREAMS

from loadtest.client.sse import Decoder, Event, decode


def by_the_book(body: bytes) -> list[Event]:
    """The standard's algorithm on a whole body, one line at a time, with nothing clever in it."""
    start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    events, data, kind, last_id = [], "", "", ""
    has_data = False
    for line in re.finditer(rb"([^\r\n]*)(\r\n|\r|\n)", body[start:]):
        text = line[1].decode("utf-8", "replace")
        if not text:
            if has_data:
                end = start + line.start(2) + 1  # the CR of a CRLF is enough
                events.append(Event(kind or "message", data[:-1].encode(), last_id, end))
            data, kind, has_data = "", "", False
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data, has_data = data + value + "\n", True
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return events


@pytest.mark.parametrize("name", STREAMS)
def test_cut_at_every_byte_gives_the_events_of_the_standard(name: str) -> None:
    body = STREAMS[name]
    expected = by_the_book(body)
    assert decode(body) == expected
    for cut in range(len(body) + 1):
        decoder = Decoder()
        assert decoder.feed(body[:cut]) + decoder.feed(body[cut:]) == expected
    one_by_one = Decoder()
    assert [event for i in range(len(body)) for event in one_by_one.feed(body[i : i + 1])] == expected


@pytest.mark.parametrize("name", STREAMS)
def test_the_end_offset_is_the_least_that_must_have_arrived(name: str) -> None:
    body = STREAMS[name]
    for number, event in enumerate(decode(body), 1):
        assert len(decode(body[: event.end_offset])) == number
        assert len(decode(body[: event.end_offset - 1])) == number - 1


LINES = st.sampled_from(
    [
        b"data: a",
        b"data: one\n",
        b"data: two\n\ndata: three\n",
        b"data:b",
        b"data",
        b"data:  c",
        b": x",
        b"event: e",
        b"id: 1",
        b"id: \0",
        b"id",
        b"odd: y",
        b"",
        b"",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.binary(max_size=3), st.lists(st.integers(0, 80), max_size=4))
def test_any_lines_any_cuts(lines: list[tuple[bytes, bytes]], tail: bytes, cuts: list[int]) -> None:
    body = b"".join(line + end for line, end in lines) + tail.replace(b"\xef", b"")
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    decoder = Decoder()
    fed = [event for a, b in pairwise(edges) for event in decoder.feed(body[a:b])]
    assert fed == by_the_book(body)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b"data: a\n\n", False),
        (b"data: a\n", True),  # no blank line: the standard discards the event
        (b"data: a", True),
        (b"event: a\n", True),
        (b"\n\n", False),
        (b"", False),
    ],
)
def test_flush_tells_whether_an_event_was_left_unfinished(body: bytes, left: bool) -> None:
    decoder = Decoder()
    decoder.feed(body)
    assert decoder.flush() is left


def test_the_example_of_the_standard() -> None:
    # https://html.spec.whatwg.org: the first two blocks dispatch "" and "\n", the third is never finished.
    assert [event.data for event in decode(b"data\n\ndata\ndata\n\ndata:")] == [b"", b"\n"]
