"""How Locust's master treats a worker it does not hear: patiently, and without giving its users to others.

Stock Locust calls a worker missing after 4 s, takes its users away from it and deals them out again when it comes back
or after a minute. A cut link of 5 s would so end conversations in the middle, and the members of a lost worker would
load the target from other machines. Here a worker has 15 s, keeps its users whatever happens, and one that comes late
waits for the next run.
"""

from __future__ import annotations

import locust.runners
from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.runners import WorkerNode

MISSING_S = 15  # heartbeats come every second
NEVER = -(10**9)  # a counter that goes down by one with every beat that does not come


class FixedDispatcher(UsersDispatcher):  # type: ignore[misc]  # locust is Any to mypy
    """Deals out users when a run starts or its user count is changed, and never because a worker came or went."""

    def add_worker(self, worker_node: WorkerNode) -> None:
        pass

    def remove_worker(self, worker_node: WorkerNode) -> None:
        pass


def be_patient(environment: Environment) -> None:
    """On a master, before the first run."""
    locust.runners.HEARTBEAT_LIVENESS = MISSING_S
    locust.runners.HEARTBEAT_DEAD_INTERNAL = NEVER
    environment.dispatcher_class = FixedDispatcher
