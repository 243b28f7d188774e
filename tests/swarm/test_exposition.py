"""Who waits for a last scrape: only a run that somebody scrapes and whose end was not seen yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from watched_run import MadeWorker, watched

from loadtest.jobs.swarm import free_port
from loadtest.swarm.exposition import Exposition
from loadtest.swarm.preflight import SetupError
from loadtest.swarm.prometheus import Watched
from loadtest.swarm.reports import Reports

ASKED: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}


def scrape(exposition: Exposition) -> bytes:
    status: list[str] = []
    body = b"".join(exposition.answer(dict(ASKED), lambda code, _: status.append(code)))
    assert status == ["200 OK"]
    return body


def waits(exposition: Exposition, *, for_s: float = 0.2) -> bool:
    """Whether it is still waiting after a while."""
    waiting = gevent.spawn(exposition.await_last_scrape)
    waiting.join(timeout=for_s)
    still = not waiting.ready()
    waiting.kill()
    return still


@pytest.fixture
def run(tmp_path: Path) -> Watched:
    reports = Reports("r-1", [0])
    reports.take(MadeWorker(0).report())
    return watched(reports, tmp_path)


def test_without_a_run_or_a_second_scrape_nobody_waits(run: Watched) -> None:
    nothing, once = Exposition(lambda: None), Exposition(lambda: run)
    assert not waits(nothing)
    for _ in range(3):
        assert b"loadtest_build_info" in scrape(nothing) and b"loadtest_run_info" not in scrape(nothing)
    assert not waits(nothing)
    assert not waits(once)
    scrape(once)
    assert not waits(once), "there is no interval to go by"


def test_the_end_of_a_run_waits_until_it_was_scraped(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    instant_ns = [0]
    monkeypatch.setattr("loadtest.swarm.exposition.mono_ns", lambda: instant_ns[0])
    shown = [run]
    exposition = Exposition(lambda: shown[0])
    for at_s in (10, 15):
        instant_ns[0] = at_s * 10**9
        scrape(exposition)
    instant_ns[0] = 16 * 10**9
    shown[0] = run._replace(over=True)
    assert waits(exposition), "a scrape is due in four seconds"
    instant_ns[0] = 60 * 10**9
    assert not waits(exposition), "whoever scraped has gone"
    instant_ns[0] = 16 * 10**9
    assert b'state="ended"' in scrape(exposition)
    assert not waits(exposition)


def test_the_port_serves_the_metrics_and_nothing_else(run: Watched) -> None:
    port = free_port()
    Exposition(lambda: run).listen("127.0.0.1", port)

    def get(path: str) -> tuple[int, bytes]:
        client = gevent.socket.create_connection(("127.0.0.1", port), timeout=10)
        with client:
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        return int(answer.split()[1]), answer

    code, answer = get("/metrics")
    assert code == 200 and b'loadtest_turns_planned_total{run="r-1"} 0.0' in answer
    assert [get(path)[0] for path in ("/", "/swarm", "/metrics/x")] == [404, 404, 404]
    for host, number in (("127.0.0.1", port), ("127.0.0.1", 70_000), ("127.0.0.1", -1), ("192.0.2.1", free_port())):
        with pytest.raises(SetupError, match=f"--metrics-port {number} at {host}: .*choose a free port"):
            Exposition(lambda: run).listen(host, number)
