"""What targets tell of themselves is kept as bounded text without the key, and a silent one keeps no run waiting."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from made_runs import made_run

from loadtest import runfolder
from loadtest.analysis.run_figures import read_run
from loadtest.records import Target
from loadtest.swarm.target_info import LETTERS_MAX, ask_info

KEY = "k-4411-secret"


class _Router(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []
    version: ClassVar[str] = '"1.4"'  # as JSON

    def do_GET(self) -> None:
        self.asked.append(self.path)
        bodies = {
            "/api/v1/info": f'{{"name": "<b>router</b>", "version": {self.version}, "echo": "{KEY}"}}',
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
    assert told["a"]["version"] == "1.4" and "version" not in told["c"], "a list of models has none"
    assert KEY not in str(told) and "<secret>" in told["a"]["text"]
    assert len(told["c"]["text"]) < LETTERS_MAX + 100 and "characters more" in told["c"]["text"]


def test_a_target_that_tells_nothing_is_an_error_and_no_end() -> None:
    told = ask_info([Target(name="a", route="cortensor", url="http://127.0.0.1:9")])
    assert told["a"]["path"] == "/api/v1/info" and told["a"]["error"].startswith("connect: ")


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("2", "2"),
        ("1.5", "1.5"),
        ("true", "true"),
        (f'"{"v" * 300}"', "v" * 100),
        (f'"{"v" * 95}{KEY}"', "v" * 95 + "<secr"),
        (f'"of {KEY}"', "of <secret>"),
        ("null", None),
        ("[1, 4]", None),
        ('{"major": 1}', None),
    ],
)
def test_a_version_is_one_value_as_text_without_the_key(
    url: str, monkeypatch: pytest.MonkeyPatch, told: str, version: str | None
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setattr(_Router, "version", told)
    found = ask_info([Target(name="a", route="cortensor", url=url, key_env="SOME_KEY")])["a"]
    assert found.get("version") == version and '"version"' in found["text"]


def test_the_figures_of_a_run_know_the_version_its_targets_told(url: str, tmp_path: Path) -> None:
    routes = {"main": "cortensor", "other": "cortensor-v2", "chat": "openai-chat"}
    told = ask_info([Target(name=n, route=r, url=url) for n, r in routes.items()])
    run = made_run(tmp_path / "run")
    runfolder.update_manifest(run, targets=[{"name": name, "info": info} for name, info in told.items()])
    assert read_run(run).target_versions == "main=1.4, other=1.4"
