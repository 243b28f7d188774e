"""Framing: where the body is and where it ends, however the bytes were cut."""

from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.framing import ResponseFraming

OK = b"HTTP/1.1 200 OK\r\n"
COMPLETE: dict[str, tuple[bytes, int, bytes, bool]] = {  # wire, status, body, keep-alive
    "content_length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 200, b"hello", True),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n0\r\nX-Late: 1\r\n\r\n", 200, b"h", True),
    "close": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "http10": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "http10_keep_alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "no_content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "continue": (b"HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx", 200, b"x", True),
    "early_hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2 + OK + b"Content-Length: 1\r\n\r\nx", 200, b"x", True),
    "not_found": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", 404, b"no", True),
}


def feed_cut(wire: bytes, cuts: list[int]) -> ResponseFraming:
    framing = ResponseFraming()
    edges = [0, *cuts, len(wire)]
    for start, end in pairwise(edges):
        if end > start:
            framing.feed(wire[start:end])
    return framing


@pytest.mark.parametrize("name", COMPLETE)
def test_cut_at_every_byte(name: str) -> None:
    wire, status, body, keep_alive = COMPLETE[name]
    for cut in range(len(wire) + 1):
        framing = feed_cut(wire, [cut])
        assert framing.complete
        assert (framing.status, bytes(framing.body), framing.keep_alive) == (status, body, keep_alive)
        assert not [name for name, _ in framing.headers if name in (b"x-late", b"x-a")]
    for cut in range(len(wire)):
        assert not feed_cut(wire[:cut], []).complete


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_any_chunks_any_cuts(chunks: list[bytes], data: st.DataObject) -> None:
    coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    wire = OK + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    framing = feed_cut(wire, cuts)
    assert framing.complete
    assert bytes(framing.body) == b"".join(chunks)


@pytest.mark.parametrize(
    ("wire", "proper"),
    [
        (OK + b"\r\nuntil the end", True),
        (OK + b"\r\n", True),
        (b"HTTP/1.0 200 OK\r\n\r\nold", True),
        (OK + b"Transfer-Encoding: gzip\r\n\r\nxx", True),  # not chunked: the close delimits it
        (OK + b"Content-Length: 9\r\n\r\nshort", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", False),
        (OK + b"Content-Le", False),
        (b"", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
    ],
)
def test_a_close_is_an_end_only_where_nothing_else_delimits_the_body(wire: bytes, proper: bool) -> None:
    framing = feed_cut(wire, [])
    assert framing.end_of_file() is proper
    assert framing.complete is proper


@pytest.mark.parametrize("surplus", [b"XX", OK + b"Content-Length: 3\r\n\r\nbad"])
def test_bytes_after_the_end_raise_and_do_not_touch_the_answer(surplus: bytes) -> None:
    framing = ResponseFraming()
    with pytest.raises(httptools.HttpParserError):
        framing.feed(OK + b"Content-Length: 2\r\n\r\nhi" + surplus)
    assert framing.complete
    assert bytes(framing.body) == b"hi"
    assert framing.headers == [(b"content-length", b"2")]


@pytest.mark.parametrize(
    "wire", [b"garbage\r\n\r\n", b"HTTP/1.1 two hundred\r\n\r\n", OK + b"Content-Length: x\r\n\r\n"]
)
def test_what_is_no_response_raises(wire: bytes) -> None:
    with pytest.raises(httptools.HttpParserError):
        ResponseFraming().feed(wire)


def test_the_read_that_completed_the_headers_is_remembered() -> None:
    reads: list[int] = []
    framing = ResponseFraming(reads)
    for part in (OK, b"Content-Length: 2\r\n", b"\r\nh", b"i"):
        framing.feed(part)
        reads.append(0)
    assert framing.headers_read == 2
