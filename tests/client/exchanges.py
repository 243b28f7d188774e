"""Exchanges as a reactor would leave them, made by hand."""

from __future__ import annotations

from loadtest.client.exchange import Deadlines, End, Endpoint, Exchange, Read
from loadtest.client.routes import Call
from loadtest.records import Outcome, RequestRecord

SENT_NS = 1_000_000_000
MS = 1_000_000
SSE = "text/event-stream"
JSON = "application/json"
HTML = "text/html"


def exchange(
    body: bytes = b"",
    *,
    status: int | None = 200,
    kind: str = SSE,
    end: End = End.COMPLETE,
    error_text: str = "",
    ends: tuple[int, ...] | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    request: bytes = b"POST / HTTP/1.1\r\n\r\n{}",
) -> Exchange:
    """The body arrived in reads that ended at `ends`, 10 ms apart, each 1 ms wide more than the one before."""
    made = Exchange(Endpoint("127.0.0.1", 5010), request, Deadlines(1, 1, 1, 1), 1 << 20)
    made.started_ns = SENT_NS - MS
    made.sent_ns, made.sent_last_ns = SENT_NS, SENT_NS + MS
    made.status, made.end, made.error_text, made.body = status, end, error_text, body
    if status is not None:
        made.headers = [(b"content-type", kind.encode()), *headers]
        offsets = ends if ends is not None else (len(body),)
        made.reads = [
            Read(SENT_NS + 10 * MS * number, MS * number, offset, True) for number, offset in enumerate(offsets, 1)
        ]
        made.headers_ns = made.reads[0].stamp_ns
    made.bytes_received = len(body) + 100
    made.done_ns = SENT_NS + 10 * MS * (len(made.reads) + 1)
    return made


def call(*, stream: bool = True) -> Call:
    return Call((("user", "hi"),), 64, stream, "12", "run-7", 120.0, "127.0.0.1:5010")


def started() -> RequestRecord:
    return RequestRecord(
        run="r",
        worker=0,
        seq=1,
        arrival=1,
        conversation="c",
        turn=0,
        turns_planned=1,
        persona="p",
        target="t",
        route="cortensor",
        model="m",
        session="12",
        client_reference="run-7",
        phase="measure",
        scheduled_ns=SENT_NS - 2 * MS,
        prompt_tokens_planned=1,
        output_tokens_max=64,
        stream=True,
        outcome=str(Outcome.LOST),
    )
