"""Gaps between chunks over time: percentiles of each second's, from the histogram in every row."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis.frames import Clocks, Floats
from loadtest.quantiles import midpoint

BINS_MAX = 3600  # counts of gaps by bin and bucket then fit into 60 MB; a longer run has bins of several seconds
_KEYS = 2100  # buckets are logarithms of ns: the last one is at 10^18 ns
LEVELS = {"p50": 0.50, "p95": 0.95}


class GapsByTime:
    """Pooled gaps by the second in which their turn was sent, added up one part of a run at a time."""

    def __init__(self, clocks: Clocks, seconds: int) -> None:
        self._t0_ns, self._seconds = clocks.t0_ns, seconds
        self._width_s = math.ceil(seconds / BINS_MAX) or 1
        self._bins = math.ceil(seconds / self._width_s)
        self._counts = np.zeros((self._bins, _KEYS), dtype=np.int64)

    def add(self, part: pa.Table) -> None:
        """Columns sent_ns, clock_offset_ns, itl_keys and itl_counts of some rows."""
        sent_ns = pc.add(part["sent_ns"], part["clock_offset_ns"]).to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            second = np.maximum(0, np.floor((sent_ns - self._t0_ns) / 1e9))
        bins = np.where(np.isnan(second) | (second >= self._seconds), -1, second // self._width_s).astype(np.int64)
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
        """Of each second in ms, within 1 %; NaN without gaps. A bin of several seconds stands at its first one."""
        found: dict[str, Floats] = {}
        below = self._counts.cumsum(axis=1)
        total = below[:, -1] if self._bins else np.zeros(0, dtype=np.int64)
        middle = np.array([midpoint(key - 1) / 1e6 for key in range(_KEYS)])
        for name, q in LEVELS.items():
            rank: npt.NDArray[np.int64] = np.maximum(1, np.ceil(q * total * (1 - 1e-12))).astype(np.int64)
            of_bins = np.where(total > 0, middle[(below < rank[:, None]).sum(axis=1).clip(max=_KEYS - 1)], np.nan)
            seconds = np.full(self._seconds, np.nan)
            seconds[:: self._width_s] = of_bins
            found[name] = seconds
        return found
