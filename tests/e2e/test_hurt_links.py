"""What a swarm makes of a cut, lossy or slow link, of a full disk, and of a worker of another version."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Ended, Network, assert_complete
from links import MASTER_ADDRESS, Cable, SlowRelay, cable, collector_port, small_disk
from swarms import Swarm, assert_exact, reasons, sleep_until, swarm, worker_number, write_profile

from loadtest.clock import Deadline

pytestmark = pytest.mark.long
CUT_S = 5
DELAY_S = 0.1
LOSSES = {"lost", "workers", "account", "ledger", "recorder"}


def start_on_cable(one: Swarm, link: Cable) -> None:
    """The master and one worker at the near end, another worker at the far end."""
    one.start_master(2, "--master-bind-host", MASTER_ADDRESS, "--insecure", inside=link.inside_near())
    one.start_worker(master=MASTER_ADDRESS, inside=link.inside_near())
    one.start_worker(master=MASTER_ADDRESS, inside=link.inside_far())


def assert_nothing_lost(result: Ended, workers: int) -> None:
    assert_complete(result, workers)
    outcomes = assert_exact(result)
    # A machine that others use too may be late, and says so; a row is never missing.
    assert set(outcomes) <= {"ok", "dropped", "not_reached"} and outcomes["ok"] > 0
    assert not LOSSES & set(reasons(result))
    assert result.code == (4 if reasons(result) else 0)


def test_a_link_that_is_down_for_five_seconds_loses_nothing(tmp_path: Path) -> None:
    with cable(tmp_path) as link, swarm(tmp_path, link.url, write_profile(tmp_path)) as one:
        start_on_cable(one, link)
        one.wait_for_rows()
        link.pull_out()
        sleep_until(Deadline(CUT_S), "the cut link", one.master)
        link.plug_in()
        result = one.end()
    assert_nothing_lost(result, workers=2)
    silent = [worker for worker in result.manifest()["workers"] if worker["silences_s"]]
    assert len(silent) == 1, "the manifest tells whose link was cut, and when"
    ((began_s, ended_s),) = silent[0]["silences_s"]
    assert CUT_S - 1.5 < ended_s - began_s < 15
    # It went on sending by its schedule all the while.
    sent = [row for row in result.rows().to_pylist() if row["worker"] == silent[0]["worker"] and row["sent_ns"]]
    t0_ns = result.manifest()["t0_ns"]
    assert any(began_s + 1 < (row["sent_ns"] - t0_ns) / 1e9 < began_s + CUT_S - 1 for row in sent)


def test_one_percent_of_lost_packets_loses_no_row(tmp_path: Path) -> None:
    with cable(tmp_path) as link, swarm(tmp_path, link.url, write_profile(tmp_path)) as one:
        link.lose_every(100)
        start_on_cable(one, link)
        result = one.end()
        lost = link.packets_lost()
    assert min(lost) > 0
    assert_nothing_lost(result, workers=2)


def test_a_link_of_100_ms_loses_nothing_and_widens_the_bound(network: Network, tmp_path: Path) -> None:
    with swarm(tmp_path, network.url, write_profile(tmp_path)) as one:
        relay = SlowRelay("127.0.0.2", "127.0.0.1", DELAY_S)
        try:
            one.start_master(2)
            relay.open(one.port)
            one.start_worker()
            one.start_worker(master="127.0.0.2")
            relay.open(collector_port(one.master))
            one.wait_for_rows()
            slow = worker_number(one, one.workers[1])
            result = one.end()
        finally:
            relay.close()
    assert relay.bytes_passed > 0
    assert_nothing_lost(result, workers=2)
    # Both run on one machine, so the true offset is 0: the bound covers it, and is half a round trip at the least.
    workers = result.manifest()["workers"]
    assert all(abs(worker["clock_offset_ns"]) <= worker["clock_bound_ns"] for worker in workers)
    assert workers[slow]["clock_bound_ns"] >= DELAY_S * 1e9 > workers[1 - slow]["clock_bound_ns"]
    assert reasons(result)["clock"] >= DELAY_S * 1e3 and result.code == 4


def test_a_full_disk_is_counted_row_by_row(network: Network, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk, swarm(tmp_path, network.url, write_profile(tmp_path)) as one:
        one.start_master(2)
        one.start_worker()
        one.start_worker("--runs-dir", str(disk))
        one.wait_for_rows()
        full = worker_number(one, one.workers[1])
        result = one.end()
    assert result.code == 4
    outcomes = assert_exact(result)
    workers, ledger = result.manifest()["workers"], result.manifest()["ledger"]
    assert not any(worker["lost"] for worker in workers) and workers[1 - full]["rows_overflowed"] == 0
    refused = workers[full]["rows_refused"]
    assert refused > 0 and reasons(result)["recorder"] == workers[full]["rows_overflowed"] >= refused
    # Each row the disk refused is there all the same, as what it is to us: lost, or not reached behind a lost one.
    made_up = [row for row in result.rows().to_pylist() if row["seq"] < 0 or row["outcome"] == "lost"]
    assert refused == len(made_up) == ledger["open_rows"] + ledger["filled_rows"]
    assert {row["worker"] for row in made_up} == {full}
    assert reasons(result)["lost"] == outcomes["lost"] > 0
    assert "No space left on device" in one.log("worker1") or "disk full" in one.log("worker1")


def test_a_worker_of_another_version_keeps_the_run_from_starting(network: Network, tmp_path: Path) -> None:
    other = tmp_path / "other" / "faker-1.2.3.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: faker\nVersion: 1.2.3\n")
    with swarm(tmp_path, network.url, write_profile(tmp_path)) as one:
        one.start_master(2)
        one.start_worker()
        one.start_worker(environment={"PYTHONPATH": str(other.parent)})
        result = one.end()
    assert result.code == 1
    (line,) = [line for line in result.err.splitlines() if "cannot take part" in line]
    assert "faker" in line and "1.2.3 on the worker" in line and "install the same" in line
    assert "Traceback" not in result.err
    assert result.manifest()["t0_ns"] is None and not list(result.run.glob("requests/*")), "nothing was sent"
