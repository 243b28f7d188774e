"""The truth log: every request once, instants in order, sums that agree with what a client got."""

from __future__ import annotations

import io
import json
import signal
import struct
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from loadtest.clock import Deadline, mono_ns
from loadtest.records import TruthRecord
from loadtest.runfolder import read_truth
from loadtest.simulator import truth
from loadtest.simulator.truth import TruthError, check_path, write_parts


def row(number: int) -> TruthRecord:
    return TruthRecord(
        client_reference=f"r-{number}",
        route="cortensor",
        session="11",
        task_id=str(number),
        received_ns=number,
        chunk_ns=(1, 2, 3),
    )


def frames(count: int) -> bytes:
    encoded = [msgspec.msgpack.encode(row(i)) for i in range(count)]
    return b"".join(struct.pack("<I", len(data)) + data for data in encoded)


def test_rows_become_parts_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "ROWS_PER_PART", 4)
    assert write_parts(io.BytesIO(frames(10)), tmp_path / "t") == 10
    assert len(list((tmp_path / "t").glob("part-*.parquet"))) == 3
    rows = read_truth(tmp_path / "t").to_pylist()
    assert [one["client_reference"] for one in rows] == [f"r-{i}" for i in range(10)]
    assert rows[0]["chunk_ns"] == [1, 2, 3]


def test_a_torn_last_frame_is_left_out(tmp_path: Path) -> None:
    for cut in (1, 3, 5, 30):
        folder = tmp_path / str(cut)
        assert write_parts(io.BytesIO(frames(3)[:-cut]), folder) == 2
        assert read_truth(folder).num_rows == 2


def test_no_requests_is_an_empty_log_and_not_a_missing_one(tmp_path: Path) -> None:
    assert write_parts(io.BytesIO(b""), tmp_path / "t") == 0
    assert read_truth(tmp_path / "t").num_rows == 0


def test_a_log_is_never_mixed_with_another(tmp_path: Path) -> None:
    check_path(tmp_path / "new")
    check_path(tmp_path)
    (tmp_path / "file").write_text("x")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(TruthError, match="exists already"):
            check_path(taken)


def ask(http: httpx.Client, number: int) -> tuple[str, int, str]:
    """One request of either kind; returns its reference, the content chunks and the text."""
    session, stream = ("11", "12", "21")[number % 3], number % 2 == 0
    reference = f"run-{number}"
    body: dict[str, Any] = {"prompt": "hello", "max_tokens": 3 + number, "stream": stream}
    headers = {}
    if number % 4 < 2:
        body["client_reference"] = reference
    else:
        headers["X-Request-ID"] = reference
    answer = http.post(f"/api/v1/completions/{session}", json=body, headers=headers)
    if not stream:
        return reference, 1, answer.json()["choices"][0]["text"]
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    texts = [json.loads(event)["choices"][0]["text"] for event in events if event != "[DONE]"]
    return reference, sum(map(bool, texts)), "".join(texts)


def test_the_log_agrees_with_what_clients_got(start: Any) -> None:
    simulator = start("--seed", "5", "--speed", "20")
    with httpx.Client(base_url=simulator.url, timeout=20) as http:
        got = [ask(http, number) for number in range(24)]
        assert http.post("/api/v1/completions/77", json={"prompt": "x", "client_reference": "bad"}).status_code == 404
        nodes = set(http.get("/api/v1/miners").json()["nodes"])
    assert simulator.stop() == 0
    rows = {one["client_reference"]: one for one in simulator.truth_rows()}
    assert len(rows) == len(simulator.truth_rows()) == 25
    refused = rows.pop("bad")
    assert (refused["http_status"], refused["task_id"], refused["tokens"]) == (404, None, 0)
    assert sum(len(one["chunk_ns"]) for one in rows.values()) == sum(content for _, content, _ in got)
    for reference, content, _ in got:
        one = rows[reference]
        assert len(one["chunk_ns"]) == content
        assert one["received_ns"] <= one["headers_ns"] <= one["first_written_ns"] <= one["last_written_ns"]
        assert one["last_written_ns"] <= one["done_ns"]
        assert one["chunk_ns"] == sorted(one["chunk_ns"])
        assert one["received_ns"] + one["chunk_ns"][0] == one["first_written_ns"]
        assert one["received_ns"] + one["chunk_ns"][-1] == one["last_written_ns"]
        assert one["returned_node"] in one["assigned"]
        assert set(one["assigned"]) <= nodes
        assert one["tokens"] >= content
        assert one["chosen_because"].endswith(", first_token" if len(one["assigned"]) > 1 else ", only_node")
        assert one["charge"] >= 0


