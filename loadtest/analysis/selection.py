"""Exact quantiles per group of more values than memory holds: read twice, counted first, then selected.

The first pass counts each group's values in buckets, the second keeps only the values of those buckets in which a
wanted rank lies, about 1 % of them a level. A bucket is the top bits of a float64, 128 to an octave: those bits grow
with the value, so the order of buckets is the order of values and the result is the value itself, not a midpoint.
Ranks are those of `percentiles.grouped_quantile`, which is for what is in memory. NaN is absent, +inf is censored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from loadtest.analysis.frames import Floats, Ints
from loadtest.analysis.percentiles import nearest_ranks

Groups: TypeAlias = npt.NDArray[np.integer]

_SHIFT = 52 - 7  # 7 bits of the mantissa: 128 buckets an octave
_FIRST = (1023 - 10) << 7  # below 2**-10, zero and negatives included: bucket 0
_LAST = (1023 + 30) << 7  # from 2**30 on: one bucket
BUCKETS = _LAST - _FIRST + 2
_CENSORED = BUCKETS - 1  # of +inf alone; nothing need be kept of it


class Selection:
    """Quantiles `levels` of each of `count` groups (codes 0 .. count-1, negative means none).

    Call `tally` with every batch, then `keep` with every batch again, then `quantiles`. Memory: 40 KB a group and the
    kept values, 12 bytes each; values that are all alike share a bucket, so at worst all are kept.
    """

    def __init__(self, count: int, levels: Sequence[float]) -> None:
        self._levels = tuple(levels)
        self._tally: Ints = np.zeros((count, BUCKETS), dtype=np.int64)
        self._wanted: npt.NDArray[np.bool_] | None = None
        self._kept: list[tuple[npt.NDArray[np.int32], Floats]] = []

    def tally(self, groups: Groups, values: Floats) -> None:
        """First pass."""
        cells, _ = self._cells(groups, values)
        self._tally += np.bincount(cells, minlength=self._tally.size).reshape(self._tally.shape)

    def keep(self, groups: Groups, values: Floats) -> None:
        """Second pass, over the same values in any order and in batches of any size."""
        if self._wanted is None:
            buckets, _ = self._targets()
            self._wanted = np.zeros(self._tally.size, dtype=np.bool_)
            rows = np.arange(len(self._tally))[:, None] * BUCKETS
            self._wanted[(rows + buckets)[(self.sizes > 0)[:, None] & (buckets < _CENSORED)]] = True
        cells, present = self._cells(groups, values)
        chosen = self._wanted[cells]
        self._kept.append((cells[chosen].astype(np.int32), present[chosen]))

    @property
    def sizes(self) -> Ints:
        """Values in each group, censored ones included."""
        sizes: Ints = self._tally.sum(axis=1)
        return sizes

    @property
    def kept(self) -> int:
        """How many values the second pass holds."""
        return sum(len(values) for _, values in self._kept)

    def quantiles(self) -> Floats:
        """Shape (count, levels); NaN for a group without values, +inf when the quantile is censored."""
        found = np.full((len(self._tally), len(self._levels)), np.nan)
        cells = np.concatenate([kept for kept, _ in self._kept] or [np.empty(0, np.int32)])
        values = np.concatenate([kept for _, kept in self._kept] or [np.empty(0)])
        order = np.lexsort((values, cells))
        cells, values = cells[order], values[order]
        buckets, inside = self._targets()
        for group in np.flatnonzero(self.sizes):
            for level, bucket in enumerate(buckets[group]):
                if bucket == _CENSORED:
                    found[group, level] = np.inf
                    continue
                first = np.searchsorted(cells, group * BUCKETS + bucket)
                found[group, level] = values[first + inside[group, level]]
        return found

    def _targets(self) -> tuple[Ints, Ints]:
        """The bucket in which each wanted rank lies and its place among that bucket's values; (count, levels) each."""
        sums = np.cumsum(self._tally, axis=1)
        ranks = np.stack([nearest_ranks(self.sizes, q) for q in self._levels], axis=1).astype(np.int64)
        buckets = np.stack([(sums < ranks[:, [i]]).sum(axis=1) for i in range(len(self._levels))], axis=1)
        buckets = np.minimum(buckets, _CENSORED)  # of a group without values every bucket is too small
        below = np.take_along_axis(sums - self._tally, buckets, axis=1)
        return buckets, ranks - below - 1

    def _cells(self, groups: Groups, values: Floats) -> tuple[Ints, Floats]:
        """The cell (group, bucket) of each present value, and the present values."""
        keep = ~np.isnan(values) & (groups >= 0)
        if not keep.all():
            groups, values = groups[keep], values[keep]
        bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64) >> _SHIFT  # negative for negative values
        buckets = np.clip(bits - (_FIRST - 1), 0, _CENSORED - 1)
        buckets[values == np.inf] = _CENSORED
        return groups.astype(np.int64) * BUCKETS + buckets, values
