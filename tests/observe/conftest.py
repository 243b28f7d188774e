"""A loopback server that plays the network's GET routes, with faults, and a run folder to observe into."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtest import runfolder
from loadtest.clock import mono_ns
from loadtest.records import RequestRecord

Reply = tuple[int, Any]
Route = Callable[[int], Reply]  # number of the request, from 1, to status and body


class FakeNetwork:
    """`routes[path]` answers the n-th request of that path; anything else is a 404 in nginx's HTML."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.seen: Counter[str] = Counter()
        self.keys: set[str | None] = set()
        self._changed = threading.Condition()
        network = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                network.serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        with self._changed:
            self.seen[request.path] += 1
            number = self.seen[request.path]
            self.keys.add(request.headers.get("Authorization"))
            self._changed.notify_all()
        route = self.routes.get(request.path)
        status, body = route(number) if route else (404, "<html><h1>404 Not Found</h1></html>")
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def wait_for(self, path: str, times: int, seconds: float = 10.0) -> None:
        """Until `path` was asked for `times` times; fails the test after a deadline."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.seen[path] >= times, seconds), f"{path}: {self.seen}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def stats_backend() -> Iterator[FakeNetwork]:
    """A second host, as the stats backend is in the field."""
    fake = FakeNetwork()
    yield fake
    fake.close()


@pytest.fixture
def network() -> Iterator[FakeNetwork]:
    fake = FakeNetwork()
    yield fake
    fake.close()


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(url: str, state: str = "running", targets: list[dict[str, Any]] | None = None, **rules: float) -> Path:
        observe = {"poll_s": 0.1, "grace_s": 0.0, "lookup_share_max": 1.0, "lookup_deadline_s": 8.0, **rules}
        target = {"name": "router", "route": "cortensor", "url": url, "key_env": "TEST_ROUTER_KEY"}
        manifest = {"schema_version": 1, "state": state, "run": "r", "seed": 7, "host": url, "observe": observe}
        runfolder.write_manifest(tmp_path, {**manifest, "targets": targets or [target]})
        return tmp_path

    return make


@pytest.fixture
def store_requests() -> Callable[..., None]:
    """Write one part of stored requests; each is given by the fields that matter."""

    def write(run: Path, part: int, *requests: dict[str, Any]) -> None:
        rows = [request_record(f"r-{part}-{i}", **fields) for i, fields in enumerate(requests)]
        runfolder.write_part(run / "requests" / f"{part:05d}.parquet", rows, RequestRecord)

    return write


def request_record(client_reference: str, **fields: Any) -> RequestRecord:
    whole: dict[str, Any] = {
        "run": "r",
        "worker": 0,
        "seq": 0,
        "arrival": 0,
        "conversation": "c",
        "turn": 0,
        "turns_planned": 1,
        "persona": "p",
        "target": "router",
        "route": "cortensor",
        "model": "",
        "session": "12",
        "client_reference": client_reference,
        "phase": "measure",
        "scheduled_ns": mono_ns(),
        "prompt_tokens_planned": 8,
        "output_tokens_max": 8,
        "stream": True,
        "outcome": "ok",
        "done_ns": mono_ns(),
    }
    return RequestRecord(**(whole | fields))
