"""Every way a turn can end, and what the finished row says of its timing."""

from __future__ import annotations

import hashlib
import re

import msgspec
import pytest
from exchanges import HTML, JSON, MS, SENT_NS, SSE, call, exchange, started
from hypothesis import given
from hypothesis import strategies as st
from streams import CORTENSOR, STOP, chat_chunk, events, text_chunk

from loadtest.client.exchange import End, Exchange
from loadtest.client.outcomes import finish
from loadtest.client.routes import ROUTES
from loadtest.quantiles import bucket
from loadtest.records import RequestRecord

NGINX = b"<html>\r\n<head><title>%s</title></head>\r\n<center>nginx/1.24.0</center>\r\n</html>\r\n"
HELLO = text_chunk("hello")


def document(text: str, **more: str) -> bytes:
    extra = "".join(f',"{key}":{value}' for key, value in more.items())
    return f'{{"id":"c","choices":[{{"index":0,"text":"{text}","finish_reason":"stop"}}]{extra}}}'.encode()


def row(made: Exchange, *, stream: bool = True) -> RequestRecord:
    asked = call(stream=stream)
    return finish(started(), asked, made, ROUTES["cortensor"].read(asked, made), len)


# What outcomes._DEBRIS matches from the start, here as what is left of a text without it.
DEBRIS = re.compile(
    r"</?s>|<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|\[/?INST\]"
    r"|^[ \t]*(?:System|User|Assistant):[ \t]*$",
    re.MULTILINE,
)
BITS = ["</s>", "<s>", "\n", " ", "\t", "User:", "Assistant:", "<|eot_id|>", "<|", "|>", "a", "<pad>", "[/INST]", ":"]


@given(st.lists(st.sampled_from(BITS), max_size=8).map("".join))
def test_only_debris_is_what_nothing_is_left_of(text: str) -> None:
    said = row(exchange(events(text_chunk(msgspec.json.encode(text).decode()[1:-1], STOP))))
    assert (said.outcome == "ok") == bool(DEBRIS.sub("", text).strip())


