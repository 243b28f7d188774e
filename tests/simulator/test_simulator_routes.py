"""Every GET route and every refusal over real HTTP, field by field."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from loadtest.clock import Deadline

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
KEY = "a-key-for-tests"


@pytest.fixture
def http(simulator: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulator.url, timeout=20) as client:
        yield client


def kinds(shape: dict[str, Any]) -> dict[str, str]:
    return {name: type(value).__name__ for name, value in shape.items()}


def is_lower_address(text: str) -> bool:
    return ADDRESS.fullmatch(text) is not None and text == text.lower()


def complete(http: httpx.Client, session: str, **fields: Any) -> dict[str, Any]:
    answer = http.post(f"/api/v1/completions/{session}", json={"prompt": "hello", "max_tokens": 20, **fields})
    assert answer.status_code == 200
    shape: dict[str, Any] = answer.json()
    return shape


def when(http: httpx.Client, path: str, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask until the shape is ready; the deadline is generous, the usual wait is one or two round trips."""
    deadline = Deadline(15)
    while not deadline.over():
        shape: dict[str, Any] = http.get(path).json()
        if ready(shape):
            return shape
    pytest.fail(f"{path} did not get ready: {shape}")


def test_info(http: httpx.Client) -> None:
    info = http.get("/api/v1/info").json()
    counts = info.pop("node_stats")
    assert kinds(info) == {
        "name": "str",
        "version": "str",
        "address": "str",
        "ip_address": "str",
        "active_sessions": "int",
        "total_sessions": "int",
    }
    assert counts == {"dedicated_count": 0, "ephemeral_count": 24, "total_count": 24}
    assert info["active_sessions"] == info["total_sessions"] == 3
    assert ADDRESS.fullmatch(info["address"])


def test_status(http: httpx.Client) -> None:
    status = http.get("/api/v1/status").json()
    assert set(status) == {"uptime", "cpu_usage", "memory_usage", "connected_miners", "active_sessions"}
    assert (status["connected_miners"], status["active_sessions"]) == (24, 3)
    assert 0 <= status["cpu_usage"] <= 200
    assert 0 < status["memory_usage"] < 100


def test_ping(http: httpx.Client) -> None:
    assert http.get("/api/v1/ping").status_code == 200


def test_miners(http: httpx.Client) -> None:
    miners = http.get("/api/v1/miners").json()
    assert miners["stats"] == {"dedicated_count": 0, "ephemeral_count": 24, "total_count": 24}
    assert len(miners["nodes"]) == 24
    for key, node in miners["nodes"].items():
        assert is_lower_address(key)
        assert node["address"] == key
        assert node["pool"] in ("pooled", "reserved", "checking")
        assert kinds(node) == {
            "address": "str",
            "node_id": "str",
            "operator": "str",
            "model": "str",
            "hardware": "str",
            "region": "str",
            "stake": "int",
            "level": "int",
            "pool": "str",
        }


def test_sessions_and_one_session(http: httpx.Client) -> None:
    sessions = http.get("/api/v1/sessions").json()
    assert sessions["count"] == len(sessions["sessions"]) == 3
    assert [one["id"] for one in sessions["sessions"]] == ["11", "12", "21"]
    for redundancy, one in enumerate(sessions["sessions"], start=1):
        assert kinds(one) == {
            "id": "str",
            "active": "bool",
            "owner": "str",
            "miners_count": "int",
            "created_at": "int",
            "updated_at": "int",
            "model_identifier": "str",
            "redundant": "int",
            "miners": "list",
            "balance": "str",
        }
        assert one["miners_count"] == len(one["miners"]) >= one["redundant"] == redundancy
        assert all(is_lower_address(miner) for miner in one["miners"])
        assert set(http.get(f"/api/v1/sessions/{one['id']}").json()) == set(one)


