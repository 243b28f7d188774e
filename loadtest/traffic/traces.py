"""The formats of traces, each an iterator over bounded pieces of a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import IO, Any, NamedTuple

import msgspec

BLOCK_TOKENS = 512  # of Mooncake's hash_ids (FAST'25 release, README)
LINE_CHARACTERS_MAX = 4 << 20
ELEMENT_CHARACTERS_MAX = 8 << 20
READ_CHARACTERS = 1 << 20
TEXT_CHARACTERS_MAX = 100_000
TOKENS_MAX = 999_999_999
AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")
_HUMAN, _MODEL = ("human", "user"), ("gpt", "chatgpt", "assistant", "bing", "bard")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Talk = list[tuple[str, str]]  # of each turn: what the person said, what the model answered


class TraceError(ValueError):
    """One line: 'file: row N: what is wrong, what to do'. Row 1 is the first line of the file."""


class Row(NamedTuple):
    """One request; `at_us` on the file's own clock, `blocks` the ids of its prompt where the format has them."""

    number: int
    at_us: int
    prompt_tokens: int
    output_tokens: int
    blocks: list[int] | None = None


def bounded_lines(path: str, file: IO[str]) -> Iterator[str]:
    """The lines of a file. TraceError for one that would fill the memory."""
    number = 0
    while line := file.readline(LINE_CHARACTERS_MAX):
        number += 1
        if len(line) == LINE_CHARACTERS_MAX:
            raise TraceError(f"{path}: row {number}: is longer than {LINE_CHARACTERS_MAX >> 20} MB, this is no trace")
        yield line


# CSV.


def table(path: str, lines: Iterable[str]) -> Iterator[Row | None]:
    """Azure's or BurstGPT's CSV, told apart by the header."""
    try:
        yield from _table(path, csv.reader(lines))
    except csv.Error as error:
        raise TraceError(f"{path}: is not CSV text ({error}), name a trace file") from None


def _table(path: str, reader: Iterable[list[str]]) -> Iterator[Row | None]:
    numbered = ((number, row) for number, row in enumerate(reader, start=1) if row)
    _, header = next(numbered, (1, []))
    columns = BURSTGPT if set(BURSTGPT) <= set(header) else AZURE
    missing = [name for name in columns if name not in header]
    if missing:
        raise TraceError(
            f"{path}: row 1: no column {', '.join(missing)}; the header must name {','.join(AZURE)} (Azure) or "
            f"{','.join(BURSTGPT)} (BurstGPT)"
        )
    places = [header.index(name) for name in columns]
    for number, row in numbered:
        if len(row) <= max(places):
            raise TraceError(f"{path}: row {number}: has {len(row)} fields, the header has {len(header)}")
        at, prompt, output = (row[place] for place in places)
        if columns is AZURE:
            tokens = (_tokens(path, number, columns[1], prompt, 1), _tokens(path, number, columns[2], output, 1))
            yield Row(number, _instant(path, number, at), *tokens)
            continue
        asked, answered = (_tokens(path, number, *each, 0) for each in zip(columns[1:], (prompt, output), strict=True))
        at_us = _seconds(path, number, at)
        # A request that failed, as the data set's README says; it tells no length to replay.
        yield Row(number, at_us, asked, answered) if asked and answered else None


