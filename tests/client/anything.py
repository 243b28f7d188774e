"""What must hold for any bytes at all: three checks, run by hypothesis in the suite and by atheris (fuzz_client.py).

The first byte says how many cuts there are, the next ones how far apart, and the rest is what arrives.
"""

from __future__ import annotations

from itertools import pairwise

import httptools
from exchanges import HTML, JSON, SSE, call, exchange, started

from loadtest.client.exchange import End
from loadtest.client.framing import ResponseFraming
from loadtest.client.outcomes import finish
from loadtest.client.routes import ROUTES
from loadtest.client.sse import Decoder, decode

CUTS_MAX = 12
BYTES_ONE_BY_ONE_MAX = 60  # longer bodies would only make fuzzing slow
ENDS = (End.COMPLETE, End.EOF, End.RESET, End.TIMEOUT_GAP, End.CANCELLED, End.TOO_LARGE)
KINDS = (SSE, JSON, HTML, "")


def pieces_of(data: bytes) -> tuple[bytes, list[bytes]]:
    """The bytes that arrive, whole and in pieces."""
    count = data[0] % (CUTS_MAX + 1) if data else 0
    steps, body = data[1 : 1 + count], data[1 + count :]
    edges = [0]
    for step in steps:
        edges.append(min(len(body), edges[-1] + step))
    return body, [body[start:end] for start, end in pairwise([*edges, len(body)])]


def check_sse(data: bytes) -> None:
    """The events, their offsets and what is left do not depend on the cuts; cut at every byte, no event is a usual
    one for the decoder."""
    body, pieces = pieces_of(data)
    expected = decode(body)
    whole = Decoder()
    assert whole.feed(body) == expected
    left = whole.flush()
    one_by_one = [body[at : at + 1] for at in range(len(body))] if len(body) <= BYTES_ONE_BY_ONE_MAX else pieces
    for parts in (pieces, one_by_one):
        decoder = Decoder()
        assert [event for part in parts for event in decoder.feed(part)] == expected
        assert decoder.flush() is left
    offsets = [0, *(event.end_offset for event in expected), len(body)]
    assert offsets == sorted(offsets)
    assert sum(len(event.data) for event in expected) <= len(body)


def framed(pieces: list[bytes]) -> tuple[ResponseFraming, bool]:
    """The framing after these pieces, and whether it refused one. Any other exception is a bug."""
    framing = ResponseFraming()
    try:
        for piece in pieces:
            if piece:
                framing.feed(piece)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return framing, True
    return framing, False


def check_framing(data: bytes) -> None:
    """Any bytes, any cuts: its own exceptions only, nothing grows beyond what came, and the cuts do not matter."""
    wire, pieces = pieces_of(data)
    framing, refused = framed(pieces)
    assert len(framing.body) <= len(wire)
    assert sum(len(name) + len(value) for name, value in framing.headers) <= len(wire)
    whole, whole_refused = framed([wire])
    assert (framing.status, bytes(framing.body), framing.complete) == (whole.status, bytes(whole.body), whole.complete)
    assert refused == whole_refused
    if not refused:
        assert framing.headers == whole.headers
        assert framing.end_of_file() is whole.end_of_file()
    framing.release()
    whole.release()


def check_answer(data: bytes) -> None:
    """Any body under any announced kind and end, streamed or not: a route reads it and a row comes of it."""
    body, pieces = pieces_of(data)
    choice = data[0] // (CUTS_MAX + 1) if data else 0
    ends, offset = [], 0
    for piece in pieces:
        offset += len(piece)
        ends.append(offset)
    route, sent = list(ROUTES.values())[choice % len(ROUTES)], call(stream=len(body) % 4 > 0)
    came = exchange(body, kind=KINDS[choice % len(KINDS)], end=ENDS[choice % len(ENDS)], ends=tuple(ends))
    answer = route.read(sent, came)
    assert all(0 <= piece.read < len(ends) for piece in answer.pieces)
    row = finish(started(), sent, came, answer, len)
    assert row.outcome != "lost" and len(row.error_text) <= 200


CHECKS = {"sse": check_sse, "framing": check_framing, "answer": check_answer}
