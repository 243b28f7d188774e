"""A real trace, replayed: what is on the wire is what the trace says, row by row."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Ended

from loadtest.clock import mono_ns
from loadtest.traffic.profile import load_profile
from loadtest.traffic.tokens import count_tokens, load_encoding

TRACE = Path(__file__).parents[1] / "data" / "azure_conv_500.csv"
SPEED = 20.0
LATE_S_MAX = 1.0  # the profile's late_max_s: what is later is not sent at all
WHOLE_ANSWER = {
    "id": "x",
    "object": "text_completion",
    "created": 1,
    "model": "default",
    "choices": [{"index": 0, "text": " fine", "finish_reason": "stop", "logprobs": None}],
}


class Capture(ThreadingHTTPServer):
    """A router that answers at once and keeps what it was asked: client_reference, prompt, arrival."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Ask)
        self.asked: list[tuple[str, str, int, int]] = []
        self.lock = threading.Lock()


class _Ask(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Capture

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        arrived_ns = mono_ns()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((body["client_reference"], body["prompt"], body["max_tokens"], arrived_ns))
        self._answer(WHOLE_ANSWER)

    def _answer(self, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def capture() -> Iterator[Capture]:
    server = Capture()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_azure_conversation_trace(capture: Capture, locust: Callable[..., Ended], tmp_path: Path) -> None:
    profile = tmp_path / "wire.toml"
    text = load_profile("replay-azure").text
    head, personas = text.split("[[target]]")[0], "[[persona]]" + text.split("[[persona]]")[1]
    profile.write_text(head + '[[target]]\nname = "wire"\nroute = "cortensor"\nstream = false\n\n' + personas)
    host = f"http://127.0.0.1:{capture.server_address[1]}"
    options = ("--headless", "--profile", str(profile), "--host", host, "--no-observe", "-u", "200", "-r", "200")
    result = locust(*options, "--trace", str(TRACE), "--speed", str(SPEED))
    assert result.code in (0, 4)

    with TRACE.open() as file:
        trace = list(csv.DictReader(file))
    rows = {row["client_reference"]: row for row in result.rows().to_pylist()}
    assert len(rows) == len(trace) == 500
    assert result.manifest()["trace"]["rows"] == 500
    dropped = sum(row["outcome"] == "dropped" for row in rows.values())
    assert dropped < 5, "a few may come too late on a crowded machine, never most"
    assert len(capture.asked) == 500 - dropped

    encoding = load_encoding("cl100k_base")
    t0_ns = result.manifest()["t0_ns"]
    began = _instant(trace[0])
    for reference, prompt, output_tokens_max, arrived_ns in capture.asked:
        arrival = rows[reference]["arrival"]
        wanted = trace[arrival]
        assert count_tokens(encoding, prompt) == int(wanted["ContextTokens"])
        assert output_tokens_max == int(wanted["GeneratedTokens"])
        due_s = (_instant(wanted) - began).total_seconds() / SPEED
        assert due_s - 0.001 <= (arrived_ns - t0_ns) / 1e9 <= due_s + LATE_S_MAX + 1.0
    scheduled = [rows[reference]["scheduled_ns"] for reference in sorted(rows, key=lambda r: rows[r]["arrival"])]
    assert scheduled == sorted(scheduled), "the order of the trace is the order of the plan"
    due_us = [round((_instant(row) - began).total_seconds() * 1e6 / SPEED) for row in trace]
    assert [(ns - t0_ns) // 1000 for ns in scheduled] == pytest.approx(due_us, abs=1)


def _instant(row: dict[str, str]) -> datetime:
    return datetime.fromisoformat(row["TIMESTAMP"][:26])
