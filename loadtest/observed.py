"""What the observer tells while a run goes on: the shape of live.json, which the master reads every second.

The two processes meet in this file only. It is written whole every two seconds, carries the instant of its writing,
and is at most BYTES_MAX long however many nodes there are and whatever they call themselves: what does not fit is
counted. Fields are only ever added; a reader that meets another version takes it as absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

FILE = "live.json"
VERSION = 2
BYTES_MAX = 100_000
NODE_BYTES_MAX = 75_000  # of all rows of nodes together
STAGES = ("queued", "acked", "precommitted", "committed", "completed")  # a router's status 0 to 4


class ObservedNode(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One node: what it did for requests of ours whose node is known, and the newest word on its reputation.

    Rates are shares of settled entries, None without one. Latencies and tokens/s are of good answers only; those of
    streams begin with the first content.
    """

    node: str
    requests: int = 0
    failures: int = 0
    ttft_ms_p50: float | None = None
    ttft_ms_p95: float | None = None
    e2e_ms_p50: float | None = None
    e2e_ms_p95: float | None = None
    tokens_per_s: float | None = None  # tokens after the first over the time from first to last, sums over answers
    precommit_rate: float | None = None  # lifetime counters of the leaderboard
    commit_rate: float | None = None
    network_precommit_rate: float | None = None  # windowed series, network tasks
    network_commit_rate: float | None = None
    session_precommit_rate: float | None = None  # windowed series, user tasks
    session_commit_rate: float | None = None
    pending: int = 0
    last_active_s: int | None = None
    age_s: float | None = None  # of the newest word on its reputation; None when nobody has told one

    @property
    def lowest_rate(self) -> float | None:
        """The lower of the two lifetime rates."""
        return min((r for r in (self.precommit_rate, self.commit_rate) if r is not None), default=None)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One state of a task, of those that were looked up. Ages count from the instant the request was sent, on our
    clock; a look-up sees a state some time after the task entered it, so `seen_s` are upper bounds."""

    stage: str
    now: int  # tasks last seen here that are still asked for
    left: int  # tasks last seen here that are no longer asked for
    reached: int  # tasks ever seen here or further on
    oldest_s: float | None = None  # age of the oldest that is here now
    seen_s_p50: float | None = None  # age when first seen here or further on
    seen_s_p95: float | None = None


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of ours that were looked up: where they stand, and how long those took that ended."""

    tasks: int = 0  # that told a state
    stages: list[Stage] = []
    ended: int = 0  # that told when they were created and finished
    took_s_p50: float | None = None  # from created to finished, on the router's clock, whole seconds
    took_s_p95: float | None = None


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """The newest status of one router, by the targets that share it; `error` is "" or why there is none."""

    targets: list[str]
    connected_miners: int | None = None
    active_sessions: int | None = None
    age_s: float | None = None
    error: str = ""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """live.json. Ages are as of `written_wall_ns`."""

    schema_version: int
    written_wall_ns: int
    state: str  # "running", "looking_up", "last_round", "done"
    requests: int = 0  # stored rows of requests that were sent
    requests_known: int = 0  # of these, how many have a node, by look-up or by a hint of the answer
    requests_looked_up: int = 0  # of these, how many a look-up has decided, with or without a node
    nodes_known: int = 0
    nodes_left_out: int = 0  # known, but not in `nodes`
    nodes: list[ObservedNode] = []  # the most requests first
    pipeline: Pipeline = Pipeline()
    routers: list[Router] = []
    sources: list[dict[str, Any]] = []  # by kind: polled, answers, errors, failing, last_error, age_s
    lookups: dict[str, int] = {}
    nodes_refused: int = 0
    damaged_parts: int = 0


def read(run: Path) -> Observed | None:
    """The live.json of a run folder; None where there is none, or none of this version."""
    try:
        found = msgspec.json.decode((run / FILE).read_bytes(), type=Observed)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.schema_version == VERSION else None


def fitting(nodes: Sequence[ObservedNode], lowest: int = 20) -> list[ObservedNode]:
    """As many nodes as fit into NODE_BYTES_MAX: the `lowest` in reputation, then those with the most requests."""
    told = sorted((node for node in nodes if node.lowest_rate is not None), key=lambda node: node.lowest_rate or 0.0)
    chosen: dict[str, ObservedNode] = {}
    used = 0
    for node in (*told[:lowest], *sorted(nodes, key=_most_requests)):
        if node.node in chosen:
            continue
        used += len(msgspec.json.encode(node)) + 1
        if used > NODE_BYTES_MAX:
            break
        chosen[node.node] = node
    return sorted(chosen.values(), key=_most_requests)


def _most_requests(node: ObservedNode) -> tuple[int, float, str]:
    return -node.requests, 1.0 if node.lowest_rate is None else node.lowest_rate, node.node
