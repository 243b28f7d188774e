"""Tables larger than memory: requests read a batch at a time, joined rows written a row group at a time.

Rows are put together into row groups of a fixed size, however they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from loadtest.analysis.frames import JOINED_METADATA, Ints, scalar_columns
from loadtest.records import RequestRecord
from loadtest.runfolder import DISTINCT_TEXTS, RunFolderError, arrow_schema, encodings, part_paths, publish, read_part

BATCH_ROWS = GROUP_ROWS = 1 << 17
_BLOCK = 1 << 18
T = TypeVar("T")
_PARTS_AHEAD = 4
_TYPES = {"Int64": pa.int64(), "Int32": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "str": pa.string()}


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same, each made in a thread of its own while the one before it is worked on."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def request_batches(run: Path, rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
    """Every stored turn, list columns left out, in file order, `rows` at a time; one empty table of an empty run.

    Text of which there is little comes as Arrow dictionaries. RunFolderError when a row is there twice: known when the
    last batch is read.
    """
    columns = scalar_columns(RequestRecord)
    schema = arrow_schema(RequestRecord)
    seen, waiting, held, given = SeenRows(), list[pa.Table](), 0, False
    for part in _parts(run, columns):
        seen.add(part["worker"].to_numpy(), part["seq"].to_numpy())
        waiting.append(part)
        held += len(part)
        while held >= rows:
            table = pa.concat_tables(waiting)
            yield table.slice(0, rows).unify_dictionaries().combine_chunks()
            waiting, held, given = [table.slice(rows)], held - rows, True
    if held or not given:
        empty = schema.empty_table().select(columns)
        yield pa.concat_tables(waiting).unify_dictionaries().combine_chunks() if waiting else empty
    if seen.twice:
        raise RunFolderError(
            f"{run / 'requests'}: {seen.twice} rows are stored twice (same worker and seq); "
            f"delete the repeated part file"
        )


def _parts(run: Path, columns: list[str]) -> Iterator[pa.Table]:
    """The parts of a run in order; while one is worked on, the next are read."""
    texts = [each.name for each in arrow_schema(RequestRecord) if pa.types.is_string(each.type)]
    by_number = [name for name in texts if name not in DISTINCT_TEXTS]
    with ThreadPoolExecutor(1) as reader:
        ahead: deque[Future[pa.Table]] = deque()
        for path in part_paths(run, "requests"):
            ahead.append(reader.submit(read_part, path, RequestRecord, columns, by_number))
            if len(ahead) > _PARTS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


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
    return pa.table({str(name): _column(frame[name]) for name in frame.columns})


def _column(values: pd.Series[Any]) -> pa.Array:
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()
        names = pa.array(values.cat.categories, type=pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), names)
    return pa.array(values, type=_TYPES[str(values.dtype)], from_pandas=True)


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
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> JoinedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        with suppress(OSError):  # what made us leave is what the user must hear of
            if self._writer is not None:
                self._writer.close()
            self._partial.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Take rows. A row group is encoded while the next ones are made; at most one is."""
        self._waiting.append(table)
        self._rows += len(table)
        while self._rows >= GROUP_ROWS:
            self._write_group(GROUP_ROWS)

    def publish(self) -> None:
        """Write what waits and let the file appear. At least one table must have been written, be it empty."""
        if self._rows or (self._writer is None and self._writing is None):
            self._write_group(self._rows)
        self._wait()
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        publish(self._partial, self._path)

    def _write_group(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        group, rest = table.slice(0, rows), table.slice(rows)
        self._waiting, self._rows = [rest], len(rest)
        self._wait()
        self._writing = self._thread.submit(self._encode, group)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _encode(self, group: pa.Table) -> None:
        group = group.unify_dictionaries().combine_chunks()
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _writer(self._partial, group.schema)
        self._writer.write_table(group, row_group_size=len(group) or None)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Instants and latencies with little compression: it would cost as much as all the rest of the join."""
    integers = [each.name for each in schema if pa.types.is_int64(each.type)]
    text = [each.name for each in schema if pa.types.is_string(each.type) or pa.types.is_dictionary(each.type)]
    writer = pq.ParquetWriter(
        path,
        schema,
        compression={name: "zstd" if name in text else "snappy" for name in schema.names},
        write_statistics=integers,
        write_page_checksum=True,
        store_schema=False,  # a dictionary of ours is plain text to who reads the file
        **encodings(schema),
    )
    writer.add_key_value_metadata(JOINED_METADATA)  # the schema's own goes with the schema
    return writer
