"""The as-of join itself: for each request the last snapshot of its node before an instant. There is no other.

The snapshots of one source lie sorted by (node, observed) in flat arrays, 24 bytes each. Requests come in batches of
any size and order. A batch is partitioned by node (a stable sort of small integers), and each part is one binary
search among the instants of one node, which fit into a cache. So memory is the snapshots and one batch, and neither
the size of a batch nor its order can change a result. Instants stay integers: a float64 rounds Unix ns to 256 ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.frames import Floats, Ints, Mask
from loadtest.runfolder import RunFolderError

Codes: TypeAlias = npt.NDArray[np.int32]

UNATTRIBUTED = "unattributed"
NONE_BEFORE = "no snapshot before"
STALE = "stale"
NO_COUNTS = "the snapshot has no counts"
REASONS = ("", UNATTRIBUTED, NONE_BEFORE, STALE, NO_COUNTS)  # by code; 0 where there is a value
_TOLERANCE_NS_MAX = 2**62
_RADIX_NODES_MAX = 2**16  # numpy sorts 16-bit integers in linear time
_NO_NODE, _UNKNOWN_NODE = -2, -1


class Matches(NamedTuple):
    """What was known, one element per request, in the order of the batch."""

    value: Floats  # NaN where there is a reason
    observed_ns: Ints  # Unix ns of the snapshot; 0 where `seen` is false
    seen: Mask  # a snapshot lies before the instant, stale ones included
    age_ns: Ints  # sent - observed; 0 where `seen` is false
    place: Ints  # of the snapshot among the sorted ones; -1 where `seen` is false
    reason: npt.NDArray[np.int8]  # index into REASONS


@dataclass(frozen=True, slots=True)
class History:
    """One figure of every node over time, sorted and free of duplicates; rows of `nodes[i]` begin at `starts[i]`.

    A value may be NaN: seen, but without counts.
    """

    nodes: pa.Array  # lower case
    starts: Ints  # one more than there are nodes
    observed_ns: Ints
    values: Floats

    def __post_init__(self) -> None:
        """A binary search of unsorted instants gives wrong rows in silence, so their order is checked, not believed."""
        later = np.diff(self.observed_ns) > 0
        begins = self.starts[(self.starts > 0) & (self.starts < len(self.observed_ns))]
        later[begins - 1] = True  # from one node to the next
        if not later.all():
            raise AssertionError("as-of join needs sorted times")

    @classmethod
    def of(cls, nodes: pa.Array | pa.ChunkedArray, observed_ns: Ints, values: Floats, source: str) -> History:
        """Of rows in any order; `source` names them in errors.

        RunFolderError: a row without a node, or two rows of one node at one instant, of which neither is "the last".
        """
        names = encoded(nodes)
        known = pc.utf8_lower(names.dictionary).unique().drop_null()
        codes = _codes(names, known)
        if (codes < 0).any():
            raise RunFolderError(
                f"{source}: {int((codes < 0).sum())} snapshots name no node; delete them or import the file again"
            )
        order = by_node_and_time(codes, observed_ns, len(known))
        codes, observed_ns = codes[order], observed_ns[order]
        twice = np.flatnonzero((np.diff(codes) == 0) & (np.diff(observed_ns) == 0))
        if len(twice):
            node, at = known[int(codes[twice[0]])].as_py(), int(observed_ns[twice[0]])
            raise RunFolderError(
                f"{source}: {len(twice)} snapshots repeat the node and instant of another (first: node {node} at "
                f"{at} ns); delete the repeated file or rows"
            )
        return cls(known, starts_of(codes, len(known)), observed_ns, values[order])

    def before(
        self, nodes: pa.Array | pa.ChunkedArray, sent_ns: Ints, sent: Mask, bound_ns: Ints | int, tolerance_s: float
    ) -> Matches:
        """The last snapshot of each request's node with observed < sent - bound; an equal instant does not count.

        `sent` is false where nothing was sent. Older than `tolerance_s` (age from `sent_ns`, to the ns) is stale.
        """
        codes = _codes(encoded(nodes), self.nodes)
        place = self._places(codes, sent_ns - bound_ns, sent)
        seen = place >= 0
        observed_ns, value, age_ns = np.zeros(len(codes), np.int64), np.full(len(codes), np.nan), np.zeros_like(sent_ns)
        if len(self.observed_ns):
            observed_ns = np.where(seen, self.observed_ns[place], 0)
            age_ns = np.where(seen, sent_ns - observed_ns, 0)
            value = self.values[place]
        stale = age_ns > min(round(min(tolerance_s, 1e12) * 1e9), _TOLERANCE_NS_MAX)
        reason = np.where(np.isnan(value), np.int8(REASONS.index(NO_COUNTS)), np.int8(0))
        reason[stale] = REASONS.index(STALE)
        reason[~seen] = REASONS.index(NONE_BEFORE)
        reason[codes == _NO_NODE] = REASONS.index(UNATTRIBUTED)
        return Matches(np.where(reason == 0, value, np.nan), observed_ns, seen, age_ns, place, reason)

    def _places(self, codes: Codes, before_ns: Ints, sent: Mask) -> Ints:
        """Where in the sorted arrays each request's snapshot lies, -1 for none."""
        place = np.full(len(codes), -1, dtype=np.int64)
        rows = np.flatnonzero(sent & (codes >= 0))
        rows = rows[_by_node(codes[rows], len(self.nodes))]
        wanted, found = before_ns[rows], np.empty(len(rows), dtype=np.int64)
        sizes = np.bincount(codes[rows], minlength=len(self.nodes))
        ends = np.cumsum(sizes)
        for node in np.flatnonzero(sizes):
            first, part = self.starts[node], slice(ends[node] - sizes[node], ends[node])
            instants = self.observed_ns[first : self.starts[node + 1]]
            earlier = np.searchsorted(instants, wanted[part], side="left")  # how many are strictly before
            found[part] = np.where(earlier > 0, first + earlier - 1, -1)
        place[rows] = found
        return place


