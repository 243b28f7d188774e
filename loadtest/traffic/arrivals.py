"""When conversations start: integer microseconds after t0, the same on every worker.

Every worker cumulates all gaps and takes its own indices, because a bursty process cut into n independent ones is
no longer bursty: at CV 2, sixteen of them merge to CV 1.47. Blocks bound what is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtest.traffic.profile import Load
from loadtest.traffic.replay import Trace
from loadtest.traffic.streams import Key, Purpose, stream, stream_key

BLOCK = 1_024


def due_blocks(load: Load, seed: int, trace: Trace | None = None) -> Iterator[NDArray[np.int64]]:
    """Due times in us, ascending, in blocks; block b holds the arrivals b * BLOCK and following.

    Endless, except for a trace. A constant rate starts at 0; the others start with a gap.
    """
    if trace is not None:
        dues = np.array(trace.due_us, dtype=np.int64)
        yield from (dues[start : start + BLOCK] for start in range(0, len(dues), BLOCK))
        return
    key = stream_key(seed, Purpose.GAPS)
    last = 0
    for block in range(1 << 62):
        if load.arrivals == "constant":
            # From the index, never by adding gaps: a rounded gap would change the rate.
            yield (np.arange(block * BLOCK, (block + 1) * BLOCK) * 1_000_000 / load.rate_per_s).astype(np.int64)
            continue
        dues = last + np.cumsum(_gaps_us(load, key, block))
        last = int(dues[-1])
        yield dues


def _gaps_us(load: Load, key: Key, block: int) -> NDArray[np.int64]:
    """One block of gaps. Gamma with shape 1/cv^2 and mean 1/rate has coefficient of variation cv."""
    rng = stream(key, block)
    if load.arrivals == "gamma":
        gaps = rng.standard_gamma(1 / load.cv**2, BLOCK) * load.cv**2
    else:
        gaps = rng.standard_exponential(BLOCK)
    return np.rint(gaps * (1e6 / load.rate_per_s)).astype(np.int64)


def due_times(
    load: Load, seed: int, horizon_us: int, trace: Trace | None = None, worker: int = 0, workers: int = 1
) -> Iterator[tuple[int, int]]:
    """(index, due_us) of the arrivals before the horizon with index = worker (mod workers), in order."""
    for block, dues in enumerate(due_blocks(load, seed, trace)):
        first = block * BLOCK
        due = int(np.searchsorted(dues, horizon_us, side="left"))
        start = (worker - first) % workers
        yield from zip(range(first + start, first + due, workers), dues[start:due:workers].tolist(), strict=True)
        if due < len(dues):
            return
