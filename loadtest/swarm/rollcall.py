"""Whether every worker can carry out the plan: nothing is sent until all have said so, one that cannot ends the run."""

from __future__ import annotations

from collections.abc import Iterable

import gevent

from loadtest.clock import Deadline

WAIT_S = 60.0
LOOK_S = 0.02


class RollCall:
    """The workers' answers to one plan. `refusal` is who cannot take part and why, once one has said so."""

    def __init__(self, clients: Iterable[str], profile_hash: str) -> None:
        self._waited_for = set(clients)
        self._profile_hash = profile_hash
        self.refusal: str | None = None

    def accepted(self, client: str, profile_hash: str) -> None:
        """A worker has read the plan; it must have come to the same profile."""
        if profile_hash != self._profile_hash:
            self.refused(client, f"its profile has the hash {profile_hash}, the master's {self._profile_hash}")
        self._waited_for.discard(client)

    def refused(self, client: str, text: str) -> None:
        if self.refusal is None:
            self.refusal = f"worker {client} cannot take part: {text}"

    def complete(self) -> bool:
        """Wait for the answers; False when one was a refusal or never came.

        Locust says after some seconds that all users are there, also when a busy worker still reads the plan.
        """
        deadline = Deadline(WAIT_S)
        while self._waited_for and self.refusal is None and not deadline.over():
            gevent.sleep(LOOK_S)
        for client in self._waited_for:
            self.refused(client, "it did not answer to the plan; is it started with our locustfile?")
        return self.refusal is None
