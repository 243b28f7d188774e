"""Every completion route and every variant of its shape, field by field, and what the proxy in front says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import Running, launched

KEY = "a-key-for-tests"
ROUTER = {"id", "object", "created", "model", "choices", "task_id"}
USAGE = {"prompt_tokens", "completion_tokens", "total_tokens"}


def http(running: Any, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=running.url, timeout=20, headers=headers)


def events(text: str) -> list[dict[str, Any]]:
    """The documents of a stream that ends as it should."""
    assert text.endswith("data: [DONE]\n\n")
    found = text.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") for event in found)
    return [json.loads(event.removeprefix("data: ")) for event in found[:-1]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A simulator with every variant on, and a key."""
    names = ["no-task-id", "usage-in-stream", "gateway-envelope", "v3", "x402", "wrong-key-403"]
    options = [option for name in names for option in ("--variant", name)]
    options += ["--seed", "3", "--speed", "20", "--api-key-env", "SIM_KEY"]
    with launched(tmp_path_factory.mktemp("variants"), *options, env={"SIM_KEY": KEY}) as running:
        yield running


@pytest.mark.parametrize("path", ["/api/v1/completions", "/api/v2/completions"])
@pytest.mark.parametrize("in_body", [True, False])
def test_both_forms_of_both_versions(simulator: Any, path: str, in_body: bool) -> None:
    body = {"prompt": "hello", "max_tokens": 3, "stream": False, "timeout": 60, "prompt_type": 1}
    with http(simulator) as client:
        answer = client.post(
            path if in_body else f"{path}/11", json={**body, **({"session_id": 11} if in_body else {})}
        )
    shape = answer.json()
    assert set(shape) == ROUTER | {"usage"}
    assert (shape["object"], shape["model"]) == ("text_completion", "default")
    (choice,) = shape["choices"]
    assert set(choice) == {"index", "text", "finish_reason", "logprobs"}
    assert set(shape["usage"]) == USAGE


def test_chunks_are_legacy_text_completions(simulator: Any) -> None:
    with http(simulator) as client:
        answer = client.post("/api/v1/completions/11", json={"prompt": "x", "max_tokens": 4, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer.text)
    assert all(set(chunk) == ROUTER and chunk["object"] == "text_completion" for chunk in found)
    assert len({(chunk["id"], chunk["task_id"], chunk["created"]) for chunk in found}) == 1
    choices = [chunk["choices"][0] for chunk in found]
    assert all(set(choice) == {"index", "text", "logprobs", "finish_reason"} for choice in choices)
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] in ("stop", "length")
    assert choices[-1]["text"] == ""


def test_usage_in_the_last_chunk_and_no_task_id(guarded: Any) -> None:
    with http(guarded, Authorization=f"Bearer {KEY}") as client:
        body = {"prompt": "x", "max_tokens": 4, "stream": True}
        *before, last = events(client.post("/api/v1/completions/11", json=body).text)
    assert all(set(chunk) == ROUTER - {"task_id"} for chunk in before)
    assert set(last) == (ROUTER - {"task_id"}) | {"usage"}
    assert last["usage"] == {"prompt_tokens": 1, "completion_tokens": len(before), "total_tokens": 1 + len(before)}


def test_version_3_is_on_the_list_of_the_proxy_only_when_asked_for(simulator: Any, guarded: Any) -> None:
    body = {"prompt": "x", "max_tokens": 2}
    with http(simulator) as client:
        stock = client.post("/api/v3/completions/11", json=body)
    assert (stock.status_code, stock.headers["content-type"]) == (404, "text/html")
    assert "<center>nginx</center>" in stock.text
    with http(guarded, Authorization=f"Bearer {KEY}") as client:
        assert client.post("/api/v3/completions/11", json=body).json()["object"] == "text_completion"


def test_x402_asks_for_a_payment(guarded: Any) -> None:
    body = {"prompt": "x", "max_tokens": 2, "session_id": 11}
    with http(guarded, Authorization=f"Bearer {KEY}") as client:
        assert client.get("/api/v1/x402/ping").status_code == 200
        unpaid = client.post("/api/v1/x402/completions", json=body)
        assert unpaid.status_code == 402
        shape = unpaid.json()
        assert set(shape) == {"x402Version", "error", "accepts"}
        assert [offer["maxAmountRequired"] for offer in shape["accepts"]] == ["1000"]  # 0.001 USD
        paid = client.post("/api/v1/x402/completions", json=body, headers={"X-PAYMENT": "something"})
        assert set(paid.json()) == (ROUTER - {"task_id"}) | {"usage"}


