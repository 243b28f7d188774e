"""A run's task look-ups in arrays: made once, then asked for every batch of requests which look-up is whose.

A router names a task by target, session and id, and knows it by the reference we sent with the request; a request is
matched by the first where it can be, else by the second. Of several look-ups of one task the last complete one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.asof import encoded
from loadtest.analysis.frames import Ints, Mask
from loadtest.analysis.textindex import TextIndex, Texts

Codes = npt.NDArray[np.int32]


class Members(NamedTuple):
    """A list of nodes for each look-up, end to end: those of look-up `i` are `node[starts[i] : starts[i + 1]]`."""

    starts: Ints
    node: Codes  # into `Lookups.nodes`

    def of(self, tasks: Ints) -> tuple[Ints, Ints]:
        """Every member of the given look-ups: whose it is (a place in `tasks`) and where it stands in `node`."""
        sizes = self.starts[tasks + 1] - self.starts[tasks]
        owner = np.repeat(np.arange(len(tasks)), sizes)
        before = np.repeat(np.cumsum(sizes) - sizes, sizes)
        return owner, np.repeat(self.starts[tasks], sizes) + np.arange(len(owner)) - before


class Keys(NamedTuple):
    """Which look-up counts of each task, by a name in parts: texts of which there are few, and one that tells apart."""

    few: tuple[TextIndex, ...]
    pairs: Ints  # combinations of the few that occur, sorted
    tall: TextIndex
    keys: Ints  # place in `pairs` times len(tall), and the place of the tall text; sorted
    task: Ints

    @classmethod
    def of(cls, few: list[pa.ChunkedArray], tall: pa.ChunkedArray, order: Ints) -> Keys:
        """Of the look-ups in `order`; where several have one name, the last of them."""
        indices, pair = [], np.zeros(len(tall), dtype=np.int64)
        for column in few:
            index, codes = _numbered(column)
            pair = pair * len(index) + codes
            indices.append(index)
        pairs, pair = np.unique(pair[order], return_inverse=True)
        last, codes = _numbered(tall)
        keys, first = np.unique((pair * max(1, len(last)) + codes[order])[::-1], return_index=True)
        return cls(tuple(indices), pairs, last, keys, order[::-1][first])

    def places(self, few: list[pa.ChunkedArray], tall: pa.ChunkedArray) -> Ints:
        """The look-up of each name, -1 for none and for a name with a missing part."""
        task = np.full(len(tall), -1, dtype=np.int64)
        if not len(self.keys):
            return task
        pair, known = np.zeros(len(tall), dtype=np.int64), np.ones(len(tall), dtype=np.bool_)
        for index, column in zip(self.few, few, strict=True):
            names = encoded(column)
            codes = np.append(index.places(names.dictionary), -1)[names.indices.fill_null(-1).to_numpy()]
            known &= codes >= 0
            pair = pair * len(index) + codes
        pair, paired = _find(self.pairs, pair)
        last = self.tall.places(tall)
        rows = np.flatnonzero(known & paired & (last >= 0))
        at, found = _find(self.keys, pair[rows] * len(self.tall) + last[rows])
        task[rows[found]] = self.task[at[found]]
        return task


@dataclass(frozen=True, slots=True)
class Lookups:
    """All look-ups of a run; a task is its row number. `nodes` are lower case, distinct and sorted."""

    complete: Mask
    error: pa.Array  # text, "" for none
    nodes: pa.Array
    results: Members
    result_text: pa.Array  # of each result, its hash; null where none was told
    assigned: Members
    by_id: Keys
    by_reference: Keys

    def match(self, requests: pa.Table, tried: Mask) -> Ints:
        """The look-up of each request, -1 for none. `tried` says which requests left the harness."""
        task = self.by_id.places([requests["target"], requests["session"]], requests["task_id"])
        task[~tried] = -1
        rest = np.flatnonzero((task < 0) & tried)
        if len(self.by_reference.keys) and len(rest):
            left = requests.select(["target", "client_reference"]).take(pa.array(rest))
            task[rest] = self.by_reference.places([left["target"]], left["client_reference"])
        return task


def lookups_of(tasks: pa.Table) -> Lookups:
    """The tasks table of a run taken apart."""
    nodes = pa.concat_arrays([_flat(tasks["miners"]), _flat(tasks["assigned"])])
    nodes = pc.utf8_lower(nodes).unique().drop_null().sort()
    complete, usable = tasks["complete"].to_numpy(), pc.equal(tasks["error"], "").to_numpy()
    order = np.lexsort((tasks["looked_up_wall_ns"].to_numpy(), complete, usable))
    named = order[pc.not_equal(tasks["client_reference"], "").to_numpy()[order]]
    results = _members(tasks["miners"], nodes)
    return Lookups(
        complete,
        tasks["error"].combine_chunks(),
        nodes,
        results,
        _beside(results, tasks["result_sha256"]),
        _members(tasks["assigned"], nodes),
        Keys.of([tasks["target"], tasks["session"]], tasks["task_id"], order),
        Keys.of([tasks["target"]], tasks["client_reference"], named),
    )


def _members(lists: pa.ChunkedArray, nodes: pa.Array) -> Members:
    codes = pc.index_in(pc.utf8_lower(_flat(lists)), value_set=nodes).fill_null(-1)
    return Members(_starts(lists), codes.to_numpy())


def _beside(results: Members, lists: pa.ChunkedArray) -> pa.Array:
    """The element of a second list column that stands beside each result; null where that list is shorter."""
    starts = _starts(lists)
    owner, at = results.of(np.arange(len(starts) - 1))
    place = starts[owner] + at - results.starts[owner]
    return _flat(lists).take(pa.array(place, mask=place >= starts[owner + 1]))


def _starts(lists: pa.ChunkedArray) -> Ints:
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    flat = pc.list_flatten(lists)
    return flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def _numbered(texts: Texts) -> tuple[TextIndex, Ints]:
    """The distinct texts of a column and which of them each row has."""
    names = encoded(texts)
    return TextIndex(names.dictionary), names.indices.to_numpy().astype(np.int64)


def _find(ordered: Ints, asked: Ints) -> tuple[Ints, Mask]:
    """Where each number stands among sorted ones that are not none, and whether it does."""
    at = np.minimum(np.searchsorted(ordered, asked), len(ordered) - 1)
    return at, ordered[at] == asked
