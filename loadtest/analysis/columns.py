"""The joined turns of a run as a frame that fits into memory: only the columns asked for, each in a narrow type.

Text becomes a category, a count an Int32 where it fits; instants and bounds stay Int64 and nothing becomes a float that
was none. 10 million turns take about 120 bytes each. Who reads them must not copy them: `requests[mask]` doubles the
memory, a mask over the array that a metric returns does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loadtest.analysis.asof import encoded
from loadtest.analysis.batches import one_ahead
from loadtest.analysis.frames import JOINED_REQUESTS, Mask, joined_errors, require_joined_version
from loadtest.runfolder import DISTINCT_TEXTS

# What the whole run is asked for (its account and its time series), and what the measured turns are.
OF_THE_RUN = (
    *("phase", "outcome", "error_kind", "turn", "stream", "clock_offset_ns", "scheduled_ns", "sent_ns", "done_ns"),
    *("first_content_ns", "last_content_ns", "usage_completion_tokens", "counted_tokens", "content_chunks"),
)
OF_MEASURED = (
    *OF_THE_RUN,
    *("arrival", "persona", "target", "session", "node", "connection_new", "connecting_ns"),
    *("prompt_tokens_planned", "output_tokens_max", "usage_prompt_tokens", "chunks_coalesced", "reads", "reads_kernel"),
    *("first_content_bound_ns", "arrival_bound_ns_p50", "arrival_bound_ns_max"),
    *("reputation", "reputation_session", "window_precommit_percent", "window_commit_percent", "level"),
    *("worker", "snapshot_age_s"),
)


def read_turns(run: Path, columns: Sequence[str], rows: Mask | None = None) -> pd.DataFrame:
    """Columns of the joined turns in their order, of some rows alone when `rows` says which.

    A row group is decoded while the one before it is put in its place: whole columns as Arrow has them are several
    times as large as what is kept of them, and every page of that is one the system has to find.
    RunFolderError: the run is not joined, or its joined table is damaged or of another version.
    """
    path = run / JOINED_REQUESTS
    with joined_errors(path):
        text = [
            each.name
            for each in pq.read_schema(path)
            if pa.types.is_string(each.type) and each.name not in DISTINCT_TEXTS
        ]
        # A pre-buffer would hold the whole file's bytes until its end.
        options = {"read_dictionary": text, "page_checksum_verification": True, "pre_buffer": False}
        with pq.ParquetFile(path, **options) as file:
            require_joined_version(path, file.schema_arrow.metadata)
            count = file.metadata.num_rows if rows is None else int(np.count_nonzero(rows))
            ranges = _ranges(file.metadata)
            kept = {name: _column(file.schema_arrow.field(name), count, ranges.get(name)) for name in columns}
            groups = (file.read_row_group(group, list(columns)) for group in range(file.num_row_groups))
            read = placed = 0
            for table in one_ahead(groups):
                own = None if rows is None else rows[read : read + len(table)]
                end = placed + (len(table) if own is None else int(np.count_nonzero(own)))
                for name, column in kept.items():
                    column.put(slice(placed, end), table[name], own)
                read, placed = read + len(table), end
    pa.default_memory_pool().release_unused()  # what decoding took: of ten million turns a quarter of a gigabyte
    return pd.DataFrame({name: kept.pop(name).done() for name in columns}, copy=False)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Columns that are in memory already, in the same types."""
    found = {}
    for field in table.schema:
        values = table[field.name]
        between = pc.min_max(values).as_py() if pa.types.is_integer(field.type) else {}
        column = _column(
            field, len(table), (between["min"], between["max"]) if between.get("min") is not None else None
        )
        column.put(slice(0, len(table)), values, None)
        found[field.name] = column.done()
    return pd.DataFrame(found, copy=False)


def _ranges(metadata: pq.FileMetaData) -> dict[str, tuple[int, int]]:
    """Between which numbers the integer columns lie, where the file tells it of every row group with any."""
    found: dict[str, list[Any]] = {}
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            told = column.statistics if column.physical_type == "INT64" else None
            if told is not None and told.num_values:
                found.setdefault(column.path_in_schema, []).append(told)
    return {
        name: (min(each.min for each in told), max(each.max for each in told))
        for name, told in found.items()
        if all(each.has_min_max for each in told)
    }


def _column(field: pa.Field, rows: int, between: tuple[int, int] | None) -> _Texts | _Whole | _Plain:
    """An empty column. A count takes four bytes where it fits; instants and bounds are never counts."""
    if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type):
        return _Texts(rows)
    if pa.types.is_integer(field.type):
        fits = between is not None and between[0] >= -(2**31) and between[1] < 2**31
        return _Whole(rows, np.int32 if fits and not field.name.endswith("_ns") else np.int64)
    return _Plain(rows, np.bool_ if pa.types.is_boolean(field.type) else np.float64)


class _Plain:
    """Floats, NaN where missing, or truth values, false where missing."""

    def __init__(self, rows: int, kind: type[np.generic]) -> None:
        self._values: npt.NDArray[Any] = np.empty(rows, dtype=kind)

    def put(self, at: slice, piece: pa.ChunkedArray, rows: Mask | None) -> None:
        missing = False if self._values.dtype == np.bool_ else np.nan
        self._values[at] = _chosen(piece.fill_null(missing).to_numpy(), rows)

    def done(self) -> npt.NDArray[Any]:
        return self._values


class _Whole:
    """Integers, some of which may be missing."""

    def __init__(self, rows: int, kind: type[np.integer[Any]]) -> None:
        self._values = np.zeros(rows, dtype=kind)
        self._missing = np.zeros(rows, dtype=np.bool_)

    def put(self, at: slice, piece: pa.ChunkedArray, rows: Mask | None) -> None:
        if piece.null_count:
            self._missing[at] = _chosen(piece.is_null().to_numpy(), rows)
            piece = piece.fill_null(0)
        self._values[at] = _chosen(piece.to_numpy(), rows)

    def done(self) -> pd.arrays.IntegerArray:
        return pd.arrays.IntegerArray(self._values, self._missing, copy=False)


class _Texts:
    """Text by number. The categories are those that occur, sorted, whatever else the file's dictionaries hold."""

    def __init__(self, rows: int) -> None:
        self._names: dict[str, int] = {}
        self._codes: npt.NDArray[Any] = np.empty(rows, dtype=np.int16)

    def put(self, at: slice, piece: pa.ChunkedArray, rows: Mask | None) -> None:
        given = encoded(piece)
        places = [self._names.setdefault(name, len(self._names)) for name in given.dictionary.to_pylist()]
        if len(self._names) > np.iinfo(self._codes.dtype).max:
            self._codes = self._codes.astype(np.int32)
        self._codes[at] = _chosen(np.array([*places, -1])[given.indices.fill_null(-1).to_numpy()], rows)

    def done(self) -> pd.Categorical:
        occurs = np.bincount(self._codes + 1, minlength=len(self._names) + 1)[1:] > 0
        names = sorted(name for name, place in self._names.items() if occurs[place])
        numbers = np.full(len(self._names) + 1, -1, dtype=np.min_scalar_type(-max(1, len(names))))
        numbers[[self._names[name] for name in names]] = np.arange(len(names))  # the last stays: that of a missing one
        categories = pd.Index(names, dtype="str")
        return pd.Categorical.from_codes(numbers[self._codes], categories=categories, validate=False)


def _chosen(values: npt.NDArray[Any], rows: Mask | None) -> npt.NDArray[Any]:
    return values if rows is None else values[rows]
