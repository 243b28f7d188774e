"""What the network remembers of a node: lifetime counters, and windows of timestamps for two series.

NodeStats is the snapshot behind `/leaderboard` (network tasks only). Reputation is the time series behind
`/reputation` (network tasks) and `/session-reputation` (user tasks). A *counter* counts entries into a stage, a
*point* a success in it; so points never exceed counters.
"""

from __future__ import annotations

from typing import Any

import msgspec

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

    def shape(self) -> dict[str, list[int]]:
        return {"all_timestamps": self.entered.values, "success_timestamps": self.succeeded.values}


class Reputation:
    """One series of one node: its precommits and its commits."""

    __slots__ = ("commit", "precommit")

    def __init__(self) -> None:
        self.precommit = Stage()
        self.commit = Stage()

    def shape(self) -> dict[str, Any]:
        """The body of `/reputation/{addr}` and `/session-reputation/{addr}`."""
        return {"precommit": self.precommit.shape(), "commit": self.commit.shape()}
