"""Sleeping to an instant of the monotonic clock, to some tens of microseconds.

A gevent timer is up to a millisecond late, since its loop waits in whole milliseconds. A kernel timer (timerfd) is
a descriptor that the loop watches beside its sockets and that becomes readable when the instant has come. One is enough
for all greenlets of a hub: it is set to the earliest instant. Python has `os.timerfd_create` from 3.13 on; until then
it is the C library's.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count

import gevent
from gevent.hub import Waiter

from loadtest.clock import mono_ns, timer_ns

_CLOCK_MONOTONIC = 1  # the clock of `mono_ns`
_ABSOLUTE = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class _Timerspec(ctypes.Structure):
    """struct itimerspec: the interval (0: once) and the instant, as seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Alarm:
    """Wakes greenlets of one hub at instants. Make it after the fork. OSError when the kernel has no timer for us."""

    def __init__(self) -> None:
        self._descriptor = _checked(_libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC))
        self._hub = gevent.get_hub()
        self._waiting: list[tuple[int, int, Waiter]] = []
        self._numbers = count()  # waiters cannot be compared
        self._watcher = self._hub.loop.io(self._descriptor, 1)
        self._watcher.start(self._ring)

    def sleep_until(self, at_ns: int) -> None:
        """Sleep to an instant and not less. May be killed in it."""
        while at_ns > mono_ns():
            waiter = Waiter(self._hub)
            heappush(self._waiting, (at_ns, next(self._numbers), waiter))
            if self._waiting[0][2] is waiter:
                self._set(at_ns)
            # Killed here, it leaves its waiter in the heap until its instant: switching to that does nothing.
            waiter.get()

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        os.close(self._descriptor)

    def _ring(self) -> None:
        """In the hub: let everybody go whose instant has come, and set the timer to the next one."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # it was set to another instant meanwhile
        while self._waiting and self._waiting[0][0] <= mono_ns():
            heappop(self._waiting)[2].switch(None)
        if self._waiting:
            self._set(self._waiting[0][0])

    def _set(self, at_ns: int) -> None:
        spec = _Timerspec(0, 0, *divmod(max(timer_ns(at_ns), 1), 1_000_000_000))
        _checked(_libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(spec), None))


@lru_cache(maxsize=1)
def alarm_of(process: int) -> Alarm:
    """The alarm of this process, by its id: a child must not share its parent's, which a fork would hand on."""
    return Alarm()


def sleep_until(at_ns: int) -> None:
    """Sleep to an instant of `mono_ns`, and not less, by the alarm of this process. May be killed in it."""
    alarm_of(os.getpid()).sleep_until(at_ns)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"timerfd: {os.strerror(number)}")
    return int(result)
