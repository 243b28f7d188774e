"""From an exchange and its answer to the row: the outcome, the instants, and how far to believe them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from loadtest.client.answers import Answer
from loadtest.client.errortext import LENGTH_MAX, normalise
from loadtest.client.exchange import End, Exchange, Read
from loadtest.client.payload import error_message
from loadtest.client.routes import Call
from loadtest.quantiles import LogHistogram, nearest_rank
from loadtest.records import Outcome, RequestRecord

CHUNKS_LISTED_MAX = 100_000  # beyond it a row keeps the histogram only: larger ones would not fit into the spool
COUNTED_CHARACTERS_MAX = 1_000_000  # longer texts are not counted: it would stop the worker for seconds

# What models leave behind when they have nothing to say: special tokens, and the labels of a chat they go on with.
# Matched from the start and never taken back, so a text that says something costs its first word and not its length.
_DEBRIS = re.compile(
    r"(?:^[ \t]*(?:System|User|Assistant):[ \t]*$|\s"
    r"|</?s>|<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|\[/?INST\])*+",
    re.MULTILINE,
)

# What an error object inside a 200 is about, by its code or its words; the codes of gateways are not documented.
_ERRORS = {
    Outcome.ROUTER_TIMEOUT: r"time[ds]?[ _-]?out|deadline[ _-]exceeded|^(?:408|504)\b",
    Outcome.RATE_LIMITED: r"rate[ _-]?limit|too[ _-]many[ _-]requests|^429\b",
    Outcome.AUTH_ERROR: r"unauthori[sz]ed|forbidden|(?:invalid|incorrect|missing)[ _-](?:api[ _-]?)?key|^40[13]\b",
    Outcome.NOT_FOUND: r"not[ _-]found|^404\b",
    Outcome.CLIENT_ERROR: r"(?:invalid|bad)[ _-]request|^4\d\d\b",
}
_BEARER = re.compile(rb"(?i)\r\nauthorization: bearer ([^\r\n]+)")

_BY_END: dict[End, tuple[Outcome, str]] = {
    End.CONNECT_ERROR: (Outcome.CONNECT_ERROR, "connect"),
    End.DNS_ERROR: (Outcome.CONNECT_ERROR, "dns"),
    End.TIMEOUT_CONNECT: (Outcome.CONNECT_ERROR, "connect_timeout"),
    End.TLS_ERROR: (Outcome.TLS_ERROR, "tls"),
    End.PROXY_ERROR: (Outcome.PROXY_ERROR, "proxy"),
    End.TIMEOUT_FIRST_BYTE: (Outcome.CLIENT_TIMEOUT, "first_byte"),
    End.TIMEOUT_GAP: (Outcome.CLIENT_TIMEOUT, "gap"),
    End.TIMEOUT_TOTAL: (Outcome.CLIENT_TIMEOUT, "total"),
    End.TOO_LARGE: (Outcome.MALFORMED, "too_large"),
    End.BAD_HTTP: (Outcome.MALFORMED, "bad_http"),
    End.CANCELLED: (Outcome.CANCELLED, ""),
}


class Verdict(NamedTuple):
    """How a turn ended, a short closed word for why, and the text that goes with it (not yet normalised)."""

    outcome: Outcome
    kind: str = ""
    text: str = ""


def finish(
    started: RequestRecord,
    call: Call,
    exchange: Exchange,
    answer: Answer,
    count_tokens: Callable[[str], int] | None,
) -> RequestRecord:
    """The finished row. `started` is the row as stored when the turn began, with the outcome `lost`.

    Chunk lists, first_content and first_visible are of streams only: an answer in one piece has no first token that
    we could have seen. `counted_tokens` is over all that the model wrote: visible, reasoning and tool calls.
    """
    verdict = classify(exchange, answer)
    written = [reasoning + text + tool_call for text, reasoning, _, _, tool_call in answer.pieces]
    said = "".join(written)
    countable = 0 < len(said) <= COUNTED_CHARACTERS_MAX
    done_ns = exchange.done_ns
    if verdict.kind == "open_after_end" and answer.end_read is not None:
        # The answer was complete and the peer kept the connection: our deadline is no part of the latency.
        done_ns = exchange.reads[answer.end_read].stamp_ns
    return msgspec.structs.replace(
        started,
        outcome=str(verdict.outcome),
        error_kind=verdict.kind,
        error_text=_error_text(verdict, exchange),
        http_status=exchange.status,
        finish_reason=answer.finish_reason,
        stream_end=answer.stream_end,
        usage_prompt_tokens=answer.usage_prompt_tokens,
        usage_completion_tokens=answer.usage_completion_tokens,
        counted_tokens=count_tokens(said) if count_tokens is not None and countable else None,
        bytes_sent=len(exchange.request) if exchange.sent_last_ns is not None else 0,
        bytes_received=exchange.bytes_received,
        text_sha256=hashlib.sha256(answer.text.strip().encode()).hexdigest() if answer.text else None,
        task_id=answer.task_id,
        node_hint=answer.node_hint,
        connecting_ns=exchange.connecting_ns,
        connected_ns=exchange.connected_ns,
        secured_ns=exchange.secured_ns,
        sent_ns=exchange.sent_ns,
        sent_last_ns=exchange.sent_last_ns,
        headers_ns=exchange.headers_ns,
        done_ns=done_ns,
        connection_new=exchange.connection_new,
        retried=exchange.retried,
        reads=len(exchange.reads),
        reads_kernel=sum([read.kernel for read in exchange.reads]),
        **(_chunks(exchange, answer, written) if call.stream and answer.streamed else {}),
    )


def classify(exchange: Exchange, answer: Answer) -> Verdict:
    """Outcome and error kind. A status that says no goes before the way the connection ended, except for our own
    deadlines and cancellation; an answer that ended in [DONE] or a finish reason is an answer however the wire ended.
    """
    end = exchange.end
    assert end is not None, "the exchange has not ended"
    if end is End.CANCELLED:
        return Verdict(Outcome.CANCELLED, exchange.error_kind, exchange.error_text)
    ok = exchange.status is not None and 200 <= exchange.status < 300
    ended = answer.error is None and answer.stream_end in ("done_marker", "finish_reason")
    if ok and ended and end is not End.COMPLETE:
        verdict = _of_text(answer)
        word = "open" if end in (End.TIMEOUT_GAP, End.TIMEOUT_TOTAL) else "cut"
        return verdict._replace(kind=verdict.kind or f"{word}_after_end")
    if ok and answer.error is not None:
        return _of_error(answer, answer.error)
    if end in _BY_END:
        outcome, kind = _BY_END[end]
        return Verdict(outcome, exchange.error_kind or kind, exchange.error_text)
    if exchange.status is None:
        return Verdict(Outcome.TRUNCATED, f"{end}_before_headers", exchange.error_text)
    if not ok:
        return _of_status(exchange.status, exchange)
    if end is not End.COMPLETE:
        return Verdict(Outcome.TRUNCATED, f"{end}_in_body", exchange.error_text)
    return _of_answer(answer, exchange)


def _of_status(status: int, exchange: Exchange) -> Verdict:
    page = _is_page(exchange)
    source = "router" if not page else "nginx" if _is_nginx(exchange) else "html"
    text = _body_text(exchange)
    if status in (401, 403):
        return Verdict(Outcome.AUTH_ERROR, f"{source}_{status}", text)
    if status == 404:
        return Verdict(Outcome.NOT_FOUND, f"{source}_404", text)
    if status == 407:
        return Verdict(Outcome.PROXY_ERROR, "proxy_407", text)
    if status == 429:
        return Verdict(Outcome.RATE_LIMITED, f"{source}_429", text)
    if status < 500:
        return Verdict(Outcome.CLIENT_ERROR, f"http_{status}", text)
    if page:
        return Verdict(Outcome.PROXY_ERROR, f"{source}_{status}", text)
    if status == 504:
        return Verdict(Outcome.ROUTER_TIMEOUT, "router_504", text)
    return Verdict(Outcome.SERVER_ERROR, f"http_{status}", text)


def _of_error(answer: Answer, error: str) -> Verdict:
    """An error object inside a 200. Once text has come, all but a timeout is an error of the stream."""
    outcome = next(
        (outcome for outcome, words in _ERRORS.items() if re.search(words, error, re.IGNORECASE)), Outcome.SERVER_ERROR
    )
    if outcome is Outcome.ROUTER_TIMEOUT:
        return Verdict(outcome, "error_in_200", error)
    if answer.streamed and (answer.pieces or outcome is Outcome.SERVER_ERROR):
        return Verdict(Outcome.STREAM_ERROR, "error_in_stream", error)
    return Verdict(outcome, "error_in_200", error)


def _of_answer(answer: Answer, exchange: Exchange) -> Verdict:
    """A 2xx whose connection did not fail."""
    if not exchange.body.strip():
        return Verdict(Outcome.EMPTY, "no_body")
    if answer.problem in ("not_json", "no_choices"):
        return _of_unreadable(answer.problem, exchange)
    if answer.streamed and answer.first_event_read is None:
        return _of_unreadable("no_events", exchange)
    if answer.streamed and answer.stream_end == "body_end":
        if answer.events_unreadable and not answer.pieces:
            return _of_unreadable("events_unreadable", exchange)
        return Verdict(Outcome.TRUNCATED, "no_end_marker")
    return _of_text(answer)


def _of_unreadable(kind: str, exchange: Exchange) -> Verdict:
    """A 2xx that is no answer of any route: a page of somebody in between, an encoding we did not ask for, or else."""
    if kind != "no_choices" and _encoding(exchange):
        kind = "encoded"
    elif kind != "no_choices" and _is_page(exchange):
        kind = "html_in_200"
    return Verdict(Outcome.MALFORMED, kind, _body_text(exchange))


def _of_text(answer: Answer) -> Verdict:
    """A whole answer: was anything said, or a tool called?"""
    called = any(call.name or call.parts for call in answer.tool_calls.values())
    if called or not _DEBRIS.fullmatch(answer.visible_text):
        return Verdict(Outcome.OK, answer.problem)
    if answer.thinking_unfinished:
        return Verdict(Outcome.EMPTY, "unfinished_think")
    if any(piece.reasoning.strip() for piece in answer.pieces) or "</think>" in answer.text:
        return Verdict(Outcome.EMPTY, "only_reasoning")
    if answer.text.strip():
        return Verdict(Outcome.EMPTY, "only_debris")
    if answer.events_unreadable:
        return Verdict(Outcome.MALFORMED, "events_unreadable")
    return Verdict(Outcome.EMPTY, "no_text")


def _is_page(exchange: Exchange) -> bool:
    kind = (exchange.header(b"content-type") or b"").lower()
    return b"html" in kind or exchange.body.lstrip()[:1] == b"<"


def _is_nginx(exchange: Exchange) -> bool:
    server = (exchange.header(b"server") or b"").lower()
    return b"nginx" in server or b"nginx" in exchange.body[:4096].lower()


def _encoding(exchange: Exchange) -> str:
    """The Content-Encoding of a body that nobody could decode: we ask for none, and some servers insist.

    The header stays when the encoding was undone, so the body must also not be text.
    """
    encoding = (exchange.header(b"content-encoding") or b"").decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return ""
    start = exchange.body[:4096]
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return encoding if error.start < len(start) - 3 else ""  # the last character may have been cut by us
    return ""


def _body_text(exchange: Exchange) -> str:
    try:
        payload = msgspec.json.decode(exchange.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        start = exchange.body[:4096]
        if b"\0" in start or _encoding(exchange):
            return f"not text ({_encoding(exchange) or 'binary'})"
        return start.decode("utf-8", "replace")
    return error_message(payload) or ""


def _error_text(verdict: Verdict, exchange: Exchange) -> str:
    text = normalise(verdict.text, _secrets(exchange)) if verdict.text else ""
    if exchange.status is None or exchange.status < 400:
        return text
    wait = (exchange.header(b"retry-after") or b"").strip()
    if wait.isdigit() and len(wait) <= 5:
        # The one number that says what to do; it comes after the normalising, which hides numbers.
        text = f"retry after {int(wait)} s: {text}"[:LENGTH_MAX]
    return text


def _secrets(exchange: Exchange) -> tuple[str, ...]:
    """The key as we sent it: some servers repeat it in what they complain about."""
    found = _BEARER.search(exchange.request.partition(b"\r\n\r\n")[0])
    return (found[1].decode("latin-1"),) if found else ()


def _chunks(exchange: Exchange, answer: Answer, written: list[str]) -> dict[str, Any]:
    """The fields of the row that tell when text arrived; `written` is what the model wrote in each piece."""
    reads, pieces = exchange.reads, answer.pieces
    fields: dict[str, Any] = {}
    if answer.first_event_read is not None:
        fields["first_chunk_ns"] = reads[answer.first_event_read].stamp_ns
    visible = next((piece.read for piece in pieces if piece.visible), None)
    if visible is not None:
        fields["first_visible_ns"] = reads[visible].stamp_ns
    if answer.last_choice_read is not None:
        fields["last_choice_ns"] = reads[answer.last_choice_read].stamp_ns
        fields["choice_chunks"] = answer.choice_chunks
    if not pieces or exchange.sent_ns is None:
        return fields
    arrivals: Sequence[Read] = [reads[piece.read] for piece in pieces]
    gaps = LogHistogram()
    # A read with user time may seem earlier than its predecessor with a kernel stamp by the clocks' errors: that
    # counts as no gap.
    gaps.add_all([later.stamp_ns - earlier.stamp_ns for earlier, later in pairwise(arrivals)])
    keys = sorted(gaps.counts)
    bounds = sorted(read.bound_ns for read in arrivals)
    if len(arrivals) <= CHUNKS_LISTED_MAX:
        fields["chunk_ns"] = tuple(read.stamp_ns - exchange.sent_ns for read in arrivals)
        fields["chunk_bound_ns"] = tuple(read.bound_ns for read in arrivals)
        fields["chunk_bytes"] = tuple([len(text.encode()) for text in written])
    return fields | {
        "first_content_ns": arrivals[0].stamp_ns,
        "last_content_ns": arrivals[-1].stamp_ns,
        "content_chunks": len(arrivals),
        "itl_keys": tuple(keys),
        "itl_counts": tuple(gaps.counts[key] for key in keys),
        "chunks_coalesced": len(pieces) - len({piece.read for piece in pieces}),
        "first_content_bound_ns": arrivals[0].bound_ns,
        "arrival_bound_ns_p50": int(nearest_rank(bounds, 0.5)),
        "arrival_bound_ns_max": bounds[-1],
    }
