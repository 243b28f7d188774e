"""Kernel receive timestamps on our monotonic scale, and when not to believe them.

The kernel stamps packets on CLOCK_REALTIME, which may be stepped or slewed while a run is on. The offset to the
monotonic clock is re-measured every second, and compared with one cheap pair of clock reads before every pass,
because bytes that waited while the clock was stepped may carry either scale.
"""

from __future__ import annotations

from collections.abc import Callable

from loadtest.clock import DRIFT_PPM_MAX, WallOffset, measure_wall_offset

SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h; the socket module does not name it
STAMP_SPACE_BYTES = 32  # CMSG_SPACE(sizeof(struct timespec))
REMEASURE_NS = 1_000_000_000
STEP_NS_MAX = 1_000_000  # beyond this the wall clock was stepped, not slewed: NTP slews by at most 0.5 ms/s
EARLY_NS_MAX = 5_000_000  # a packet is stamped by the device and may wait this long for its socket on a busy machine


class KernelClock:
    """Keeps wall minus monotonic. `offset_ns` is the value to subtract from a stamp; `steps` counts clock steps."""

    __slots__ = ("_measure", "_offset", "offset_ns", "steps")

    def __init__(self, measure: Callable[[int], WallOffset] = measure_wall_offset) -> None:
        self._measure = measure
        self._offset = measure(20)
        self.offset_ns = self._offset.of_stamps_ns()
        self.steps = 0

    def trusted(self, now_ns: int) -> bool:
        """Call before each pass. False: the wall clock was stepped since the last one, so this pass uses user time."""
        probe = self._measure(1)
        if self._moved(probe):
            # One pair of reads may have been torn apart by the scheduler: look again before condemning the clock.
            probe = self._measure(20)
            if self._moved(probe):
                self.steps += 1
                self._take(probe)
                return False
        if now_ns - self._offset.at_ns >= REMEASURE_NS:
            self._take(self._measure(20))
        return True

    def _moved(self, probe: WallOffset) -> bool:
        drift = (probe.at_ns - self._offset.at_ns) * DRIFT_PPM_MAX // 1_000_000
        allowed = STEP_NS_MAX + drift + probe.bound_ns + self._offset.bound_ns
        return abs(probe.offset_ns - self._offset.offset_ns) > allowed

    def _take(self, measured: WallOffset) -> None:
        self._offset = measured
        self.offset_ns = measured.of_stamps_ns()
