"""Over real HTTP: who has not logged in gets nothing from the page, and the log says who tried."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import Ended, Network, ended, locust_command, wait_for

from loadtest.jobs.swarm import free_port

pytestmark = pytest.mark.long
END_S = 60
NAME, PASSWORD = "qa", "correct-horse-7731"


@contextmanager
def page(network: Network, tmp_path: Path, log: Path) -> Iterator[str]:
    port = free_port()
    command = locust_command(tmp_path / "runs", "--profile", "smoke", "--host", network.url)
    with log.open("wb") as err:
        process = subprocess.Popen(
            [*command, "--web-port", str(port), "--web-login"],
            stdin=subprocess.DEVNULL,
            stderr=err,
            env={**os.environ, "LOADTEST_WEB_USER": NAME, "LOADTEST_WEB_PASSWORD": PASSWORD},
        )
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            return httpx.get(url + "/login").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for("the page", up)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=END_S)


def test_without_a_login_a_request_gets_nothing(network: Network, tmp_path: Path) -> None:
    log = tmp_path / "log"
    paths = ["/stats/requests", "/stats/report", "/stats/requests/csv", "/exceptions", "/tasks", "/logs"]
    paths += ["/metrics", "/worker-count", "/stop", "/stats/reset", "/no-such-page"]
    with page(network, tmp_path, log) as url:
        with httpx.Client(base_url=url) as stranger:
            for path in paths:
                answer = stranger.get(path)
                assert (answer.status_code, answer.content) == (401, b""), path
            start = stranger.post("/swarm", data={"user_count": "1", "spawn_rate": "1"})
            assert (start.status_code, start.content) == (401, b"")
            front = stranger.get("/")
            assert front.status_code == 302 and front.headers["location"].endswith("/login")
            assert network.url not in stranger.get("/login").text
            for name, password in ((NAME, "wrong"), ("mallory", PASSWORD), ("", "")):
                refused = stranger.post("/login-submit", data={"username": name, "password": password})
                assert refused.headers["location"].endswith("/login")
                assert stranger.get("/stats/requests").status_code == 401
        with httpx.Client(base_url=url, follow_redirects=True) as known:
            entered = known.post("/login-submit", data={"username": NAME, "password": PASSWORD})
            assert entered.status_code == 200 and "SameSite=Strict" in entered.history[0].headers["set-cookie"]
            assert known.get("/stats/requests").json()["state"] == "ready"
            assert "loadtest_build_info" in known.get("/metrics").text
    assert not (tmp_path / "runs").exists(), "nobody has started anything"
    said = log.read_text()
    assert "web: GET '/stats/requests' without a login from 127.0.0.1" in said
    assert "web: POST '/swarm' without a login from 127.0.0.1" in said
    assert "web: login refused to 'mallory' from 127.0.0.1" in said
    assert PASSWORD not in said and "wrong" not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--web-login"], "--web-login needs LOADTEST_WEB_USER and LOADTEST_WEB_PASSWORD in the environment"),
        (["--metrics-port", "9", "--metrics-host", "0.0.0.0"], "--metrics-host 0.0.0.0 is open to other machines"),
        (["--web-host", "0.0.0.0"], "--web-host 0.0.0.0 is open to other machines"),
        (["--headless", "--master", "--master-bind-host", "*"], "--master-bind-host * is open to other machines"),
        (["--web-host", "0.0.0.0", "--encrypted-path", "wg0"], "--web-host 0.0.0.0 lets other machines start load"),
    ],
)
def test_what_is_open_to_others_is_refused_in_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    command = locust_command(tmp_path / "runs", "--profile", "smoke", "--host", "http://127.0.0.1:9", *options)
    result: Ended = ended(command, tmp_path / "runs")
    assert result.code == 2
    (line,) = [line for line in result.err.splitlines() if line.startswith("loadtest:")]
    assert said in line and "Traceback" not in result.err
