"""Counter-based random streams: the draws of arrival i need none of the draws of arrivals 0 to i-1.

Philox is a block function of (key, counter). The key comes from the seed and a purpose, the counter's upper
words from what the draws are for, so that any stream is reached at once and no two streams overlap.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Key = NDArray[np.uint64]


class Purpose(IntEnum):
    """What a stream is for. The numbers are part of every seed's meaning: never reuse or renumber one."""

    GAPS = 1
    SHAPES = 2
    TEXTS = 3
    PHRASES = 4


def stream_key(seed: int, purpose: Purpose) -> Key:
    """The 128-bit Philox key of one purpose under one seed (any integer >= 0)."""
    words = np.random.SeedSequence(seed, spawn_key=(int(purpose),)).generate_state(2, np.uint64)
    return words.astype(np.uint64)


def stream(key: Key, index: int, middle: int = 0, low: int = 0) -> np.random.Generator:
    """The generator of the place (index, middle, low) under `key`; each is below 2^64. Costs about 8 us.

    The lowest counter word is left to the generator itself: 2^66 draws before it would reach its neighbour.
    """
    return np.random.Generator(np.random.Philox(key=key, counter=[0, low, middle, index]))
