"""The only reader of clocks.

Three scales. *Monotonic* (CLOCK_MONOTONIC, shared by all processes of one machine) times everything. *Wall*
(CLOCK_REALTIME) is what kernel receive timestamps and snapshots carry. *Master* is the master's monotonic
clock: every worker measures its offset to it, so that rows of several machines line up without trusting
anybody's wall clock.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

DRIFT_PPM_MAX = 50  # an ordinary crystal is off by 15 to 50 ppm
EXCHANGES_KEPT = 8  # NTP's clock filter keeps the fastest of the last eight

# For tests only: a process with this variable lives on a machine whose clocks, both of them, are so far ahead of what
# they are here, or behind. What comes from the kernel or goes to it (receive timestamps, timers) is carried over
# below, so that nothing of such a process can tell.
SKEW_VARIABLE = "LOADTEST_TEST_CLOCK_SKEW_MS"
_SKEW_NS = int(os.environ.get(SKEW_VARIABLE, "0")) * 1_000_000


def mono_ns() -> int:
    """Nanoseconds of CLOCK_MONOTONIC: for every instant and duration."""
    return time.monotonic_ns() + _SKEW_NS


def wall_ns() -> int:
    """Unix time in nanoseconds: only for joining with what others say and for showing dates."""
    return time.time_ns() + _SKEW_NS


def timer_ns(at_ns: int) -> int:
    """An instant of `mono_ns` as a kernel timer on CLOCK_MONOTONIC wants it."""
    return at_ns - _SKEW_NS


def utc_stamp() -> str:
    """Now, as a name that sorts by time: 20261122T104500Z."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_ns() / 1e9))


def utc_text(at_ns: int | None = None) -> str:
    """An instant of `wall_ns`, or now, to be read, cut to the second: 2026-11-22T10:45:00Z."""
    at_s = (wall_ns() if at_ns is None else at_ns) // 1_000_000_000
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def cpu_ns() -> int:
    """CPU time of this process, user and system, in nanoseconds."""
    return time.process_time_ns()


class WallOffset(NamedTuple):
    """Wall minus monotonic, true within `bound_ns` at the instant `at_ns` (monotonic)."""

    offset_ns: int
    bound_ns: int
    at_ns: int

    def of_stamps_ns(self) -> int:
        """What to subtract from a kernel timestamp (CLOCK_REALTIME) to get an instant of `mono_ns`."""
        return self.offset_ns - _SKEW_NS


def measure_wall_offset(tries: int = 20) -> WallOffset:
    """Read the wall clock between two monotonic reads and keep the closest pair of `tries`.

    The wall read happened somewhere between the two, so half their distance bounds the error.
    """
    best = WallOffset(0, 1 << 62, 0)
    for _ in range(tries):
        before = mono_ns()
        wall = wall_ns()
        after = mono_ns()
        bound = (after - before + 1) // 2
        if bound < best.bound_ns:
            best = WallOffset(wall - (before + after) // 2, bound, after)
    return best


class MasterOffset(NamedTuple):
    """Add `offset_ns` to this machine's monotonic clock to get the master's, within `bound_ns`."""

    offset_ns: int
    bound_ns: int


class OffsetFilter:
    """Offset of the master's monotonic clock, from four-timestamp exchanges.

    theta = ((t2 - t1) + (t3 - t4)) / 2 and delta = (t4 - t1) - (t3 - t2); the true offset is within delta / 2 of
    theta (Cristian 1989). Of the last eight exchanges the one with the least delta is used, and its bound grows
    with its age by the drift two crystals may have.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int, int]] = deque(maxlen=EXCHANGES_KEPT)

    def add(self, t1_ns: int, t2_ns: int, t3_ns: int, t4_ns: int) -> None:
        """t1 sent and t4 received by us, t2 received and t3 sent by the master."""
        delta = (t4_ns - t1_ns) - (t3_ns - t2_ns)
        if delta < 0:
            raise ValueError(f"clock exchange runs backwards: delta {delta} ns")
        # Ageing counts from t1: the clocks drift during the exchange too.
        self._samples.append((delta, ((t2_ns - t1_ns) + (t3_ns - t4_ns)) // 2, t1_ns))

    def best(self, now_ns: int) -> MasterOffset | None:
        """The offset to use now, or None before the first exchange."""
        if not self._samples:
            return None

        def bound(sample: tuple[int, int, int]) -> int:
            delta, _, since_ns = sample
            return (delta + 1) // 2 - (since_ns - now_ns) * DRIFT_PPM_MAX // 1_000_000  # both rounded up

        chosen = min(self._samples, key=bound)
        return MasterOffset(chosen[1], bound(chosen))


class Deadline:
    """An instant after which waiting is over. `now` is injectable so that tests need not sleep."""

    def __init__(self, seconds: float, now: Callable[[], int] = mono_ns) -> None:
        self._now = now
        self._end_ns = now() + int(seconds * 1e9)

    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, (self._end_ns - self._now()) / 1e9)

    def over(self) -> bool:
        return self._now() >= self._end_ns
