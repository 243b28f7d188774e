"""The run folder: where a run's facts meet the analysis. Plain Parquet and JSON that anything can read.

    runs/<run_id>/
      manifest.json            what was asked for, by whom, on which clocks, and the ledger
      requests/*.parquet       one row per planned turn           (RequestRecord)
      tasks/*.parquet          look-ups of tasks                  (TaskRecord)
      snapshots/*.parquet      what was said of nodes             (NodeSnapshot)
      descriptions/*.parquet   operator, hardware and level of nodes, where told (NodeDescription)
      router/*.parquet         router status samples              (RouterSample)
      sessions/*.parquet       what was said of sessions          (SessionSample)
      charges/*.parquet        lines of a bill, when imported     (ChargeRecord)
      texts/*.parquet          what the answers said, when asked for (AnswerText)
      bodies/<outcome>/*.bin   raw bytes of failed answers
      close.json               what a --spool-only run planned, for `loadtest collect`
      imports/*.json           account of each import of stored snapshots
      spool/                   rows not yet acknowledged; empty after a good end
      joined/*.parquet, summary.json, summary.md, report.html, junit.xml

Files appear whole or not at all: they are written under a dotted name, flushed to disk, then renamed. Every
Parquet file carries the schema version; a reader that does not know it says so in one line.
pyarrow is imported inside functions: load processes import this module and must not import pyarrow.
"""

from __future__ import annotations

import functools
import json
import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loadtest.clock import utc_stamp
from loadtest.records import (
    SCHEMA_VERSION,
    TRUTH_VERSION,
    AnswerText,
    ChargeRecord,
    NodeDescription,
    NodeSnapshot,
    RequestRecord,
    RouterSample,
    SessionSample,
    TaskRecord,
    TruthRecord,
)

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
CLOSE = "close.json"
TABLES: dict[str, type[msgspec.Struct]] = {
    "requests": RequestRecord,
    "tasks": TaskRecord,
    "snapshots": NodeSnapshot,
    "descriptions": NodeDescription,
    "router": RouterSample,
    "sessions": SessionSample,
    "charges": ChargeRecord,
    "texts": AnswerText,
}
DISTINCT_TEXTS = ("conversation", "client_reference", "text_sha256", "task_id")  # few rows have the same one
_VERSION_KEY = b"loadtest_schema"


class RunFolderError(Exception):
    """A run folder cannot be read or written; the text is one line for the user: what, where, what to do."""


def new_run_id() -> str:
    """UTC time and four random hex digits: sorts by time, and two runs of one second differ."""
    return f"{utc_stamp()}-{os.urandom(2).hex()}"


def schema_name(record: type[msgspec.Struct]) -> str:
    """What files of a record type carry in their metadata: its name and version."""
    return f"{record.__name__}/{TRUTH_VERSION if record is TruthRecord else SCHEMA_VERSION}"


@functools.cache  # asked for every part of a run, and reading annotations costs a millisecond
def arrow_schema(record: type[msgspec.Struct]) -> pa.Schema:
    """The Parquet schema of a record type, from its annotations: one source for both."""
    import pyarrow as pa

    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    fields = []
    for name, hint in typing.get_type_hints(record).items():
        nullable = typing.get_origin(hint) in (typing.Union, types.UnionType)
        inner = next(a for a in typing.get_args(hint) if a is not type(None)) if nullable else hint
        is_list = typing.get_origin(inner) is tuple
        kind = pa.list_(scalars[typing.get_args(inner)[0]]) if is_list else scalars[inner]
        fields.append(pa.field(name, kind, nullable=nullable))
    return pa.schema(fields, metadata={_VERSION_KEY: schema_name(record).encode()})


def write_part(path: Path, records: Sequence[msgspec.Struct], record: type[msgspec.Struct]) -> None:
    """Write one Parquet file of `records`, all of type `record`, so that it appears whole or not at all."""
    write_table(path, table_of(records, record))


def table_of(records: Sequence[msgspec.Struct], record: type[msgspec.Struct]) -> pa.Table:
    """`records`, all of type `record`, as an Arrow table."""
    import pyarrow as pa

    schema = arrow_schema(record)
    return pa.table({name: [getattr(r, name) for r in records] for name in schema.names}, schema=schema)


def write_table(path: Path, table: pa.Table) -> None:
    """Write an Arrow table as one Parquet file that appears whole or not at all (zstd)."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial, compression="zstd", write_page_checksum=True, **encodings(table.schema))
    publish(partial, path)


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """How the columns of a table are written: options of pyarrow's writer, what any reader of Parquet knows.

    Of instants and latencies no two are alike: a dictionary of them is larger than they are. Integers are written as
    differences, which is a quarter smaller and takes two thirds of the time, in writing and in reading.
    """
    import pyarrow as pa

    leaves = {f"{each.name}.list.element" if pa.types.is_list(each.type) else each.name: each.type for each in schema}
    kinds = {leaf: kind.value_type if pa.types.is_list(kind) else kind for leaf, kind in leaves.items()}
    whole = [leaf for leaf, kind in kinds.items() if pa.types.is_int64(kind)]
    text = [leaf for leaf, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_dictionary(kind)]
    distinct = [leaf for leaf in text if leaf in DISTINCT_TEXTS]
    lengths_apart = dict.fromkeys(distinct, "DELTA_LENGTH_BYTE_ARRAY")  # hashes all have the same
    return {
        "use_dictionary": [leaf for leaf in text if leaf not in distinct],
        "column_encoding": dict.fromkeys(whole, "DELTA_BINARY_PACKED") | lengths_apart,
    }


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    publish(partial, path)


def write_asked(path: Path, text: str) -> None:
    """Write a file where the user asked for it. RunFolderError: it cannot be written there."""
    try:
        write_text(path, text)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror}); name another file") from None


def publish(partial: Path, path: Path) -> None:
    """Let a file that was written under another name appear: flushed to disk, then renamed."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)


