"""The spool: what a worker writes at once and the collector reads later, as bytes both sides agree on.

A spool is an append-only file of entries: length (4 bytes, big endian), CRC-32 (4 bytes), payload. The first
byte of the payload is the kind, the rest is msgpack. A torn last entry (the process was killed, the disk was
full) ends the readable part. Byte offsets into the file number the data on the wire as in TCP: a frame is a slice
of whole entries, an acknowledgement is the offset up to which everything has arrived.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loadtest.records import AnswerText, RequestRecord

ENTRY_BYTES_MAX = 8 << 20  # a row with 100,000 chunks is 2 MB
_HEAD = 8


class Started(msgspec.Struct, frozen=True, array_like=True):
    """A turn is about to be sent. `record` is the row to store should nothing more be heard: outcome `lost`."""

    record: RequestRecord


class Finished(msgspec.Struct, frozen=True, array_like=True):
    """A turn has ended: its final row, which replaces the started one of the same worker and seq."""

    record: RequestRecord


class Body(msgspec.Struct, frozen=True, array_like=True):
    """The first bytes of a failed answer."""

    worker: int
    seq: int
    outcome: str
    body: bytes


class Text(msgspec.Struct, frozen=True, array_like=True):
    """What an answer said, in runs that keep it."""

    record: AnswerText


Entry = Started | Finished | Body | Text
_KINDS: dict[bytes, type[Entry]] = {b"s": Started, b"f": Finished, b"b": Body, b"t": Text}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_encoder = msgspec.msgpack.Encoder()
_decoders = {letter: msgspec.msgpack.Decoder(kind) for letter, kind in _KINDS.items()}


class SpoolError(Exception):
    """Bytes that are not a spool; one line with the offset."""


def pack(entry: Entry) -> bytes:
    """One entry as bytes, ready for one write."""
    payload = _LETTERS[type(entry)] + _encoder.encode(entry)
    return len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big") + payload


def unpack(data: bytes) -> Iterator[Entry]:
    """The entries of a frame; SpoolError when it does not consist of whole, undamaged entries."""
    offset = 0
    while offset < len(data):
        end = entry_end(data, offset)
        if end is None:
            raise SpoolError(f"torn entry at byte {offset} of {len(data)}")
        payload = data[offset + _HEAD : end]
        decoder = _decoders.get(payload[:1])
        if decoder is None:
            raise SpoolError(f"entry of unknown kind {payload[:1]!r} at byte {offset}")
        try:
            yield decoder.decode(payload[1:])
        except msgspec.DecodeError as error:
            raise SpoolError(f"entry at byte {offset} does not decode: {error}") from None
        offset = end


def entry_end(data: bytes, offset: int) -> int | None:
    """Where the entry at `offset` ends, or None when it is torn or damaged."""
    if offset + _HEAD > len(data):
        return None
    length = int.from_bytes(data[offset : offset + 4], "big")
    end = offset + _HEAD + length
    if not 1 <= length <= ENTRY_BYTES_MAX or end > len(data):
        return None
    intact = zlib.crc32(data[offset + _HEAD : end]) == int.from_bytes(data[offset + 4 : offset + _HEAD], "big")
    return end if intact else None


def whole_entries(data: bytes) -> int:
    """Length of the leading part of `data` that is whole entries, so that a frame never cuts one."""
    offset = 0
    while (end := entry_end(data, offset)) is not None:
        offset = end
    return offset


def read_from(path: Path, offset: int, bytes_max: int) -> bytes:
    """Up to `bytes_max` bytes of whole entries of a spool file from `offset`; empty at its readable end.

    An entry larger than `bytes_max` is returned alone, so that reading always advances.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(bytes_max)
        length = whole_entries(data)
        if length == 0 and len(data) == bytes_max:
            data += file.read(ENTRY_BYTES_MAX)
            length = entry_end(data, 0) or 0
    return data[:length]
