"""Answers that are cut short on purpose: after a number of chunks, or after a time."""

from __future__ import annotations

import threading

import pytest
from exchanges import call, started
from scripted import HEAD, LAST, Peer, ScriptedServer, chunk, plain
from streams import CORTENSOR, STREAMS

from loadtest.client.answers import read_answer
from loadtest.client.exchange import End, Exchange
from loadtest.client.outcomes import finish
from loadtest.client.reactor import Reactor
from loadtest.client.sse import decode


def answered(reactor: Reactor, exchange: Exchange, server: ScriptedServer) -> tuple[str, str, str]:
    exchange.endpoint = server.endpoint
    reactor.run(exchange)
    record = finish(started(), call(), exchange, read_answer(exchange, stream=True), None)
    return record.outcome, record.error_kind, record.error_text


@pytest.mark.parametrize("name", ["cortensor", "cortensor_crlf", "comments"])
def test_after_so_many_chunks_wherever_the_stream_is_cut(reactor: Reactor, name: str) -> None:
    body = STREAMS[name]
    second = decode(body)[1].end_offset
    heard = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        cut = peer.index + 1
        peer.send(HEAD + chunk(body[:cut]))
        if cut < second:
            peer.send(chunk(body[cut:second]))
        peer.wait_closed()  # the rest is never sent: only the client can end this
        heard.set()

    with ScriptedServer(script) as server:
        for cut in range(1, second + 1):
            exchange = server.exchange()
            exchange.cancel_after_chunks = 2
            assert answered(reactor, exchange, server) == ("cancelled", "after_chunks", "after <n> chunks, as asked")
            assert exchange.error_text == "after 2 chunks, as asked"
            assert (exchange.end, len(decode(exchange.body))) == (End.CANCELLED, 2), cut
            assert exchange.reads[-1].kernel and exchange.reads[-1].body_end == second
            assert heard.wait(10)
            heard.clear()
    assert reactor.figures()["connections"] == 0


@pytest.mark.parametrize("chunks", [3, 99])
def test_a_stream_that_ends_first_is_complete(reactor: Reactor, chunks: int) -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(HEAD + chunk(CORTENSOR) + LAST)  # three chunks and [DONE] in one read

    with ScriptedServer(script) as server:
        exchange = server.exchange()
        exchange.cancel_after_chunks = chunks
        assert answered(reactor, exchange, server)[0] == "ok"
        reactor.close()


def test_after_a_time(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(b"data: 1\n\n"))
        peer.wait_closed()

    with ScriptedServer(script) as server:
        exchange = server.exchange()
        exchange.cancel_after_s = 0.1
        assert answered(reactor, exchange, server) == ("cancelled", "after_s", "<n> s after it was sent, as asked")
    assert exchange.done_ns is not None and exchange.sent_ns is not None
    assert 0.1e9 <= exchange.done_ns - exchange.sent_ns < 5e9  # not at a deadline, those are 10 s
    assert exchange.body == b"data: 1\n\n"


def test_a_retried_request_counts_anew(reactor: Reactor) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.index == 0:
            peer.send(plain(b"first"))
            peer.read_request()  # and closes: the pooled connection was stale
            return
        peer.send(HEAD + chunk(b"data: 1\n\n"))
        peer.wait_closed()

    with ScriptedServer(script) as server:
        reactor.run(server.exchange())
        exchange = server.exchange()
        exchange.cancel_after_chunks = 1
        assert answered(reactor, exchange, server)[:2] == ("cancelled", "after_chunks")
    assert exchange.retried
