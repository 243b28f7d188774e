"""What goes over the wire."""

from __future__ import annotations

import json

import pytest
from exchanges import call
from msgspec.structs import replace

from loadtest.client.routes import ROUTES, flatten, router_timeout_s
from loadtest.records import Target

TARGET = Target(name="t", route="cortensor", model="oss-20b")


def parts(request: bytes) -> tuple[str, dict[str, str], dict[str, object]]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers["Content-Length"]) == len(body)
    return first, headers, json.loads(body)


def test_cortensor() -> None:
    first, headers, body = parts(ROUTES["cortensor"].build(TARGET, call(), "k3y"))
    assert first == "POST /api/v1/completions/12 HTTP/1.1"
    assert headers["Authorization"] == "Bearer k3y"
    assert headers["X-Request-ID"] == "run-7"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Host"] == "127.0.0.1:5010"
    assert body == CORTENSOR_BODY


def test_openai_chat() -> None:
    first, headers, body = parts(ROUTES["openai-chat"].build(TARGET, call(), None))
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert "Authorization" not in headers
    assert body == {
        "model": "oss-20b",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    _, headers, body = parts(ROUTES["openai-chat"].build(TARGET, call(stream=False), None))
    assert "stream_options" not in body
    assert headers["Accept"] == "application/json"


CORTENSOR_BODY = {
    "prompt": "hi",
    "prompt_type": 1,
    "prompt_template": "",
    "stream": True,
    "timeout": 115,
    "max_tokens": 64,
    "client_reference": "run-7",
}


@pytest.mark.parametrize(
    ("route", "path", "session"),
    [
        ("cortensor", "/api/v1/completions/12", {}),
        ("cortensor-body", "/api/v1/completions", {"session_id": 12}),
        ("cortensor-v2", "/api/v2/completions/12", {}),
        ("cortensor-v3", "/api/v3/completions/12", {}),
    ],
)
def test_the_routes_of_a_router(route: str, path: str, session: dict[str, object]) -> None:
    first, headers, body = parts(ROUTES[route].build(TARGET, call(), "k3y"))
    assert first == f"POST {path} HTTP/1.1"
    assert body == CORTENSOR_BODY | session
    assert headers["X-Request-ID"] == body["client_reference"] == "run-7"
    assert (ROUTES[route].has_tasks, ROUTES[route].keyed_path) == (True, "/api/v1/status")


@pytest.mark.parametrize(
    ("session", "sent"), [("0", 0), ("12", 12), ("main", "main"), ("-1", "-1"), ("1" * 30, "1" * 30), ("٣", "٣")]
)
def test_a_session_in_the_body_is_a_number_when_it_is_one(session: str, sent: object) -> None:
    _, _, body = parts(ROUTES["cortensor-body"].build(TARGET, call()._replace(session=session), None))
    assert body["session_id"] == sent


def test_without_a_session_the_body_names_none() -> None:
    first, _, body = parts(ROUTES["cortensor-body"].build(TARGET, call()._replace(session=None), None))
    assert first == "POST /api/v1/completions HTTP/1.1"
    assert "session_id" not in body


def test_openai_completions() -> None:
    chat = call()._replace(messages=(("user", "a"), ("assistant", "b"), ("user", "c")))
    first, _, body = parts(ROUTES["openai-completions"].build(TARGET, chat, None))
    assert first == "POST /v1/completions HTTP/1.1"
    assert body == {
        "model": "oss-20b",
        "prompt": "User: a\nAssistant: b\nUser: c\nAssistant:",
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    _, _, body = parts(ROUTES["openai-completions"].build(TARGET, call(stream=False), None))
    assert "stream_options" not in body


def test_the_gateway_is_sent_what_it_documents_and_no_more() -> None:
    first, headers, body = parts(ROUTES["cortensor-gateway"].build(TARGET, call(), "k3y"))
    assert first == "POST /v1/completions HTTP/1.1"
    assert headers["Authorization"] == "Bearer k3y"
    assert body == {"model": "oss-20b", "prompt": "hi", "max_tokens": 64, "stream": True}


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_knows_itself_and_a_path_that_asks_for_the_key(name: str) -> None:
    assert ROUTES[name].name == name
    assert ROUTES[name].keyed_path.startswith("/")


def test_history_is_flattened_and_a_single_message_is_not() -> None:
    assert flatten((("user", "Just: this"),)) == "Just: this"
    chat = (("system", "Be kind."), ("user", "a\nb"), ("assistant", "c"), ("user", "d"))
    assert flatten(chat) == "System: Be kind.\nUser: a\nb\nAssistant: c\nUser: d\nAssistant:"


@pytest.mark.parametrize(("ours", "routers"), [(120, 115), (300, 295), (10, 8), (2, 1), (0.5, 1)])
def test_the_router_gives_up_first(ours: float, routers: int) -> None:
    assert router_timeout_s(ours) == routers


def test_sessions_are_quoted_and_may_be_absent() -> None:
    asked = call()._replace(session="a/b c")
    assert ROUTES["cortensor"].build(TARGET, asked, None).startswith(b"POST /api/v1/completions/a%2Fb%20c HTTP")
    asked = call()._replace(session=None)
    assert ROUTES["cortensor"].build(TARGET, asked, None).startswith(b"POST /api/v1/completions HTTP")


@pytest.mark.parametrize("route", ROUTES.values(), ids=list(ROUTES))
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(route: object) -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        route.build(TARGET, call(), "sec\r\nret")  # type: ignore[attr-defined]
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_headers_and_fields_of_the_user_go_along_on_every_route(name: str) -> None:
    _, plain_headers, plain = parts(ROUTES[name].build(TARGET, call(), None))
    extended = replace(TARGET, headers=(("X-Team", "qa"), ("X-B", "b: c")), extra_body='{"top_k": 5, "n": {"m": [1]}}')
    _, headers, body = parts(ROUTES[name].build(extended, call(), None))
    length = {"Content-Length": headers["Content-Length"]}
    assert headers == {**plain_headers, "X-Team": "qa", "X-B": "b: c", **length}
    assert body == {**plain, "top_k": 5, "n": {"m": [1]}}
