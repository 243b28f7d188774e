"""One conversation on the wire: what members break off, whose connections are new, and the rows that tell."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import gevent
import pytest

from loadtest.client.exchange import Endpoint
from loadtest.client.reactor import Reactor
from loadtest.clock import mono_ns
from loadtest.records import RequestRecord
from loadtest.spool import Finished
from loadtest.swarm.ledger import Ledger
from loadtest.swarm.turns import Access, Turns
from loadtest.traffic.plan import Plan
from loadtest.traffic.schedule import ConversationShape, Schedule

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PROFILE = """
[load]
mode = "open"
rate_per_s = 1
duration_s = 60
warmup_s = 0
in_flight_max = 9
[writing]
system_prompt_tokens = 0
[[target]]
name = "a"
route = "openai-chat"
timeout_s = 10
[[persona]]
name = "p"
weight = 1
prompt_tokens = "fixed(5)"
output_tokens = "fixed(9)"
turns = "fixed(3)"
think_s = "fixed(0)"
"""


class Server:
    """Streams ten chunks and the end; with `only` it sends so many and is silent until the client has gone.

    What it saw: how many connections came, which of their requests, and how each connection ended.
    """

    def __init__(self, only: int | None = None) -> None:
        self.endpoint: Endpoint
        self.requests: list[tuple[int, bytes]] = []
        self._only = only
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock, number))
            number += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(20)
        with sock, suppress(OSError):
            while head := self._request(sock):
                self.requests.append((number, head))
                sock.sendall(HEAD)
                for place in range(10 if self._only is None else self._only):
                    self._chunk(sock, json.dumps({"model": "m", "choices": [{"delta": {"content": f" w{place}"}}]}))
                if self._only is not None:
                    sock.recv(1)  # ends when the client hangs up
                    return
                self._chunk(sock, '{"choices":[{"delta":{},"finish_reason":"stop"}]}')
                self._chunk(sock, "[DONE]")
                sock.sendall(b"0\r\n\r\n")

    def _request(self, sock: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += sock.recv(65536)
        return head

    def _chunk(self, sock: socket.socket, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        sock.sendall(b"%x\r\n%s\r\n" % (len(event), event))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self._listener.close()


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


class Rows:
    """Stands in for the recorder: keeps the finished rows."""

    def __init__(self) -> None:
        self.finished: list[RequestRecord] = []

    def write(self, entry: Any) -> None:
        if isinstance(entry, Finished):
            self.finished.append(entry.record)


def turns_of(reactor: Reactor, server: Server, more: str = "") -> tuple[Turns, Schedule, list[RequestRecord]]:
    """What sends the profile with `more` in its persona, what it sends, and the rows that are finished."""
    plan = Plan(
        run="r", profile_text=PROFILE + more, profile_source="x.toml", seed=1, host="", workers=1, warmup_us=0,
        horizon_us=60_000_000,
    )  # fmt: skip
    rows, schedule = Rows(), plan.schedule()
    turns = Turns(
        plan, schedule, worker=0, reactor=reactor, recorder=rows, ledger=Ledger(),  # type: ignore[arg-type]
        access={"a": Access(server.endpoint, None)}, count_tokens=len,
        began=lambda record: None, seen=lambda record: None,
        clock_offset_ns=lambda: 0,
    )  # fmt: skip
    turns.begin(plan, mono_ns())
    return turns, schedule, rows.finished


def converse(turns: Turns, shape: ConversationShape, due_ns: int) -> None:
    turns.converse(shape, due_ns, turns.prepare(shape, 0), lambda at_ns: None, lambda: False)


def conversation(reactor: Reactor, server: Server, more: str, count: int = 1) -> list[RequestRecord]:
    """The rows of the first `count` conversations of the profile with `more` in its persona."""
    turns, schedule, rows = turns_of(reactor, server, more)
    for index in range(count):
        converse(turns, schedule.shape(index), mono_ns())
    return rows


def test_nothing_is_sent_before_its_instant(reactor: Reactor) -> None:
    """Greenlets are awake a little early, so that only the send is left to do."""
    server = Server()
    turns, schedule, rows = turns_of(reactor, server)
    due_ns = mono_ns() + 30_000_000
    converse(turns, schedule.shape(0), due_ns)
    reactor.close()
    server.close()
    assert [row.outcome for row in rows] == ["ok"] * 3
    assert rows[0].scheduled_ns == due_ns <= (rows[0].connecting_ns or 0)
    assert all(row.scheduled_ns <= (row.sent_ns or 0) for row in rows)


def test_killed_just_before_its_instant_a_turn_is_cancelled_and_not_sent(reactor: Reactor) -> None:
    server = Server()
    turns, schedule, rows = turns_of(reactor, server)
    member = gevent.spawn(converse, turns, schedule.shape(0), mono_ns() + 60_000_000_000)
    gevent.sleep(0)
    member.kill(timeout=5)
    reactor.close()
    server.close()
    assert [(row.turn, row.outcome, row.sent_ns) for row in rows] == [
        (0, "cancelled", None),
        (1, "not_reached", None),
        (2, "not_reached", None),
    ]
    assert not server.requests


def test_the_models_that_answers_name_are_counted(reactor: Reactor) -> None:
    server = Server()
    turns, schedule, rows = turns_of(reactor, server)
    for index in range(2):
        converse(turns, schedule.shape(index), mono_ns())
    reactor.close()
    server.close()
    assert turns.models == {("a", "", rows[0].model, "m"): 6}


def test_a_member_breaks_off_after_chunks_and_the_conversation_goes_on(reactor: Reactor) -> None:
    server = Server(only=4)
    rows = conversation(reactor, server, 'cancel = { share = 1, after_chunks = "fixed(4)" }')
    reactor.close()
    server.close()
    assert [(row.turn, row.outcome, row.error_kind) for row in rows] == [
        (turn, "cancelled", "after_chunks") for turn in range(3)
    ]
    assert all(row.content_chunks == 4 and row.first_content_ns is not None for row in rows)


def test_a_member_breaks_off_after_a_time_and_others_do_not(reactor: Reactor) -> None:
    server = Server(only=0)
    rows = conversation(reactor, server, 'cancel = { share = 1, after_s = "fixed(0.05)" }')
    reactor.close()
    server.close()
    assert [(row.outcome, row.error_kind) for row in rows] == [("cancelled", "after_s")] * 3
    assert all(row.done_ns is not None and row.done_ns - (row.sent_ns or 0) >= 50_000_000 for row in rows)


def test_a_request_that_ends_before_it_would_be_broken_off_is_a_good_one(reactor: Reactor) -> None:
    server = Server()
    rows = conversation(reactor, server, 'cancel = { share = 1, after_s = "fixed(9)" }')
    reactor.close()
    server.close()
    assert [row.outcome for row in rows] == ["ok"] * 3


@pytest.mark.parametrize(("connection", "connections"), [("kept", 1), ("new", 6)])
def test_connections_are_kept_or_new(reactor: Reactor, connection: str, connections: int) -> None:
    server = Server()
    rows = conversation(reactor, server, f'connection = "{connection}"', count=2)
    assert reactor.figures()["connections"] == (1 if connection == "kept" else 0)
    reactor.close()
    server.close()
    assert len(rows) == len(server.requests) == 6 and {row.outcome for row in rows} == {"ok"}
    used = Counter(number for number, _ in server.requests)
    assert len(used) == connections
    assert sum(row.connection_new for row in rows) == connections
    told = [b"\r\nconnection: close" in head.lower() for _, head in server.requests]
    assert all(told) if connection == "new" else not any(told)
