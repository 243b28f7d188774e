"""What a master, or a standalone process, does when Locust or a worker speaks to it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING, LocalRunner, MasterRunner

from loadtest.clock import Deadline, mono_ns
from loadtest.records import Target
from loadtest.swarm import options, preflight
from loadtest.swarm.alarm import sleep_until
from loadtest.swarm.asked import Asked
from loadtest.swarm.children import ChildError
from loadtest.swarm.doors import check_doors
from loadtest.swarm.drain import drain_before_quit
from loadtest.swarm.ending import CUT, cut_drain
from loadtest.swarm.exposition import Exposition
from loadtest.swarm.form import check_form
from loadtest.swarm.master import MasterRun
from loadtest.swarm.pages import add_pages
from loadtest.swarm.patience import be_patient
from loadtest.swarm.screen import view_for
from loadtest.swarm.shelf import Shelf
from loadtest.swarm.standing import Standing
from loadtest.swarm.target_info import ask_info
from loadtest.swarm.users import ClosedMembers, OpenArrivals
from loadtest.swarm.versions import deciding_versions
from loadtest.swarm.webui import add_tabs
from loadtest.swarm.worker_side import WorkerSide

FINISHED_WAIT_S = 3600.0
LOCAL = "local"
SPAWN_RATE_MAX = 100  # users per second; Locust warns above it
HORIZON_MIN_US = 100_000
TIMER_EARLY_US = 1_000_000  # a gevent timer, set while its loop's clock may be this old

logger = logging.getLogger(__name__)


class MasterSide:
    """One per process that is asked to run tests; `worker` is its own worker's side when it is standalone."""

    def __init__(self, environment: Environment, worker: WorkerSide | None) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._worker = worker
        self._run: MasterRun | None = None
        self._exit_code: int | None = None
        self._finishing = 0  # runs that are being joined or reported
        self._last_standing: Standing | None = None
        self._infos: dict[str, dict[str, str]] = {}  # what the targets told of themselves
        self._shelf = Shelf()
        self._last_run: MasterRun | None = None  # the one that is on, or the last one
        self._exposition = Exposition(lambda: None if self._last_run is None else self._last_run.watched())
        self._or_refuse(lambda: check_doors(environment))
        self._asked = self._read_profile()
        self._run_time_s = self._take_over_run_time()
        if environment.web_ui is None:
            # With a web UI the host comes from the form, so this waits for the start.
            self._or_refuse(self._check_targets)
        else:
            self._show_pages()
        parsed = environment.parsed_options
        self._or_refuse(self._show_metrics)
        self._own_view = bool(parsed.headless and not parsed.print_stats)
        # Locust's table, every two seconds, would tear the view apart; --print-stats brings it back.
        parsed.only_summary = parsed.only_summary or self._own_view
        if isinstance(self._runner, MasterRunner):
            be_patient(environment)
            drain_before_quit(self._runner, self._finish)
            environment.events.heartbeat_sent.add_listener(self._on_heartbeat)
            self._runner.register_message("loadtest_clock", self._on_clock_ping)
            self._runner.register_message("loadtest_refused", self._on_refused)
            self._runner.register_message("loadtest_accepted", self._on_accepted)
        self._runner.greenlet.spawn(self._watch_workers)

    # Set up.

    def _or_refuse(self, step: Callable[[], Any]) -> Any:
        """Do a step of the set-up, or end the program with its one line: Locust's ending would print empty tables."""
        try:
            return step()
        except preflight.SetupError as error:
            print(f"loadtest: {error}", file=sys.stderr, flush=True)
            if isinstance(self._runner, MasterRunner):
                self._runner.server.close(linger=0)
            raise SystemExit(error.exit_code) from None

    def _show_metrics(self) -> None:
        parsed, web_ui = self._environment.parsed_options, self._environment.web_ui
        if web_ui is not None:
            self._exposition.add_to(web_ui, parsed.web_base_path or "")
        if parsed.metrics_port:
            self._exposition.listen(parsed.metrics_host, parsed.metrics_port)

    def _standing(self) -> Standing | None:
        """How the run stands, or how the last one ended."""
        if self._run is not None and self._run.standing is not None:
            self._last_standing = self._run.standing
        return self._last_standing

    def _read_profile(self) -> Asked:
        """Read profile, trace and ceilings, and keep the user class of the profile's mode."""
        parsed = self._environment.parsed_options
        asked: Asked = self._or_refuse(lambda: Asked.of(parsed))
        load = asked.profile.load
        self._environment.user_classes[:] = [OpenArrivals if load.mode == "open" else ClosedMembers]
        self._environment.stop_timeout = options.stop_timeout_s(parsed, load.drain_s)
        if parsed.num_users is None or parsed.headless:
            parsed.num_users = load.in_flight_max if load.mode == "open" else load.members
        if parsed.spawn_rate is None:
            parsed.spawn_rate = min(parsed.num_users, SPAWN_RATE_MAX)
        return asked

    def _take_over_run_time(self) -> float | None:
        """Headless, --run-time is ours: it is how long arrivals are offered from t0, to the microsecond.

        Locust's own timer counts from before the start-up and may fire early, so what is planned would differ from
        day to day. With a web UI it belongs to the page, which arms it for every run.
        """
        parsed = self._environment.parsed_options
        if not parsed.headless:
            return None
        run_time_s, parsed.run_time = parsed.duration or parsed.run_time, None
        return None if run_time_s is None else float(run_time_s)

    def _check_targets(self) -> None:
        targets = self._checked(self._asked, self._environment.parsed_options, self._environment.host)
        self._infos = ask_info(targets)

    def _checked(self, asked: Asked, parsed: Any, host: str | None) -> tuple[Target, ...]:
        targets = preflight.resolve_targets(asked.profile, host)
        preflight.check_permission(targets, asked.profile, parsed.allow_host, parsed.rate_ceiling or None)
        preflight.check_reachable(targets)
        return targets

    def _show_pages(self) -> None:
        web_ui, parsed = self._environment.web_ui, self._environment.parsed_options
        add_tabs(web_ui, self._standing)
        add_pages(web_ui, self._shelf, parsed.web_base_path or "")
        check_form(web_ui, parsed, self._check_form)

    def _check_form(self, parsed: Any) -> None:
        """SetupError for what the page asks for and cannot be run. While a run is on, Locust only changes its users."""
        if self._runner.state not in (STATE_SPAWNING, STATE_RUNNING):
            self._checked(self._asked_on_page(parsed), parsed, parsed.host)

    # A run begins.

    def on_test_start(self, environment: Environment, **_: Any) -> None:
        if self._run is not None:
            # The page starts a run as soon as the workers are ready again, up to a second before Locust's own stop of
            # the last one returns and says that it has ended.
            gevent.spawn(self._finish, self._run)
        try:
            if environment.web_ui is not None:
                # Checked with the form, but a run can begin without one.
                self._asked = self._asked_on_page(environment.parsed_options)
                self._check_targets()
            self._start_run()
        except (preflight.SetupError, ChildError, OSError) as error:
            logger.error("the run did not start: %s", error)
            self._exit_code = getattr(error, "exit_code", preflight.EXIT_NOT_RUN)
            self._end_load()
        except Exception:
            # Locust would log it and let its users run on without a plan.
            logger.exception("the run did not start")
            self._exit_code = preflight.EXIT_NOT_RUN
            self._end_load()

    def _asked_on_page(self, parsed: Any) -> Asked:
        asked = Asked.of(parsed)
        profile = asked.profile
        if profile.load.mode != self._asked.profile.load.mode:
            # Locust has dealt out its user classes already.
            text = f"{profile.source} is {profile.load.mode}: start again with --profile {profile.name}"
            raise preflight.SetupError(text, preflight.EXIT_USAGE)
        return asked

    def _end_load(self) -> None:
        """Stop (web UI) or quit (headless), from a greenlet of its own: callers may be part of what is ended."""
        gevent.spawn(self._runner.quit if self._environment.web_ui is None else self._runner.stop)

    def _start_run(self) -> None:
        parsed, asked = self._environment.parsed_options, self._asked
        host = self._environment.host or ""
        targets = preflight.resolve_targets(asked.profile, self._environment.host)
        clients = [LOCAL] if self._worker is not None else [client.id for client in self._workers()]
        plan = asked.plan(parsed, host, len(clients))
        settings = asked.settings(
            parsed,
            bind=getattr(self._runner, "master_bind_host", "127.0.0.1").replace("*", "0.0.0.0"),
            host=host or targets[0].url or "",
            users=self._runner.target_user_count,
            infos=self._infos,
        )
        stripes = {client: stripe for stripe, client in enumerate(clients)}
        view = view_for(logging.getLogger("loadtest"), wanted=self._own_view and not parsed.no_screen)
        self._run = self._last_run = MasterRun(
            plan,
            asked.profile,
            targets,
            settings,
            stripes,
            view=view,
            end_load=self._end_load,
            keeps_history=self._environment.web_ui is not None,
        )
        self._shelf.add(self._run)
        logger.info("run %s: profile %s, seed %d, %d worker(s)", plan.run, asked.profile.name, plan.seed, len(clients))
        port = 0 if self._run.collector is None else self._run.collector.port
        if self._worker is not None:
            self._worker.make_run(plan, 0, f"tcp://127.0.0.1:{port}" if port else None, None)
            return
        for client, stripe in stripes.items():
            message = {"plan": msgspec.msgpack.encode(plan), "worker": stripe, "port": port}
            message["versions"] = deciding_versions()
            self._runner.send_message("loadtest_plan", message, client_id=client)
        gevent.spawn(self._call_roll, self._run)

    def _workers(self) -> list[Any]:
        clients = self._runner.clients
        workers = clients.ready + clients.running + clients.spawning
        return sorted(workers, key=lambda client: self._runner.get_worker_index(client.id))

    def on_spawning_complete(self, **_: Any) -> None:
        """All slots or members are there: fix the start. Later changes of the user count change the slots only."""
        run = self._run
        if run is None or run.begun:
            return
        if self._worker is not None:
            self._begin(run)
        else:
            gevent.spawn(self._begin_when_accepted, run)

    def _begin_when_accepted(self, run: MasterRun) -> None:
        if run.roll.complete() and self._run is run and not run.begun and not run.finishing:
            self._begin(run)

    def _call_roll(self, run: MasterRun) -> None:
        """End a run that one of the workers cannot carry out."""
        if not run.roll.complete() and self._run is run and not run.finishing:
            logger.error("%s", run.roll.refusal)
            self._exit_code = preflight.EXIT_NOT_RUN
            self._end_load()

    def _begin(self, run: MasterRun) -> None:
        horizon_us = self._horizon_us(run)
        # A short run keeps three quarters of itself for measuring; the report states the warm-up it had.
        warmup_us = min(int(self._asked.profile.load.warmup_s * 1e6), horizon_us // 4)
        t0_ns = run.begin(horizon_us, warmup_us)
        start = {"t0_ns": t0_ns, "horizon_us": horizon_us, "warmup_us": warmup_us}
        if self._worker is not None and self._worker.run is not None:
            self._worker.run.start(**start)
        else:
            self._runner.send_message("loadtest_start", start)
        if not self._environment.parsed_options.run_time:
            logger.info("arrivals are offered for %.1f s, %.1f s of them warm-up", horizon_us / 1e6, warmup_us / 1e6)
            gevent.spawn(self._end_of_plan, run, t0_ns + horizon_us * 1000)

    def _horizon_us(self, run: MasterRun) -> int:
        """How long arrivals are offered: --run-time, else as long as the trace or the profile says."""
        if self._run_time_s is not None:
            return int(self._run_time_s * 1e6)
        if self._environment.parsed_options.run_time:
            # The page's timer started with the run and stops it: plan a little less than it leaves.
            left_us = int(self._environment.parsed_options.run_time * 1e6) - run.start_up_us() - TIMER_EARLY_US
            return max(HORIZON_MIN_US, left_us)
        if self._asked.trace is not None and self._asked.trace.end_us is not None:
            return self._asked.trace.end_us
        return int(self._asked.profile.load.duration_s * 1e6)

    def _end_of_plan(self, run: MasterRun, end_ns: int) -> None:
        sleep_until(end_ns)
        if self._run is run:
            logger.info("everything planned has been offered; waiting for what is in flight")
            self._end_load()

    # While it runs.

    def _watch_workers(self) -> None:
        while True:
            gevent.sleep(1.0)
            if self._run is None:
                continue
            if self._worker is not None:
                self._take_own_report()
            else:
                for client in self._runner.clients.missing:
                    self._run.worker_missing(client.id)

    def _take_own_report(self) -> None:
        if self._run is not None and self._worker is not None and self._worker.run is not None:
            self._run.take_report(self._worker.run.figures())

    def on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        report = data.get("loadtest")
        if report is not None and self._run is not None:
            self._run.take_report(report)

    def _on_heartbeat(self, client_id: str, **_: Any) -> None:
        if self._run is not None:
            self._run.worker_alive(client_id)

    def _on_clock_ping(self, msg: Any, **_: Any) -> None:
        received_ns = mono_ns()
        answer = {"t1": msg.data["t1"], "t2": received_ns, "t3": mono_ns()}
        self._runner.send_message("loadtest_clock", answer, client_id=msg.node_id)

    def _on_refused(self, msg: Any, **_: Any) -> None:
        if self._run is not None:
            self._run.roll.refused(msg.node_id, msg.data["text"])

    def _on_accepted(self, msg: Any, **_: Any) -> None:
        if self._run is not None and msg.data["run"] == self._run.plan.run:
            self._run.roll.accepted(msg.node_id, msg.data["profile_hash"])

    # It ends.

    def on_test_stopping(self, **_: Any) -> None:
        if self._run is not None:
            self._run.stopping()
            drain_s = self._environment.stop_timeout or 0.0
            logger.info("nothing more is offered; what is in flight has %.0f s, a second Ctrl-C cancels it", drain_s)

    def cut(self) -> None:
        """Wait no longer for what is in flight: a second signal came."""
        if isinstance(self._runner, LocalRunner):
            cut_drain(self._runner)
        elif self._run is not None:
            logger.warning("not waiting any longer: the workers are told to cancel what is in flight")
            self._runner.send_message(CUT)

    def on_test_stop(self, environment: Environment, **_: Any) -> None:
        self._take_own_report()
        if self._run is None or not self._run.load_ended:
            return  # a late word about the run before
        if environment.web_ui is not None:
            # The page must go on answering while the run is joined and reported.
            gevent.spawn(self._finish, self._run)
        elif isinstance(self._runner, LocalRunner):
            self._finish(self._run)
        # A headless master finishes in `drain_before_quit`, when its workers have ended.

    def _finish(self, run: MasterRun | None = None) -> None:
        """End a run, or the one that is on. The next one may begin while this one is joined and reported."""
        run = run or self._run
        if run is None or run.finishing:
            return
        run.finishing = True
        self._finishing += 1
        try:
            # Reports still come in: `self._run` stays until the last one is here.
            if run.begun:
                run.finish(self._environment.stop_timeout or 0.0)
            else:
                run.abort()
        finally:
            if run.exit_code is not None:
                self._exit_code = self._exit_code or run.exit_code
            if self._run is run:
                self._run = None
            self._finishing -= 1

    def on_quitting(self) -> None:
        """Before Locust decides its exit code: whatever still runs is ended, joined and reported."""
        if isinstance(self._runner, LocalRunner):
            self._runner.quit()
        deadline = Deadline(FINISHED_WAIT_S)
        while (self._run is not None or self._finishing) and not deadline.over():
            gevent.sleep(0.1)
        self._exposition.await_last_scrape()
        failed = self._runner.errors and self._environment.parsed_options.exit_code_on_error
        if self._exit_code or (self._exit_code == 0 and not failed):
            self._environment.process_exit_code = self._exit_code
