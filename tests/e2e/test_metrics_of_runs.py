"""/metrics over whole runs: a worker is killed under it, and one run follows the other from the web page."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from conftest import Network, locust_command, wait_for
from prometheus_client.parser import text_string_to_metric_families
from swarms import assert_exact, swarm, worker_number, write_profile

from loadtest.jobs.swarm import free_port

pytestmark = pytest.mark.long
POLL_S = 0.5
END_S = 60
Page = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Page:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(page: Page, name: str, **labels: str) -> float:
    return sum(value for (n, own), value in page.items() if n == name and labels.items() <= dict(own).items())


@contextmanager
def polled(url: str) -> Iterator[list[Page]]:
    """The pages that were there, one each half second; like a Prometheus that never misses."""
    pages: list[Page] = []
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(POLL_S):
            try:
                pages.append(read(httpx.get(url, timeout=10).text))
            except httpx.TransportError:
                continue

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield pages
    finally:
        ended.set()
        thread.join()


def test_totals_are_the_ledger_s_also_when_a_worker_was_killed(network: Network, tmp_path: Path) -> None:
    port = free_port()
    with (
        swarm(tmp_path, network.url, write_profile(tmp_path)) as one,
        polled(f"http://127.0.0.1:{port}/metrics") as pages,
    ):
        one.start_master(3, "--metrics-port", str(port))
        workers = [one.start_worker() for _ in range(3)]
        one.wait_for_rows()
        killed = worker_number(one, workers[1])
        os.kill(workers[1].pid, signal.SIGKILL)
        result = one.end()
    outcomes, last, ledger = assert_exact(result), pages[-1], result.manifest()["ledger"]
    assert outcomes["lost"] > 0
    told = {dict(labels)["outcome"]: n for (name, labels), n in last.items() if name == "loadtest_turns_ended_total"}
    assert {name: n for name, n in told.items() if n} == outcomes
    assert of(last, "loadtest_turns_planned_total") == ledger["planned_turns"]
    assert of(last, "loadtest_rows_stored_total") == ledger["rows"]
    assert of(last, "loadtest_workers_lost") == 1 and of(last, "loadtest_worker_up", worker=str(killed)) == 0
    assert of(last, "loadtest_fit") == 0 and of(last, "loadtest_unfit", rule="workers") == 1
    assert of(last, "loadtest_run_state", state="ended") == 1
    shown = [page for page in pages if of(page, "loadtest_run_info")]
    assert len(shown) > 20
    for before, after in pairwise(shown):
        for (name, labels), value in before.items():
            if name.endswith(("_total", "_bucket", "_count")) and ("run", result.run.name) in labels:
                assert after[name, labels] >= value, (name, labels)


def test_one_run_follows_the_other_below_a_base_path(network: Network, tmp_path: Path) -> None:
    runs_dir, port = tmp_path / "runs", free_port()
    command = locust_command(runs_dir, "--profile", "smoke", "--processes", "2", "--host", network.url, "--no-report")
    command += ["--web-port", str(port), "--web-base-path", "/load"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/load", timeout=30) as page:

        def ready() -> bool:
            try:
                states = [worker["state"] for worker in page.get("/stats/requests").json()["workers"]]
            except httpx.TransportError:
                return False
            return states == ["ready", "ready"]

        def now() -> Page:
            return read(page.get("/metrics").text)

        seen: list[str] = []

        def new_run() -> bool:
            return len(runs(now()).difference(seen)) == 1

        def runs(found: Page) -> set[str]:
            return {dict(labels)["run"] for _, labels in found if "run" in dict(labels)}

        try:
            wait_for("the page and its workers", ready)
            assert runs(now()) == set() and of(now(), "loadtest_build_info") == 1
            for _ in range(2):
                wait_for("the workers to be ready", ready)
                assert page.post("/swarm", data={"user_count": "20", "spawn_rate": "20"}).json()["success"]
                wait_for("a run that is new", new_run)
                begun = now()
                assert len(runs(begun)) == 1, "one run at a time"
                seen += runs(begun)
                wait_for("turns that ended", lambda: of(now(), "loadtest_turns_ended_total", outcome="ok") > 2)
                assert page.post("/stop").json()["success"]
                wait_for("its end", lambda: of(now(), "loadtest_run_state", state="ended") == 1)
                ended = now()
                assert runs(ended) == {seen[-1]}
                assert of(ended, "loadtest_turns_ended_total") == of(ended, "loadtest_turns_planned_total") > 2
            assert sorted(path.name for path in runs_dir.iterdir()) == sorted(seen)
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=END_S)
            print(err[-20000:])
