"""What is due when: one heap for all answers under way, drained in passes; and the requests that wait for their turn.

One asyncio timer per chunk costs more than the chunk's write: its heap compares handles in Python. Here a heap of
tuples is compared in C, one timer wakes the loop for all that is due, and each pass is short: after it the loop reads
what clients sent. A new request costs as much as twenty chunks, so requests are taken one at a time and never before a
chunk that is due: a thousand at once make each other late, and not the streams under way.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from collections import deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from typing import Any, Protocol

from loadtest.clock import mono_ns

PASS_NS_MAX = 2_000_000  # then sockets are read
SPACING_NS = 300_000  # passes begin at least this far apart: a turn of the loop costs as much as two chunks
EVENTS_MAX = 16  # sockets read between two passes; reading a request costs some 30 us


class Due(Protocol):
    """Something that has instants of its own."""

    def play(self) -> int:
        """Do what is due now; returns the next instant (monotonic ns), or 0 when there is none."""


class Pace:
    """Plays what is due and serves what was asked, one after the other. Belongs to the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[int, int, Due]] = []
        self._count = 0  # breaks ties, so that equal instants play in the order they were planned
        self._asked: deque[Callable[[], None]] = deque()
        self._wake: asyncio.Handle | None = None
        self._soon = False

    def at(self, due_ns: int, due: Due) -> None:
        """Play `due` at an instant. Call it before the loop runs, from `play`, or from what `ask` was given."""
        self._count += 1
        heappush(self._heap, (due_ns, self._count, due))

    def ask(self, serve: Callable[[], None]) -> None:
        """Call `serve` as soon as nothing is due."""
        self._asked.append(serve)
        if not self._soon:
            self._soon = True
            if self._wake is not None:
                self._wake.cancel()
            self._wake = self._loop.call_soon(self.run)

    def run(self) -> None:
        """One pass, and the plan of the next one."""
        heap, asked = self._heap, self._asked
        began_ns = now_ns = mono_ns()
        end_ns = began_ns + PASS_NS_MAX
        try:
            while now_ns < end_ns:
                if heap and heap[0][0] <= now_ns:
                    _, order, due = heappop(heap)
                    if next_ns := due.play():
                        heappush(heap, (next_ns, order, due))
                elif asked:
                    asked.popleft()()
                else:
                    break
                now_ns = mono_ns()
        finally:  # an error of one answer is reported by the loop and must not end all others
            self._plan(began_ns)

    def _plan(self, began_ns: int) -> None:
        heap = self._heap
        self._soon = bool(self._asked) or bool(heap and heap[0][0] <= mono_ns())
        if self._soon:
            self._wake = self._loop.call_soon(self.run)
        elif heap:
            # loop.time() is the monotonic clock in seconds, the scale of mono_ns().
            self._wake = self._loop.call_at(max(heap[0][0], began_ns + SPACING_NS) / 1e9, self.run)
        else:
            self._wake = None


class FineSelector(selectors.BaseSelector):
    """epoll for a loop whose timers must be on time, and whose turns must be short.

    epoll waits in whole milliseconds, rounded up; select() on epoll's own descriptor waits to the microsecond. And a
    turn gets at most EVENTS_MAX events; what else is ready comes next time, epoll takes care that nobody is forgotten.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if number in self._keys:
            raise KeyError(f"descriptor {number} is registered already")
        key = selectors.SelectorKey(fileobj, number, events, data)
        self._epoll.register(number, _wanted(events))
        self._keys[number] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._keys.pop(self.get_key(fileobj).fd)
        self._epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        if events != key.events:
            self._epoll.modify(key.fd, _wanted(events))
        key = self._keys[key.fd] = key._replace(events=events, data=data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            select.select([self._epoll], [], [], timeout)
        found = []
        for number, events in self._epoll.poll(0, EVENTS_MAX):
            if (key := self._keys.get(number)) is not None:
                read = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
                write = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
                found.append((key, (read | write) & key.events))
        return found

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return self._keys[number]  # asyncio expects a KeyError

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()
        self._epoll.close()


def _wanted(events: int) -> int:
    read = select.EPOLLIN if events & selectors.EVENT_READ else 0
    return read | (select.EPOLLOUT if events & selectors.EVENT_WRITE else 0)
