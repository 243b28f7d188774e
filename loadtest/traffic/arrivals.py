"""When conversations start: integer microseconds after t0, the same on every worker.

Every worker cumulates all gaps and takes its own indices, because a bursty process cut into n independent ones is
no longer bursty: at CV 2, sixteen of them merge to CV 1.47. Blocks bound what is held in memory.

Gaps are drawn at rate 1 and cumulated as integers (nano-arrivals), so that no sum depends on the order of additions;
the curve then gives each its instant.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtest.traffic.load import Client, Load
from loadtest.traffic.replay import Trace
from loadtest.traffic.streams import Key, Purpose, stream, stream_key

BLOCK = 1_024
NANO = 1_000_000_000

Counts = NDArray[np.int64]


def due_blocks(load: Load, seed: int, trace: Trace | None = None) -> Iterator[NDArray[np.int64]]:
    """Due times in us, ascending, in blocks. Endless, except for a trace and a curve that ends at rate 0.

    A constant rate starts at 0; the others start with a gap.
    """
    if trace is not None:
        dues = np.array(trace.due_us, dtype=np.int64)
        yield from (dues[start : start + BLOCK] for start in range(0, len(dues), BLOCK))
        return
    last = load.curve.pieces[-1].ends if not load.curve.repeats else 1.0
    most = None if last > 0 else load.curve.arrivals(load.rate_per_s)
    for counts in _merged(load.clients, stream_key(seed, Purpose.GAPS)):
        expected = counts / NANO
        if most is not None and expected[-1] >= most:
            yield load.curve.due_us(expected[expected < most], load.rate_per_s)
            return
        yield load.curve.due_us(expected, load.rate_per_s)


def due_times(
    load: Load, seed: int, horizon_us: int, trace: Trace | None = None, worker: int = 0, workers: int = 1
) -> Iterator[tuple[int, int]]:
    """(index, due_us) of the arrivals before the horizon with index = worker (mod workers), in order."""
    first = 0
    for dues in due_blocks(load, seed, trace):
        due = int(np.searchsorted(dues, horizon_us, side="left"))
        start = (worker - first) % workers
        yield from zip(range(first + start, first + due, workers), dues[start:due:workers].tolist(), strict=True)
        if due < len(dues):
            return
        first += len(dues)


def _merged(clients: tuple[Client, ...], key: Key) -> Iterator[Counts]:
    """Expected arrivals of all clients together until each arrival, in nano-arrivals, ascending.

    Several clients are merged window by window; ties go to the client named first.
    """
    if len(clients) == 1:
        yield from _counts(clients[0], key, 0)
        return
    sources = [_Source(client, key, place) for place, client in enumerate(clients)]
    end = 0
    while True:
        end += BLOCK * NANO
        parts = [source.until(end) for source in sources]
        merged = np.concatenate(parts)
        if len(merged):
            yield np.sort(merged, kind="stable")


class _Source:
    """One client's arrivals on the scale of all, taken in windows."""

    def __init__(self, client: Client, key: Key, place: int) -> None:
        self._share = client.share
        self._counts = _counts(client, key, place)
        self._held: Counts = np.empty(0, np.int64)

    def until(self, end: int) -> Counts:
        taken = []
        while not len(self._held) or self._held[-1] < end:
            taken.append(self._held)
            # A client with a tenth of all arrivals has its n-th when ten times as many are expected of all.
            self._held = np.rint(next(self._counts) / self._share).astype(np.int64)
        cut = int(np.searchsorted(self._held, end, side="left"))
        taken.append(self._held[:cut])
        self._held = self._held[cut:]
        return np.concatenate(taken)


def _counts(client: Client, key: Key, place: int) -> Iterator[Counts]:
    """S_n of one client at rate 1, in nano-arrivals. Gamma with shape 1/cv^2 and mean 1 has the CV cv."""
    last = 0
    for block in range(1 << 62):
        if client.cv == 0:
            yield np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.int64) * NANO
            continue
        rng = stream(key, block, place)
        if client.cv == 1:
            gaps = rng.standard_exponential(BLOCK)
        else:
            gaps = rng.standard_gamma(1 / client.cv**2, BLOCK) * client.cv**2
        counts = last + np.cumsum(np.rint(gaps * NANO).astype(np.int64))
        last = int(counts[-1])
        yield counts
