"""Scripts of faulty streams, without sockets: whatever is combined, text and order survive where they should."""

from __future__ import annotations

import json
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.sse import Decoder
from loadtest.simulator.formats import TextAnswer, Usage
from loadtest.simulator.script import Ending, Script, lay_out

SPELLINGS = ("keep-alive-comment", "crlf", "no-space", "event-line", "several-data-lines", "bom", "usage-only-chunk")
PACKETS = ("byte-splits", "two-events-in-one-packet", "buffering-proxy", "gzip")
MIXED = ("interleaved-miners", "missing-done")
BROKEN = ("error-in-stream", "early-end", "cut-stream", "connection-reset")

pieces_lists = st.lists(st.sampled_from(["a", " é", " …", "\n", ' "x,"', " </s>", "\\"]), min_size=1, max_size=12)


def script(struck: tuple[str, ...], pieces: list[str]) -> Script:
    answer = TextAnswer("cmpl-1", 1_750_000_000, "stop", task_id=7)
    return lay_out(
        struck,
        answer.frames(),
        pieces,
        [1_000_000 * (i + 1) for i in range(len(pieces))],
        lambda name, count: Random(name).randrange(count),
        second=answer.of_second_node().frames(),
        second_pieces=["other"] * len(pieces),
        usage_chunk=answer.usage_chunk(Usage(1, len(pieces))),
    )


def body(one: Script) -> bytes:
    data = b"".join(write.data for write in one.writes)
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data) if one.headers else data


def texts(one: Script) -> list[str]:
    """The pieces of our node, as the client's own decoder finds them."""
    decoder = Decoder()
    found = [event.data for event in decoder.feed(body(one)) if event.data.strip() != b"[DONE]"]
    shapes = [json.loads(data) for data in found]
    choices = [shape["choices"][0]["text"] for shape in shapes if shape.get("id") == "cmpl-1" and shape["choices"]]
    return [text for text in choices if text]


@given(pieces=pieces_lists, struck=st.sets(st.sampled_from([*SPELLINGS, *PACKETS, *MIXED])))
def test_no_spelling_changes_what_is_said(pieces: list[str], struck: set[str]) -> None:
    one = script(tuple(struck), pieces)
    assert texts(one) == pieces
    assert sum(write.tokens for write in one.writes) == len(pieces)
    instants = [write.offset_ns for write in one.writes]
    assert instants == sorted(instants)
    assert one.ending is Ending.WHOLE
    assert one.end_ns >= 1_000_000 * len(pieces)


@given(pieces=pieces_lists, struck=st.sets(st.sampled_from(SPELLINGS)), broken=st.sampled_from(BROKEN))
def test_what_breaks_off_keeps_the_first_half(pieces: list[str], struck: set[str], broken: str) -> None:
    one = script((*struck, broken), pieces)
    kept = max(1, len(pieces) // 2)
    assert sum(write.tokens for write in one.writes) == kept
    assert b"[DONE]" not in body(one)
    assert one.end_ns <= 1_000_000 * len(pieces)


@pytest.mark.parametrize(
    ("broken", "ending"),
    [("cut-stream", Ending.CUT), ("connection-reset", Ending.RESET), ("early-end", Ending.WHOLE)],
)
def test_how_it_ends(broken: str, ending: Ending) -> None:
    assert script((broken,), ["a"] * 6).ending is ending


def test_a_cut_stream_ends_inside_an_event() -> None:
    data = body(script(("cut-stream",), ["a"] * 6))
    assert not data.endswith(b"\n")
    assert data.count(b"\n\n") == 3


def test_a_reset_before_the_headers_writes_nothing() -> None:
    one = script(("reset-before-headers", "crlf"), ["a"] * 3)
    assert (one.writes, one.ending, one.silent) == ([], Ending.RESET, True)
