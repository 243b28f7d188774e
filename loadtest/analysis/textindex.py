"""Where texts stand in a list: a hash table of texts that is made once and asked for any number of batches.

pyarrow's `index_in` makes its table anew at every call, and pandas' are of Python objects: for a million look-ups
asked for a hundred batches either costs more than the rest of the join. Here a text is hashed to 64 bits in arrays,
pandas' table of integers finds the candidate, and the texts themselves are compared, so a collision costs nothing but
its miss. Texts of the list that collide (one list in ten thousand of ten million) fall back to `index_in`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.frames import Ints

Texts: TypeAlias = pa.Array | pa.ChunkedArray

_LANE, _LANES_MAX = 8, 16  # bytes; of longer texts the first 128 and the length are hashed
_MASKS = np.array([(1 << (8 * kept)) - 1 for kept in range(_LANE + 1)], dtype=np.uint64)
_FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 over the golden ratio, odd: Fibonacci hashing (Knuth)
_SHIFT = np.uint64(29)


class TextIndex:
    """The places of distinct texts. `texts` holds no null."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts = _plain(texts)
        index = pd.Index(_hashes(self._texts))
        self._index = index if index.is_unique else None

    def __len__(self) -> int:
        return len(self._texts)

    def places(self, asked: Texts) -> Ints:
        """Where each text stands in the list; -1 for a null and for one that is not there."""
        asked = _plain(asked)
        if not len(self._texts) or not len(asked):
            return np.full(len(asked), -1, dtype=np.int64)
        if self._index is None:
            exact: Ints = pc.index_in(asked, value_set=self._texts).fill_null(-1).to_numpy().astype(np.int64)
            return exact
        places: Ints = self._index.get_indexer(_hashes(asked)).astype(np.int64)  # type: ignore[arg-type]
        rows = np.flatnonzero(places >= 0)
        found = pc.equal(asked.take(pa.array(rows)), self._texts.take(pa.array(places[rows])))
        places[rows[~found.fill_null(False).to_numpy(zero_copy_only=False)]] = -1
        return places


def _plain(texts: Texts) -> pa.Array:
    """As one array of strings, whether they come by number or in pieces."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return texts.cast(pa.string()) if texts.type != pa.string() else texts


def _hashes(texts: pa.Array) -> npt.NDArray[np.int64]:
    """64 bits of each text, the same in whichever array it stands; those of nulls mean nothing."""
    _, offsets_buffer, data = texts.buffers()
    if not len(texts) or data is None:
        return np.zeros(len(texts), dtype=np.int64)
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    starts, sizes = offsets[:-1] - offsets[0], np.diff(offsets)
    padded = np.zeros(offsets[-1] - offsets[0] + _LANE * (_LANES_MAX + 1), dtype=np.uint8)
    padded[: offsets[-1] - offsets[0]] = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    # Eight bytes from any byte on, as one integer.
    words = np.ndarray((len(padded) - _LANE + 1,), dtype="<u8", buffer=padded.data, strides=(1,))
    hashes = sizes.astype(np.uint64) * _FACTOR
    for lane in range(min(_LANES_MAX, -(-int(sizes.max()) // _LANE))):
        kept = np.clip(sizes - lane * _LANE, 0, _LANE)
        at = np.minimum(starts + lane * _LANE, len(words) - 1)
        mixed = (hashes ^ (words[at] & _MASKS[kept])) * _FACTOR
        hashes = np.where(kept > 0, mixed ^ (mixed >> _SHIFT), hashes)
    return hashes.view(np.int64)
