"""The whole observer against a real server on loopback: it sees, waits, goes on through faults, and ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest import observed, runfolder
from loadtest.observe.__main__ import main
from loadtest.observe.watch import Watch

Make = Callable[..., Path]
Write = Callable[..., None]
NODES = ["0xAaAa", "0xBbBb"]
STAGE = {"all_timestamps": [1000, 2000], "success_timestamps": [2000]}


@contextmanager
def observing(run: Path, host: str | None = None, environ: dict[str, str] | None = None) -> Iterator[Watch]:
    """A Watch in a thread; at the end of the block the run is over, and the Watch must end by itself."""
    watch = Watch(run, host, environ or {})
    errors: list[BaseException] = []

    def work() -> None:
        try:
            watch.watch()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield watch
        runfolder.update_manifest(run, state="recorded")
        thread.join(20)
        ended = not thread.is_alive()
    finally:
        watch.stop()
        thread.join(10)
    assert errors == []
    assert ended


def healthy(network: Any) -> None:
    network.routes["/leaderboard"] = lambda n: (
        200,
        [{"miner": m, "precommitPoint": 8, "precommitCounter": 10} for m in NODES],
    )
    network.routes["/api/v1/status"] = lambda n: (200, {"connected_miners": 2, "uptime": n})
    session = {"id": "12", "active": True, "miners": NODES, "balance": str(10**24), "miners_count": 2}
    network.routes["/api/v1/sessions"] = lambda n: (200, {"count": 1, "sessions": [session]})
    entries = {node: {"operator": "op 1", "hardware": "gpu", "level": 3, "address": node} for node in NODES}
    network.routes["/api/v1/miners"] = lambda n: (200, {"nodes": entries, "stats": {"total_count": 2}})
    for node in NODES:
        network.routes[f"/reputation/{node}"] = lambda n: (200, {"precommit": STAGE, "commit": STAGE})
        network.routes[f"/session-reputation/{node}"] = lambda n: (200, {"precommit": STAGE, "commit": STAGE})


def rows(run: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = runfolder.read_table(run, table).to_pylist()
    return found


def task(texts: list[str], miners: list[str], **more: Any) -> dict[str, Any]:
    return {"assigned_miners": NODES, "results": {"data": texts, "miners": miners}, "status": 3, **more}


def test_a_run_from_beginning_to_end(network: Any, make_run: Make, store_requests: Write) -> None:
    healthy(network)
    network.routes["/api/v1/tasks/12/1"] = lambda n: (200, task(["hi", "ho"][:n], NODES))  # half first, then whole
    network.routes["/api/v1/tasks/12/2"] = lambda n: (
        (500, {"error": "down"}) if n == 1 else (200, task(["a", "b"], NODES))
    )
    network.routes["/api/v1/tasks/12/3"] = lambda n: (
        (200, ["wrong", "shape"]) if n == 1 else (200, task([], [], status=4))
    )
    run = make_run(network.url)
    with observing(run):
        network.wait_for("/session-reputation/0xBbBb", 1)
        store_requests(run, 1, {"task_id": "1"}, {"task_id": "2"}, {"task_id": "3"}, {"task_id": None, "session": None})
        for number in (1, 2, 3):
            network.wait_for(f"/api/v1/tasks/12/{number}", 1)
        polls_before_end = network.seen["/leaderboard"]
    tasks = {row["task_id"]: row for row in rows(run, "tasks")}
    assert sorted(tasks) == ["1", "2", "3"]
    assert all(row["complete"] and row["error"] == "" for row in tasks.values())
    assert tasks["1"]["miners"] == ["0xaaaa", "0xbbbb"]
    assert tasks["1"]["result_sha256"] == [hashlib.sha256(text).hexdigest() for text in (b"hi", b"ho")]
    assert (tasks["3"]["miners"], tasks["3"]["client_reference"]) == ([], "r-1-2")
    snapshots = rows(run, "snapshots")
    assert {(row["source"], row["node"]) for row in snapshots} == {
        (source, node.lower()) for source in ("leaderboard", "reputation", "session-reputation") for node in NODES
    }
    assert {
        (row["precommit_all"], row["precommit_success"]) for row in snapshots if row["source"] != "leaderboard"
    } == {(2, 1)}
    routers = rows(run, "router")
    assert {(row["target"], row["connected_miners"], row["error"]) for row in routers} == {("router", 2, "")}
    sessions = {(r["target"], r["session"], *r["miners"], r["balance"]) for r in rows(run, "sessions")}
    assert sessions == {("router", "12", "0xaaaa", "0xbbbb", str(10**24))}
    described = [(r["node"], r["source"], r["operator"], r["hardware"], r["level"]) for r in rows(run, "descriptions")]
    assert sorted(described) == [(node, "miners", "op 1", "gpu", 3) for node in ("0xaaaa", "0xbbbb")]  # told once
    assert network.seen["/api/v1/miners"] == 2  # at its own pace, and once more after the run
    assert network.seen["/leaderboard"] > polls_before_end  # the word after the run
    live = observed.read(run)
    assert live is not None
    assert (live.state, sorted(node.node for node in live.nodes)) == ("done", ["0xaaaa", "0xbbbb"])
    assert (live.nodes[0].precommit_rate, live.nodes[0].session_commit_rate) == (0.8, 0.5)
    assert (live.lookups["rows"], live.lookups["complete"], live.lookups["parse_errors"]) == (4, 3, 1)
    assert [(router.targets, router.connected_miners, router.error) for router in live.routers] == [(["router"], 2, "")]


def test_a_hanging_leaderboard_delays_neither_look_ups_nor_status(
    network: Any, make_run: Make, store_requests: Write
) -> None:
    healthy(network)
    released = threading.Event()

    def hang(n: int) -> tuple[int, Any]:
        released.wait(30)
        return 200, []

    network.routes["/leaderboard"] = hang
    network.routes["/api/v1/tasks/12/9"] = lambda n: (200, task(["x", "y"], NODES))
    run = make_run(network.url)
    store_requests(run, 1, {"task_id": "9"})
    with observing(run):
        network.wait_for("/leaderboard", 1)
        network.wait_for("/api/v1/tasks/12/9", 1)
        network.wait_for("/api/v1/status", 4)
        assert network.seen["/leaderboard"] == 1  # never a second question to a source that has not answered
        released.set()
        network.wait_for("/leaderboard", 2)
    assert [row["complete"] for row in rows(run, "tasks")] == [True]


def test_tasks_that_never_complete_end_at_the_deadline(network: Any, make_run: Make, store_requests: Write) -> None:
    healthy(network)
    network.routes["/api/v1/tasks/12/1"] = lambda n: (502, "<html>502 Bad Gateway</html>")
    network.routes["/api/v1/tasks/12/2"] = lambda n: (200, task(["only one"], NODES[:1]))
    run = make_run(network.url, lookup_deadline_s=0.3)
    store_requests(run, 1, {"task_id": "1"}, {"task_id": "2"}, {"task_id": "3", "clock_offset_ns": 3600 * 10**9})
    with observing(run):
        network.wait_for("/api/v1/tasks/12/1", 1)
        network.wait_for("/api/v1/tasks/12/2", 1)
    tasks = {row["task_id"]: row for row in rows(run, "tasks")}
    assert {key: row["complete"] for key, row in tasks.items()} == {"1": False, "2": False, "3": False}
    assert "<n> <n> Bad Gateway" in tasks["1"]["error"]
    assert (tasks["2"]["error"], tasks["2"]["miners"]) == ("", ["0xaaaa"])
    assert tasks["3"]["error"] == "not complete before the look-up deadline"


def test_an_unreachable_network_is_recorded_and_survived(make_run: Make, store_requests: Write) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses, and nobody else can get the port
        run = make_run(f"http://127.0.0.1:{taken.getsockname()[1]}", lookup_deadline_s=0.1)
        store_requests(run, 1, {"task_id": "1"})
        with observing(run):
            wait_for_error(run)
    errors = {(row["target"], row["source"]) for row in rows(run, "router") if row["error"].startswith("connect: ")}
    assert errors == {("leaderboard", "leaderboard"), *(("router", name) for name in ("status", "sessions", "miners"))}
    assert [row["complete"] for row in rows(run, "tasks")] == [False]
    assert rows(run, "snapshots") == []


def wait_for_error(run: Path) -> None:
    """Until live.json tells of a failing source; it is written every 2 s."""
    from loadtest.clock import Deadline

    deadline, written = Deadline(10), threading.Event()
    while not deadline.over():
        if (run / "live.json").exists():
            sources = json.loads((run / "live.json").read_text())["sources"]
            if sum(source["failing"] for source in sources) >= 2:
                return
        written.wait(0.05)
    raise AssertionError("no error in live.json")


def test_each_source_has_a_period_of_its_own(network: Any, make_run: Make) -> None:
    healthy(network)
    run = make_run(network.url, poll_s=0.1, sessions_s=3600, reputation_s=3600)
    with observing(run):
        network.wait_for("/session-reputation/0xBbBb", 1)
        network.wait_for("/api/v1/sessions", 1)
        for path in ("/api/v1/status", "/leaderboard"):
            network.wait_for(path, network.seen[path] + 4)
        assert {network.seen[path] for path in network.seen if "reputation" in path or "sessions" in path} == {1}
    assert network.seen["/api/v1/sessions"] == 2  # and once more for the word after the run


def test_bad_rows_and_shapes_are_counted_not_fatal(network: Any, make_run: Make) -> None:
    healthy(network)
    network.routes["/leaderboard"] = lambda n: (200, [{"miner": NODES[0]}, "nonsense", {"miner": "../etc"}])
    network.routes["/reputation/0xAaAa"] = lambda n: (200, {"precommit": {"all_timestamps": "soon"}})
    network.routes["/api/v1/status"] = lambda n: (200, ["fine"])
    run = make_run(network.url)
    with observing(run):
        network.wait_for("/reputation/0xAaAa", 1)
        network.wait_for("/api/v1/status", 2)
    errors = {row["source"]: row["error"] for row in rows(run, "router")}
    assert errors["leaderboard"].startswith("1 of 3 rows: leaderboard row 1: expected an object")
    assert "precommit.all_timestamps as a list" in errors["reputation"]
    assert "expected an object, got a list of 1" in errors["status"]
    assert {row["node"] for row in rows(run, "snapshots")} == {"0xaaaa", "../etc"}
    assert not [path for path in network.seen if "etc" in path]
    sources = {row["source"]: row for row in json.loads((run / "live.json").read_text())["sources"]}
    assert sources["leaderboard"]["errors"] == 0  # a bad row is told, but does not make its source back off
    assert sources["status router"]["errors"] >= 2


def test_a_damaged_part_is_left_and_the_others_are_read(
    network: Any, make_run: Make, store_requests: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    network.routes["/api/v1/tasks/12/1"] = lambda n: (200, task(["x", "y"], NODES))
    run = make_run(network.url)
    runfolder.write_text(run / "requests" / "00000.parquet", "not parquet")
    store_requests(run, 1, {"task_id": "1"})
    with observing(run):
        network.wait_for("/api/v1/tasks/12/1", 1)
    assert [row["task_id"] for row in rows(run, "tasks")] == ["1"]
    assert "00000.parquet: not a readable Parquet file" in capsys.readouterr().err


def test_a_key_goes_to_its_target_only_and_nowhere_else(network: Any, stats_backend: Any, make_run: Make) -> None:
    healthy(network)
    run = make_run(network.url)
    with observing(run, host=stats_backend.url, environ={"TEST_ROUTER_KEY": "s3cret-key-of-ours"}):
        network.wait_for("/api/v1/status", 1)
        stats_backend.wait_for("/leaderboard", 1)
    assert network.keys == {"Bearer s3cret-key-of-ours"}
    assert stats_backend.keys == {None}
    for path in run.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()


def test_sigterm_writes_what_there_is_and_exits_0(network: Any, make_run: Make, store_requests: Write) -> None:
    healthy(network)
    run = make_run(network.url)
    store_requests(run, 1, {"task_id": "1", "clock_offset_ns": 3600 * 10**9})
    command = [sys.executable, "-m", "loadtest.observe", "--run", str(run), "--host", network.url]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    ) as process:
        try:
            network.wait_for("/leaderboard", 3, seconds=20)  # the first answers have been taken
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert {row["source"] for row in rows(run, "snapshots")} >= {"leaderboard"}
    assert [(row["task_id"], row["error"]) for row in rows(run, "tasks")] == [("1", "observation was stopped")]
    assert runfolder.read_manifest(run)["state"] == "running"


def test_observing_a_finished_run_looks_up_its_tasks(network: Any, make_run: Make, store_requests: Write) -> None:
    healthy(network)
    network.routes["/api/v1/tasks/12/1"] = lambda n: (200, task(["x", "y"], NODES))
    run = make_run(network.url, state="recorded")
    store_requests(run, 1, {"task_id": "1"})
    assert main(["--run", str(run)]) == 0
    assert [row["complete"] for row in rows(run, "tasks")] == [True]


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == f"observe: {tmp_path}: not a run folder (no manifest.json); give the folder of one run\n"
    )
    runfolder.write_manifest(tmp_path, {"schema_version": 1, "state": "running"})
    assert main(["--run", str(tmp_path)]) == 1
    assert "not what a run writes (KeyError: 'observe')" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main(["--run", str(tmp_path), "--host", "127.0.0.1:5010"])
    assert exit_.value.code == 2
