"""A ceiling ends a run as the end of its plan would: what is in flight is waited for, every turn has a row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
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


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "limit", "prices"),
    [
        ("tokens", 400, {}),
        ("cost", 0.5, {"price_per_request": 0.05, "price_per_million_output_tokens": 2_000.0}),
        ("requests_per_s", 2, {}),
        ("time_s", 5, {}),
    ],
)
def test_a_run_stops_at_what_it_may_use_up(
    network: Network, locust: Callable[..., Ended], rule: str, limit: float, prices: dict[str, float]
) -> None:
    """What was used is added up again here, from the rows: as the server told it, else as we planned and counted."""
    ceilings = [f"--ceiling={name}={value}" for name, value in {rule: limit, **prices}.items()]
    options = ["--headless", "--processes", "2", "--profile", "smoke", "-t", "60s", "--no-observe"]
    result = locust(*options, "--host", network.url, *ceilings)
    assert_complete(result, workers=2)
    assert result.code == (3 if result.summary()["fit"]["verdict"] == "fit" else 4)
    assert result.summary()["result"]["verdict"] == "fail"
    manifest, rows = result.manifest(), [row for row in result.rows().to_pylist() if row["outcome"] == "ok"]
    assert manifest["ceilings"].items() >= {rule: limit, **prices}.items()
    stopped_by, stopped_s = manifest["stopped_by"], manifest["stopped_early_s"]
    assert (stopped_by["rule"], stopped_by["limit"]) == (rule, limit)
    assert limit <= stopped_by["figure"] and stopped_s < 40
    output = sum(row["usage_completion_tokens"] or row["counted_tokens"] for row in rows)
    used = {
        "tokens": sum(row["usage_prompt_tokens"] or row["prompt_tokens_planned"] for row in rows) + output,
        "cost": len(rows) * 0.05 + output * 2_000 / 1e6,
    }
    if rule in used:
        assert stopped_by["used_in_the_end"] == pytest.approx(used[rule]) and stopped_by["figure"] <= used[rule]
    if rule == "time_s":
        assert stopped_by["figure"] < limit + 2 and abs(stopped_s - stopped_by["figure"]) < 2
    if rule == "requests_per_s":
        assert stopped_s > 9, "the rate is one over ten seconds"
        sent = len([row for row in rows if row["sent_ns"]]) / stopped_s
        assert stopped_by["figure"] == pytest.approx(sent, rel=0.5)
    assert set(result.rows()["outcome"].to_pylist()) <= {"ok", "not_reached"}
    assert f"a ceiling is met, nothing more is offered: {rule}" in result.err


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
