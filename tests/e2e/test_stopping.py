"""200 requests in flight when the load is told to end: each has its row, whoever says it and however."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
from conftest import Ended, assert_complete, locust_command, wait_for
from holding import Holding, holding, write_profile
from swarms import assert_exact, swarm

from loadtest.jobs.swarm import free_port

pytestmark = pytest.mark.long
IN_FLIGHT = 200
END_S = 120
STOPPED = "nothing more is offered"
MODES = ("standalone", "distributed")


class Group:
    """A command in a process group of its own, as a terminal starts it: a signal reaches every process of it."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.runs_dir, self._log = folder / "runs", folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def wait_for_word(self, word: str) -> None:
        wait_for(word, lambda: word in self.log() or self.process.poll() is not None)
        assert word in self.log()

    def wait_until_held(self, server: Holding) -> None:
        wait_for("the requests", lambda: server.held == IN_FLIGHT or self.process.poll() is not None)
        assert server.held == IN_FLIGHT

    def end(self) -> Ended:
        code = self.process.wait(timeout=END_S)
        return Ended(code, "", self.log(), self.runs_dir)


@contextmanager
def group(folder: Path, command: list[str]) -> Iterator[Group]:
    one = Group(folder, command)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.signal(signal.SIGKILL)
            one.process.wait(timeout=END_S)
        print(one.log()[-6000:])


def command(folder: Path, server: Holding, mode: str, *options: str) -> list[str]:
    profile = write_profile(folder, IN_FLIGHT)
    processes = ["--processes", "2"] if mode == "distributed" else []
    more = ["--profile", str(profile), "--host", server.url, "--no-observe", "--only-summary"]
    return locust_command(folder / "runs", *processes, *more, *options)


def assert_all(result: Ended, outcome: str, workers: int) -> None:
    assert result.code in (0, 3, 4)
    assert_complete(result, workers=workers)
    assert Counter(result.rows()["outcome"].to_pylist()) == {outcome: IN_FLIGHT}
    assert set(result.rows()["content_chunks"].to_pylist()) == {2 if outcome == "ok" else 1}
    assert "Traceback" not in result.err
    assert result.err.count("Shutting down (exit code") <= workers + 1, "each process ends once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("timeout", "outcome"), [("30", "ok"), ("0", "cancelled")])
def test_a_signal_to_the_group(tmp_path: Path, number: int, mode: str, timeout: str, outcome: str) -> None:
    with holding() as server, group(tmp_path, command(tmp_path, server, mode, "--headless", "-s", timeout)) as one:
        one.wait_until_held(server)
        one.signal(number)
        one.wait_for_word(STOPPED)
        if outcome == "ok":
            server.release()
        result = one.end()
    assert_all(result, outcome, workers=2 if mode == "distributed" else 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", MODES)
def test_a_second_signal_cuts_the_drain(tmp_path: Path, mode: str, number: int) -> None:
    with holding() as server, group(tmp_path, command(tmp_path, server, mode, "--headless", "-s", "90")) as one:
        one.wait_until_held(server)
        one.signal(number)
        one.wait_for_word(STOPPED)
        assert server.held == IN_FLIGHT, "the first one waits"
        one.signal(number)
        result = one.end()
    assert_all(result, "cancelled", workers=2 if mode == "distributed" else 1)


@pytest.mark.parametrize(
    ("mode", "number", "again", "timeout", "outcome"),
    [
        ("standalone", signal.SIGTERM, False, "30", "ok"),
        ("standalone", signal.SIGINT, True, "90", "cancelled"),
        ("distributed", signal.SIGTERM, False, "30", "ok"),
        ("distributed", signal.SIGTERM, False, "0", "cancelled"),
        ("distributed", signal.SIGINT, True, "90", "cancelled"),
    ],
)
def test_a_signal_while_there_is_a_page(
    tmp_path: Path, mode: str, number: int, again: bool, timeout: str, outcome: str
) -> None:
    """The run was started from the page; the process that serves it is told to end, once or twice."""
    with held_from_the_page(tmp_path, mode, timeout) as (server, one, _):
        one.signal(number)
        one.wait_for_word(STOPPED)
        if again:
            one.signal(number)
        elif outcome == "ok":
            server.release()
        result = one.end()
    assert_all(result, outcome, workers=2 if mode == "distributed" else 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("timeout", "outcome"), [("30", "ok"), ("0", "cancelled")])
def test_the_stop_button(tmp_path: Path, mode: str, timeout: str, outcome: str) -> None:
    with held_from_the_page(tmp_path, mode, timeout) as (server, one, page):
        stopping = [Thread(target=page.post, args=("/stop",)) for _ in range(2)]  # an impatient user
        for thread in stopping:
            thread.start()
        one.wait_for_word(STOPPED)
        if outcome == "ok":
            server.release()
        for thread in stopping:
            thread.join(timeout=END_S)
        one.wait_for_word("run folder: ")
        one.signal(signal.SIGTERM)
        result = one.end()
    assert_all(result, outcome, workers=2 if mode == "distributed" else 1)


def start_from_the_page(page: httpx.Client, workers: int) -> None:
    wait_for("the page and its workers", lambda: ready(page, workers))
    form = {"user_count": str(IN_FLIGHT), "spawn_rate": "100"}
    assert page.post("/swarm", data=form).json()["success"]


@contextmanager
def held_from_the_page(folder: Path, mode: str, timeout: str) -> Iterator[tuple[Holding, Group, httpx.Client]]:
    """A run that was started from its page, all its requests held by the server."""
    port = free_port()
    web = ("-s", timeout, "--web-port", str(port))
    with (
        holding() as server,
        group(folder, command(folder, server, mode, *web)) as one,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=END_S) as page,
    ):
        start_from_the_page(page, 2 if mode == "distributed" else 0)
        one.wait_until_held(server)
        yield server, one, page


def ready(page: httpx.Client, workers: int) -> bool:
    try:
        return len(json.loads(page.get("/stats/requests").text).get("workers", [])) == workers
    except httpx.TransportError:
        return False


def test_loadtest_run_waits_for_answers_of_twenty_seconds(tmp_path: Path) -> None:
    with holding(hold_s=20) as server:
        run = [sys.executable, "-m", "loadtest", "run", str(write_profile(tmp_path, IN_FLIGHT)), "--host", server.url]
        run += ["--workers", "2", "--runs-dir", str(tmp_path / "runs"), "--", "--no-observe", "--stop-timeout", "30"]
        with group(tmp_path, run) as one:
            one.wait_until_held(server)
            one.signal(signal.SIGINT)
            result = one.end()
    assert_all(result, "ok", workers=2)


def test_a_worker_that_is_told_to_end_drains_first(tmp_path: Path) -> None:
    with holding() as server, swarm(tmp_path, server.url, write_profile(tmp_path, IN_FLIGHT)) as one:
        one.start_master(2)
        workers = [one.start_worker() for _ in range(2)]
        wait_for("the requests", lambda: server.held == IN_FLIGHT or one.master.poll() is not None)
        workers[0].send_signal(signal.SIGTERM)
        wait_for("the worker's word", lambda: "Got SIGTERM" in one.log("worker0"))
        server.release()
        assert workers[0].wait(timeout=END_S) == 0
        one.master.send_signal(signal.SIGTERM)
        result = one.end()
    outcomes = assert_exact(result)
    assert outcomes["ok"] >= IN_FLIGHT and not outcomes["lost"]