def test_a_completion_has_the_documented_shape(http: httpx.Client) -> None:
    body = {"session_id": 11, "prompt": "x" * 400, "max_tokens": 9, "prompt_type": 1, "temperature": 0.7, "timeout": 60}
    answer = http.post("/api/v1/completions", json=body, headers={"X-Request-ID": "run-7"})
    assert answer.headers["x-request-id"] == "run-7"
    assert answer.headers["content-type"] == "application/json"
    shape = answer.json()
    assert kinds(shape) == {
        "id": "str",
        "object": "str",
        "created": "int",
        "model": "str",
        "task_id": "int",
        "choices": "list",
        "usage": "dict",
    }
    assert (shape["object"], shape["model"]) == ("text_completion", "default")
    (choice,) = shape["choices"]
    text = choice.pop("text")
    assert choice["finish_reason"] in ("stop", "length")
    assert {**choice, "finish_reason": None} == {"index": 0, "logprobs": None, "finish_reason": None}
    tokens = shape["usage"]["completion_tokens"]
    assert shape["usage"] == {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    assert 1 <= tokens <= 9
    assert text == text.lstrip() != ""


def test_no_answer_names_a_node(http: httpx.Client) -> None:
    answer = http.post("/api/v1/completions/21", json={"prompt": "hello", "max_tokens": 5})
    seen = answer.text + str(answer.headers)
    assert not ADDRESS.search(seen)


def test_a_task_is_looked_up_with_the_text_of_the_answer_in_it(http: httpx.Client) -> None:
    answer = complete(http, "12")
    path = f"/api/v1/tasks/12/{answer['task_id']}"
    task = when(http, path, lambda shape: bool(shape["status"] == 4))
    assert set(task) == {"assigned_miners", "created_at", "finished_at", "status", "results"}
    assert task["finished_at"] >= task["created_at"] == answer["created"]
    assert 1 <= len(task["assigned_miners"]) <= 2
    assert all(is_lower_address(miner) for miner in task["assigned_miners"])
    results = task["results"]
    assert set(results) == {"data", "miners"}
    assert len(results["data"]) == len(results["miners"]) <= len(task["assigned_miners"])
    assert set(results["miners"]) <= set(task["assigned_miners"])


def test_a_task_is_incomplete_when_its_answer_returns(start: Any) -> None:
    slow = start("--seed", "3", "--speed", "3")
    with httpx.Client(base_url=slow.url, timeout=20) as http:
        answer = complete(http, "21", max_tokens=3)
        path = f"/api/v1/tasks/21/{answer['task_id']}"
        early = http.get(path).json()
        assert early["status"] < 4
        assert early["finished_at"] is None
        assert early["results"] == {"data": [], "miners": []}
        late = when(http, path, lambda shape: bool(shape["status"] == 4))
        assert answer["choices"][0]["text"] in late["results"]["data"]


def test_the_task_list_is_flat_and_bounded(http: httpx.Client) -> None:
    for _ in range(12):
        newest = complete(http, "11")["task_id"]
    listed = when(http, "/api/v1/tasks/11", lambda shape: bool(shape["tasks"][-1]["status"] == 4))["tasks"]
    assert len(listed) == 8
    assert [task["id"] for task in listed] == list(range(newest - 7, newest + 1))
    for task in listed:
        assert set(task) == {"id", "status", "assigned_miners", "results", "results_hash"}
        assert len(task["results"]) == len(task["results_hash"]) == len(task["assigned_miners"]) == 1
        for text, digest in zip(task["results"], task["results_hash"], strict=True):
            assert digest == ("0x" + hashlib.sha256(text.encode()).hexdigest() if text else "")


def test_leaderboard_and_by_address_tell_the_same(http: httpx.Client) -> None:
    rows = http.get("/leaderboard").json()
    assert len(rows) == len({row["miner"].lower() for row in rows}) == 24
    for row in rows:
        assert ADDRESS.fullmatch(row["miner"])
        assert 0 < row["commitPoint"] <= row["commitCounter"] <= row["precommitPoint"] <= row["precommitCounter"]
        assert row["ping_counter"] > 0
        assert row["last_active"] > 1_600_000_000
    by_address = http.get("/leaderboard-by-address").json()
    assert [entry["miner"] for entry in by_address] == [row["miner"] for row in rows]
    for entry, row in zip(by_address, rows, strict=True):
        assert [set(node) for node in entry["nodes"]] == [set(row)]


def test_addresses_differ_in_case_between_backend_and_router(http: httpx.Client) -> None:
    backend = {row["miner"] for row in http.get("/leaderboard").json()}
    router = set(http.get("/api/v1/miners").json()["nodes"])
    assert not backend & router
    assert {address.lower() for address in backend} == router


@pytest.mark.parametrize("series", ["reputation", "session-reputation"])
def test_reputation_by_any_case_of_the_address(http: httpx.Client, series: str) -> None:
    for row in http.get("/leaderboard").json()[:3]:
        shape = http.get(f"/{series}/{row['miner']}").json()
        assert set(shape) == {"precommit", "commit"}
        for stage in shape.values():
            assert set(stage) == {"all_timestamps", "success_timestamps"}
            assert set(stage["success_timestamps"]) <= set(stage["all_timestamps"])
            assert stage["all_timestamps"]
        assert set(http.get(f"/{series}/{row['miner'].lower()}").json()) == set(shape)
    assert http.get(f"/{series}/0x{'0' * 40}").status_code == 404


def test_network_stats_tasks_number_the_newest_highest(http: httpx.Client) -> None:
    stats = http.get("/network-stats-tasks").json()["stats"]
    assert stats
    for number, entry in stats.items():
        assert entry == {"session_id": int(number)}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/completions/99", 404),
        ("GET", "/api/v1/sessions/99", 404),
        ("GET", "/api/v1/tasks/99", 404),
        ("GET", "/api/v1/tasks/99/1", 404),
        ("GET", "/api/v1/tasks/11/123456789", 404),
        ("GET", "/api/v1/tasks/11/" + "9" * 5000, 404),
        ("GET", "/api/v1/tasks/11/-1", 404),
        ("POST", "/v1/chat/completions", 404),
    ],
)
def test_what_is_not_there_is_a_json_404_with_a_message(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    body = {"prompt": "x", "model": "no-such-model", "messages": [{"role": "user", "content": "x"}]}
    answer = http.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/", "/api/v3/completions", "/api/v1/x402/ping", "/api/v1/tasks/", "/api/v1/tasks/1/2/3"]
)
def test_unknown_paths_are_404_of_the_proxy(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html"
    assert "<center>nginx</center>" in answer.text


def test_the_wrong_method_is_405(http: httpx.Client) -> None:
    assert http.get("/api/v1/completions").status_code == 405
    assert http.post("/leaderboard").status_code == 405


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"prompt":1}',
        b'{"prompt":"x"}',
        b'{"prompt":"\xff","session_id":11}',
        b'{"prompt":"x","session_id":11,"max_tokens":0}',
        b'{"prompt":"x","session_id":11,"timeout":-1}',
        b'{"prompt":"x","session_id":11,"stream":"yes"}',
    ],
)
def test_a_malformed_body_is_422_json(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/api/v1/completions", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize("body", [b"{}", b'{"model":"","messages":[]}', b'{"model":"","messages":[{"content":"x"}]}'])
def test_a_malformed_chat_body_is_422_json(http: httpx.Client, body: bytes) -> None:
    assert http.post("/v1/chat/completions", content=body).status_code == 422


def test_a_key_is_asked_for_where_the_router_asks(start: Any) -> None:
    guarded = start("--no-task-id", "--api-key-env", "SIM_KEY", env={"SIM_KEY": KEY})
    with httpx.Client(base_url=guarded.url, timeout=20) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
            for path in ("/api/v1/ping", "/api/v1/info", "/v1/models"):
                answer = http.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.json()["error"]["message"]
                assert KEY not in answer.text
        assert http.get("/leaderboard").status_code == 200  # the stats backend is another host and asks for none
        http.headers["Authorization"] = f"Bearer {KEY}"
        assert http.get("/api/v1/info").status_code == 200
        assert "task_id" not in complete(http, "11")
