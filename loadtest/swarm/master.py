"""The master's part in one run: the run folder, the common start, what the workers report, and the end of it all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import msgspec

from loadtest import runfolder
from loadtest.clock import mono_ns
from loadtest.records import Target
from loadtest.swarm.attendance import LOOK_S, Attendance
from loadtest.swarm.children import ChildError, Collector, Observer, broken_rules, close_command, judge
from loadtest.swarm.guard import Guard, Stop
from loadtest.swarm.history import History
from loadtest.swarm.hopeless import Hopeless
from loadtest.swarm.ledger import Mismatch, final_mismatches
from loadtest.swarm.lines import Lines
from loadtest.swarm.manifest import Course, Manifest, Settings
from loadtest.swarm.prometheus import Watched
from loadtest.swarm.reports import Reports
from loadtest.swarm.rollcall import RollCall
from loadtest.swarm.screen import Screen
from loadtest.swarm.standing import Clerk, Standing
from loadtest.traffic.plan import Plan, Stripe
from loadtest.traffic.profile import Profile, profile_hash

START_LEAD_NS = 1_500_000_000  # for the start message to reach every worker, and for the first requests to be built
FINALS_WAIT_S = 30.0  # beyond the stop timeout

logger = logging.getLogger(__name__)


class MasterRun:
    """One run as the master sees it. `stripes` maps Locust's client ids to stripe numbers, `view` shows how it stands,
    `end_load` is called at most once, when a ceiling is met or the run can only fail, and `keeps_history` is for a page
    that draws it."""

    def __init__(
        self,
        plan: Plan,
        profile: Profile,
        targets: tuple[Target, ...],
        settings: Settings,
        stripes: dict[str, int],
        *,
        view: Screen | Lines,
        end_load: Callable[[], None],
        keeps_history: bool = False,
    ) -> None:
        self.plan = plan
        self._profile = profile
        self._settings = settings
        self.stripes = stripes
        self.folder = settings.runs_dir / plan.run
        self.folder.mkdir(parents=True)
        self.reports = Reports(plan.run, stripes.values(), keeps_fresh=keeps_history)
        self.targets = targets
        self.history = History() if keeps_history else None
        self._manifest = Manifest(self.folder, profile, targets, settings, self.reports)
        self._attendance = Attendance(self.reports, profile.load.workers_lost_max)
        self._clerk = Clerk(plan.run, self.reports, self.folder, profile.load.workers_lost_max)
        self._mismatches: list[Mismatch] = []
        self._account: dict[str, Any] | None = None
        self._judged: list[str] | None = None  # the rules that the report found broken
        self.standing: Standing | None = None  # as of the last second
        self._guard = Guard(settings.ceilings)
        self._hopeless = Hopeless(saturated=settings.stop_saturated, misses=settings.misses_max, reports=self.reports)
        self.stopped_by: Stop | None = None
        self._end_load = end_load
        self._view = view
        self._t0_ns: int | None = None
        self._stopped_ns: int | None = None
        self.finishing = False
        self.roll = RollCall(stripes, profile_hash(profile))
        self.exit_code: int | None = None
        self._write_manifest("running")
        self.collector = None if settings.spool_only else Collector(self.folder, settings.bind, settings.collector_port)
        self._observer = Observer(self.folder, settings.host) if settings.observe else None
        self._watcher = gevent.spawn(self._watch)

    # While it runs.

    def begin(self, horizon_us: int, warmup_us: int) -> int:
        """Fix the common start and what is planned; return t0 on the master's monotonic clock."""
        self.plan = msgspec.structs.replace(self.plan, horizon_us=horizon_us, warmup_us=warmup_us)
        self._t0_ns = mono_ns() + START_LEAD_NS
        self._write_manifest("running")
        return self._t0_ns

    @property
    def begun(self) -> bool:
        return self._t0_ns is not None

    def start_up_us(self) -> int:
        """From the start of the test to the instant at which t0 would lie if it were fixed now."""
        return (mono_ns() + START_LEAD_NS - self._manifest.started_ns) // 1000

    def take_report(self, report: dict[str, Any]) -> None:
        """A worker's figures; those of another run are not ours."""
        if report.get("run") == self.plan.run:
            self._attendance.reported(report["worker"])
        if not self.reports.take(report) or not self.reports.mismatches:
            return
        if not self._mismatches:
            self._mismatches = list(self.reports.mismatches)
            logger.error("the ledger does not add up, the run is unfit: %s", self._mismatches[0].text)

    def worker_alive(self, client_id: str) -> None:
        """A worker's heartbeat."""
        stripe = self.stripes.get(client_id)
        if stripe is not None:
            self.reports.heard(stripe)

    def worker_missing(self, client_id: str) -> None:
        """Locust has not heard a worker for a long time."""
        stripe = self.stripes.get(client_id)
        if stripe is not None:
            self._attendance.missing(stripe)

    @property
    def load_ended(self) -> bool:
        return self._stopped_ns is not None

    def stopping(self) -> None:
        """The load ends now, by plan or by hand."""
        if self._stopped_ns is None:
            self._stopped_ns = mono_ns()

    def _watch(self) -> None:
        while True:
            gevent.sleep(LOOK_S)
            self._attendance.see_who_left(self._stopped_ns)
            self._attendance.see_who_is_quiet()
            standing = self.standing = self._stand()
            self._view.show(standing)
            self._step(standing)
            if self.stopped_by is None and not self.load_ended:
                ceiling = self._guard.look(standing)
                self.stopped_by = ceiling or self._hopeless.look(standing)
                if self.stopped_by is not None:
                    why = "a ceiling is met" if ceiling else "the run can only fail"
                    logger.error("%s, nothing more is offered: %s", why, self.stopped_by.text)
                    self._end_load()

    def _stand(self) -> Standing:
        return self._clerk.standing(
            t0_ns=self._t0_ns,
            warmup_s=self.plan.warmup_us / 1e6,
            planned_s=self.plan.horizon_us / 1e6,
            ended=self.load_ended,
            received=0 if self.collector is None else self.collector.received,
            stored=0 if self.collector is None else self.collector.stored,
        )

    def _step(self, standing: Standing, *, last: bool = False) -> None:
        if self.history is not None and self._t0_ns is not None:
            self.history.take(standing, self.reports, self._t0_ns, last=last)

    def watched(self) -> Watched | None:
        """What Prometheus is shown; None in the first second."""
        if self.standing is None:
            return None
        return Watched(
            standing=self.standing,
            reports=self.reports,
            targets=self.targets,
            profile=self._profile.name,
            profile_hash=profile_hash(self._profile),
            mode=self._profile.load.mode,
            seed=self.plan.seed,
            account=self._account,
            judged=self._judged,
            over=self.exit_code is not None,
        )

    # The end.

    def finish(self, drain_s: float) -> None:
        """Wait for the workers' last words, close the collector, then join and report. Sets `exit_code`.

        `drain_s` is how long their requests in flight may take to end.
        """
        self.stopping()
        self._attendance.await_finals(drain_s + FINALS_WAIT_S)
        self._attendance.see_who_left(self._stopped_ns)
        self._put_view_away()
        if self.collector is None:
            self._leave_spools()
            return
        try:
            account = self._account = self.collector.close(self.plan, self._t0_ns or 0, self._stripes_done())
        except ChildError as error:
            logger.error("%s", error)
            self._give_up_children()
            self.exit_code = 1
            return
        self._mismatches = [
            *self.reports.mismatches,
            *final_mismatches(self.reports.latest.values(), self.reports.lost, account),
        ]
        self._write_manifest("recorded", account)
        logger.info("run folder: %s (%d rows)", self.folder, account["rows"])
        self._finish_observer()
        code = judge(self.folder) if self._settings.report else 0
        self._judged = broken_rules(self.folder)
        self.exit_code = code

    def _leave_spools(self) -> None:
        """Write down what `loadtest collect` needs beside the spools."""
        close = close_command(self.plan, self._t0_ns or 0, self._stripes_done())
        runfolder.write_text(self.folder / runfolder.CLOSE, close.decode())
        self._mismatches = list(self.reports.mismatches)
        self._write_manifest("spooled")
        self._finish_observer()
        logger.info("the rows are in the workers' spools; complete the run with: loadtest collect %s", self.folder)
        self.exit_code = 0

    def _finish_observer(self) -> None:
        if self._observer is not None:
            rules = self._profile.observe
            self._observer.finish(rules.grace_s + rules.lookup_deadline_s + 15)

    def abort(self) -> None:
        """The run cannot go on: end the children; the folder keeps what it has."""
        self._put_view_away()
        if self.collector is not None:
            self.collector.kill()
        self._give_up_children()
        self.exit_code = 1

    def _put_view_away(self) -> None:
        self._watcher.kill()
        # With the workers' last words: what the page goes on showing is what the rows say.
        self.standing = self._stand()
        self._step(self.standing, last=True)
        self._view.close()

    def _give_up_children(self) -> None:
        if self._observer is not None:
            self._observer.kill()

    def _stripes_done(self) -> list[Stripe]:
        """What was planned of each worker: to its own end, or for a lost one to the end of the load."""
        if self._profile.load.mode != "open" or self._t0_ns is None:
            return []
        stopped_us = max(0, ((self._stopped_ns or mono_ns()) - self._t0_ns) // 1000)
        to_the_end = min(self.plan.horizon_us, stopped_us)
        return [
            Stripe(worker=s, until_us=to_the_end if s in self.reports.lost else self.reports.latest[s]["until_us"])
            for s in self.reports.stripes
        ]

    def _write_manifest(self, state: str, account: dict[str, Any] | None = None) -> None:
        course = Course(
            t0_ns=self._t0_ns,
            stopped_ns=self._stopped_ns,
            stopped_by=self._stopped_by(),
            mismatches=self._mismatches,
            account=account,
            over=self.finishing,
        )
        self._manifest.write(state, self.plan, course)

    def _stopped_by(self) -> dict[str, Any] | None:
        """The ceiling that ended the load, and what had been used when all had drained."""
        if self.stopped_by is None:
            return None
        used = self._guard.used(self.reports.totals())
        return {**msgspec.to_builtins(self.stopped_by), "used_in_the_end": used.get(self.stopped_by.rule)}
