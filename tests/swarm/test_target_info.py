"""What targets tell of themselves is kept as bounded text without the key, and a silent one keeps no run waiting."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from loadtest.records import Target
from loadtest.swarm.target_info import LETTERS_MAX, ask_info

KEY = "k-4411-secret"


class _Router(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        bodies = {
            "/api/v1/info": f'{{"name": "<b>router</b>", "version": "1.4", "echo": "{KEY}"}}',
            "/v1/models": '{"data": [' + ",".join(f'{{"id": "model-{i}"}}' for i in range(2000)) + "]}",
        }
        body = bodies[self.path].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    _Router.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Router)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_api_tells_once_without_the_key_and_in_bounds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    routes = {"a": "cortensor", "b": "cortensor-v2", "c": "openai-chat"}
    told = ask_info([Target(name=n, route=r, url=url, key_env="SOME_KEY") for n, r in routes.items()])
    assert sorted(_Router.asked) == ["/api/v1/info", "/v1/models"]
    assert told["a"] == told["b"] and '"version": "1.4"' in told["a"]["text"] and "<b>router</b>" in told["a"]["text"]
    assert KEY not in str(told) and "<secret>" in told["a"]["text"]
    assert len(told["c"]["text"]) < LETTERS_MAX + 100 and "characters more" in told["c"]["text"]


def test_a_target_that_tells_nothing_is_an_error_and_no_end() -> None:
    told = ask_info([Target(name="a", route="cortensor", url="http://127.0.0.1:9")])
    assert told["a"]["path"] == "/api/v1/info" and told["a"]["error"].startswith("connect: ")