def read_part(
    path: Path, record: type[msgspec.Struct], columns: list[str] | None = None, by_number: Sequence[str] = ()
) -> pa.Table:
    """Read one Parquet file of a record type; RunFolderError on a damaged file or another schema version.

    `by_number` names text columns that come as Arrow dictionaries: for texts of which a file has few.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = schema_name(record)
    # Flipped bytes surface as any Arrow error or as UnicodeDecodeError (a ValueError); without the page checksums
    # every sixth flip would go unseen and change a figure.
    unreadable = (pa.ArrowException, ValueError, OSError)
    try:
        file = pq.ParquetFile(path, read_dictionary=list(by_number), page_checksum_verification=True)
    except unreadable as error:
        raise RunFolderError(
            f"{path}: not a readable Parquet file ({_first_line(error)}); delete it or restore it"
        ) from None
    with file:
        try:
            schema = file.schema_arrow
            found = (schema.metadata or {}).get(_VERSION_KEY, b"none")
            if found != expected.encode():
                raise RunFolderError(
                    f"{path}: schema {printable(found)}, this version reads {expected}; "
                    f"use the loadtest version that wrote it"
                )
            if not _with_plain_text(schema).equals(arrow_schema(record)):
                raise RunFolderError(f"{path}: damaged (not the columns of {expected}); delete it or restore it")
            return file.read(columns=columns)
        except unreadable as error:
            raise RunFolderError(f"{path}: damaged ({_first_line(error)}); delete it or restore it") from None


def _with_plain_text(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    plain = [each.with_type(each.type.value_type) if pa.types.is_dictionary(each.type) else each for each in schema]
    return pa.schema(plain)


def read_table(run: Path, table: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of one table of a run folder, in file order; an empty table when there are no files."""
    import pyarrow as pa

    record = TABLES[table]
    parts = [read_part(path, record, columns) for path in part_paths(run, table)]
    if not parts:
        empty = arrow_schema(record).empty_table()
        return empty.select(columns) if columns is not None else empty
    return pa.concat_tables(parts)


def part_paths(run: Path, table: str) -> list[Path]:
    """The finished Parquet files of one table, in name order."""
    return sorted((run / table).glob("[!.]*.parquet"))


def read_truth(path: Path) -> pa.Table:
    """A simulator's truth log: one Parquet file, or a folder of them."""
    import pyarrow as pa

    paths = sorted(path.glob("[!.]*.parquet")) if path.is_dir() else [path]
    if not paths:
        raise RunFolderError(f"{path}: no truth log here; start the simulator with --truth FILE")
    return pa.concat_tables([read_part(p, TruthRecord) for p in paths])


def write_manifest(run: Path, manifest: dict[str, Any]) -> None:
    write_text(run / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def update_manifest(run: Path, **changes: Any) -> dict[str, Any]:
    """Change top-level keys of the manifest and return it. Writers take turns: plugin, then join, then report."""
    manifest = {**read_manifest(run), **changes}
    write_manifest(run, manifest)
    return manifest


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run folder; RunFolderError when it is missing, damaged or of another version."""
    path = run / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{run}: not a run folder (no {MANIFEST}); give the folder of one run") from None
    except (ValueError, OSError) as error:
        raise RunFolderError(f"{path}: unreadable ({_first_line(error)}); restore it or run again") from None
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        raise RunFolderError(
            f"{path}: schema version {version}, this version reads {SCHEMA_VERSION}; "
            "use the loadtest version that wrote it"
        )
    return manifest


def require_finished(run: Path) -> dict[str, Any]:
    """The manifest of a run whose rows are all stored; RunFolderError for one that is half written."""
    manifest = read_manifest(run)
    require_rows(run, manifest)
    if manifest.get("state") not in ("recorded", "joined", "reported"):
        raise RunFolderError(
            f"{run}: the run did not end (state {manifest.get('state')!r}); rows so far are in requests/ and spool/, "
            f"`loadtest join --partial` uses them"
        )
    return manifest


def require_rows(run: Path, manifest: dict[str, Any]) -> None:
    """RunFolderError for a run whose rows were removed, or are not in it yet: it would look like an empty one."""
    if manifest.get("pruned"):
        raise RunFolderError(
            f"{run}: its rows were removed by `loadtest prune`; its summary.json and report.html are what is left"
        )
    if manifest.get("state") == "spooled":
        raise RunFolderError(f"{run}: its rows are in the workers' spools; run `loadtest collect {run} SPOOL...` first")


def printable(told: bytes | str) -> str:
    """What a file says of itself, in one line whatever it is."""
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else told
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
