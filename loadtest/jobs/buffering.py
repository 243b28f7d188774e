"""Does a stream really stream? Told from how the pieces of one answer are spread over its reads. Pure."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from loadtest.client.exchange import Read
from loadtest.jobs.verdicts import Heard, Level, Row, first_text_ms, took_ms

PIECES_MIN = 4  # fewer say nothing about how they are sent
LUMP = 4  # so many pieces per read are not what a server writes one by one
WHOLE_SHARE = 0.1  # of the answer's time; all text within it is one burst
HEADERS_SHARE = 0.9
TOO_FAST_MS = 20.0  # several pieces may be born between two looks of ours
GAP_MS_MIN = 5.0  # reads closer together are a fast server, not a buffer that fills
STALLED_SHARE = 0.25


def streaming(heard: Heard) -> Row:
    """A slow node has a late first piece and then one piece per read; a buffer hands over many at once."""
    answer, exchange = heard.answer, heard.exchange
    if not answer.streamed:
        seen = f"{heard.form()} in one piece where a stream was asked for"
        return Row("stream", Level.FAIL, seen, "there is no TTFT, TPOT or ITL")
    pieces, total_ms = len(answer.pieces), took_ms(heard)
    reads = [exchange.reads[index] for index in sorted({piece.read for piece in answer.pieces})]
    seen = f"{pieces} pieces of text in {len(reads)} reads over {total_ms:.0f} ms"
    if pieces < PIECES_MIN:
        cost = "TTFT says when the answer was ready, and there is no ITL"
        return Row("stream", Level.WARN, f"{seen}: the answer came nearly whole", cost)
    first = f", first text after {first_text_ms(heard):.0f} ms"
    if pieces < LUMP * len(reads):
        return Row("stream", Level.PASS, seen + first)
    if total_ms < TOO_FAST_MS:
        return Row("stream", Level.CANNOT_TELL, f"{seen}: too fast to tell a buffer from a server in a hurry")
    if max(read.bound_ns for read in reads) / 1e6 > STALLED_SHARE * total_ms:
        return Row("stream", Level.CANNOT_TELL, f"{seen}, but this machine stalled; try again when it is idle")
    return _lumped(heard, seen + first, reads, total_ms)


def _lumped(heard: Heard, seen: str, reads: list[Read], total_ms: float) -> Row:
    exchange = heard.exchange
    if (reads[-1].stamp_ns - reads[0].stamp_ns) / 1e6 <= WHOLE_SHARE * total_ms:
        headers_ms = ((exchange.headers_ns or 0) - (exchange.sent_ns or 0)) / 1e6
        late = headers_ms >= HEADERS_SHARE * total_ms
        who = (
            "buffered: headers and text came together at the end, so a proxy holds the answer back"
            if late
            else f"buffered: headers after {headers_ms:.0f} ms, all text at the end; a proxy or the server gathers it"
        )
        return Row("stream", Level.FAIL, f"{who}; {seen}", "TTFT is that of the whole answer, ITL and TPOT are void")
    gap_ms = median(b.stamp_ns - a.stamp_ns for a, b in pairwise(reads)) / 1e6
    if gap_ms < GAP_MS_MIN:
        return Row("stream", Level.PASS, seen)
    block = max(b.body_end - a.body_end for a, b in pairwise(reads))
    who = f"buffered: blocks of about {block} bytes, one every {gap_ms:.0f} ms; a proxy fills its buffers first"
    return Row("stream", Level.FAIL, f"{who}; {seen}", "TTFT is late by up to a block, ITL and TPOT are void")
