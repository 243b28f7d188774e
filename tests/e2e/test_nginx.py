"""A proxy that is not ours between us and the router: what it adds, cuts and holds back lands where it should."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep

import pytest
from conftest import Ended, Network, assert_complete, wait_for
from nginx import READ_TIMEOUT_S, SHORTER, accepted_command, configuration, free_port, nginx
from running import end, rows_stored, started

from loadtest.client.outcomes import classify
from loadtest.client.reactor import Reactor
from loadtest.jobs.check import check_target
from loadtest.jobs.probe import Probe
from loadtest.jobs.verdicts import Heard, Level
from loadtest.records import Target
from loadtest.swarm.preflight import endpoint_of
from loadtest.traffic.profile import load_profile

pytestmark = pytest.mark.long


def router_profile(folder: Path, rate_per_s: float) -> str:
    """The smoke profile without its OpenAI target: the documented proxy passes only a router's own routes."""
    head, stream, whole, openai = load_profile("smoke").text.split("[[target]]")
    text = "[[target]]".join([head, stream, whole]) + openai[openai.index("[[persona]]") :]
    path = folder / "router.toml"
    path.write_text(text.replace("rate_per_s = 3.0", f"rate_per_s = {rate_per_s}"))
    return str(path)


def target(url: str, *, route: str = "cortensor", stream: bool = True) -> Target:
    sessions = ("11",) if route == "cortensor" else ()
    return Target(name="t", route=route, url=url, stream=stream, sessions=sessions, model="default", timeout_s=20.0)


def ask(chosen: Target) -> tuple[str, str]:
    """Send one request; its outcome and error kind as they would stand in the row."""
    reactor = Reactor()
    try:
        heard: Heard = Probe(reactor, chosen, endpoint_of(chosen.url or ""), None).short()
    finally:
        reactor.close()
    verdict = classify(heard.exchange, heard.answer)
    return str(verdict.outcome), verdict.kind


def test_the_documented_configuration_is_one_that_nginx_takes(tmp_path: Path) -> None:
    text = configuration(tmp_path, free_port(), free_port())
    assert "proxy_read_timeout 300000ms" in text and "proxy_buffering off" in text
    accepted_command(tmp_path, text)


def test_a_smoke_run_through_nginx_is_complete_and_ok(
    network: Network, locust: Callable[..., Ended], tmp_path: Path
) -> None:
    profile = router_profile(tmp_path, 3.0)
    with nginx(tmp_path / "nginx", network.url) as proxy:
        result = locust("--headless", "--profile", profile, "-t", "6s", "--host", proxy.url)
    assert result.code in (0, 4)  # 4 when this machine was too busy to measure
    assert_complete(result, workers=1)
    assert set(result.manifest()["ledger"]["outcomes"]) <= {"ok", "not_reached"}
    streamed = [row for row in result.rows().to_pylist() if row["stream"] and row["outcome"] == "ok"]
    assert streamed and all(row["first_content_ns"] for row in streamed)


def test_a_path_that_nginx_does_not_pass(network: Network, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", network.url) as proxy:
        assert ask(target(proxy.url, route="openai-chat")) == ("not_found", "nginx_404")
        assert ask(target(proxy.url)) == ("ok", "")


def test_a_silent_upstream(tmp_path: Path) -> None:
    assert target("").timeout_s > READ_TIMEOUT_S / SHORTER
    # Nobody accepts: the kernel takes the connection, and then nothing is said.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with nginx(tmp_path / "nginx", upstream) as proxy:
            assert ask(target(proxy.url)) == ("proxy_error", "nginx_504")
            assert ask(target(proxy.url, stream=False)) == ("proxy_error", "nginx_504")


def test_an_upstream_that_is_killed_under_load(network: Network, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    options = ("--headless", "--profile", router_profile(tmp_path, 20.0), "-t", "10s", "-u", "100")
    with (
        nginx(tmp_path / "nginx", network.url) as proxy,
        started(*options, "--host", proxy.url, runs_dir=runs_dir) as process,
    ):
        wait_for("the first rows", lambda: rows_stored(runs_dir))
        network.stop()
        result = end(process, runs_dir)
    assert result.code in (3, 4)
    assert_complete(result, workers=1)
    ends = Counter((row["outcome"], row["error_kind"]) for row in result.rows().to_pylist())
    assert ends["ok", ""] > 0
    assert ends["proxy_error", "nginx_502"] > 0
    # What was under way when it died: cut streams, and a 502 for those without headers so far.
    assert {outcome for outcome, _ in ends} <= {"ok", "proxy_error", "truncated", "not_reached"}, ends


def test_the_check_through_the_documented_configuration(network: Network, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", network.url) as proxy:
        checked = check_target(target(proxy.url))
    rows = {row.check: row for row in checked.rows}
    assert not checked.failed()
    assert rows["stream"].level is Level.PASS
    # nginx's own limit of 1 MiB, which the router behind it does not have.
    assert "413 HTML" in rows["body limit"].seen
    assert rows["keep-alive"].level is Level.PASS


@contextmanager
def old_router(pieces: int, gap_s: float) -> Iterator[str]:
    """Ends its answers by closing, as servers do when nginx asks with its default of HTTP/1.0.

    nginx passes the chunks of a chunked answer on at once even with proxy_buffering on; only what has no length at
    all waits in its buffers.
    """

    class Connection(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

        def do_GET(self) -> None:
            self._head("application/json")
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._head("text/event-stream")
            with suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(pieces if b"true" in body else 1):
                    sleep(gap_s)
                    self.wfile.write(b'data: {"choices":[{"text":"word and word and word and word "}]}\n\n')
                self.wfile.write(b"data: [DONE]\n\n")

        def _head(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.mark.parametrize(
    ("completions", "level", "seen"),
    [
        ("", Level.PASS, "first text after"),
        ("proxy_buffering on;", Level.FAIL, "buffered: blocks of about 4"),
        (
            "proxy_buffering on; proxy_buffer_size 64k; proxy_buffers 8 64k;",
            Level.FAIL,
            "holds the answer back",
        ),
    ],
)
def test_the_check_tells_a_proxy_that_buffers(tmp_path: Path, completions: str, level: Level, seen: str) -> None:
    with old_router(200, 0.005) as url, nginx(tmp_path / "nginx", url, completions=completions) as proxy:
        rows = {row.check: row for row in check_target(target(proxy.url)).rows}
    assert (rows["stream"].level, seen in rows["stream"].seen) == (level, True), rows["stream"]
    assert rows["answer"].level is Level.PASS


def test_a_reload_under_load_loses_nothing_or_has_a_row_for_it(network: Network, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    options = ("--headless", "--profile", router_profile(tmp_path, 20.0), "-t", "10s", "-u", "100")
    with nginx(tmp_path / "nginx", network.url) as proxy:
        with started(*options, "--host", proxy.url, runs_dir=runs_dir) as process:
            wait_for("the first rows", lambda: rows_stored(runs_dir))
            for _ in range(3):
                proxy.reload()
            result = end(process, runs_dir)
        assert proxy.log().count("signal 1 (SIGHUP) received") == 3
    assert result.code in (0, 4)
    assert_complete(result, workers=1)
    outcomes = Counter(result.rows()["outcome"].to_pylist())
    assert not outcomes["lost"]
    assert outcomes["ok"] >= 0.99 * (result.rows().num_rows - outcomes["not_reached"]), outcomes
