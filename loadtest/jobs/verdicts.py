"""What the answers of `loadtest check` mean: pure functions from exchanges to rows of its table.

Every row says what was seen and, when that is less than it should be, what it costs the measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from loadtest.client.answers import Answer
from loadtest.client.errortext import normalise
from loadtest.client.exchange import End, Exchange
from loadtest.client.outcomes import classify
from loadtest.records import Outcome
from loadtest.runfolder import printable

UNREACHED = (End.CONNECT_ERROR, End.DNS_ERROR, End.TIMEOUT_CONNECT)
CERTIFICATE_DAYS_MIN = 14
SLOWER_MAX = 3.0  # after a cancelled request the first text may take this much longer,
SLOWER_MS = 1_000.0  # and this on top, before it counts: answers of one node differ
BALANCE_FIELDS = ("balance", "session_balance", "remaining_balance", "funds", "credits")


class Level(StrEnum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    CANNOT_TELL = "cannot tell"


class Row(NamedTuple):
    """One line of the table. `cost` is what it means for a run, "" when nothing."""

    check: str
    level: Level
    seen: str
    cost: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request of the check: what came on the wire and, from a completion route, what it says."""

    exchange: Exchange
    answer: Answer
    key: str = field(default="", repr=False)  # sent with it, to be struck out of what the peer says

    @property
    def status(self) -> int | None:
        return self.exchange.status

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def refused_key(self) -> bool:
        return self.status in (401, 403)

    @property
    def ok(self) -> bool:
        return classify(self.exchange, self.answer).outcome == Outcome.OK

    def document(self) -> Any:
        """The JSON of the body, or None."""
        try:
            return msgspec.json.decode(self.exchange.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def told(self) -> str:
        """How it ended in a few words; what the peer said is normalised, so no secret is in it."""
        exchange = self.exchange
        if self.status is None:
            return f"no answer: {exchange.end} {normalise(exchange.error_text, (self.key,))}".strip()
        verdict = classify(exchange, self.answer)
        if verdict.outcome == Outcome.OK:
            return f"HTTP {self.status} {self.form()}"
        text = normalise(verdict.text, (self.key,))
        return f"HTTP {self.status} {self.form()}, {verdict.outcome} {verdict.kind}{': ' if text else ''}{text[:120]}"

    def form(self) -> str:
        if self.document() is not None:
            return "JSON"
        kind = (self.exchange.header(b"content-type") or b"").lower()
        if b"event-stream" in kind:
            return "a stream"
        return "HTML" if b"html" in kind or self.exchange.body.lstrip()[:1] == b"<" else "neither JSON nor HTML"


class Certificate(NamedTuple):
    """What a TLS handshake told: `error` when it failed, else the days until the certificate ends and the version."""

    error: str = ""
    days_left: float = 0.0
    version: str = ""


def reach(heard: Heard) -> Row:
    """A connection can be made; how long that takes is in every first request of a connection."""
    exchange = heard.exchange
    if exchange.end in UNREACHED:
        return Row("reach", Level.FAIL, heard.told(), "nothing can be measured; is it running, is the address right?")
    if exchange.connecting_ns is None or exchange.connected_ns is None:
        return Row("reach", Level.FAIL, heard.told(), "nothing can be measured")
    return Row("reach", Level.PASS, f"connected in {(exchange.connected_ns - exchange.connecting_ns) / 1e6:.1f} ms")


def tls(certificate: Certificate) -> Row:
    if certificate.error:
        return Row("tls", Level.FAIL, certificate.error, "every request ends as tls_error")
    seen = f"{certificate.version}, certificate valid for {certificate.days_left:.0f} more days"
    if certificate.days_left < CERTIFICATE_DAYS_MIN:
        return Row("tls", Level.WARN, seen, "runs after that end as tls_error: renew it first")
    return Row("tls", Level.PASS, seen)


def key(asked: Sequence[Heard], key_env: str | None, has_key: bool) -> Row:
    """`asked` are the requests with the target's own key."""
    refused = next((heard for heard in asked if heard.refused_key), None)
    name = key_env or "key_env of the profile"
    if refused is not None:
        what = f"{refused.told()} with the key of {name}" if has_key else f"{refused.told()}; {name} is not set"
        return Row("key", Level.FAIL, what, f"every request ends as auth_error: set {name}")
    if not any(heard.accepted for heard in asked):
        return Row("key", Level.CANNOT_TELL, "no request was answered well", "see the rows below")
    return Row("key", Level.PASS, f"the key of {name} is taken" if has_key else f"none asked for; {name} is not set")


def wrong_key(heard: Heard) -> Row:
    """A completion with a key that cannot be right."""
    if heard.refused_key:
        return Row("wrong key", Level.PASS, f"refused with HTTP {heard.status}")
    if heard.accepted:
        cost = "keys are not checked: a run cannot show that its own works, and anybody may load this beside it"
        return Row("wrong key", Level.WARN, f"taken: HTTP {heard.status}", cost)
    cost = "a wrong key does not show as auth_error but as what stands here"
    return Row("wrong key", Level.WARN, heard.told(), cost)


def info(heard: Heard, path: str, model: str) -> Row:
    """The route that says what stands there: models or router metadata."""
    document = heard.document()
    if not heard.accepted or not isinstance(document, dict):
        return Row("info", Level.WARN, f"GET {path}: {heard.told()}", "the run cannot record what it was made against")
    models = document.get("data")
    if isinstance(models, list):
        names = [_shown(each.get("id")) for each in models if isinstance(each, dict)]
        listed = "" if not model or model in names else f"; {model!r:.80} is not among them"
        return Row("info", Level.PASS, f"GET {path}: {len(names)} models, {', '.join(names[:3])}{listed}")
    told = ", ".join(f"{name} {_shown(document[name])}" for name in ("name", "version") if document.get(name))
    return Row("info", Level.PASS, f"GET {path}: {told or f'{len(document)} fields'}")


def completion(heard: Heard) -> Row:
    """A completion is answered at all, as every request of a run must be."""
    if not heard.ok:
        return Row("answer", Level.FAIL, heard.told(), "every request of a run would end like this")
    return Row("answer", Level.PASS, f"HTTP {heard.status}, {took_ms(heard):.0f} ms in all")


def end_marker(heard: Heard) -> Row:
    end = heard.answer.stream_end
    if not heard.answer.streamed:
        return Row("end marker", Level.CANNOT_TELL, "the answer was no stream")
    if end == "done_marker":
        return Row("end marker", Level.PASS, "data: [DONE]")
    if end == "finish_reason":
        cost = "what is cut after the finish reason (usage, late text) goes unnoticed"
        return Row("end marker", Level.WARN, "a finish reason, no [DONE]", cost)
    return Row("end marker", Level.FAIL, "neither [DONE] nor a finish reason", "every stream ends as truncated")


def usage(heard: Heard) -> Row:
    told = heard.answer.usage_completion_tokens
    cost = "tokens and TPOT are counted with our encoding, not the server's"
    if told is None:
        return Row("usage", Level.WARN, "not told", cost)
    if told == 0:
        return Row("usage", Level.WARN, "0 completion tokens told for an answer with text", cost)
    return Row("usage", Level.PASS, f"{heard.answer.usage_prompt_tokens} prompt and {told} completion tokens")


def cancellation(before: Heard, cut: Heard, after: Heard) -> Row:
    """`cut` was closed by us in mid-stream; `after` is the next request."""
    if cut.exchange.end is not End.TOO_LARGE:
        return Row("cancel", Level.CANNOT_TELL, f"nothing left to cancel: {cut.told()}")
    if not after.ok:
        cost = "cancelled requests harm the next ones: a stopped run leaves a broken target"
        return Row("cancel", Level.FAIL, f"the next request: {after.told()}", cost)
    usual_ms, next_ms = first_text_ms(before), first_text_ms(after)
    seen = f"first text of the next request after {next_ms:.0f} ms, before it {usual_ms:.0f} ms"
    if next_ms > SLOWER_MAX * usual_ms + SLOWER_MS:
        return Row("cancel", Level.WARN, seen, "cancelled work seems to go on and delays what follows")
    return Row("cancel", Level.PASS, seen)


def keep_alive(sent: Sequence[Heard]) -> Row:
    """All requests in order: one that follows a complete good answer should find its connection open."""
    followers = [b for a, b in pairwise(sent) if a.exchange.end is End.COMPLETE and a.accepted]
    used = sum(not heard.exchange.connection_new for heard in followers)
    if not followers:
        return Row("keep-alive", Level.CANNOT_TELL, "no request followed a complete answer")
    seen = f"{used} of {len(followers)} requests used the connection of the one before"
    if used < len(followers):
        return Row(
            "keep-alive",
            Level.WARN,
            seen,
            "the others connect first, which is send lag: part of response, not of service figures",
        )
    return Row("keep-alive", Level.PASS, seen)


def body_limit(heard: Heard, size: int) -> Row:
    """A body of `size` bytes is taken, or refused in so many words."""
    name, amount = "body limit", f"{size / 2**20:.1f} MiB"
    if heard.accepted:
        return Row(name, Level.PASS, f"{amount} is taken")
    if heard.status == 413:
        cost = f"prompts near {amount} end as client_error; keep the profile's below"
        return Row(name, Level.PASS, f"{amount} is refused with 413 {heard.form()}", cost)
    if heard.exchange.end in (End.EOF, End.RESET):
        return Row(name, Level.WARN, f"{amount}: {heard.told()}", "long prompts end as truncated, without a reason")
    return Row(name, Level.WARN, f"{amount}: {heard.told()}", "long prompts end as what stands here")


def error_body(check: str, heard: Heard) -> Row:
    """A client's mistake should come back as 4xx with JSON."""
    seen = heard.told()
    if heard.accepted:
        return Row(check, Level.WARN, seen, "the mistake is served like any request: a wrong profile goes unnoticed")
    if heard.status is None or heard.status >= 500:
        return Row(check, Level.WARN, seen, "a mistake of ours looks like a failure of the target")
    if heard.form() != "JSON":
        return Row(check, Level.WARN, seen, "a proxy answers here, or the error says nothing a program can read")
    return Row(check, Level.PASS, seen)


def balance(heard: Heard, path: str) -> Row:
    """What is left to pay with, if the session tells; no router is known to."""
    cost = "a session may run out of funds during a run; what a router answers then is not documented"
    document = heard.document()
    if not heard.accepted or not isinstance(document, dict):
        return Row("balance", Level.CANNOT_TELL, f"GET {path}: {heard.told()}", cost)
    field = next((name for name in BALANCE_FIELDS if document.get(name) is not None), None)
    if document.get("active") is False:
        return Row("balance", Level.WARN, "the session is not active", "requests of the run may not be served")
    if field is None:
        return Row("balance", Level.CANNOT_TELL, f"GET {path} tells none", cost)
    if str(document[field]) in ("0", "0.0"):
        return Row("balance", Level.WARN, f"{field} is 0", "requests of the run may not be served")
    return Row("balance", Level.PASS, f"{field} {_shown(document[field])}")


def _shown(told: object) -> str:
    """What a peer says, short and on one line."""
    return printable(str(told)[:60])


def took_ms(heard: Heard) -> float:
    exchange = heard.exchange
    return ((exchange.done_ns or 0) - (exchange.sent_ns or 0)) / 1e6


def first_text_ms(heard: Heard) -> float:
    """Sent to first text, or to the end of an answer without any."""
    exchange, pieces = heard.exchange, heard.answer.pieces
    if not pieces or exchange.sent_ns is None:
        return took_ms(heard)
    return (exchange.reads[pieces[0].read].stamp_ns - exchange.sent_ns) / 1e6