def codes_of(nodes: pa.Array | pa.ChunkedArray, names: pa.Array) -> Codes:
    """The place of each row's node in `names` (lower case), negative for null and for a node that is not there."""
    return _codes(encoded(nodes), names)


def by_node_and_time(codes: Codes, observed_ns: Ints, count: int) -> npt.NDArray[np.intp]:
    """The order that sorts rows by node, and those of one node by instant; of equal ones the first stays first."""
    order = np.argsort(observed_ns, kind="stable")
    return order[_by_node(codes[order], count)]


def starts_of(codes: Codes, count: int) -> Ints:
    """Where the rows of each of `count` nodes begin, and the end of all; `codes` are sorted."""
    starts: Ints = np.searchsorted(codes, np.arange(count + 1)).astype(np.int64)
    return starts


def _by_node(codes: Codes, count: int) -> npt.NDArray[np.intp]:
    """The order that brings equal codes together and keeps the order of their rows."""
    return np.argsort(codes.astype(np.uint16) if count <= _RADIX_NODES_MAX else codes, kind="stable")


def encoded(nodes: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """Names by number, as one array; a column read with `read_dictionary` is that already."""
    if not pa.types.is_dictionary(nodes.type):
        nodes = nodes.combine_chunks() if isinstance(nodes, pa.ChunkedArray) else nodes
        return nodes.dictionary_encode()
    if isinstance(nodes, pa.ChunkedArray):
        nodes = nodes.unify_dictionaries().combine_chunks()
    return nodes


def _codes(given: pa.DictionaryArray, names: pa.Array) -> Codes:
    """The place of each row's node in `names`, case aside; _UNKNOWN_NODE or _NO_NODE (null) otherwise."""
    lower = pc.utf8_lower(given.dictionary)
    places = (
        pc.index_in(lower, value_set=names.cast(lower.type)).fill_null(_UNKNOWN_NODE).to_numpy(zero_copy_only=False)
    )
    places = np.where(lower.is_null().to_numpy(zero_copy_only=False), _NO_NODE, places)
    indices = given.indices.fill_null(len(places)).to_numpy(zero_copy_only=False)
    codes: Codes = np.append(places, _NO_NODE).astype(np.int32)[indices]
    return codes
