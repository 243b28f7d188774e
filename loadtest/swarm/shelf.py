"""The runs that this master has begun, newest last: what its page shows and what may be downloaded from it."""

from __future__ import annotations

from loadtest.swarm.master import MasterRun

RUNS_MAX = 100
HISTORIES_MAX = 3  # some megabytes each


class Shelf:
    def __init__(self) -> None:
        self._runs: dict[str, MasterRun] = {}

    def add(self, run: MasterRun) -> None:
        self._runs[run.plan.run] = run
        names = list(self._runs)
        for name in names[:-HISTORIES_MAX]:
            self._runs[name].history = None
        for name in names[:-RUNS_MAX]:
            del self._runs[name]

    def names(self) -> list[str]:
        """Newest first."""
        return list(reversed(self._runs))

    def get(self, name: str) -> MasterRun | None:
        """The run of exactly this name; the newest for ""."""
        if name:
            return self._runs.get(name)
        return next(reversed(self._runs.values()), None)