def test_stamps_are_of_the_instants_the_bytes_moved(start: Any) -> None:
    """One machine, one monotonic clock: causes come first. The median also shows that no write waits for an ACK."""
    simulator = start("--seed", "5", "--speed", "20")
    sent_ns, seen_ns = [], []
    body = b'{"prompt":"x","stream":true,"max_tokens":2}'
    with simulator.connect() as client:
        for _ in range(15):
            sent_ns.append(mono_ns())
            client.sendall(b"POST /api/v1/completions/11 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            data = b""
            while b"data: " not in data:
                data += client.recv(65536)
            seen_ns.append(mono_ns())
            while not data.endswith(b"0\r\n\r\n"):
                data += client.recv(65536)
    assert simulator.stop() == 0
    rows = simulator.truth_rows()
    for one, sent, seen in zip(rows, sent_ns, seen_ns, strict=True):
        assert sent < one["received_ns"] < one["first_written_ns"] < seen
    late_ms = sorted((seen - one["first_written_ns"]) / 1e6 for one, seen in zip(rows, seen_ns, strict=True))
    assert late_ms[7] < 10  # Nagle's algorithm and a delayed ACK make it 40


def test_a_client_that_leaves_has_a_row_without_an_end(start: Any) -> None:
    simulator = start("--seed", "5", "--speed", "0.2")
    with simulator.connect() as client:
        body = b'{"prompt":"x","stream":true,"client_reference":"gone"}'
        client.sendall(b"POST /api/v1/completions/11 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert simulator.stop(signal.SIGINT) == 0
    (one,) = simulator.truth_rows()
    assert one["client_reference"] == "gone"
    assert one["done_ns"] is None
    assert one["headers_ns"] >= one["received_ns"]


def test_a_killed_simulator_leaves_the_rows_of_finished_requests(start: Any) -> None:
    simulator = start("--seed", "5", "--speed", "20")
    with httpx.Client(base_url=simulator.url, timeout=20) as http:
        for number in range(5):
            ask(http, number)
        http.get("/api/v1/ping")
    assert simulator.stop(signal.SIGKILL) == -signal.SIGKILL
    deadline = Deadline(15)  # the writer ends on its own when the pipe closes
    while not list(simulator.truth.glob("part-*.parquet")):
        assert not deadline.over()
    assert len(simulator.truth_rows()) == 5


def test_the_same_seed_and_the_same_requests_are_the_same_decisions(start: Any) -> None:
    """Over HTTP, where instants differ by some milliseconds: who serves, how much, at what charge.

    In these seconds no cool-down ends and no reserve is drawn anew: such instants of the network are its own, and a
    request that comes a millisecond to the other side of one is another request (`test_simulator_network.py`).
    """
    decisions = []
    for seed in ("7", "7", "8"):
        running = start("--seed", seed, "--scenario", "small")
        with httpx.Client(base_url=running.url, trust_env=False, timeout=30) as client:
            for number in range(16):
                body = {"prompt": f"question {number}", "max_tokens": 3, "client_reference": f"r-{number}"}
                assert client.post(f"/api/v1/completions/{(11, 12)[number % 2]}", json=body).status_code == 200
        assert running.stop() == 0
        names = ("session", "task_id", "tokens", "assigned", "chosen_because", "charge", "faults")
        rows = sorted(running.truth_rows(), key=lambda one: int(one["client_reference"][2:]))
        decisions.append([[one[name] for name in names] for one in rows])
    assert len(decisions[0]) == 16
    assert decisions[0] == decisions[1] != decisions[2]
