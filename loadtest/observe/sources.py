"""What is polled and when: each source has its own period, and backs off while it fails.

Pure scheduling. The node sources (two per node) share a rate, so that a network of thousands of nodes is polled less
often rather than harder.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from loadtest.observe.asking import Client

BACKOFF_NS_MAX = 60_000_000_000
NODE_POLLS_PER_S_MAX = 20
LATE_NS_MIN = 5_000_000_000  # less is no matter to a join that tolerates two periods and the grace time
NODES_MAX = 5_000  # more addresses than any network has shown: a body that grows without end must not fill our memory
NODE_SOURCES = ("reputation", "session-reputation")


@dataclass(slots=True, eq=False)
class Source:
    """One route of one host. `targets` are those a status belongs to, `node` the address a reputation belongs to."""

    name: str
    client: Client
    path: str
    period_ns: int
    targets: tuple[str, ...] = ()
    node: str = ""
    next_ns: int = 0
    asking: bool = False
    answers: int = 0
    errors: int = 0
    failures: int = 0  # in a row
    last_error: str = ""
    answered_wall_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        return not self.asking and now_ns >= self.next_ns

    def asked(self, now_ns: int) -> None:
        """Count the period from the instant of asking, so that slow answers do not stretch it."""
        self.asking = True
        self.next_ns = now_ns + self.period_ns

    def answered(self, error: str, now_ns: int, wall_ns: int) -> None:
        """After n failures in a row wait 2^(n-1) periods, at most a minute (or one period, when that is longer)."""
        self.asking = False
        if not error:
            self.answers += 1
            self.failures, self.last_error, self.answered_wall_ns = 0, "", wall_ns
            self.next_ns = max(self.next_ns, now_ns)
            return
        self.errors += 1
        self.failures += 1
        self.last_error = error
        longest = max(BACKOFF_NS_MAX, self.period_ns)
        self.next_ns = now_ns + min(longest, self.period_ns << min(self.failures - 1, 30))


class NodeSources:
    """Reputation of every node the leaderboard has named, the longest due first, at a bounded rate."""

    def __init__(self, client: Client, period_ns: int) -> None:
        self._client = client
        self._period_ns = period_ns
        self._sources: dict[tuple[str, str], Source] = {}
        self._waiting: list[tuple[int, int, Source]] = []
        self._order = itertools.count()  # so that the heap never compares two sources
        self._next_ns = 0
        self._late_ns = 0
        self.name = NODE_SOURCES[0]
        self._refused: set[str] = set()

    def know(self, addresses_as_seen: Iterable[str], now_ns: int) -> None:
        """Add nodes that are new. A node is asked for in the spelling of the leaderboard."""
        for address in addresses_as_seen:
            if (NODE_SOURCES[0], address.lower()) in self._sources:
                continue
            if len(self._sources) >= NODES_MAX * len(NODE_SOURCES) or not _plain(address):
                if len(self._refused) < NODES_MAX:
                    self._refused.add(address.lower())
                continue
            for name in NODE_SOURCES:
                path = f"/{name}/{quote(address, safe='')}"
                source = Source(name, self._client, path, self._period_ns, node=address, next_ns=now_ns)
                self._sources[name, address.lower()] = source
                self.wait(source)

    @property
    def refused(self) -> int:
        """Nodes, NODES_MAX at most, that are not asked for: too many, or with an address that no URL should have."""
        return len(self._refused)

    def all(self) -> list[Source]:
        return list(self._sources.values())

    def wait(self, source: Source) -> None:
        """Let a source that was taken wait for its next instant."""
        heapq.heappush(self._waiting, (source.next_ns, next(self._order), source))

    def hurry(self, now_ns: int) -> None:
        """Make all that wait due now."""
        waiting = [source for _, _, source in self._waiting]
        self._waiting = []
        for source in waiting:
            source.next_ns = min(source.next_ns, now_ns)
            self.wait(source)

    def next_due_ns(self) -> int | None:
        return max(self._waiting[0][0], self._next_ns) if self._waiting else None

    def take(self, now_ns: int) -> Source | None:
        """The source that has been due the longest, if the rate allows one now. It is out until `wait`."""
        due_ns = self.next_due_ns()
        if due_ns is None or now_ns < due_ns:
            return None
        self._next_ns = now_ns + 1_000_000_000 // NODE_POLLS_PER_S_MAX
        source = heapq.heappop(self._waiting)[2]
        self._late_ns = max(self._late_ns, now_ns - source.next_ns)
        return source

    def take_late(self) -> str:
        """Why node polls since the last call were more than a period late, or ""."""
        late_ns, self._late_ns = self._late_ns, 0
        if late_ns <= max(self._period_ns, LATE_NS_MIN):
            return ""
        return (
            f"late: {len(self._sources)} polls of nodes due every {self._period_ns / 1e9:g} s, at most "
            f"{NODE_POLLS_PER_S_MAX} of them a second; the latest was {late_ns / 1e9:.1f} s late"
        )


def _plain(address: str) -> bool:
    """Letters and digits only: an address comes from outside and becomes part of a URL."""
    return address.isascii() and address.isalnum()
