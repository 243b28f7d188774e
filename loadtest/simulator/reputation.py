"""What the network remembers of a node: lifetime counters, and windows of timestamps for two series.

NodeStats is the snapshot behind `/leaderboard` (network tasks only). Reputation is the time series behind
`/reputation` (network tasks) and `/session-reputation` (user tasks). A *counter* counts entries into a stage, a
*point* a success in it; so points never exceed counters.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from loadtest.simulator.scenario import LevelRule

WINDOW_MAX = 1000  # the contract keeps ring buffers; their length is not published, this one is ours

_SNAKE = {"miner", "node_id", "last_active", "ping_counter"}  # the backend mixes snake case and camel case


def _backend_name(name: str) -> str:
    head, *rest = name.split("_")
    return name if name in _SNAKE else head + "".join(word.capitalize() for word in rest)


class NodeStats(msgspec.Struct, rename=_backend_name):
    """One leaderboard row, field by field as community tools read it. `last_active` is in Unix seconds."""

    miner: str
    node_id: str
    last_active: int = 0
    ping_counter: int = 0
    global_ping_point: int = 0
    request_point: int = 0
    create_point: int = 0
    create_counter: int = 0
    prepare_point: int = 0
    prepare_counter: int = 0
    start_point: int = 0
    precommit_point: int = 0
    precommit_counter: int = 0
    commit_point: int = 0
    commit_counter: int = 0
    end_point: int = 0
    correctness_point: int = 0


class Window:
    """The last WINDOW_MAX timestamps, in the order of a ring buffer: a full one is rotated, so readers must sort."""

    __slots__ = ("_next", "values")

    def __init__(self) -> None:
        self.values: list[int] = []
        self._next = 0

    def add(self, second: int) -> None:
        if len(self.values) < WINDOW_MAX:
            self.values.append(second)
            return
        self.values[self._next] = second
        self._next = (self._next + 1) % WINDOW_MAX


class Stage:
    """Entries and successes of one stage. A success repeats the timestamp of its entry: failures = all - success."""

    __slots__ = ("entered", "succeeded")

    def __init__(self) -> None:
        self.entered = Window()
        self.succeeded = Window()

    def shape(self, until_s: int | None = None, shift_s: int = 0) -> dict[str, list[int]]:
        """The lists as the backend tells them. `until_s` leaves out younger entries, `shift_s` is a clock's error."""
        entered, succeeded = self.entered.values, self.succeeded.values
        if until_s is not None or shift_s:
            last_s = until_s if until_s is not None else 1 << 62
            entered = [second + shift_s for second in entered if second <= last_s]
            succeeded = [second + shift_s for second in succeeded if second <= last_s]
        return {"all_timestamps": entered, "success_timestamps": succeeded}


class Reputation:
    """One series of one node: its precommits and its commits."""

    __slots__ = ("commit", "precommit")

    def __init__(self) -> None:
        self.precommit = Stage()
        self.commit = Stage()

    def shape(self, until_s: int | None = None, shift_s: int = 0) -> dict[str, Any]:
        """The body of `/reputation/{addr}` and `/session-reputation/{addr}`."""
        return {"precommit": self.precommit.shape(until_s, shift_s), "commit": self.commit.shape(until_s, shift_s)}


class Level:
    """A node's level: up after enough successes in a row at a good rate, down when the recent rate is bad."""

    __slots__ = ("_recent", "_rule", "consecutive", "value")

    def __init__(self, rule: LevelRule) -> None:
        self._rule = rule
        self._recent: deque[bool] = deque(maxlen=rule.window)
        self.consecutive = 0
        self.value = 0

    def add(self, success: bool) -> None:
        """One network task more. A change of level starts the count of successes again."""
        rule = self._rule
        self._recent.append(success)
        self.consecutive = self.consecutive + 1 if success else 0
        rate = sum(self._recent) / len(self._recent)
        if self.consecutive >= rule.consecutive and rate >= rule.success_rate and self.value < rule.top:
            self.value += 1
            self.consecutive = 0
        elif not success and len(self._recent) == rule.window and rate < rule.fall_rate and self.value:
            self.value -= 1
            self._recent.clear()