def _instant(path: str, number: int, text: str) -> int:
    """Integer microseconds since 1970; digits beyond the sixth are cut. A stamp without a zone counts as UTC."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise TraceError(
            f"{path}: row {number}: TIMESTAMP {text!r:.60} is not a date and time such as 2023-11-16 18:15:46.680590"
        ) from None
    return (instant.replace(tzinfo=instant.tzinfo or UTC) - _EPOCH) // _MICROSECOND


def _seconds(path: str, number: int, text: str) -> int:
    whole, _, rest = text.strip().partition(".")
    digits = whole + rest
    if not (digits.isascii() and digits.isdigit() and len(whole) <= 12):
        raise TraceError(f"{path}: row {number}: Timestamp must be seconds such as 45 or 45.25, got {text!r:.60}")
    return int(whole or "0") * 1_000_000 + int(rest[:6].ljust(6, "0"))


def _tokens(path: str, number: int, column: str, text: str, least: int) -> int:
    digits = text.strip().removesuffix(".0")
    if not (digits.isascii() and digits.isdigit() and 1 <= len(digits) <= 9 and int(digits) >= least):
        raise TraceError(f"{path}: row {number}: {column} must be a whole number >= {least}, got {text!r:.60}")
    return int(digits)


# JSON.


class _Mooncake(msgspec.Struct):
    timestamp: float  # ms
    input_length: int
    output_length: int
    hash_ids: list[int] | None = None


_decode_row = msgspec.json.Decoder(_Mooncake).decode


def mooncake(path: str, lines: Iterable[str]) -> Iterator[Row | None]:
    """Mooncake's JSON lines; milliseconds may have a fraction. Rows that ask for or answer nothing are left out."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _decode_row(line)
        except msgspec.MsgspecError as error:
            raise TraceError(
                f"{path}: row {number}: {error}; a row is "
                '{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}'
            ) from None
        lengths = (row.input_length, row.output_length)
        if not (0 <= row.timestamp < 1e15 and all(0 <= length <= TOKENS_MAX for length in lengths)):
            raise TraceError(f"{path}: row {number}: timestamp and lengths must be numbers >= 0")
        ids = row.hash_ids
        if ids is not None:
            if any(not 0 <= each < 1 << 63 for each in ids):
                raise TraceError(f"{path}: row {number}: hash_ids must be whole numbers >= 0")
            if len(ids) * BLOCK_TOKENS < row.input_length:
                raise TraceError(
                    f"{path}: row {number}: {len(ids)} hash_ids of {BLOCK_TOKENS} tokens each do not cover "
                    f"{row.input_length} tokens"
                )
        at_us = round(row.timestamp * 1000)
        yield Row(number, at_us, *lengths, ids) if all(lengths) else None


def sharegpt(path: str, file: IO[str]) -> Iterator[Talk | None]:
    """The conversations of a JSON list, one after the other: such files have hundreds of megabytes."""
    for number, element in enumerate(_elements(path, file), start=1):
        said = element.get("conversations", element.get("messages")) if isinstance(element, dict) else None
        if not isinstance(said, list):
            raise TraceError(f'{path}: conversation {number}: has no list "conversations", as ShareGPT has')
        talk = _pairs(said)
        too_long = any(len(text) > TEXT_CHARACTERS_MAX for pair in talk for text in pair)
        yield talk if talk and not too_long else None


def _pairs(said: list[Any]) -> Talk:
    """Turns of a person and a model; what is out of turn is passed over."""
    talk: Talk = []
    asked = ""
    for each in said:
        if not isinstance(each, dict):
            continue
        speaker, text = each.get("from", each.get("role")), each.get("value", each.get("content"))
        if not isinstance(text, str) or not text.strip():
            continue
        if speaker in _HUMAN:
            asked = text
        elif speaker in _MODEL and asked:
            talk.append((asked, text))
            asked = ""
    return talk


def _elements(path: str, file: IO[str]) -> Iterator[Any]:
    """The values of a JSON list, decoded one at a time from a buffer of a few megabytes."""
    decode = json.JSONDecoder().raw_decode
    buffer, place = file.read(READ_CHARACTERS).lstrip()[1:], 0
    while True:
        while place < len(buffer) and buffer[place] in " \t\r\n,":
            place += 1
        if place < len(buffer) and buffer[place] == "]":
            return
        try:
            if place == len(buffer):
                raise ValueError
            value, end = decode(buffer, place)
            # A number or a word at the end of the buffer may go on in the next piece.
            if end == len(buffer) and not isinstance(value, dict | list):
                raise ValueError
        except ValueError:
            more = file.read(READ_CHARACTERS)
            if not more or len(buffer) - place > ELEMENT_CHARACTERS_MAX:
                raise TraceError(f"{path}: is not a whole JSON list of conversations") from None
            buffer, place = buffer[place:] + more, 0
            continue
        except RecursionError:
            raise TraceError(f"{path}: is nested too deeply, this is no trace") from None
        yield value
        place = end
