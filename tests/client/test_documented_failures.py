"""Every documented way in which a router, its proxy or its gateway fails: one row each, and what we call it.

The shapes are those of the network's documentation, of its published proxy configuration and of the clients that the
community wrote against real routers. `test_outcomes` has the same by the mechanics of the connection.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from exchanges import HTML, JSON, SSE, call, exchange, started
from streams import STOP, chat_chunk, events, text_chunk

from loadtest.client.exchange import End, Exchange
from loadtest.client.outcomes import finish
from loadtest.client.routes import ROUTES
from loadtest.records import RequestRecord

NGINX = (
    b"<html>\r\n<head><title>%s</title></head>\r\n<center><h1>%s</h1></center>\r\n<hr><center>nginx</center>\r\n</html>"
)
GZIP = bytes.fromhex("1f8b0800000000000003ab562a2d4e2d02")


class Form(NamedTuple):
    """A failure's name, the turn's form, what came, and what we say of it."""

    name: str
    outcome: str
    kind: str
    made: Exchange
    route: str = "cortensor"
    stream: bool = True
    text: str | None = None  # the error text, where it is worth pinning


def page(status: int, title: bytes) -> Exchange:
    return exchange(NGINX % (title, title), status=status, kind=HTML, headers=((b"server", b"nginx/1.24.0"),))


def refusal(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Exchange:
    return exchange(body, status=status, kind=JSON, headers=headers)


def envelope(code: str, message: str, status: str = "failed") -> bytes:
    error = f'{{"code":"{code}","message":"{message}","details":{{}}}}'
    return (
        f'{{"request_id":"r","status":"{status}","model":"m","router_pool":"p","data":null,"error":{error}}}'.encode()
    )


def said(text: str) -> Exchange:
    return exchange(events(text_chunk(text), text_chunk("", STOP), "[DONE]"))


FORMS = [
    # The proxy in front of the router.
    Form("nginx has no upstream", "proxy_error", "nginx_502", page(502, b"502 Bad Gateway")),
    Form("nginx waited 300 s", "proxy_error", "nginx_504", page(504, b"504 Gateway Time-out")),
    Form("a path that nginx does not list", "not_found", "nginx_404", page(404, b"404 Not Found")),
    Form("nginx refuses the address", "auth_error", "nginx_403", page(403, b"403 Forbidden")),
    Form("nginx limits the body", "client_error", "http_413", page(413, b"413 Request Entity Too Large")),
    Form("nginx limits the rate", "rate_limited", "nginx_429", page(429, b"429 Too Many Requests")),
    Form("a page of another proxy", "proxy_error", "html_503", exchange(b"<h1>down</h1>", status=503, kind=HTML)),
    Form("a page with status 200", "malformed", "html_in_200", exchange(b"<!DOCTYPE html><p>Log in", kind=HTML)),
    Form("the same, not streamed", "malformed", "html_in_200", exchange(b"<html>", kind=HTML), stream=False),
    Form("a redirect", "client_error", "http_301", page(301, b"301 Moved Permanently")),
    # The router's refusals.
    Form("no key", "auth_error", "router_401", refusal(401, b'{"error":"Unauthorized"}')),
    Form("wrong key", "auth_error", "router_403", refusal(403, b'{"error":"Forbidden"}')),
    Form("unknown session", "not_found", "router_404", refusal(404, b'{"error":"session 9 not found"}')),
    Form(
        "malformed body",
        "client_error",
        "http_422",
        refusal(422, b'{"detail":[{"loc":["body","prompt"],"msg":"field required","type":"value_error.missing"}]}'),
    ),
    Form(
        "rate limit with Retry-After",
        "rate_limited",
        "router_429",
        refusal(429, b'{"error":{"message":"slow down"}}', (b"retry-after", b"30")),
        text="retry after 30 s: slow down",
    ),
    Form(
        "busy with Retry-After",
        "server_error",
        "http_503",
        refusal(503, b'{"error":"no capacity"}', (b"retry-after", b" 5 ")),
        text="retry after 5 s: no capacity",
    ),
    Form(
        "Retry-After as a date",
        "rate_limited",
        "router_429",
        refusal(429, b'{"error":"slow down"}', (b"retry-after", b"Wed, 21 Oct 2026 07:28:00 GMT")),
        text="slow down",
    ),
    Form("the router fails", "server_error", "http_500", refusal(500, b'{"error":{"message":"revert"}}')),
    Form("the router waited", "router_timeout", "router_504", refusal(504, b'{"error":"task timeout"}')),
    Form("an error that is no JSON", "server_error", "http_500", exchange(b"boom", status=500, kind="text/plain")),
    # Errors inside a 200.
    Form("timeout inside a 200", "router_timeout", "error_in_200", refusal(200, b'{"error":"Task timed out"}')),
    Form(
        "timeout inside a stream",
        "router_timeout",
        "error_in_200",
        exchange(events(text_chunk("a"), '{"error":{"code":"precommit_timeout"}}')),
    ),
    Form(
        "error object in a stream",
        "stream_error",
        "error_in_stream",
        exchange(events(text_chunk("a"), '{"error":{"message":"miner gone"}}', "[DONE]")),
    ),
    Form(
        "a refusal in a stream that had begun",
        "stream_error",
        "error_in_stream",
        exchange(events(text_chunk("a"), '{"error":{"code":"rate_limit_exceeded"}}')),
    ),
    Form("an error event", "stream_error", "error_in_stream", exchange(b"event: error\ndata: died\n\n")),
    # Streams that are not what they should be.
    Form("clean early end", "truncated", "no_end_marker", exchange(events(text_chunk("a"), text_chunk("b")))),
    Form("cut", "truncated", "eof_in_body", exchange(events(text_chunk("a")), end=End.EOF)),
    Form("JSON where a stream was asked for", "ok", "json_for_stream", refusal(200, text_chunk("hi").encode())),
    Form("a stream where JSON was asked for", "ok", "sse_for_json", said("hi"), stream=False),
    Form("no events", "malformed", "no_events", exchange(b"hello", kind=SSE)),
    Form("events that are no JSON", "malformed", "events_unreadable", exchange(events("{", "}", "[DONE]"))),
    Form("half a JSON document", "malformed", "not_json", refusal(200, b'{"choices":[{"te'), stream=False),
    Form("JSON of another kind", "malformed", "no_choices", refusal(200, b'{"result":"hi"}'), stream=False),
    # An encoding that we did not ask for and that nobody could undo.
    Form(
        "gzip though identity was asked for",
        "malformed",
        "encoded",
        exchange(GZIP, kind=JSON, headers=((b"content-encoding", b"gzip"),)),
        stream=False,
        text="not text (gzip)",
    ),
    Form(
        "the same in a stream",
        "malformed",
        "encoded",
        exchange(GZIP, headers=((b"content-encoding", b"br"),)),
        text="not text (br)",
    ),
    Form(
        "an encoding that was undone",
        "malformed",
        "html_in_200",
        exchange("<p>é</p>".encode(), kind=HTML, headers=((b"content-encoding", b"gzip"),)),
        stream=False,
    ),
    Form(
        "an encoded refusal",
        "server_error",
        "http_500",
        exchange(GZIP, status=500, kind=JSON, headers=((b"content-encoding", b"gzip"),)),
        text="not text (gzip)",
    ),
    Form(
        "identity is no encoding",
        "malformed",
        "no_events",
        exchange(b"hi", headers=((b"content-encoding", b"identity"),)),
    ),
    # Answers that say nothing.
    Form("nothing at all", "empty", "no_body", exchange(b"")),
    Form("empty text", "empty", "no_text", said("")),
    Form("only </s>", "empty", "only_debris", said("</s>")),
    Form("only <|eot_id|>", "empty", "only_debris", said("<|eot_id|>")),
    Form("only the end of a sentence", "empty", "only_debris", said("<｜end▁of▁sentence｜>")),
    Form("only a header of a template", "empty", "only_debris", said("<|start_header_id|><|end_header_id|>")),
    Form("only an echoed label", "empty", "only_debris", said("\\nUser:\\nAssistant: ")),
    Form("only a turn's end", "empty", "only_debris", said(" <end_of_turn> [/INST]")),
    Form("unfinished <think>", "empty", "unfinished_think", said("<think>so, first of all")),
    Form("only thinking", "empty", "only_reasoning", said("<think>hm</think></s>")),
    Form(
        "only reasoning, in a field of its own",
        "empty",
        "only_reasoning",
        exchange(events(chat_chunk('{"reasoning_content":"hm"}', '"length"'))),
        route="openai-chat",
    ),
    # What looks like one of these and is none.
    Form("debris after an answer", "ok", "", said("yes</s><|eot_id|>")),
    Form("a label inside an answer", "ok", "", said("User: is a word")),
    Form("a thought and an answer", "ok", "", said("<think>hm</think>yes")),
    Form(
        "tool calls and no text",
        "ok",
        "",
        exchange(events(chat_chunk('{"tool_calls":[{"index":0,"function":{"name":"f"}}]}', '"tool_calls"'))),
        route="openai-chat",
    ),
    Form(
        "tool calls without a function",
        "empty",
        "no_text",
        exchange(events(chat_chunk('{"tool_calls":[{"index":0}]}', '"tool_calls"'))),
        route="openai-chat",
    ),
    # The hosted gateway: the envelope's error says what its status would have said.
    *(
        Form(
            f"gateway: {code}", outcome, "error_in_200", refusal(200, envelope(code, "…")), "cortensor-gateway", stream
        )
        for stream in (False, True)
        for code, outcome in [
            ("router_timeout", "router_timeout"),
            ("rate_limited", "rate_limited"),
            ("rate_limit_exceeded", "rate_limited"),
            ("invalid_api_key", "auth_error"),
            ("session_not_found", "not_found"),
            ("invalid_request", "client_error"),
            ("no_capacity", "server_error"),
        ]
    ),
    Form(
        "gateway: failed in a stream",
        "stream_error",
        "error_in_stream",
        exchange(events(envelope("no_capacity", "busy").decode())),
        "cortensor-gateway",
        text="no_capacity: busy",
    ),
    Form(
        "gateway: failed with a status",
        "rate_limited",
        "router_429",
        refusal(429, envelope("rate_limited", "slow down"), (b"retry-after", b"7")),
        "cortensor-gateway",
        text="retry after 7 s: rate_limited: slow down",
    ),
    Form(
        "gateway: nothing in it",
        "malformed",
        "no_choices",
        refusal(200, b'{"request_id":"r","status":"ok","data":{},"error":null}'),
        "cortensor-gateway",
        stream=False,
    ),
]


def row(form: Form) -> RequestRecord:
    asked = call(stream=form.stream)
    return finish(started(), asked, form.made, ROUTES[form.route].read(asked, form.made), len)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_it_has_its_own_word(form: Form) -> None:
    finished = row(form)
    assert (finished.outcome, finished.error_kind) == (form.outcome, form.kind)
    if form.text is not None:
        assert finished.error_text == form.text


def test_no_error_text_is_binary_or_long() -> None:
    texts = [row(form).error_text for form in FORMS]
    assert all(len(text) <= 200 and text.isprintable() for text in texts)
    assert any(texts)
