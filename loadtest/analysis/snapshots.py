"""What each source said of every node over time: the snapshots of a run in arrays, sorted once for who asks.

A month of 500 nodes, asked every ten minutes, is 2.16 million snapshots of each source. So each source holds the
columns that it tells and no others, eight bytes a value, and addresses stand once.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.asof import by_node_and_time, codes_of, encoded, starts_of
from loadtest.analysis.frames import Floats, Ints, Mask
from loadtest.records import NodeSnapshot
from loadtest.runfolder import RunFolderError, part_paths, read_part

LEADERBOARD, REPUTATION, SESSION_REPUTATION = "leaderboard", "reputation", "session-reputation"
_TEXTS = ["source", "node", "node_as_seen"]
_TIMES = ("effective_s", "last_active_s")


@dataclass(frozen=True, slots=True)
class Polled:
    """What one source said, a row per node and instant, sorted by both; rows of `nodes[i]` begin at `starts[i]`.

    A miner can own several rows of one leaderboard: they share an instant, so their counters are summed and the latest
    of their times counts. Where one of them comes or goes, the sums say nothing of growth: see `changed`. Counters and
    Unix seconds are floats, exact below 2**53.
    """

    nodes: tuple[str, ...]  # lower case, sorted
    starts: Ints  # one more than there are nodes: the last is the number of rows
    observed_ns: Ints
    told: Mapping[str, Floats]  # by column; NaN where not told
    owned: Ints  # of how many rows each is the sum

    def column(self, name: str) -> Floats:
        """A column of `NodeSnapshot`, NaN where this source does not tell it."""
        values = self.told.get(name)
        return np.full(len(self.observed_ns), np.nan) if values is None else values

    def rows(self) -> Iterator[tuple[str, slice]]:
        """Every node with its rows."""
        for node, (first, end) in zip(self.nodes, pairwise(self.starts.tolist()), strict=True):
            yield node, slice(first, end)

    def rows_of(self, node: str) -> slice | None:
        """The rows of one node; None: this source never named it."""
        place = bisect_left(self.nodes, node)
        if place == len(self.nodes) or self.nodes[place] != node:
            return None
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def changed(self) -> Mask:
        """Rows that are the sum of more or of fewer rows than the one before them of their node."""
        changed: Mask = np.diff(self.owned, prepend=self.owned[:1]) != 0
        changed[self.starts[:-1]] = False
        return changed

    def last(self) -> npt.NDArray[np.intp]:
        """The last row of each node."""
        return (self.starts[1:] - 1).astype(np.intp)


_NOTHING = Polled((), np.zeros(1, np.int64), np.empty(0, np.int64), {}, np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Snapshots:
    """All snapshots of a run by source; a source without any is not in `sources`."""

    sources: Mapping[str, Polled]
    spellings: Mapping[str, int]  # by node, in how many ways its address was written

    @classmethod
    def of(cls, parts: Iterable[pa.Table]) -> Snapshots:
        """Of tables with the columns of `NodeSnapshot`, in any order of rows."""
        kept: dict[str, list[pa.Table]] = {}
        for part in parts:
            for source in pc.unique(part["source"]).to_pylist():
                rows = part.filter(pc.equal(part["source"], source)).drop_columns(["source"])
                told = [name for name in rows.column_names if rows[name].null_count < len(rows)]
                kept.setdefault(source, []).append(rows.select(told))
        sources, ways = {}, set[tuple[str, str]]()
        for source in sorted(kept):
            table = pa.concat_tables(kept.pop(source), promote_options="default")
            ways |= _spellings(table)
            sources[source] = _polled(table)
        spellings = dict.fromkeys(sorted({node for node, _ in ways}), 0)
        for node, _ in ways:
            spellings[node] += 1
        return cls(sources, spellings)

    def of_source(self, source: str) -> Polled:
        return self.sources.get(source, _NOTHING)


def read_snapshots(run: Path) -> Snapshots:
    """The snapshots of a run folder; RunFolderError when a file is damaged or a copy of another."""
    paths = part_paths(run, "snapshots")
    _require_no_copies(paths)
    return Snapshots.of(read_part(path, NodeSnapshot, by_number=_TEXTS) for path in paths)


def _require_no_copies(paths: list[Path]) -> None:
    """Rows of one node and instant are summed, so a file that lies there twice would double what nodes did."""
    seen: dict[bytes, Path] = {}
    for path in paths:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read ({error.strerror})") from None
        if digest in seen:
            raise RunFolderError(f"{path}: a copy of {seen[digest].name}; delete one of them")
        seen[digest] = path


def _spellings(table: pa.Table) -> set[tuple[str, str]]:
    """Each node with each way in which its address was written."""
    nodes, seen = encoded(table["node"]), encoded(table["node_as_seen"])
    ways = max(1, len(seen.dictionary))
    pairs = np.unique(nodes.indices.to_numpy().astype(np.int64) * ways + seen.indices.to_numpy())
    names, texts = pc.utf8_lower(nodes.dictionary).to_pylist(), seen.dictionary.to_pylist()
    return {(names[pair // ways], texts[pair % ways]) for pair in pairs.tolist()}


def _polled(table: pa.Table) -> Polled:
    names = encoded(table["node"])
    nodes = pc.utf8_lower(names.dictionary.take(names.indices.unique())).unique().sort()  # it may hold more names
    codes, observed_ns = codes_of(names, nodes), table["observed_wall_ns"].to_numpy()
    order = by_node_and_time(codes, observed_ns, len(nodes))
    codes, observed_ns = codes[order], observed_ns[order]
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (np.diff(codes) != 0) | (np.diff(observed_ns) != 0)
    first = np.flatnonzero(new)
    told = {
        name: _merged(name, _floats(table[name])[order], first)
        for name in table.column_names
        if name not in _TEXTS and name != "observed_wall_ns"
    }
    starts = starts_of(codes[first], len(nodes))
    owned = np.diff(np.append(first, len(order)))
    return Polled(tuple(nodes.to_pylist()), starts, observed_ns[first], told, owned)


def _merged(name: str, values: Floats, first: npt.NDArray[np.intp]) -> Floats:
    """One value for each run of rows that begins at `first`."""
    if len(first) == len(values):
        return values
    if name in _TIMES:
        latest: Floats = np.fmax.reduceat(values, first)
        return latest
    told = np.logical_or.reduceat(~np.isnan(values), first)
    return np.where(told, np.add.reduceat(np.nan_to_num(values), first), np.nan)


def _floats(column: pa.ChunkedArray) -> Floats:
    values: Floats = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return values
