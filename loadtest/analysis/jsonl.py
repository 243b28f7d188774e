"""requests.jsonl: one JSON object for each planned turn, for programs that read lines and not Parquet.

The fields are the columns of joined/requests.parquet by their names: those of `records.RequestRecord` but its lists,
the node that served the turn and what was known of it, and the service metrics in ms; docs/requests-jsonl.md says what
each is. What did not happen is null. Read and written a batch at a time, so a run of any size takes little memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from loadtest.analysis.frames import JOINED_REQUESTS, joined_errors, require_joined_version
from loadtest.runfolder import publish

FILE = "requests.jsonl"
BATCH_ROWS = 10_000


def write_jsonl(run: Path) -> Path:
    """Write RUN/requests.jsonl, whole or not at all; RunFolderError when the run is not joined or damaged."""
    path = run / FILE
    partial = path.with_name(f".{path.name}.partial")
    encoder = msgspec.json.Encoder()
    try:
        with partial.open("wb") as out:
            for rows in _batches(run / JOINED_REQUESTS):
                out.write(b"".join(encoder.encode(_without_nan(row)) + b"\n" for row in rows))
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _batches(source: Path) -> Iterator[list[dict[str, Any]]]:
    with joined_errors(source), pq.ParquetFile(source, page_checksum_verification=True) as file:
        require_joined_version(source, file.schema_arrow.metadata)
        for batch in file.iter_batches(BATCH_ROWS):
            yield batch.to_pylist()


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a metric that a turn does not have is null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
