"""What a swarm makes of a worker that is killed or stopped, of a full disk and of a master that is told to end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import Network, assert_complete
from swarms import (
    assert_exact,
    reasons,
    sent_references,
    sleep_until,
    swarm,
    worker_number,
    write_profile,
)

from loadtest.clock import Deadline

pytestmark = pytest.mark.long
HUNG_S = 10


def test_a_killed_worker_loses_only_what_it_had_in_flight(network: Network, tmp_path: Path) -> None:
    with swarm(tmp_path, network.url, write_profile(tmp_path)) as one:
        one.start_master(3)
        workers = [one.start_worker() for _ in range(3)]
        one.wait_for_rows()
        killed = worker_number(one, workers[1])
        os.kill(workers[1].pid, signal.SIGKILL)
        result = one.end()
    assert result.code == 4
    manifest = result.manifest()
    assert [worker["worker"] for worker in manifest["workers"] if worker["lost"]] == [killed]
    outcomes = assert_exact(result)
    assert set(outcomes) == {"ok", "lost", "not_reached"}
    assert reasons(result)["lost"] == outcomes["lost"] and reasons(result)["workers"] == 1

    (hole,) = [text for text in result.summary()["limits"] if "was lost" in text]
    assert hole.startswith(f"Worker {killed} of 3 was lost")
    assert hole in (result.run / "summary.md").read_text() and hole in (result.run / "report.html").read_text()

    # The server saw what the rows say was sent, and nothing else: what was in flight has one lost row each.
    network.stop()
    seen = sent_references(network.truth)
    rows = result.rows().to_pylist()
    ended = {row["client_reference"] for row in rows if row["outcome"] == "ok"}
    in_flight = {row["client_reference"] for row in rows if row["outcome"] == "lost" and row["seq"] >= 0}
    assert set(seen.values()) == {1}
    assert ended <= set(seen) <= ended | in_flight
    # It may have been killed between the word that a turn starts and the first byte of it.
    assert 0 < len(in_flight) == manifest["ledger"]["open_rows"] <= len(set(seen) - ended) + 1
    # Whatever it had still to send is lost or not reached, arrival by arrival, and nobody else's.
    unsent = [row for row in rows if row["seq"] < 0]
    assert {row["worker"] for row in unsent} == {killed}
    assert len(unsent) == manifest["ledger"]["filled_rows"] > 0
    assert all(row["outcome"] != "lost" or row["worker"] == killed for row in rows)


def test_a_profile_may_allow_the_loss_of_a_worker(network: Network, tmp_path: Path) -> None:
    profile = write_profile(tmp_path)
    profile.write_text(profile.read_text().replace("in_flight_max", "workers_lost_max = 1\nin_flight_max"))
    with swarm(tmp_path, network.url, profile) as one:
        one.start_master(2)
        workers = [one.start_worker() for _ in range(2)]
        one.wait_for_rows()
        os.kill(workers[1].pid, signal.SIGKILL)
        result = one.end()
    outcomes = assert_exact(result)
    assert outcomes["lost"] > 0 and not {"lost", "workers", "ledger", "account"} & set(reasons(result))
    assert result.code == (4 if reasons(result) else 0)
    assert any("was lost" in text for text in result.summary()["limits"]), "the hole is shown all the same"


def test_a_worker_that_hangs_for_ten_seconds_loses_nothing(network: Network, tmp_path: Path) -> None:
    with swarm(tmp_path, network.url, write_profile(tmp_path, seconds=18)) as one:
        one.start_master(3)
        workers = [one.start_worker() for _ in range(3)]
        one.wait_for_rows()
        hung = worker_number(one, workers[1])
        os.kill(workers[1].pid, signal.SIGSTOP)
        sleep_until(Deadline(HUNG_S), "the hung worker", one.master)
        os.kill(workers[1].pid, signal.SIGCONT)
        result = one.end()
    assert result.code == 4, "a worker that stood still for ten seconds did not keep the schedule"
    assert_complete(result, workers=3)
    outcomes = assert_exact(result)
    assert set(outcomes) == {"ok", "dropped", "not_reached"}
    assert "dropped" in reasons(result) and not {"lost", "workers", "account", "ledger"} & set(reasons(result))
    # Only its own arrivals were too late to be sent, and they were not sent in a burst.
    late = [row for row in result.rows().to_pylist() if row["outcome"] == "dropped"]
    assert {(row["worker"], row["error_kind"]) for row in late} == {(hung, "late")}
    (silence,) = result.manifest()["workers"][hung]["silences_s"]
    assert silence[1] - silence[0] > HUNG_S - 1.5


def test_a_master_that_is_told_to_end_drains_and_reports(network: Network, tmp_path: Path) -> None:
    with swarm(tmp_path, network.url, write_profile(tmp_path, seconds=60)) as one:
        one.start_master(2)
        workers = [one.start_worker() for _ in range(2)]
        one.wait_for_rows()
        one.master.send_signal(signal.SIGTERM)
        result = one.end()
    assert result.code in (0, 4)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert_complete(result, workers=2)
    outcomes = assert_exact(result)
    assert set(outcomes) <= {"ok", "not_reached"} and outcomes["ok"] > 0, "what was in flight has ended as it would"
    stopped_s = result.manifest()["stopped_early_s"]
    assert 0 < stopped_s < 60
