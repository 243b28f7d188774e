"""Locust's users: slots for open arrivals, members for closed load. They hold no logic; the driver of the run does."""

from __future__ import annotations

from gevent import GreenletExit, sleep
from locust import User, constant, task
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

REST_S = 1.0


class _Person(User):  # type: ignore[misc]  # locust is Any to mypy
    abstract = True
    _state: str | None
    _ends = False
    wait_time = constant(0)

    def stop(self, force: bool = False) -> bool:
        self._ends = force or self._state in (None, LOCUST_STATE_WAITING)
        return bool(super().stop(force))

    def waiting(self) -> None:
        """Nothing of this user is in flight: Locust may kill it at once."""
        if self._state != LOCUST_STATE_STOPPING:
            self._state = LOCUST_STATE_WAITING

    def busy(self) -> None:
        """A request is about to be in flight: from here on a stop waits for it, up to the stop timeout.

        GreenletExit when a stop has decided to end this user and has not come to it yet: what it began now would be cut
        off at once.
        """
        if self._ends:
            raise GreenletExit
        if self._state != LOCUST_STATE_STOPPING:
            self._state = LOCUST_STATE_RUNNING

    def stopping(self) -> bool:
        return bool(self._state == LOCUST_STATE_STOPPING)

    @task  # type: ignore[untyped-decorator]
    def serve(self) -> None:
        run = self.environment.loadtest_worker.run
        if run is None:
            self.waiting()
            sleep(REST_S)  # the plan was refused: until the master has ended the load
            return
        run.driver.serve(self)


class OpenArrivals(_Person):
    """One slot for a conversation in flight. Arrivals come from the schedule; `-u` is the cap of the whole swarm."""


class ClosedMembers(_Person):
    """One community member, in one conversation at a time; `-u` is the number of members."""
