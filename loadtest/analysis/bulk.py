"""Parquet in, Parquet out: an attributed table of any length joined with a history, and quantiles per node.

For what is larger than a run: the joined rows of weeks against an imported history. Same rule, checks and reasons as
`loadtest join`; memory is the snapshots, one batch and a byte or two a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loadtest.analysis.asof import REASONS, History, Matches, codes_of
from loadtest.analysis.batches import JoinedFile, SeenRows
from loadtest.analysis.frames import Floats
from loadtest.analysis.percentiles import LEVELS
from loadtest.analysis.selection import Selection
from loadtest.runfolder import RunFolderError

BATCH_ROWS = 1 << 19
_ADDED = ("reputation", "snapshot_observed_wall_ns", "snapshot_age_s", "reputation_reason")
_KEYS = ("worker", "seq", "node", "sent_wall_ns")


def join_parquet(
    requests: Path, snapshots: Path, out: Path, *, tolerance_s: float, bound_ns: int = 0, batch_rows: int = BATCH_ROWS
) -> int:
    """Write `requests` with reputation, snapshot_observed_wall_ns, snapshot_age_s and reputation_reason to `out`.

    Both inputs are a Parquet file or a folder of them, rows in any order. `requests` has worker, seq, node (null:
    unattributed), sent_wall_ns (null: not sent) and what else is to be kept; `snapshots` has node, observed_wall_ns
    and reputation (percent, null: no counts). Returns the rows. RunFolderError: a column is missing, a request or a
    snapshot is there twice, a file is damaged; then `out` is left as it was.
    """
    history, seen, rows = read_history(snapshots), SeenRows(), 0
    with JoinedFile(out) as file:
        for batch in _batches(requests, None, _KEYS, batch_rows):
            seen.add(batch["worker"].to_numpy(), batch["seq"].to_numpy())
            sent_ns, sent = batch["sent_wall_ns"].fill_null(0).to_numpy(), _present(batch["sent_wall_ns"])
            found = history.before(batch["node"], sent_ns, sent, bound_ns, tolerance_s)
            rows += len(batch)
            file.write(_with_matches(batch, found))
        if seen.twice:
            raise RunFolderError(
                f"{requests}: {seen.twice} rows are stored twice (same worker and seq); delete the repeated rows"
            )
        file.publish()
    return rows


def node_quantiles(requests: Path, metric: str, *, batch_rows: int = BATCH_ROWS) -> pa.Table:
    """node, requests, p50, p95 and p99 of column `metric` per node, exact nearest ranks, nodes in name order.

    Rows without a node are left out. Null or NaN is absent; +inf is censored and so is a percentile that falls
    there (+inf). The files are read twice (`selection`), and a third time for their nodes alone.
    """
    names = pa.array([], type=pa.string())
    for batch in _batches(requests, ["node"], ["node"], batch_rows):
        names = pa.concat_arrays([names, pc.utf8_lower(batch["node"].dictionary).cast(pa.string())]).unique()
    names = names.drop_null().sort()
    selection = Selection(len(names), [q for _, q in LEVELS])
    for take in (selection.tally, selection.keep):
        for batch in _batches(requests, ["node", metric], ["node", metric], batch_rows):
            take(codes_of(batch["node"], names), _floats(batch[metric]))
    quantiles = selection.quantiles()
    columns = {f"{metric}_{name}": quantiles[:, i] for i, (name, _) in enumerate(LEVELS)}
    return pa.table({"node": names, f"{metric}_n": selection.sizes, **columns})


def read_history(snapshots: Path) -> History:
    """The history of a Parquet file or folder with node, observed_wall_ns and reputation."""
    columns = ["node", "observed_wall_ns", "reputation"]
    batches = list(_batches(snapshots, columns, columns, 1 << 22))
    nodes = pa.chunked_array([batch["node"] for batch in batches])
    observed = pa.chunked_array([batch["observed_wall_ns"] for batch in batches])
    if observed.null_count:
        raise RunFolderError(f"{snapshots}: {observed.null_count} snapshots have no observed_wall_ns; delete them")
    values = np.concatenate([_floats(batch["reputation"]) for batch in batches])
    return History.of(nodes, observed.to_numpy(), values, str(snapshots))


def _with_matches(batch: pa.RecordBatch, found: Matches) -> pa.Table:
    missing = ~found.seen
    codes = pa.array(found.reason - 1, mask=found.reason == 0)
    added = [
        pa.array(found.value, mask=found.reason != 0),
        pa.array(found.observed_ns, mask=missing),
        pa.array(found.age_ns / 1e9, mask=missing),
        pa.DictionaryArray.from_arrays(codes, pa.array(REASONS[1:])),
    ]
    kept = [name for name in batch.schema.names if name not in _ADDED]  # a joined table can be joined again
    return pa.table([*(batch[name] for name in kept), *added], names=[*kept, *_ADDED])


def _batches(
    path: Path, columns: list[str] | None, needed: tuple[str, ...] | list[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """Every row of a Parquet file or folder of them; the node as a dictionary. At least one batch, be it empty."""
    paths = sorted(path.glob("[!.]*.parquet")) if path.is_dir() else [path]
    if not paths:
        raise RunFolderError(f"{path}: no Parquet files here; give a file or a folder of them")
    for each in paths:
        try:
            # A pre-buffer would hold the whole file's bytes until its end.
            options = {"read_dictionary": ["node"], "pre_buffer": False, "page_checksum_verification": True}
            with pq.ParquetFile(each, **options) as file:
                missing = [name for name in needed if name not in file.schema_arrow.names]
                if missing:
                    raise RunFolderError(
                        f"{each}: no column {', '.join(missing)}; see docs/cookbook.md for what is needed"
                    )
                if not file.metadata.num_rows:
                    yield _none(file.schema_arrow, columns)
                yield from file.iter_batches(rows, columns=columns)
        except FileNotFoundError:
            raise RunFolderError(f"{each}: no such file; give a Parquet file or a folder of them") from None
        except (pa.ArrowException, ValueError, OSError) as error:
            raise RunFolderError(f"{each}: damaged ({str(error).splitlines()[0][:160]}); restore it") from None


def _none(schema: pa.Schema, columns: list[str] | None) -> pa.RecordBatch:
    kept = pa.schema([schema.field(name) for name in columns or schema.names])
    return pa.RecordBatch.from_pylist([], schema=kept)


def _present(column: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if not column.null_count:
        return np.ones(len(column), dtype=np.bool_)
    present: np.ndarray[tuple[int], np.dtype[np.bool_]] = column.is_valid().to_numpy(zero_copy_only=False)
    return present


def _floats(column: pa.Array) -> Floats:
    values: Floats = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return values
