"""Files in which others store snapshots, row by row: JSON, JSON lines, CSV, Parquet, SQLite; told apart by content.

A file is never held whole. What cannot be read is a `Found` with its place and reason, never an exception and never
left out; StoredFileError is for a file of which nothing can be read.
"""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from loadtest.observe.stored_json import NOT_TEXT, Found, all_text, json_values
from loadtest.observe.stored_names import INSTANT_NAMES, NODE_NAMES, field_word

LINE_CHARS_MAX = 1 << 20
ROW_GROUP_BYTES_MAX = 1 << 29  # of a Parquet file, unpacked: its reader holds about one
BATCH_ROWS = 5_000


class StoredFileError(Exception):
    """Nothing can be read of a file; the text is one line: what, where, what to do."""


class Wanted(NamedTuple):
    """By which columns tables are chosen: words `needed` for a `what`, and `better` where any table has them."""

    what: str
    needed: frozenset[str]
    better: frozenset[str]


SNAPSHOTS = Wanted("node", frozenset(NODE_NAMES), frozenset(INSTANT_NAMES))


def stored_rows(path: Path, wanted: Wanted = SNAPSHOTS) -> Iterator[Found]:
    """What stands in a file: JSON values, or a dict per row of a table."""
    if path.exists() and not path.is_file():  # its beginning would be gone when it is read, or never come
        raise StoredFileError(f"{path}: no regular file; store what it gives, and import that")
    try:
        with path.open("rb") as file:
            head = file.read(4_096)
    except OSError as error:
        raise StoredFileError(f"{path}: {error.strerror}; give a file of snapshots") from None
    if head.startswith(b"PAR1"):
        return _parquet(path)
    if head.startswith(b"SQLite format 3\0"):
        return _sqlite(path, wanted)
    if b"\0" in head:
        raise StoredFileError(f"{path}: neither JSON, CSV, Parquet nor SQLite; unpack it first if it is packed")
    looks = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return _text(path, json_values if looks in (b"{", b"[") else _csv)


def _text(path: Path, read: Any) -> Iterator[Found]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield from read(file)


def _csv(file: TextIO) -> Iterator[Found]:
    """Rows as a spreadsheet counts them: the header is row 1."""
    header: list[str] = []
    row = 0
    lines = csv.reader(_lines(file), strict=True)
    while True:
        row += 1
        try:
            fields = next(lines)
        except StopIteration:
            if row < 3:
                yield Found(f"row {row}", None, "a header and at least one row are expected")
            return
        except csv.Error as error:
            yield Found(f"row {row}", None, f"not CSV ({str(error)[:100]}); what follows was not read")
            return
        if not header:
            header = [name.strip() for name in fields]
            words = [field_word(name) for name in header]
            if not all_text(header):
                yield Found("row 1", None, f"{NOT_TEXT}, in the names of the columns; nothing was read")
                return
            if not all(words) or len(set(words)) < len(words):
                yield Found("row 1", None, "the names of the columns must differ and none be empty; nothing was read")
                return
        elif not all_text(fields):
            yield Found(f"row {row}", None, NOT_TEXT)
        elif len(fields) != len(header):
            if fields:
                yield Found(f"row {row}", None, f"{len(fields)} fields, the header has {len(header)}")
        else:
            yield Found(f"row {row}", dict(zip(header, fields, strict=True)))


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(LINE_CHARS_MAX + 1):
        if len(line) > LINE_CHARS_MAX:
            raise csv.Error(f"a line of more than {LINE_CHARS_MAX >> 20} MB")
        yield line


def _parquet(path: Path) -> Iterator[Found]:
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            for number in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(number).total_byte_size
                if size > ROW_GROUP_BYTES_MAX:
                    raise StoredFileError(
                        f"{path}: row group {number} has {size >> 20} MB, {ROW_GROUP_BYTES_MAX >> 20} MB are the most; "
                        "write it with smaller row groups"
                    )
            words = [word for name in file.schema_arrow.names if (word := field_word(name))]
            if len(set(words)) < len(words):
                yield Found("row 1", None, "the names of the columns must differ; nothing was read")
                return
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for value in _values(batch):
                    row += 1
                    mistake = value if isinstance(value, str) else ""
                    yield Found(f"row {row}", None if mistake else value, mistake)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        yield Found(f"row {row + 1}", None, f"damaged Parquet ({reason}); what follows was not read")


def _values(batch: pa.RecordBatch) -> list[Any]:
    """Each row as a dict, or as a text that says why it is none: an instant beyond what Python has, say."""
    try:
        values: list[Any] = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        values = [_value(batch.slice(row, 1)) for row in range(batch.num_rows)]
    return values


def _value(row: pa.RecordBatch) -> Any:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError:
        return NOT_TEXT
    except (pa.ArrowException, ValueError, OverflowError) as error:
        return f"cannot be read ({(str(error).splitlines() or [''])[0][:120]})"


def _sqlite(path: Path, wanted: Wanted) -> Iterator[Found]:
    where = "the file"
    try:
        # Never written to, also not by a clean-up of the journal: it may be a live one of somebody else.
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as base:
            base.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            tables, bad = _tables(base)
            for name in bad:
                yield Found(f"table {name}", None, f"{NOT_TEXT}, in its name or a column's; the table was not read")
            of_node = [name for name, words in tables.items() if words & wanted.needed]
            # Without an instant in any of them --observed-at may tell it.
            chosen = [name for name in of_node if tables[name] & wanted.better] or of_node
            if not chosen and not bad:
                there = ", ".join(list(tables)[:10]) or "none"
                raise StoredFileError(f"{path}: no table has a column for the {wanted.what}; tables: {there}")
            for name in tables:
                if name not in chosen:
                    yield Found("", None, note=f"table {name}")
            for name in chosen:
                where = f"{name} row 1"
                rows = base.execute(f"SELECT * FROM {_quoted(name)}")  # in the order of the table
                columns = [column[0] for column in rows.description]
                for number, values in enumerate(rows, start=1):
                    where = f"{name} row {number + 1}"
                    value = {column: _utc(entry) for column, entry in zip(columns, values, strict=True)}
                    yield Found(f"{name} row {number}", value, "" if all_text(value.values()) else NOT_TEXT)
    except sqlite3.Error as error:
        yield Found(where, None, f"SQLite cannot read it ({str(error)[:120]}); what follows was not read")


def _tables(base: sqlite3.Connection) -> tuple[dict[str, set[str]], list[str]]:
    """(words of the columns by table, tables that Python cannot ask for), SQLite's own left out."""
    tables, bad = {}, []
    for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"):
        columns = [name]
        if all_text(columns):
            columns += [column[1] for column in base.execute(f"PRAGMA table_info({_quoted(name)})")]
        if all_text(columns):
            tables[name] = {field_word(column) for column in columns[1:]}
        else:
            bad.append(name)
    return tables, bad


def _utc(value: Any) -> Any:
    """SQLite's CURRENT_TIMESTAMP is UTC and does not say so."""
    return f"{value}Z" if isinstance(value, str) and _CURRENT_TIMESTAMP.fullmatch(value) else value


_CURRENT_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
