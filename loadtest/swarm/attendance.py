"""Who of the workers is there: heard, quiet, lost, back again, and waited for at the end."""

from __future__ import annotations

import logging

import gevent

from loadtest.clock import Deadline, mono_ns
from loadtest.swarm.reports import Reports

QUIET_S = 5.0  # said once in a log: a worker that is killed cannot say so
SILENT_S = 15.0  # a worker of which nothing was heard for so long is gone; Locust is told the same, see patience.py
LOOK_S = 1.0  # between two looks at who is quiet
LEFT_EARLY_S = 2.0  # Ctrl-C reaches master and workers of one terminal at once; who ends so long before it has left

logger = logging.getLogger(__name__)


class Attendance:
    """Keeps `reports.lost`. `workers_lost_max` is how many the profile allows."""

    def __init__(self, reports: Reports, workers_lost_max: int) -> None:
        self._reports = reports
        self._lost_max = workers_lost_max

    def missing(self, stripe: int) -> None:
        """Locust has not heard a worker for a long time."""
        if not self._reports.is_final(stripe):
            self._lose(stripe, "is missing")

    def reported(self, stripe: int) -> None:
        """A worker that was given up for lost reports again: all its rows will come, and tell what it missed."""
        if stripe in self._reports.lost and not self._reports.is_final(stripe):
            self._reports.lost.discard(stripe)
            logger.warning("worker %d is back after %.0f s", stripe, self._reports.silent_s(stripe))

    def see_who_left(self, load_ended_ns: int | None) -> None:
        """A worker that was told to end before the load did: its rows are all here, its later arrivals are not."""
        for stripe in self._reports.stripes:
            until_ns = load_ended_ns or mono_ns()
            if self._reports.is_final(stripe) and until_ns - self._reports.ended_ns(stripe) > LEFT_EARLY_S * 1e9:
                self._lose(stripe, "left before the end")

    def see_who_is_quiet(self) -> None:
        """Once a second."""
        for stripe in self._reports.waited_for():
            quiet_s = self._reports.silent_s(stripe)
            if QUIET_S < quiet_s <= QUIET_S + LOOK_S:
                logger.warning("worker %d has not been heard for %.0f s; lost after %.0f s", stripe, quiet_s, SILENT_S)

    def await_finals(self, wait_s: float) -> None:
        """Wait for everybody's last word, at most so long; who does not say it is lost."""
        deadline = Deadline(wait_s)
        while not deadline.over():
            waited_for = self._reports.waited_for()
            if not waited_for:
                return
            for stripe in waited_for:
                if self._reports.silent_s(stripe) > SILENT_S:
                    self._lose(stripe, f"said nothing for {SILENT_S:.0f} s")
            gevent.sleep(0.1)
        for stripe in self._reports.waited_for():
            self._lose(stripe, f"did not end within {wait_s:.0f} s")

    def _lose(self, stripe: int, why: str) -> None:
        lost = self._reports.lost
        if stripe not in lost:
            lost.add(stripe)
            verdict = "which the profile allows" if len(lost) <= self._lost_max else "the run is unfit"
            logger.error("worker %d %s: what it had in flight and still to send is lost, %s", stripe, why, verdict)
