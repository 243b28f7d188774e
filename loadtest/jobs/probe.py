"""The requests of `loadtest check`: few, bounded, and sent by the reactor that times a run.

Everything is called from the main greenlet, so gevent's hub runs whenever a request waits.
"""

from __future__ import annotations

from msgspec.structs import replace

from loadtest.client.answers import Answer
from loadtest.client.exchange import Deadlines, Endpoint, Exchange
from loadtest.client.reactor import Reactor
from loadtest.client.routes import ROUTES, Call
from loadtest.clock import Deadline
from loadtest.jobs.verdicts import Heard
from loadtest.records import Target

REQUESTS_MAX = 15  # per target
TARGET_S_MAX = 120.0
CONNECT_S = 5.0
SHORT_S = 15.0  # control routes, refusals
COMPLETION_S = 60.0  # 128 tokens of a node that makes 3 a second
RESPONSE_BYTES_MAX = 4 << 20
CUT_BYTES = 1_000  # headers and a handful of chunks
LONG_TOKENS = 128
SHORT_TOKENS = 8
BODY_BYTES = (1 << 20) + 1_000  # just above nginx's default limit of 1 MiB
WRONG_KEY = "wrong-key-sent-by-loadtest-check"
NO_SESSION = "999999999"
NO_MODEL = "no-such-model-asked-for-by-loadtest-check"
MALFORMED = b'{"prompt": "hel'
QUESTION = "Describe the sea at dawn in at least two hundred words."


class OutOfBudget(Exception):
    """The requests or the time of this target are used up."""


class Probe:
    """Asks one target. `sent` holds every request in order, the last ones may be missing when the budget is out."""

    def __init__(self, reactor: Reactor, target: Target, endpoint: Endpoint, key: str | None) -> None:
        self._reactor = reactor
        self._target = target
        self._endpoint = endpoint
        self._key = key
        self._deadline = Deadline(TARGET_S_MAX)
        self.sent: list[Heard] = []

    def get(self, path: str) -> Heard:
        """A control route with the target's key. A `path` that would break the request line is the caller's fault."""
        head = f"GET {path} HTTP/1.1\r\nHost: {self._endpoint.authority}\r\nAccept: application/json\r\n"
        head += "User-Agent: router-loadtest\r\nAccept-Encoding: identity\r\n"
        if self._key:
            head += f"Authorization: Bearer {self._key}\r\n"
        exchange = self._run(f"{head}\r\n".encode("ascii"), SHORT_S, RESPONSE_BYTES_MAX)
        return self._heard(exchange, Answer())

    def long(self) -> Heard:
        """An answer long enough to see how it is sent."""
        return self._complete(self._call(LONG_TOKENS if self._target.stream else SHORT_TOKENS), COMPLETION_S)

    def cut(self) -> Heard:
        """The same, closed by us after a few pieces of text: `TOO_LARGE` when there was something left to cut."""
        return self._complete(self._call(LONG_TOKENS), COMPLETION_S, bytes_max=CUT_BYTES)

    def short(self) -> Heard:
        return self._complete(self._call(SHORT_TOKENS), COMPLETION_S)

    def with_wrong_key(self) -> Heard:
        return self._complete(self._call(1, stream=False), SHORT_S, key=WRONG_KEY)

    def of_nobody(self) -> Heard:
        """A session, or on routes without sessions a model, that does not exist."""
        call = self._call(1, stream=False)
        if self.has_sessions:
            return self._complete(call._replace(session=NO_SESSION), SHORT_S)
        return self._complete(call, SHORT_S, target=replace(self._target, model=NO_MODEL))

    def malformed(self) -> Heard:
        """A body that ends in the middle of its JSON."""
        call = self._call(1, stream=False)
        return self._send(call, with_body(self._build(call), MALFORMED), SHORT_S)

    def large(self) -> Heard:
        """A short prompt in a body of BODY_BYTES: the rest is white space, so that no model has to read it."""
        call = self._call(1, stream=False)
        request = self._build(call)
        body = request.partition(b"\r\n\r\n")[2]
        return self._send(call, with_body(request, body + b" " * (BODY_BYTES - len(body))), SHORT_S)

    @property
    def has_sessions(self) -> bool:
        return ROUTES[self._target.route].has_tasks

    def _call(self, tokens: int, *, stream: bool | None = None) -> Call:
        return Call(
            messages=(("user", QUESTION),),
            output_tokens_max=tokens,
            stream=self._target.stream if stream is None else stream,
            session=self._target.sessions[0] if self._target.sessions else None,
            client_reference=f"loadtest-check.{len(self.sent)}",
            timeout_s=min(self._target.timeout_s, COMPLETION_S),
            host_header=self._endpoint.authority,
        )

    def _build(self, call: Call, *, target: Target | None = None, key: str | None = None) -> bytes:
        chosen = target or self._target
        return ROUTES[chosen.route].build(chosen, call, key or self._key)

    def _complete(
        self,
        call: Call,
        seconds: float,
        *,
        target: Target | None = None,
        key: str | None = None,
        bytes_max: int = RESPONSE_BYTES_MAX,
    ) -> Heard:
        return self._send(call, self._build(call, target=target, key=key), min(seconds, call.timeout_s), bytes_max)

    def _send(self, call: Call, request: bytes, seconds: float, bytes_max: int = RESPONSE_BYTES_MAX) -> Heard:
        exchange = self._run(request, seconds, bytes_max)
        return self._heard(exchange, ROUTES[self._target.route].read(call, exchange))

    def _heard(self, exchange: Exchange, answer: Answer) -> Heard:
        heard = Heard(exchange, answer, self._key or "")
        self.sent.append(heard)
        return heard

    def _run(self, request: bytes, seconds: float, bytes_max: int) -> Exchange:
        if len(self.sent) >= REQUESTS_MAX or self._deadline.over():
            raise OutOfBudget(f"{len(self.sent)} requests sent, {self._deadline.left_s():.0f} s left")
        total_s = min(seconds, self._deadline.left_s())
        deadlines = Deadlines(connect_s=CONNECT_S, first_byte_s=total_s, gap_s=total_s, total_s=total_s)
        exchange = Exchange(self._endpoint, request, deadlines, bytes_max)
        self._reactor.run(exchange)
        return exchange


def with_body(request: bytes, body: bytes) -> bytes:
    """The same request with another body."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*kept, b"Content-Length: %d" % len(body), b"", body])