def test_the_gateways_envelope(guarded: Any) -> None:
    with http(guarded, Authorization=f"Bearer {KEY}") as client:
        body = {"model": "default", "prompt": "x", "max_tokens": 2, "temperature": 0.7, "top_p": 0.9, "stream": False}
        shape = client.post("/v1/completions", json=body, headers={"X-Request-ID": "r-1"}).json()
        assert set(shape) == {"request_id", "status", "model", "router_pool", "data", "error"}
        assert (shape["request_id"], shape["status"], shape["model"], shape["error"]) == ("r-1", "ok", "default", None)
        assert shape["data"]["choices"][0]["text"]
        refused = client.post("/v1/completions", json={**body, "model": "nobody"})
        assert refused.status_code == 404
        failed = refused.json()
        assert (failed["status"], failed["data"]) == ("failed", None)
        assert set(failed["error"]) == {"code", "message", "details"}
        malformed = client.post("/v1/completions", content=b"{", headers={"X-Request-ID": "r-2"})
        assert malformed.status_code == 422
        assert "x-request-id" not in malformed.headers


def test_a_missing_and_a_wrong_key(guarded: Any) -> None:
    with http(guarded) as client:
        assert client.get("/api/v1/status").status_code == 401
        assert client.get("/api/v1/status", headers={"Authorization": "Bearer no"}).status_code == 403
        failed = client.post("/v1/completions", json={})
        assert (failed.status_code, failed.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.get("/about").status_code == 200  # public


@pytest.mark.parametrize("path", ["/about", "/api/v1/about"])
def test_about(simulator: Any, path: str) -> None:
    with http(simulator) as client:
        assert set(client.get(path).json()) == {"name", "version", "address"}


def test_openais_text_completions(simulator: Any) -> None:
    body = {"model": "default", "prompt": ["a" * 8, "b" * 8], "max_tokens": 3}
    with http(simulator) as client:
        shape = client.post("/v1/completions", json=body).json()
        assert set(shape) == (ROUTER - {"task_id"}) | {"usage"}
        assert shape["usage"]["prompt_tokens"] == 4
        assert shape["model"] in {model["id"] for model in client.get("/v1/models").json()["data"]}


def test_the_proxy_does_not_wait_for_ever(start: Any) -> None:
    slow = start("--seed", "3", "--speed", "0.01", "--proxy-timeout", "0.2")
    with http(slow) as client:
        answer = client.post("/api/v1/completions/11", json={"prompt": "x", "timeout": 60, "client_reference": "w"})
        assert (answer.status_code, answer.headers["content-type"]) == (504, "text/html")
        assert "<center>nginx</center>" in answer.text
    assert slow.stop() == 0
    assert [row["http_status"] for row in slow.truth_rows()] == [504]


def test_the_same_requests_are_decided_alike(start: Any) -> None:
    """Two simulators of one seed, asked the same one after the other over HTTP: same lengths, ends, faults, charges.

    Which nodes are free depends on the instants as well, and those are no two times the same over HTTP: that the
    machine decides alike at equal instants is shown without it.
    """
    seen = []
    for _ in range(2):
        running = start("--seed", "7", "--speed", "50", "--fault", "crlf=0.5", "--fault", "429-storm=0.3")
        with http(running) as client:
            texts = []
            for number in range(40):
                session = ("11", "12", "21")[number % 3]
                body = {"prompt": "x" * number, "max_tokens": 5, "stream": True, "client_reference": f"r{number}"}
                texts.append(client.post(f"/api/v1/completions/{session}", json=body).text)
        assert running.stop() == 0
        names = ("client_reference", "session", "task_id", "http_status", "charge", "faults", "tokens")
        rows = [{name: row[name] for name in names} for row in running.truth_rows()]
        ends = [('"finish_reason":"stop"' in text, '"finish_reason":"length"' in text) for text in texts]
        seen.append((rows, ends))
    assert seen[0] == seen[1]
    struck = {fault for row in seen[0][0] for fault in row["faults"]}
    assert struck == {"crlf", "429-storm"}
