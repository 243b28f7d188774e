"""A small router on loopback with the habits that `loadtest check` has to tell apart."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MALFORMED = object()


@dataclass
class Habits:
    """The defaults are those of a good router."""

    key: str | None = None
    pieces: int = 40
    gap_s: float = 0.003
    headers_first: bool = True
    block: int = 1  # pieces per write
    end: str = "done"  # "finish_reason" or "nothing"
    plain_json: bool = False
    usage: int | None = 40
    close: bool = False
    body_max: int | None = None
    body_reset: bool = False
    session_404: bool = True
    mistakes: str = "json"  # "html" or "500"
    info_status: int = 200
    session: dict[str, Any] | None = None
    after_cancel_s: float = 0.0
    dies_of_cancel: bool = False
    silent: bool = False


class _Router(ThreadingHTTPServer):
    habits: Habits
    worker: threading.Lock  # one, so that the next request learns of a cancelled one
    cancelled = False
    daemon_threads = True
    block_on_close = True


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Router

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        habits = self.server.habits
        if habits.silent:
            self.close_connection = True
        elif not self._has_key():
            self._json(401, {"error": {"message": f"bad key {self.headers['Authorization']}"}})
        elif self.path == "/api/v1/info":
            self._json(habits.info_status, {"name": "fake", "version": "1"})
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": "m1"}]})
        else:
            self._json(200 if habits.session else 404, habits.session or {"error": "no"})

    def do_POST(self) -> None:
        habits = self.server.habits
        size = int(self.headers["Content-Length"])
        if size > 1 << 20 and habits.body_reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        body = _parsed(self.rfile.read(size))
        if not self._has_key():
            self._json(401, {"error": {"message": f"bad key {self.headers['Authorization']}"}})
        elif habits.body_max is not None and size > habits.body_max:
            self._json(413, {"error": "too large"})
        elif body is MALFORMED or (habits.session_404 and "999999999" in self.path):
            self._mistake(422 if body is MALFORMED else 404)
        else:
            with self.server.worker:
                self._complete(body)

    def _complete(self, body: Any) -> None:
        habits, server = self.server.habits, self.server
        if server.cancelled and habits.dies_of_cancel:
            self._json(500, {"error": "worker is gone"})
        elif body["stream"] and not habits.plain_json:
            time.sleep(habits.after_cancel_s if server.cancelled else 0)
            try:
                self._stream(min(habits.pieces, body["max_tokens"]))
            except (BrokenPipeError, ConnectionResetError):
                server.cancelled = True
                self.close_connection = True
        else:
            self._json(200, _completion("hello", "stop", habits.usage))

    def _has_key(self) -> bool:
        key = self.server.habits.key
        return key is None or self.headers["Authorization"] == f"Bearer {key}"

    def _mistake(self, status: int) -> None:
        mistakes = self.server.habits.mistakes
        if mistakes == "html":
            self._send(status, b"<html>nginx</html>", "text/html")
        else:
            self._json(500 if mistakes == "500" else status, {"detail": "what you sent is wrong"})

    def _json(self, status: int, shape: Any) -> None:
        self._send(status, json.dumps(shape).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self._head(status, kind, "Content-Length", str(len(body)))
        self.wfile.write(body)

    def _head(self, status: int, kind: str, name: str, value: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header(name, value)
        if self.server.habits.close:
            self.send_header("Connection", "close")
        self.end_headers()

    def _stream(self, pieces: int) -> None:
        habits = self.server.habits
        if habits.headers_first:
            self._head(200, "text/event-stream", "Transfer-Encoding", "chunked")
        waiting: list[bytes] = []
        for number in range(pieces):
            time.sleep(habits.gap_s)
            waiting.append(_event(_completion(f"word {number} ", None, None)))
            if len(waiting) == habits.block:
                self.wfile.write(b"".join(waiting))
                waiting = []
        if habits.end != "nothing":
            waiting.append(_event(_completion("", "stop", habits.usage)))
        if habits.end == "done":
            waiting.append(_chunk(b"data: [DONE]\n\n"))
        if not habits.headers_first:
            self._head(200, "text/event-stream", "Transfer-Encoding", "chunked")
        self.wfile.write(b"".join([*waiting, b"0\r\n\r\n"]))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return MALFORMED


def _completion(text: str, finish_reason: str | None, tokens: int | None) -> dict[str, Any]:
    shape: dict[str, Any] = {"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]}
    return shape if tokens is None else {**shape, "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}


def _event(shape: dict[str, Any]) -> bytes:
    return _chunk(b"data: " + json.dumps(shape).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextmanager
def fake_router(habits: Habits) -> Iterator[str]:
    """Its address, while it runs."""
    router = _Router(("127.0.0.1", 0), _Connection)
    router.habits, router.worker = habits, threading.Lock()
    thread = threading.Thread(target=router.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{router.server_address[1]}"
    finally:
        router.shutdown()
        thread.join(10)
        router.server_close()
