"""Compressed answers: the same bytes and times as plain ones, bombs and damage told apart."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable

import pytest
from exchanges import HTML, call, exchange, started
from hypothesis import given
from hypothesis import strategies as st
from scripted import LAST, Peer, ScriptedServer, chunk
from streams import CORTENSOR
from test_arrivals import assert_contained

from loadtest.client.answers import read_answer
from loadtest.client.encoding import unpack, unpack_answer
from loadtest.client.exchange import End, Exchange
from loadtest.client.outcomes import finish
from loadtest.client.reactor import Reactor
from loadtest.records import Outcome, RequestRecord


def deflate(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "two gzip members": (b"gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "gzip and garbage": (b"x-gzip", lambda data: gzip.compress(data) + b"\0\0\0"),
    "deflate as the standard has it": (b"deflate", zlib.compress),
    "deflate without a header": (b"deflate", lambda data: deflate(data, -15)),
}


@pytest.mark.parametrize("name", PACKED)
@given(cuts=st.sets(st.integers(1, 400)))
def test_cut_anywhere_the_body_is_whole_and_ends_are_what_a_prefix_gives(name: str, cuts: set[int]) -> None:
    encoding, pack = PACKED[name]
    packed = pack(CORTENSOR)
    offsets = [*sorted(cut for cut in cuts if cut < len(packed)), len(packed)]
    found = unpack(encoding, packed, offsets, 1 << 20)
    assert (found.body, found.ended) == (CORTENSOR, None)
    assert found.ends[-1] == len(CORTENSOR)
    for offset, end in zip(offsets, found.ends, strict=True):
        assert end == len(unpack(encoding, packed[:offset], [offset], 1 << 20).body)


def test_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    found = unpack(b"gzip", bomb, [1000, len(bomb)], 10_000)
    assert (len(found.body), found.ends[-1]) == (10_000, 10_000)
    assert found.ended is not None and found.ended.end is End.TOO_LARGE
    assert unpack(b"gzip", gzip.compress(bytes(10_000)), [100], 10_000).ended is None


def row(made: Exchange) -> RequestRecord:
    unpack_answer(made)
    return finish(started(), call(), made, read_answer(made, stream=True), None)


@pytest.mark.parametrize(
    ("encoding", "body", "outcome", "kind"),
    [
        (b"br", b"\x0b\x02\x80", Outcome.MALFORMED, "encoding_br"),
        (b"zstd", b"(\xb5/\xfd", Outcome.MALFORMED, "encoding_zstd"),
        (b"rot13", b"qngn", Outcome.MALFORMED, "encoding_other"),
        (b"gzip", b"data: no gzip\n\n", Outcome.MALFORMED, "encoding_damaged"),
        (b"gzip", gzip.compress(CORTENSOR)[:-30], Outcome.TRUNCATED, "eof_in_body"),
        (b"gzip", gzip.compress(CORTENSOR)[:-8], Outcome.OK, "cut_after_end"),  # [DONE] came, gzip's own end did not
        (b"gzip", gzip.compress(CORTENSOR), Outcome.OK, ""),
        (b"identity", CORTENSOR, Outcome.OK, ""),
    ],
)
def test_what_becomes_of_the_row(encoding: bytes, body: bytes, outcome: Outcome, kind: str) -> None:
    made = row(exchange(body, headers=((b"content-encoding", encoding),)))
    assert (made.outcome, made.error_kind) == (outcome, kind)


def test_a_refusal_speaks_for_itself_however_it_is_packed() -> None:
    page = gzip.compress(b"<html>nginx: bad gateway</html>")
    made = row(exchange(page, status=502, kind=HTML, headers=((b"content-encoding", b"gzip"),)))
    assert (made.outcome, made.error_kind, made.error_text) == ("proxy_error", "nginx_502", "nginx: bad gateway")
    made = row(exchange(b"\x0b\x02\x80", status=502, kind=HTML, headers=((b"content-encoding", b"br"),)))
    assert (made.outcome, made.error_kind, made.error_text) == ("proxy_error", "html_502", "")


def test_an_exchange_that_ended_badly_keeps_its_end() -> None:
    made = exchange(gzip.compress(CORTENSOR)[:60], end=End.TIMEOUT_GAP, headers=((b"content-encoding", b"gzip"),))
    assert row(made).error_kind == "gap"
    assert made.body and CORTENSOR.startswith(made.body)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_events_flushed_one_by_one_keep_their_times(reactor: Reactor, encoding: str) -> None:
    sent: list[tuple[int, int]] = []

    def script(peer: Peer) -> None:
        peer.read_request()
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nTransfer-Encoding: chunked\r\n\r\n"
        peer.send(head.encode())
        packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        for number in range(40):
            threading.Event().wait(0.004)
            packed = packer.compress(b"data: %d\n\n" % number) + packer.flush(zlib.Z_SYNC_FLUSH)
            sent.append(peer.send(chunk(packed)))
        peer.send(chunk(packer.flush()) + LAST)
        peer.wait_closed()

    with ScriptedServer(script) as server:
        made = server.exchange()
        reactor.run(made)
        reactor.close()
    assert (made.end, made.error_text) == (End.COMPLETE, "")
    assert_contained(made, sent)
    assert len({read.body_end for read in made.reads}) > 20  # they did not come as a lump at the end
