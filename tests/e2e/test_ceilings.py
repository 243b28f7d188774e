"""A ceiling ends a run as the end of its plan would: what is in flight is waited for, every turn has a row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from conftest import Ended, Network, assert_complete


def test_a_run_stops_at_its_requests(network: Network, locust: Callable[..., Ended]) -> None:
    options = ["--headless", "--profile", "smoke", "-t", "60s", "--host", network.url, "--ceiling", "requests=12"]
    result = locust(*options)
    assert_complete(result, workers=1)
    assert result.code == (3 if result.summary()["fit"]["verdict"] == "fit" else 4)
    stopped_by = result.manifest()["stopped_by"]
    assert (stopped_by["rule"], stopped_by["limit"]) == ("requests", 12)
    # The smoke profile sends some four requests a second, and a count is at most four seconds old.
    assert 12 <= stopped_by["figure"] <= stopped_by["used_in_the_end"] < 60
    assert set(result.rows()["outcome"].to_pylist()) <= {"ok", "not_reached"}
    assert "a ceiling is met, nothing more is offered: requests" in result.err
    assert "Stopped by a ceiling: requests" in (result.run / "summary.md").read_text()


class Broken(BaseHTTPRequestHandler):
    """A router that is there and can serve nobody."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200, b"{}")

    def do_POST(self) -> None:
        self.answer(503, b'{"error": {"message": "no miners"}}')

    def log_message(self, *_: object) -> None:
        pass


def test_the_circuit_breaker_leaves_a_broken_target_alone(locust: Callable[..., Ended]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--profile", "smoke", "-t", "60s", "--no-observe"]
        options += ["--host", f"http://127.0.0.1:{server.server_port}"]
        result = locust(*options, "--ceiling", "error_share=0.5", "--ceiling", "error_requests_min=6")
        server.shutdown()
    assert result.code in (3, 4)
    stopped_by = result.manifest()["stopped_by"]
    assert (stopped_by["rule"], stopped_by["figure"], stopped_by["limit"]) == ("error_share", 1.0, 0.5)
    assert result.summary()["result"]["verdict"] == "fail"
    outcomes = set(result.rows()["outcome"].to_pylist())
    assert outcomes <= {"server_error", "not_reached"} and result.rows().num_rows < 100