# outcome, error kind, exchange
STREAMED: list[tuple[str, str, Exchange]] = [
    ("ok", "", exchange(CORTENSOR)),
    ("ok", "", exchange(events(text_chunk("hi", STOP)))),  # a finish reason without [DONE]
    ("ok", "", exchange(events(HELLO, "[DONE]"))),
    ("ok", "", exchange(events(text_chunk("<think>a</think>b", STOP)))),
    ("ok", "", exchange(events(chat_chunk('{"reasoning_content":"a"}'), chat_chunk('{"content":"b"}', STOP)))),
    ("ok", "json_for_stream", exchange(document("hi"), kind=JSON)),
    ("ok", "cut_after_end", exchange(CORTENSOR, end=End.EOF)),
    ("ok", "cut_after_end", exchange(CORTENSOR, end=End.RESET)),
    ("ok", "open_after_end", exchange(CORTENSOR, end=End.TIMEOUT_GAP)),
    ("connect_error", "connect", exchange(status=None, end=End.CONNECT_ERROR)),
    ("connect_error", "dns", exchange(status=None, end=End.DNS_ERROR)),
    ("connect_error", "connect_timeout", exchange(status=None, end=End.TIMEOUT_CONNECT)),
    ("tls_error", "tls", exchange(status=None, end=End.TLS_ERROR)),
    ("proxy_error", "proxy", exchange(status=None, end=End.PROXY_ERROR)),
    ("client_timeout", "first_byte", exchange(status=None, end=End.TIMEOUT_FIRST_BYTE)),
    ("client_timeout", "gap", exchange(events(HELLO), end=End.TIMEOUT_GAP)),
    ("client_timeout", "total", exchange(events(HELLO), end=End.TIMEOUT_TOTAL)),
    ("cancelled", "", exchange(events(HELLO), end=End.CANCELLED)),
    ("cancelled", "", exchange(status=None, end=End.CANCELLED)),
    ("malformed", "too_large", exchange(events(HELLO), end=End.TOO_LARGE)),
    ("malformed", "bad_http", exchange(events(HELLO), end=End.BAD_HTTP)),
    ("truncated", "eof_before_headers", exchange(status=None, end=End.EOF)),
    ("truncated", "reset_before_headers", exchange(status=None, end=End.RESET)),
    ("truncated", "eof_in_body", exchange(events(HELLO), end=End.EOF)),
    ("truncated", "reset_in_body", exchange(events(HELLO), end=End.RESET)),
    ("truncated", "no_end_marker", exchange(events(HELLO))),
    ("stream_error", "error_in_stream", exchange(events(HELLO, '{"error":{"message":"node died"}}'))),
    ("stream_error", "error_in_stream", exchange(events(HELLO, '{"error":"died"}'), end=End.TIMEOUT_GAP)),
    ("stream_error", "error_in_stream", exchange(b"event: error\ndata: boom\n\n")),
    ("router_timeout", "error_in_200", exchange(events(HELLO, '{"error":"task timed out after 60 s"}'))),
    ("router_timeout", "error_in_200", exchange(b'{"error":{"code":"timeout","message":"Timeout"}}', kind=JSON)),
    ("server_error", "error_in_200", exchange(b'{"error":{"message":"no miners"}}', kind=JSON)),
    ("empty", "no_text", exchange(events(text_chunk("", STOP), "[DONE]"))),
    ("empty", "only_debris", exchange(events(text_chunk("</s>", STOP), "[DONE]"))),
    ("empty", "unfinished_think", exchange(events(text_chunk("<think>well"), text_chunk(" so", STOP), "[DONE]"))),
    ("empty", "only_reasoning", exchange(events(text_chunk("<think>a</think> ", STOP)))),
    ("empty", "only_reasoning", exchange(events(chat_chunk('{"reasoning":"a"}', STOP)))),
    ("empty", "no_body", exchange(b"", status=204)),
    ("empty", "no_body", exchange(b"")),
    ("malformed", "no_events", exchange(b"hello there")),
    ("malformed", "events_unreadable", exchange(events("not json", "nor this"))),
    ("malformed", "events_unreadable", exchange(events("not json", "[DONE]"))),
    ("malformed", "not_json", exchange(b'{"half":', kind=JSON)),
    ("malformed", "no_choices", exchange(b'{"ok":true}', kind=JSON)),
    ("auth_error", "router_401", exchange(b'{"error":"no"}', status=401, kind=JSON)),
    ("auth_error", "nginx_403", exchange(NGINX % b"403 Forbidden", status=403, kind=HTML)),
    ("not_found", "nginx_404", exchange(NGINX % b"404 Not Found", status=404, kind=HTML)),
    ("not_found", "router_404", exchange(b'{"error":"no such session"}', status=404, kind=JSON)),
    ("not_found", "html_404", exchange(b"<h1>lost</h1>", status=404, kind=HTML)),
    ("rate_limited", "router_429", exchange(b'{"error":"slow down"}', status=429, kind=JSON)),
    ("proxy_error", "proxy_407", exchange(b"", status=407, kind=HTML)),
    ("client_error", "http_422", exchange(b'{"detail":[{"msg":"field required"}]}', status=422, kind=JSON)),
    ("client_error", "http_400", exchange(b"bad", status=400, kind="text/plain")),
    ("client_error", "http_301", exchange(b"", status=301, kind=HTML)),
    ("server_error", "http_500", exchange(b'{"error":"oops"}', status=500, kind=JSON)),
    ("server_error", "http_503", exchange(b'{"error":"no capacity"}', status=503, kind=JSON)),
    ("server_error", "http_500", exchange(b'{"er', status=500, kind=JSON, end=End.EOF)),  # the status is the news
    ("proxy_error", "nginx_502", exchange(NGINX % b"502 Bad Gateway", status=502, kind=HTML)),
    ("proxy_error", "nginx_504", exchange(NGINX % b"504 Gateway Time-out", status=504, kind=HTML)),
    ("proxy_error", "nginx_504", exchange(b"<p>late</p>", status=504, kind=HTML, headers=((b"server", b"nginx"),))),
    ("proxy_error", "html_502", exchange(b"<h1>elsewhere</h1>", status=502, kind=HTML)),
    ("router_timeout", "router_504", exchange(b'{"error":"timeout"}', status=504, kind=JSON)),
]
PLAIN: list[tuple[str, str, Exchange]] = [
    ("ok", "", exchange(document("hi"), kind=JSON)),
    ("ok", "", exchange(b'{"choices":[{"message":{"role":"assistant","content":"hi"}}]}', kind=JSON)),
    ("ok", "sse_for_json", exchange(CORTENSOR)),
    ("empty", "no_text", exchange(document(""), kind=JSON)),
    ("malformed", "not_json", exchange(b"hello", kind="text/plain")),
    ("malformed", "not_json", exchange(b"[1]", kind=JSON)),
    ("truncated", "eof_in_body", exchange(b'{"id"', kind=JSON, end=End.EOF)),
    ("router_timeout", "error_in_200", exchange(b'{"error":"request timeout"}', kind=JSON)),
]


