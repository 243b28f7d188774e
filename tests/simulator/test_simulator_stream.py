"""Bytes on the wire: SSE framing, keep-alive, pipelining, broken clients, time-outs."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

DONE = "[DONE]"


def request(path: str, body: dict[str, Any] | None = None, *headers: str) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: sim", *headers]
    if data:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def stream_request(tokens: int, reference: str = "", session: str = "11", **fields: Any) -> bytes:
    body = {"prompt": "hello", "stream": True, "max_tokens": tokens, "client_reference": reference, **fields}
    return request(f"/api/v1/completions/{session}", body)


def read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = client.recv(65536)
        if not part:
            pytest.fail(f"closed before {end!r}: {data!r}")
        data += part
    return data


def read_to_eof(client: socket.socket) -> bytes:
    data = b""
    while part := client.recv(65536):
        data += part
    return data


def chunks(body: bytes) -> list[bytes]:
    """The chunks of a chunked body; fails on any byte out of place."""
    parts: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        part, end, body = body[:length], body[length : length + 2], body[length + 2 :]
        assert end == b"\r\n"
        if not length:
            assert body == b""
            return parts
        parts.append(part)


def events(parts: list[bytes]) -> list[str]:
    text = b"".join(parts).decode()
    assert text.endswith("\n\n")
    found = text[:-2].split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in found)
    return [event.removeprefix("data: ") for event in found]


def test_a_stream_is_framed_as_documented(simulator: Any) -> None:
    with simulator.connect() as client:
        client.sendall(stream_request(12))
        head, _, body = read_until(client, b"0\r\n\r\n").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "content-type: text/event-stream; charset=utf-8" in lines
    assert "transfer-encoding: chunked" in lines
    *data, done = events(chunks(body))
    assert done == DONE
    shapes = [json.loads(event) for event in data]
    assert len({shape["id"] for shape in shapes}) == len({shape["task_id"] for shape in shapes}) == 1
    choices = [shape["choices"][0] for shape in shapes]
    assert all(set(choice) == {"index", "text", "logprobs", "finish_reason"} for choice in choices)
    assert all(choice["text"] and choice["finish_reason"] is None for choice in choices[:-1])
    assert choices[-1]["text"] == ""
    assert choices[-1]["finish_reason"] == ("length" if len(choices) == 13 else "stop")
    assert {shape["object"] for shape in shapes} == {"text_completion"}


def test_each_token_is_a_chunk_of_its_own(simulator: Any) -> None:
    with simulator.connect() as client:
        client.sendall(stream_request(8))
        body = read_until(client, b"0\r\n\r\n").partition(b"\r\n\r\n")[2]
    *tokens, tail = chunks(body)
    assert all(len(events([token])) == 1 for token in tokens)
    assert len(events([tail])) == 2


def test_one_connection_serves_stream_after_stream(simulator: Any) -> None:
    with simulator.connect() as client:
        ids = []
        for _ in range(3):
            client.sendall(stream_request(3))
            body = read_until(client, b"0\r\n\r\n").partition(b"\r\n\r\n")[2]
            ids.append(json.loads(events(chunks(body))[0])["task_id"])
    assert ids == sorted(set(ids))


def test_pipelined_requests_are_answered_in_order(simulator: Any) -> None:
    with simulator.connect() as client:
        client.sendall(
            stream_request(5)
            + request("/api/v1/ping")
            + request("/nothing")
            + request("/api/v1/ping", None, "Connection: close")
        )
        data = read_to_eof(client)
    assert (
        data.index(b"[DONE]") < data.index(b'{"status":"ok"}') < data.index(b"nginx") < data.rindex(b'{"status":"ok"}')
    )
    assert data.count(b"HTTP/1.1 200 OK") == 3
    assert b"connection: close" in data


def test_a_request_may_come_byte_by_byte(simulator: Any) -> None:
    with simulator.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in stream_request(2):
            client.sendall(bytes([byte]))
        assert DONE.encode() in read_until(client, b"0\r\n\r\n")


def test_a_client_that_asks_first_is_told_to_continue(simulator: Any) -> None:
    with simulator.connect() as client:
        whole = request(
            "/api/v1/completions/11", {"prompt": "x", "max_tokens": 1}, "Expect: 100-continue", "Connection: close"
        )
        head, _, body = whole.partition(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n")
        assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert read_to_eof(client).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00", b"400"),
        (b"GET /api/v1/ping HTTP/1.0\r\n\r\n", b"505"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", b"400"),
    ],
)
def test_what_is_not_acceptable_http_is_refused_and_closed(simulator: Any, data: bytes, status: bytes) -> None:
    with simulator.connect() as client:
        client.sendall(data)
        assert read_to_eof(client).startswith(b"HTTP/1.1 " + status)


def test_a_body_without_bound_is_refused(simulator: Any) -> None:
    with simulator.connect() as client:
        client.sendall(b"POST /api/v1/completions/11 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        megabyte = b"%x\r\n" % (1 << 20) + b"a" * (1 << 20) + b"\r\n"
        answer = b""
        try:
            for _ in range(17):
                client.sendall(megabyte)
            answer = client.recv(65536)
        except ConnectionError:  # refused and closed while we were still sending
            return
        assert answer.startswith(b"HTTP/1.1 413")


def test_the_body_timeout_ends_a_whole_answer_with_504_and_a_stream_with_an_error_event(start: Any) -> None:
    slow = start("--seed", "3", "--speed", "0.01")
    with slow.connect() as client:
        client.sendall(request("/api/v1/completions/11", {"prompt": "x", "timeout": 0.05, "client_reference": "whole"}))
        answer = read_until(client, b"}}")
        assert answer.startswith(b"HTTP/1.1 504 Gateway Timeout")
        assert "0.05 s" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
        client.sendall(stream_request(50, "stream", timeout=0.05))
        body = read_until(client, b"0\r\n\r\n").partition(b"\r\n\r\n")[2]
        (event,) = events(chunks(body))
        assert json.loads(event)["error"]["code"] == "task_timeout"
    assert slow.stop() == 0
    rows = {row["client_reference"]: row for row in slow.truth_rows()}
    assert rows["whole"]["http_status"] == 504
    assert rows["stream"]["http_status"] == 200
    for row in rows.values():
        assert row["first_written_ns"] is None
        assert row["tokens"] == 0
        assert row["done_ns"] - row["received_ns"] >= 50e6
