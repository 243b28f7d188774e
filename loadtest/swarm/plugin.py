"""Our place in Locust: which of its events leads to which step of a run.

    master, standalone   init: profile, targets, permission     test_start: run folder, collector, plan to workers
                         spawning_complete: common start        test_stop, quit: finish
    worker               plan message: reactor, recorder        start message: the driver begins
    worker, standalone   test_stop: everything acknowledged

The listeners are registered when the locustfile is imported. Locust fires `quitting` in reverse order of
registration, so ours runs last there, after its own has drained the workers. How a process ends when it is told to is
in `ending.py`.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from locust.env import Environment
from locust.event import Events
from locust.runners import LocalRunner, WorkerRunner

from loadtest.swarm.ending import cut_drain, drain_aside, stop_once, take_signals
from loadtest.swarm.master_side import MasterSide
from loadtest.swarm.options import add_options
from loadtest.swarm.worker_side import WorkerSide

# One line for each preflight request would bury ours.
logging.getLogger("httpx").setLevel(logging.WARNING)


def install(events: Events) -> None:
    """Register what every process needs; the rest follows in `init`, when it knows what it is."""
    events.init_command_line_parser.add_listener(add_options)
    events.init.add_listener(_take_sides)
    events.quitting.add_listener(_quitting)


def _take_sides(environment: Environment, **_: Any) -> None:
    """A worker has a worker's side, a master a master's; a standalone process has both and they talk directly."""
    runner = environment.runner
    environment.loadtest_worker = worker = None if _is_master(runner) else WorkerSide(environment)
    environment.loadtest_master = master = None
    if worker is not None:
        environment.events.test_stopping.add_listener(worker.on_test_stopping)
        environment.events.test_stop.add_listener(worker.on_test_stop)
        environment.events.report_to_master.add_listener(worker.on_report_to_master)
    if not isinstance(runner, WorkerRunner):
        environment.loadtest_master = master = MasterSide(environment, worker)
        environment.events.test_start.add_listener(master.on_test_start)
        environment.events.spawning_complete.add_listener(master.on_spawning_complete)
        environment.events.test_stopping.add_listener(master.on_test_stopping)
        # After the worker's side: standalone, its last figures are part of the account.
        environment.events.test_stop.add_listener(master.on_test_stop)
        environment.events.worker_report.add_listener(master.on_worker_report)
    if worker is not None:
        stop_once(runner)
    if isinstance(runner, WorkerRunner):
        drain_aside(runner)
    # The last listener of `quitting`, which is the first to be called.
    take_signals(environment, master.cut if master is not None else partial(cut_drain, runner))


def _is_master(runner: Any) -> bool:
    return not isinstance(runner, WorkerRunner | LocalRunner)


def _quitting(environment: Environment, **_: Any) -> None:
    # Locust may end before `init`, for instance on a wrong command line.
    master: MasterSide | None = getattr(environment, "loadtest_master", None)
    if master is not None:
        master.on_quitting()
