"""Gaps between chunks over time: percentiles of those of each bin, from the histogram in every row."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.bins import Bins
from loadtest.analysis.frames import Clocks, Floats
from loadtest.quantiles import midpoint

_KEYS = 2100  # buckets are logarithms of ns: the last one is at 10^18 ns
LEVELS = {"p50": 0.50, "p95": 0.95}


class GapsByTime:
    """Pooled gaps by the bin in which their turn was sent, added up one part of a run at a time. Up to 60 MB."""

    def __init__(self, clocks: Clocks, bins: Bins) -> None:
        self._t0_ns, self.bins = clocks.t0_ns, bins
        self._counts = np.zeros((bins.count, _KEYS), dtype=np.int64)

    def add(self, part: pa.Table) -> None:
        """Columns sent_ns, clock_offset_ns, itl_keys and itl_counts of some rows."""
        sent_ns = pc.add(part["sent_ns"], part["clock_offset_ns"]).to_numpy(zero_copy_only=False)
        bins = self.bins.places((sent_ns - self._t0_ns) / 1e9)
        if not (bins >= 0).any():
            return
        first = int(bins[bins >= 0].min())
        lengths = pc.list_value_length(part["itl_keys"]).to_numpy(zero_copy_only=False).astype(np.int64)
        keys = np.minimum(pc.list_flatten(part["itl_keys"]).to_numpy() + 1, _KEYS - 1)  # the key of 0 ns is -1
        places = np.repeat(np.where(bins >= 0, (bins - first) * _KEYS, -_KEYS), lengths) + keys
        weights = pc.list_flatten(part["itl_counts"]).to_numpy()
        if (bins < 0).any():
            places, weights = places[places >= 0], weights[places >= 0]
        counted = np.bincount(places, weights=weights)
        rows = math.ceil(len(counted) / _KEYS)
        whole = np.zeros(rows * _KEYS, dtype=np.int64)
        whole[: len(counted)] = counted
        self._counts[first : first + rows] += whole.reshape(rows, _KEYS)

    def percentiles_ms(self) -> dict[str, Floats]:
        """Of each bin in ms, within 1 %; NaN without gaps."""
        found: dict[str, Floats] = {}
        below = self._counts.cumsum(axis=1)
        total = below[:, -1]
        middle = np.array([midpoint(key - 1) / 1e6 for key in range(_KEYS)])
        for name, q in LEVELS.items():
            rank: npt.NDArray[np.int64] = np.maximum(1, np.ceil(q * total * (1 - 1e-12))).astype(np.int64)
            found[name] = np.where(total > 0, middle[(below < rank[:, None]).sum(axis=1).clip(max=_KEYS - 1)], np.nan)
        return found
