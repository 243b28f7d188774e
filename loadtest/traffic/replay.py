"""A recorded trace: when each request came, and how many tokens went in and out.

The format is that of the Azure LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
ROWS_MAX = 5_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class TraceError(ValueError):
    """One line: 'file: row N: what is wrong, what to do'. Row 1 is the header."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The rows of a trace, in order; `due_us` counts from the first row, divided by the speed."""

    due_us: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]

    @classmethod
    def load(cls, path: str | Path, limit: int | None = None, speed: float = 1.0) -> Trace:
        """Read the first `limit` rows of a CSV file, played `speed` times as fast. Raises TraceError."""
        if not 0 < speed < math.inf:
            raise TraceError(f"{path}: speed must be a number > 0, got {speed:g}")
        if limit is not None and limit < 1:
            raise TraceError(f"{path}: limit must be >= 1, got {limit}")
        try:
            with Path(path).open(newline="", encoding="utf-8-sig") as lines:
                return cls.from_rows(_read(str(path), csv.reader(lines), min(limit or ROWS_MAX, ROWS_MAX), speed))
        except OSError as error:
            raise TraceError(f"{path}: cannot be read ({error.strerror}), name a CSV file") from None
        except (UnicodeDecodeError, csv.Error):
            raise TraceError(f"{path}: is not CSV text in UTF-8, name a CSV file") from None

    def rows(self) -> list[tuple[int, int, int]]:
        """(due_us, prompt tokens, output tokens) per row: plain integers, to send to workers."""
        return list(zip(self.due_us, self.prompt_tokens, self.output_tokens, strict=True))

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int]]) -> Trace:
        """The trace whose `rows()` these are."""
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return cls(tuple(columns[0]), tuple(columns[1]), tuple(columns[2]))


def _read(path: str, reader: Iterable[list[str]], limit: int, speed: float) -> list[tuple[int, int, int]]:
    numbered = ((number, row) for number, row in enumerate(reader, start=1) if row)
    _, header = next(numbered, (1, []))
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise TraceError(f"{path}: row 1: no column {', '.join(missing)}; the header must name {','.join(COLUMNS)}")
    places = [header.index(name) for name in COLUMNS]
    rows: list[tuple[int, int, int]] = []
    first = latest = 0
    for number, row in islice(numbered, limit):
        if len(row) <= max(places):
            raise TraceError(f"{path}: row {number}: has {len(row)} fields, the header has {len(header)}")
        at, prompt, output = (row[place] for place in places)
        instant = _instant(path, number, at)
        if not rows:
            first = latest = instant
        if instant < latest:
            raise TraceError(f"{path}: row {number}: TIMESTAMP is earlier than the row before, sort the file by time")
        latest = instant
        tokens = _tokens(path, number, COLUMNS[1], prompt), _tokens(path, number, COLUMNS[2], output)
        rows.append((int((instant - first) / speed), *tokens))
    if not rows:
        raise TraceError(f"{path}: row 2: there is no data row, name a trace with at least one")
    return rows


def _instant(path: str, number: int, text: str) -> int:
    """Integer microseconds since 1970; digits beyond the sixth are cut. A stamp without a zone counts as UTC."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise TraceError(
            f"{path}: row {number}: TIMESTAMP {text!r:.60} is not a date and time such as 2023-11-16 18:15:46.680590"
        ) from None
    return (instant.replace(tzinfo=instant.tzinfo or UTC) - _EPOCH) // _MICROSECOND


def _tokens(path: str, number: int, column: str, text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and 1 <= len(digits) <= 9 and int(digits) >= 1):
        raise TraceError(f"{path}: row {number}: {column} must be a whole number >= 1, got {text!r:.60}")
    return int(digits)
