"""Tables larger than memory: requests read a batch at a time, joined rows written a row group at a time.

What is written does not depend on the size of the batches: rows are put together into row groups of a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from loadtest.analysis.frames import JOINED_METADATA, Ints, scalar_columns
from loadtest.records import RequestRecord
from loadtest.runfolder import RunFolderError, arrow_schema, part_paths, publish, read_part

BATCH_ROWS = 100_000
GROUP_ROWS = 1 << 17
_BLOCK = 1 << 18
_TYPES = {"Int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "str": pa.string()}


def request_batches(run: Path, rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
    """Every stored turn, list columns left out, in file order, `rows` at a time; one empty table of an empty run.

    RunFolderError when a row is there twice: known when the last batch is read.
    """
    columns = scalar_columns(RequestRecord)
    seen, waiting = SeenRows(), arrow_schema(RequestRecord).empty_table().select(columns)
    given = False
    for path in part_paths(run, "requests"):
        part = read_part(path, RequestRecord, columns)
        seen.add(part["worker"].to_numpy(), part["seq"].to_numpy())
        waiting = pa.concat_tables([waiting, part])
        while len(waiting) >= rows:
            yield waiting.slice(0, rows)
            waiting, given = waiting.slice(rows), True
    if len(waiting) or not given:
        yield waiting
    if seen.twice:
        raise RunFolderError(
            f"{run / 'requests'}: {seen.twice} rows are stored twice (same worker and seq); "
            f"delete the repeated part file"
        )


class SeenRows:
    """How many rows were there before, told by (worker, seq). `seq` is gapless, so a row costs one byte.

    Blocks are made where a number falls, so that a damaged one costs a block and not the memory up to it.
    """

    def __init__(self) -> None:
        self.twice = 0
        self._blocks: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}

    def add(self, workers: Ints, seqs: Ints) -> None:
        for worker in pd.unique(workers):
            own = seqs[workers == worker]
            numbers = own // _BLOCK
            for number in pd.unique(numbers):
                at = own[numbers == number] % _BLOCK
                block = self._blocks.setdefault((int(worker), int(number)), np.zeros(_BLOCK, dtype=np.bool_))
                before = int(np.count_nonzero(block))
                block[at] = True
                self.twice += len(at) - (int(np.count_nonzero(block)) - before)


def to_table(frame: pd.DataFrame) -> pa.Table:
    """A frame as Arrow by the types of its columns, not by what one batch holds: no text at all is still text."""
    schema = pa.schema([(str(name), _TYPES[str(kind)]) for name, kind in frame.dtypes.items()])
    return pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)


class JoinedFile:
    """A joined table that is written in pieces and appears whole, on `publish`, or not at all.

    As a context it removes what was not published.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> JoinedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
        self._partial.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._rows += len(table)
        while self._rows >= GROUP_ROWS:
            self._write_group(GROUP_ROWS)

    def publish(self) -> None:
        """Write what waits and let the file appear. At least one table must have been written, be it empty."""
        if self._rows or self._writer is None:
            self._write_group(self._rows)
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        publish(self._partial, self._path)

    def _write_group(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        # In one piece: how a column is chunked decides where its pages end.
        group, rest = table.slice(0, rows).unify_dictionaries().combine_chunks(), table.slice(rows)
        self._waiting, self._rows = [rest], len(rest)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _writer(self._partial, table.schema)
        self._writer.write_table(group, row_group_size=rows or None)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Dictionaries for text only: of instants and latencies no two are alike, and the attempt costs half the time."""
    text = [each.name for each in schema if pa.types.is_string(each.type) or pa.types.is_dictionary(each.type)]
    writer = pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=text,
        write_page_checksum=True,
        store_schema=False,  # a dictionary of ours is plain text to who reads the file
    )
    writer.add_key_value_metadata(JOINED_METADATA)  # the schema's own goes with the schema
    return writer
