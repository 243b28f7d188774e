"""A key from the environment stays there: no log, record, page, error or process list shows it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep

import pytest
from conftest import API_KEY, RUN_DEADLINE_S, Ended
from nginx import free_port

from loadtest.clock import Deadline
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import locustfile
from loadtest.processes import end

PAGES = ("/", "/stats/requests", "/logs", "/exceptions", "/tasks")


def command_lines() -> set[str]:
    """Of every process of this machine, as any user of it can read them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.add(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def pages(port: int) -> dict[str, str]:
    """What Locust's web UI shows now; nothing before it is up."""
    shown = {}
    for path in PAGES:
        url = f"http://127.0.0.1:{port}{path}"
        with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=5) as answer:
            shown[path] = answer.read().decode()
    return shown


def assert_nowhere(result: Ended) -> None:
    """In nothing that was printed or written."""
    assert API_KEY not in result.out + result.err
    files = [path for path in result.runs_dir.rglob("*") if path.is_file()]
    assert files and all(API_KEY.encode() not in path.read_bytes() for path in files)
    assert API_KEY not in str(result.rows().to_pylist()), "columns of a Parquet file may be compressed"
    assert API_KEY not in json.dumps(result.manifest()) + json.dumps(result.summary())


def test_a_key_is_in_no_process_list_page_log_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADTEST_API_KEY", API_KEY)
    simulator, url = start_simulator(tmp_path / "port", tmp_path / "truth", ["--api-key-env", "LOADTEST_API_KEY"])
    port, runs_dir = free_port(), tmp_path / "runs"
    command = [sys.executable, "-m", "locust", "-f", str(locustfile()), "--profile", "smoke", "--host", url]
    command += ["--processes", "2", "--autostart", "--autoquit", "1", "-t", "6s", "--runs-dir", str(runs_dir)]
    command += ["--web-port", str(port), "--loglevel", "DEBUG"]
    seen: set[str] = set()
    shown: dict[str, str] = {}
    log = tmp_path / "log"
    try:
        with log.open("w") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            deadline = Deadline(RUN_DEADLINE_S)
            try:
                while process.poll() is None and not deadline.over():
                    seen |= command_lines()
                    shown |= pages(port)
                    sleep(0.05)
            finally:
                process.kill()
                process.wait(timeout=30)
    finally:
        end(simulator, SIMULATOR_END_S)
    result = Ended(process.returncode, log.read_text(), "", runs_dir)
    print(result.out[-6000:])
    assert set(result.manifest()["ledger"]["outcomes"]) <= {"ok", "not_reached"}, "the key was taken"
    for program in ("-m locust", "loadtest.collector", "loadtest.observe", "simulate"):
        assert any(program in line for line in seen), f"{program} was not seen running"
    assert not [line for line in seen if API_KEY in line]
    assert set(shown) == set(PAGES)
    assert not [path for path, page in shown.items() if API_KEY in page]
    assert_nowhere(result)


@contextmanager
def tactless_router() -> Iterator[str]:
    """Refuses every completion and repeats the key in its complaint."""

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

        def do_GET(self) -> None:
            self._send(200, {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(401, {"error": {"message": f"who is {self.headers['Authorization']}?"}, "padding": "x" * 500})

        def _send(self, status: int, shape: object) -> None:
            body = json.dumps(shape).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_a_key_that_the_router_repeats_is_struck_out(locust: Callable[..., Ended]) -> None:
    with tactless_router() as url:
        options = ("--headless", "--profile", "smoke", "-t", "5s", "--host", url)
        result = locust(*options, environment={"LOADTEST_API_KEY": API_KEY})
    assert set(result.manifest()["ledger"]["outcomes"]) <= {"auth_error", "not_reached"}
    assert any("<secret>" in row["error_text"] for row in result.rows().to_pylist())
    bodies = [path.read_bytes() for path in (result.run / "bodies").rglob("*") if path.is_file()]
    assert bodies and all(b"who is Bearer <secret>?" in body for body in bodies)
    assert_nowhere(result)
