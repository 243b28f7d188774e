"""What a worker does when its master or Locust speaks to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust import argument_parser
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest.swarm import preflight
from loadtest.swarm.versions import deciding_versions, difference
from loadtest.swarm.worker import WorkerRun
from loadtest.traffic.plan import Plan
from loadtest.traffic.profile import profile_hash

ERROR_TEXT_MAX = 500
CLOCK_WAIT_S = 20.0

logger = logging.getLogger(__name__)


class WorkerSide:
    """One per worker process; `run` is the run it takes part in. Users ask it for the run's driver."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._runner = environment.runner
        self.run: WorkerRun | None = None
        if isinstance(self._runner, WorkerRunner):
            # Locust builds this anew for every option of a spawn message: 0.1 s in which nothing is read or sent.
            argument_parser.default_args_dict = cache(argument_parser.default_args_dict)
            self._runner.register_message("loadtest_plan", self._on_plan)
            self._runner.register_message("loadtest_start", self._on_start)
            self._runner.register_message("loadtest_clock", self._on_clock_answer)

    def make_run(self, plan: Plan, stripe: int, collector: str | None, ping: Callable[[int], None] | None) -> None:
        """Build everything for one run; `ping` asks the master for its clock, None when we are the master."""
        if self.run is not None:
            self.run.finish()
        self.run = WorkerRun(
            self._environment,
            plan,
            stripe,
            collector=collector,
            spools=Path(self._environment.parsed_options.runs_dir) / plan.run / "spool",
            access=preflight.access_to(preflight.resolve_targets(plan.profile(), plan.host)),
            ping=ping,
        )

    def _on_plan(self, msg: Any, **_: Any) -> None:
        def ping(t1_ns: int) -> None:
            self._runner.send_message("loadtest_clock", {"t1": t1_ns})

        # Before the plan is read: another version may not know its form.
        differs = difference(msg.data["versions"], deciding_versions())
        if differs is not None:
            self._runner.send_message("loadtest_refused", {"text": differs})
            return
        try:
            plan = msgspec.msgpack.decode(msg.data["plan"], type=Plan)
            port = msg.data["port"]
            collector = f"tcp://{self._runner.master_host}:{port}" if port else None
            self.make_run(plan, msg.data["worker"], collector, ping)
            # Aside: we are in the message loop, which is to bring the answers.
            gevent.spawn(self._accept, plan)
        except Exception as error:
            # Whatever is wrong here must reach the master: it would wait for this worker's rows.
            logger.exception("the plan cannot be carried out")
            text = f"{type(error).__name__}: {error}"[:ERROR_TEXT_MAX]
            self._runner.send_message("loadtest_refused", {"text": text})

    def _accept(self, plan: Plan) -> None:
        """Say that we can begin: not before the master's clock is known, on which the common start is told."""
        run = self.run
        if run is None or run.plan.run != plan.run:
            return
        if run.clock.known(CLOCK_WAIT_S):
            accepted = {"run": plan.run, "profile_hash": profile_hash(plan.profile())}
            self._runner.send_message("loadtest_accepted", accepted)
        else:
            text = f"the master did not answer for its clock within {CLOCK_WAIT_S:.0f} s"
            self._runner.send_message("loadtest_refused", {"text": text})

    def _on_start(self, msg: Any, **_: Any) -> None:
        if self.run is not None:
            self.run.start(**msg.data)

    def _on_clock_answer(self, msg: Any, **_: Any) -> None:
        if self.run is not None:
            self.run.clock.answered(msg.data["t1"], msg.data["t2"], msg.data["t3"])

    def on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        if self.run is not None:
            data["loadtest"] = self.run.figures()

    def on_test_stopping(self, **_: Any) -> None:
        if self.run is not None:
            self.run.stop_offering()

    def on_test_stop(self, environment: Environment, **_: Any) -> None:
        if self.run is None:
            return
        self.run.finish()
        if isinstance(self._runner, WorkerRunner):
            # The final figures, now: what Locust sends on its own comes later or never.
            self._runner._send_stats()
            # Locust's worker sleeps this long after a stop before it is ready for the next run.
            environment.stop_timeout = 0.0