@pytest.mark.parametrize(
    ("outcome", "kind", "made"), STREAMED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_ends_of_streams(outcome: str, kind: str, made: Exchange) -> None:
    finished = row(made)
    assert (finished.outcome, finished.error_kind) == (outcome, kind)


@pytest.mark.parametrize(("outcome", "kind", "made"), PLAIN, ids=lambda value: value if isinstance(value, str) else "")
def test_ends_of_answers_in_one_piece(outcome: str, kind: str, made: Exchange) -> None:
    finished = row(made, stream=False)
    assert (finished.outcome, finished.error_kind) == (outcome, kind)
    # No first token that anybody could have seen: absent, not zero.
    assert (finished.first_content_ns, finished.first_visible_ns, finished.chunk_ns) == (None, None, ())


def test_every_end_has_a_row_in_the_table() -> None:
    assert {made.end for _, _, made in STREAMED} == set(End)


def test_the_timing_of_a_stream() -> None:
    parts = [
        events(chat_chunk('{"role":"assistant","content":""}')),
        events(chat_chunk('{"content":"<th"}')),
        events(chat_chunk('{"content":"ink>a</think>"}')),
        events(chat_chunk('{"content":"né"}')) + events(chat_chunk('{"content":"w"}')),
        events(chat_chunk("{}", STOP), '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}', "[DONE]"),
    ]
    ends = tuple(len(b"".join(parts[:n])) for n in range(1, 6))
    finished = row(exchange(b"".join(parts), ends=ends))
    assert finished.outcome == "ok"
    # Reads are 10 ms apart, the first 10 ms after the send, read n with a bound of n ms.
    assert finished.first_chunk_ns == SENT_NS + 10 * MS
    assert finished.first_content_ns == SENT_NS + 20 * MS
    assert finished.first_visible_ns == finished.last_content_ns == SENT_NS + 40 * MS
    assert finished.chunk_ns == (20 * MS, 30 * MS, 40 * MS, 40 * MS)
    assert finished.chunk_bound_ns == (2 * MS, 3 * MS, 4 * MS, 4 * MS)
    assert finished.chunk_bytes == (3, 13, 3, 1)  # "né" is three bytes
    assert (finished.content_chunks, finished.chunks_coalesced) == (4, 1)
    assert (finished.first_content_bound_ns, finished.arrival_bound_ns_p50) == (2 * MS, 3 * MS)
    assert finished.arrival_bound_ns_max == 4 * MS
    # Gaps 10, 10 and 0 ms.
    assert dict(zip(finished.itl_keys, finished.itl_counts, strict=True)) == {-1: 1, bucket(10 * MS): 2}
    assert (finished.usage_prompt_tokens, finished.usage_completion_tokens) == (9, 5)
    assert finished.counted_tokens == len("<think>a</think>néw")  # the test counts characters
    assert finished.text_sha256 == hashlib.sha256("<think>a</think>néw".encode()).hexdigest()
    assert (finished.stream_end, finished.finish_reason) == ("done_marker", "stop")
    assert (finished.reads, finished.reads_kernel) == (5, 5)
    assert finished.bytes_sent == len(exchange().request)


def test_an_event_cut_by_reads_arrives_with_the_read_that_completes_it() -> None:
    body = events(HELLO, "[DONE]")
    end = len(events(HELLO))
    assert row(exchange(body, ends=(10, end - 1, end, len(body)))).first_content_ns == SENT_NS + 30 * MS
    assert row(exchange(body, ends=(10, end, len(body)))).first_content_ns == SENT_NS + 20 * MS


def test_partial_streams_keep_what_arrived() -> None:
    finished = row(exchange(events(HELLO), end=End.RESET))
    assert (finished.outcome, finished.stream_end, finished.content_chunks) == ("truncated", "cut", 1)
    assert finished.first_content_ns == SENT_NS + 10 * MS


def test_a_peer_that_stays_open_after_done_does_not_lengthen_the_answer() -> None:
    finished = row(exchange(CORTENSOR, end=End.TIMEOUT_TOTAL))
    assert finished.done_ns == SENT_NS + 10 * MS


def test_the_key_is_never_in_the_row() -> None:
    key = "default-dev-token"
    request = f"POST / HTTP/1.1\r\nAuthorization: Bearer {key}\r\nHost: x\r\n\r\n{{}}".encode()
    made = exchange(f'{{"error":"bad key {key} here"}}'.encode(), status=401, kind=JSON, request=request)
    finished = row(made)
    assert finished.error_text == "bad key <secret> here"
    assert key not in repr(made)


@given(
    st.binary(max_size=200) | st.sampled_from([CORTENSOR, b'{"choices":[{}]}', b'data: {"choices":[{"text":1}]}\n\n']),
    st.sampled_from([SSE, JSON, HTML]),
    st.sampled_from(list(End)),
    st.booleans(),
    st.integers(0, 250),
)
def test_no_body_breaks_the_row(body: bytes, kind: str, end: End, stream: bool, cut: int) -> None:
    body = body[:cut]
    finished = row(exchange(body, kind=kind, end=end), stream=stream)
    assert finished.outcome != "lost"
    assert len(finished.error_text) <= 200
