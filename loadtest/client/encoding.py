"""Bodies that a server compressed although we asked for none: unpacked after the end, the times of the reads kept.

The reads are unpacked one by one, so `body_end` of a read counts the bytes that could be had once it was there: an
event of a compressed stream arrives with the read that brought the last compressed byte it needs.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from loadtest.client.exchange import End, Ended, Exchange

_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class Unpacked(NamedTuple):
    """The body as far as it could be unpacked, its length after each read, and what kept it from being whole."""

    body: bytes
    ends: list[int]
    ended: Ended | None


def unpack_answer(exchange: Exchange) -> None:
    """Replace the body of a finished exchange by what its Content-Encoding hides; the headers stay as they came.

    What cannot be unpacked ends as BAD_HTTP with a kind that names the encoding, and more than
    `response_bytes_max` as TOO_LARGE. A status that says no is left to speak for itself, without the body.
    """
    encoding = (exchange.header(b"content-encoding") or b"").strip().lower()
    if not exchange.body or encoding in (b"", b"identity"):
        return
    whole = exchange.end is End.COMPLETE
    body_ends = [read.body_end for read in exchange.reads]
    exchange.body, ends, ended = unpack(encoding, exchange.body, body_ends, exchange.response_bytes_max)
    exchange.reads = [read._replace(body_end=end) for read, end in zip(exchange.reads, ends, strict=True)]
    if ended is not None and whole and exchange.status is not None and 200 <= exchange.status < 300:
        exchange.end, exchange.error_kind, exchange.error_text = ended.end, ended.kind, ended.text


def unpack(encoding: bytes, body: bytes, body_ends: Sequence[int], bytes_max: int) -> Unpacked:
    """`body_ends` are the offsets in `body` at which its reads ended."""
    if encoding in (b"gzip", b"x-gzip"):
        wbits = _GZIP
    elif encoding == b"deflate":
        # By the standard it has a zlib header; some servers leave that out.
        zlib_header = len(body) >= 2 and body[0] & 15 == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0
        wbits = zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS
    else:
        known = encoding.decode("ascii", "replace") if encoding in (b"br", b"zstd", b"compress") else "other"
        told = Ended(End.BAD_HTTP, f"encoding_{known}", "the server compressed the answer unasked: only gzip is read")
        return Unpacked(b"", [0] * len(body_ends), told)
    out = bytearray()
    ends: list[int] = []
    ended: Ended | None = None
    stream, begun = zlib.decompressobj(wbits), 0
    for end in body_ends:
        data, begun = body[begun:end], end
        while data and ended is None:
            try:
                out += stream.decompress(data, bytes_max + 1 - len(out))
            except zlib.error as error:
                ended = Ended(End.BAD_HTTP, "encoding_damaged", f"the compressed answer is damaged: {error}")
            data = stream.unused_data
            if len(out) > bytes_max:
                del out[bytes_max:]
                ended = Ended(End.TOO_LARGE, "", f"more than {bytes_max} bytes once unpacked")
            elif stream.eof and wbits == _GZIP and data.startswith(_MAGIC):
                stream = zlib.decompressobj(wbits)  # one gzip file may follow another
            elif stream.eof:
                break  # what follows the end is none of ours
        ends.append(len(out))
    if ended is None and not stream.eof:
        ended = Ended(End.EOF, "", "the compressed answer has no end")
    return Unpacked(bytes(out), ends, ended)
