"""What is still to happen, in order of time. The machine's only notion of time is the instant it is told."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Agenda:
    """Planned actions. Instants are Unix ns; `now_ns` never runs backwards."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._events)

    def at(self, at_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        self._count += 1  # breaks ties, so that equal instants play in the order they were planned
        heapq.heappush(self._events, (at_ns, self._count, action, arguments))

    def advance(self, now_ns: int) -> None:
        """Play all that is due up to `now_ns`. An earlier instant than the last one changes nothing."""
        events = self._events
        while events and events[0][0] <= now_ns:
            at_ns, _, action, arguments = heapq.heappop(events)
            self.now_ns = at_ns
            action(*arguments)
        self.now_ns = max(self.now_ns, now_ns)
