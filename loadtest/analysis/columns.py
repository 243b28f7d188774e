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

from loadtest.analysis.frames import DISTINCT_TEXTS, JOINED_REQUESTS, Mask, joined_errors, require_joined_version

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
_AT_ONCE = 4  # columns decoded together: as Arrow and unfiltered they are larger than what is kept of them


def read_turns(run: Path, columns: Sequence[str], rows: Mask | None = None) -> pd.DataFrame:
    """Columns of the joined turns in their order, of some rows alone when `rows` says which.

    RunFolderError: the run is not joined, or its joined table is damaged or of another version.
    """
    path = run / JOINED_REQUESTS
    with joined_errors(path):
        text = [
            each.name
            for each in pq.read_schema(path)
            if pa.types.is_string(each.type) and each.name not in DISTINCT_TEXTS
        ]
        with pq.ParquetFile(path, read_dictionary=text, page_checksum_verification=True) as file:
            require_joined_version(path, file.schema_arrow.metadata)
            frame: dict[str, Any] = {}
            for first in range(0, len(columns), _AT_ONCE):
                table = file.read(list(columns[first : first + _AT_ONCE]))
                for name in table.column_names:
                    frame[name] = _narrow(table[name], rows, is_count=not name.endswith("_ns"))
                del table
                # Arrow keeps what it has freed for itself: of ten million turns that was over a gigabyte.
                pa.default_memory_pool().release_unused()
    return pd.DataFrame(frame, copy=False)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Columns that are in memory already, in the same types."""
    columns = {name: _narrow(table[name], None, is_count=not name.endswith("_ns")) for name in table.column_names}
    return pd.DataFrame(columns, copy=False)


def _narrow(column: pa.ChunkedArray, rows: Mask | None, *, is_count: bool) -> Any:
    """One column as what a frame holds: a category, a nullable integer, floats with NaN or truth values."""
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(column.type):
        return _category(column, rows)
    if pa.types.is_integer(column.type):
        whole = not column.null_count
        values = _chosen((column if whole else column.fill_null(0)).to_numpy(), rows)
        missing = np.zeros(len(values), dtype=np.bool_) if whole else _chosen(column.is_null().to_numpy(), rows)
        if is_count and len(values) and values.min() >= -(2**31) and values.max() < 2**31:
            values = values.astype(np.int32)
        return pd.arrays.IntegerArray(values, missing, copy=False)
    if pa.types.is_boolean(column.type):
        return _chosen(column.fill_null(False).to_numpy(), rows)
    return _chosen(column.cast(pa.float64()).fill_null(np.nan).to_numpy(), rows)


def _category(column: pa.ChunkedArray, rows: Mask | None) -> pd.Categorical:
    """Text by number. The categories are those that occur, sorted, whatever else the file's dictionaries hold."""
    column = column.unify_dictionaries()
    names = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in column.chunks]
    codes = _chosen(np.concatenate(parts) if parts else np.empty(0, np.int32), rows)
    occurs = np.bincount(codes + 1, minlength=len(names) + 1)[1:] > 0
    order = pc.sort_indices(names).to_numpy().astype(np.intp)
    order = order[occurs[order]]
    numbers = np.full(len(names) + 1, -1, dtype=np.min_scalar_type(-max(1, len(order))))
    numbers[order] = np.arange(len(order))  # the last stays: a missing one has the code -1
    categories = pd.Index(names.take(pa.array(order)).to_pylist(), dtype="str")
    return pd.Categorical.from_codes(numbers[codes], categories=categories, validate=False)


def _chosen(values: npt.NDArray[Any], rows: Mask | None) -> npt.NDArray[Any]:
    return values if rows is None else values[rows]
