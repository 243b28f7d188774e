"""Our place in Locust: which of its events leads to which step of a run. No logic beyond the order of steps.

    master, standalone   init: profile, targets, permission     test_start: run folder, collector, plan to workers
                         spawning_complete: common start        test_stop, quit: finish
    worker               plan message: reactor, recorder        start message: the driver begins
                         test_stop: everything acknowledged

The listeners are registered when the locustfile is imported. Locust fires `quitting` in reverse order of
registration, so ours runs last there, after its own has drained the workers.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event
from locust.env import Environment
from locust.event import Events
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtest import runfolder
from loadtest.clock import mono_ns
from loadtest.swarm import options as our_options
from loadtest.swarm import preflight
from loadtest.swarm.children import ChildError
from loadtest.swarm.drain import allow_long_drains, drain_before_quit
from loadtest.swarm.master import MasterRun, Settings
from loadtest.swarm.users import ClosedMembers, OpenArrivals
from loadtest.swarm.worker import WorkerRun
from loadtest.traffic.plan import Plan
from loadtest.traffic.profile import Profile, ProfileError, load_profile
from loadtest.traffic.replay import Trace, TraceError

FINISHED_WAIT_S = 3600.0
LOCAL = "local"
SPAWN_RATE_MAX = 100  # users per second; Locust warns above it
START_LEAD_US = 1_500_000

logger = logging.getLogger(__name__)
# One line for each preflight request would bury ours.
logging.getLogger("httpx").setLevel(logging.WARNING)


class Plugin:
    """One per process. `master_run` is set on a master or standalone, `worker_run` on a worker or standalone."""

    def __init__(self) -> None:
        self.environment: Any = None
        self.master_run: MasterRun | None = None
        self.worker_run: WorkerRun | None = None
        self._profile: Profile | None = None
        self._trace: Trace | None = None
        self._ended = Event()
        self._ended.set()
        self._exit_code: int | None = None

    def install(self, events: Events) -> None:
        events.init_command_line_parser.add_listener(our_options.add_options)
        events.init.add_listener(self.on_init)
        events.test_start.add_listener(self.on_test_start)
        events.spawning_complete.add_listener(self.on_spawning_complete)
        events.test_stopping.add_listener(self.on_test_stopping)
        events.test_stop.add_listener(self.on_test_stop)
        events.report_to_master.add_listener(self.on_report_to_master)
        events.worker_report.add_listener(self.on_worker_report)
        events.quitting.add_listener(self.on_quitting)

    @property
    def runner(self) -> Any:
        return self.environment.runner

    # Set up.

    def on_init(self, environment: Environment, **_: Any) -> None:
        self.environment = environment
        if isinstance(self.runner, WorkerRunner):
            self.runner.register_message("loadtest_plan", self._on_plan)
            self.runner.register_message("loadtest_start", self._on_start)
            self.runner.register_message("loadtest_clock", self._on_clock_answer)
            return
        try:
            self._read_profile()
            if environment.web_ui is None:
                self._check_targets()
        except preflight.SetupError as error:
            self._refuse(error)
        if isinstance(self.runner, MasterRunner):
            self._ended = drain_before_quit(self.runner, self._finish)
            self.runner.register_message("loadtest_clock", self._on_clock_ping)
            self.runner.register_message("loadtest_refused", self._on_refused)
        self.runner.greenlet.spawn(self._watch_workers)

    def _refuse(self, error: preflight.SetupError) -> None:
        """End the program with one line. Locust's own ending would print a table of nothing."""
        print(f"loadtest: {error}", file=sys.stderr, flush=True)
        if isinstance(self.runner, MasterRunner):
            self.runner.server.close(linger=0)
        raise SystemExit(error.exit_code)

    def _read_profile(self) -> None:
        """Read profile and trace, and keep the user class of the profile's mode."""
        parsed = self.environment.parsed_options
        try:
            self._profile = load_profile(parsed.profile or our_options.DEFAULT_PROFILE)
            trace = our_options.trace_path(parsed)
            self._trace = Trace.load(trace, parsed.limit or None, parsed.speed) if trace else None
        except (ProfileError, TraceError) as error:
            raise preflight.SetupError(str(error), preflight.EXIT_USAGE) from None
        load = self._profile.load
        wanted = OpenArrivals if load.mode == "open" else ClosedMembers
        self.environment.user_classes[:] = [wanted]
        self.environment.stop_timeout = our_options.stop_timeout_s(parsed, load.drain_s)
        allow_long_drains(self.environment.stop_timeout)
        if parsed.num_users is None:
            parsed.num_users = load.in_flight_max if load.mode == "open" else load.members
        if parsed.spawn_rate is None:
            parsed.spawn_rate = min(parsed.num_users, SPAWN_RATE_MAX)

    def _targets(self) -> tuple[Any, ...]:
        assert self._profile is not None
        return preflight.resolve_targets(self._profile, self.environment.host)

    def _check_targets(self) -> None:
        assert self._profile is not None
        parsed = self.environment.parsed_options
        targets = self._targets()
        preflight.check_permission(targets, self._profile, parsed.allow_host, parsed.rate_ceiling or None)
        preflight.check_reachable(targets)

    # Master and standalone.

    def on_test_start(self, environment: Environment, **_: Any) -> None:
        if isinstance(self.runner, WorkerRunner):
            return
        try:
            if environment.web_ui is not None:
                self._read_profile()
                self._check_targets()
            self._start_run()
        except (preflight.SetupError, ChildError, OSError) as error:
            logger.error("the run did not start: %s", error)
            self._exit_code = getattr(error, "exit_code", preflight.EXIT_NOT_RUN)
            gevent.spawn(self.runner.stop if environment.web_ui is not None else self.runner.quit)

    def _start_run(self) -> None:
        assert self._profile is not None
        parsed, profile = self.environment.parsed_options, self._profile
        targets = self._targets()
        clients = [LOCAL] if isinstance(self.runner, LocalRunner) else [c.id for c in self._ready_workers()]
        plan = Plan(
            run=parsed.run_id or runfolder.new_run_id(),
            profile_text=profile.text,
            profile_source=profile.source,
            seed=parsed.seed,
            host=self.environment.host or "",
            workers=len(clients),
            warmup_us=0,
            horizon_us=0,
            trace_rows=tuple(self._trace.rows()) if self._trace is not None else None,
        )
        settings = Settings(
            runs_dir=Path(parsed.runs_dir),
            bind=getattr(self.runner, "master_bind_host", "127.0.0.1").replace("*", "0.0.0.0"),
            observe=not parsed.no_observe,
            report=not parsed.no_report,
            host=self.environment.host or targets[0].url or "",
            users=self.runner.target_user_count or parsed.num_users,
            trace_file=parsed.trace or None,
            trace_speed=parsed.speed,
        )
        self._ended.clear()
        self.master_run = MasterRun(
            plan, profile, targets, settings, {client: stripe for stripe, client in enumerate(clients)}
        )
        logger.info("run %s: profile %s, seed %d, %d worker(s)", plan.run, profile.name, plan.seed, len(clients))
        for client, stripe in self.master_run.stripes.items():
            if client == LOCAL:
                self._make_worker_run(plan, stripe, self.master_run.collector.port, "127.0.0.1", None)
            else:
                message = {
                    "plan": msgspec.msgpack.encode(plan),
                    "worker": stripe,
                    "port": self.master_run.collector.port,
                }
                self.runner.send_message("loadtest_plan", message, client_id=client)

    def _ready_workers(self) -> list[Any]:
        clients = self.runner.clients
        workers = clients.ready + clients.running + clients.spawning
        return sorted(workers, key=lambda client: self.runner.get_worker_index(client.id))

    def on_spawning_complete(self, **_: Any) -> None:
        """All slots or members are there: fix the start. Later changes of the user count change the slots only."""
        run = self.master_run
        if run is None or run.begun:
            return
        horizon_us = self._horizon_us(run)
        assert self._profile is not None
        # A short run keeps three quarters of itself for measuring; the report states the warm-up it had.
        warmup_us = min(int(self._profile.load.warmup_s * 1e6), horizon_us // 4)
        t0_ns = run.begin(horizon_us, warmup_us)
        start = {"t0_ns": t0_ns, "horizon_us": horizon_us, "warmup_us": warmup_us}
        if self.worker_run is not None:
            self.worker_run.start(**start)
        else:
            self.runner.send_message("loadtest_start", start)
        if not self.environment.parsed_options.run_time:
            seconds = (t0_ns - mono_ns()) / 1e9 + horizon_us / 1e6
            ui = self.environment.web_ui is not None
            gevent.spawn_later(seconds, self._end_of_plan, run, self.runner.stop if ui else self.runner.quit)

    def _horizon_us(self, run: MasterRun) -> int:
        """How long arrivals are offered: what --run-time leaves after the start-up, else the trace or the profile."""
        assert self._profile is not None
        if self.environment.parsed_options.run_time:
            left_us = int(self.environment.parsed_options.run_time * 1e6) - run.elapsed_us() - START_LEAD_US
            # Whole tenths, so that a run repeated on another day is planned to the same instant.
            return max(100_000, left_us // 100_000 * 100_000)
        if self._trace is not None:
            return self._trace.rows()[-1][0] + 1
        return int(self._profile.load.duration_s * 1e6)

    def _end_of_plan(self, run: MasterRun, end: Any) -> None:
        if self.master_run is run and not self._ended.is_set():
            logger.info("everything planned has been offered; waiting for what is in flight")
            end()

    def on_test_stopping(self, **_: Any) -> None:
        if self.master_run is not None:
            self.master_run.stopping()
        if self.worker_run is not None:
            self.worker_run.stop_offering()

    def on_test_stop(self, environment: Environment, **_: Any) -> None:
        if self.worker_run is not None:
            self.worker_run.finish()
            if isinstance(self.runner, WorkerRunner):
                # The final figures, now: what Locust sends on its own comes later or never.
                self.runner._send_stats()
                # Locust's worker sleeps this long after a stop before it is ready for the next run.
                environment.stop_timeout = 0.0
                return
            if self.master_run is not None:
                self.master_run.take_report(self.worker_run.figures())
        if isinstance(self.runner, LocalRunner) or environment.web_ui is not None:
            # In the web UI the page must go on answering while the run is joined and reported.
            finishing = gevent.spawn(self._finish)
            if environment.web_ui is None:
                finishing.join()

    def _finish(self) -> None:
        run, self.master_run = self.master_run, None
        if run is None:
            self._ended.set()
            return
        try:
            if run.begun:
                run.finish()
            else:
                run.abort()
        finally:
            self._exit_code = run.exit_code if self._exit_code is None else self._exit_code
            self._ended.set()

    def on_quitting(self, environment: Environment, **_: Any) -> None:
        if isinstance(self.runner, WorkerRunner):
            return
        if isinstance(self.runner, LocalRunner):
            self.runner.quit()
        self._ended.wait(FINISHED_WAIT_S)
        if self._exit_code:
            environment.process_exit_code = self._exit_code
        elif self._exit_code == 0 and not (self.runner.errors and environment.parsed_options.exit_code_on_error):
            environment.process_exit_code = 0

    def _watch_workers(self) -> None:
        while True:
            gevent.sleep(1.0)
            if self.master_run is None:
                continue
            if self.worker_run is not None:
                self.master_run.take_report(self.worker_run.figures())
            else:
                for client in self.runner.clients.missing:
                    self.master_run.worker_missing(client.id)

    def on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        report = data.get("loadtest")
        if report is not None and self.master_run is not None:
            self.master_run.take_report(report)

    def _on_clock_ping(self, environment: Environment, msg: Any, **_: Any) -> None:
        received_ns = mono_ns()
        answer = {"t1": msg.data["t1"], "t2": received_ns, "t3": mono_ns()}
        self.runner.send_message("loadtest_clock", answer, client_id=msg.node_id)

    def _on_refused(self, environment: Environment, msg: Any, **_: Any) -> None:
        logger.error("worker %s cannot take part: %s", msg.node_id, msg.data["text"])
        self._exit_code = preflight.EXIT_NOT_RUN
        gevent.spawn(self.runner.quit if environment.web_ui is None else self.runner.stop)

    # Worker and standalone.

    def _make_worker_run(self, plan: Plan, stripe: int, port: int, collector_host: str, ping: Any) -> None:
        if self.worker_run is not None:
            self.worker_run.finish()
        self.worker_run = WorkerRun(
            self.environment,
            plan,
            stripe,
            collector=f"tcp://{collector_host}:{port}",
            spools=Path(self.environment.parsed_options.runs_dir) / plan.run / "spool",
            access=preflight.access_to(preflight.resolve_targets(plan.profile(), plan.host)),
            ping=ping,
        )
        self.environment.loadtest_run = self.worker_run

    def _on_plan(self, environment: Environment, msg: Any, **_: Any) -> None:
        def ping(t1_ns: int) -> None:
            self.runner.send_message("loadtest_clock", {"t1": t1_ns})

        try:
            plan = msgspec.msgpack.decode(msg.data["plan"], type=Plan)
            self._make_worker_run(plan, msg.data["worker"], msg.data["port"], self.runner.master_host, ping)
        except Exception as error:
            # Whatever is wrong here must reach the master: it would wait for this worker's rows.
            logger.exception("the plan cannot be carried out")
            self.runner.send_message("loadtest_refused", {"text": f"{type(error).__name__}: {error}"[:500]})

    def _on_start(self, environment: Environment, msg: Any, **_: Any) -> None:
        if self.worker_run is not None:
            self.worker_run.start(**msg.data)

    def _on_clock_answer(self, environment: Environment, msg: Any, **_: Any) -> None:
        if self.worker_run is not None:
            self.worker_run.clock.answered(msg.data["t1"], msg.data["t2"], msg.data["t3"])

    def on_report_to_master(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if self.worker_run is not None:
            data["loadtest"] = self.worker_run.figures()
