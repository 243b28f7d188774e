"""The forms that routers, gateways and proxies are documented to send, from the wire to the row, cut anywhere."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from exchanges import SSE, call, exchange, started
from hypothesis import given
from hypothesis import strategies as st
from scripted import HEAD, LAST, chunk
from streams import STOP, chat_chunk, events, text_chunk

from loadtest.client.framing import ResponseFraming
from loadtest.client.outcomes import finish
from loadtest.client.routes import ROUTES
from loadtest.records import RequestRecord

USAGE = '{"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
ONE, TWO, END = text_chunk(" one"), text_chunk(" two"), text_chunk("", STOP)


class Form(NamedTuple):
    packets: tuple[bytes, ...]  # as the server writes them, an HTTP chunk each
    outcome: str = "ok"
    chunks: int = 2
    tokens: int | None = None


FORMS = {
    "plain": Form((events(ONE), events(TWO), events(END), events("[DONE]"))),
    "crlf": Form(tuple(events(data, end="\r\n") for data in (ONE, TWO, END, "[DONE]"))),
    "no_space": Form(tuple(events(data).replace(b"data: ", b"data:") for data in (ONE, TWO, END, "[DONE]"))),
    "two_events_in_one_packet": Form((events(ONE, TWO), events(END, "[DONE]"))),
    "an_event_line": Form((b"event: token\n" + events(ONE), b"event: token\n" + events(TWO, END), events("[DONE]"))),
    "a_comment_of_its_own": Form((b": keep-alive\n\n", events(ONE), b":\n\n", events(TWO, END), events("[DONE]"))),
    "an_error_object": Form((events(ONE), events('{"error":{"message":"node lost"}}')), "stream_error", 1),
    "a_usage_only_chunk": Form(
        (
            events(chat_chunk('{"content":"Hel"}')),
            events(chat_chunk('{"content":"lo"}'), chat_chunk("{}", STOP)),
            events(USAGE),
            events("[DONE]"),
        ),
        tokens=2,
    ),
}


def heard(packets: tuple[bytes, ...], cuts: list[int]) -> RequestRecord:
    """The row of these packets when the wire is cut at these places and nowhere else."""
    wire = HEAD + b"".join(map(chunk, packets)) + LAST
    edges = sorted({0, len(wire), *(cut % len(wire) for cut in cuts)})
    framing, ends = ResponseFraming(), []
    for start, end in pairwise(edges):
        framing.feed(wire[start:end])
        ends.append(len(framing.body))
    assert framing.complete and framing.status == 200
    came = exchange(bytes(framing.body), kind=SSE, ends=tuple(ends))
    answer = ROUTES["openai-chat"].read(call(), came)
    return finish(started(), call(), came, answer, None)


@pytest.mark.parametrize("name", FORMS)
@given(cuts=st.lists(st.integers(0, 4_000), max_size=8))
def test_it_parses_however_it_is_cut(name: str, cuts: list[int]) -> None:
    form = FORMS[name]
    row = heard(form.packets, cuts)
    assert row.outcome == form.outcome, row.error_text
    assert (row.content_chunks, row.usage_completion_tokens) == (form.chunks, form.tokens)
    assert len(row.chunk_ns) == form.chunks and row.first_content_ns is not None
    if form.outcome == "ok":
        assert row.stream_end == "done_marker"


@pytest.mark.parametrize("name", FORMS)
def test_all_in_one_packet_is_coalesced_and_in_packets_of_their_own_is_not(name: str) -> None:
    form = FORMS[name]
    assert heard(form.packets, []).chunks_coalesced == form.chunks - 1
    wire_cuts, offset = [], len(HEAD)
    for packet in form.packets:
        offset += len(chunk(packet))
        wire_cuts.append(offset)
    together = name == "two_events_in_one_packet"
    assert heard(form.packets, [len(HEAD), *wire_cuts]).chunks_coalesced == (1 if together else 0)
