"""The master's part in one run: the run folder, the common start, what the workers report, and the end of it all."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import msgspec

from loadtest import runfolder
from loadtest.clock import Deadline, measure_wall_offset, mono_ns, wall_ns
from loadtest.records import SCHEMA_VERSION, Target
from loadtest.swarm.children import ChildError, Collector, Observer, judge
from loadtest.swarm.guard import Guard, Stop
from loadtest.swarm.ledger import Mismatch, final_mismatches
from loadtest.swarm.lines import Lines
from loadtest.swarm.reports import Reports
from loadtest.swarm.rollcall import RollCall
from loadtest.swarm.screen import Screen
from loadtest.swarm.standing import Clerk, Standing, final_figures
from loadtest.swarm.versions import versions
from loadtest.traffic.ceilings import Ceilings
from loadtest.traffic.plan import Plan, Stripe
from loadtest.traffic.profile import Profile, profile_hash

START_LEAD_NS = 1_500_000_000  # for the start message to reach every worker, and for the first requests to be built
FINALS_WAIT_S = 30.0  # beyond the stop timeout
QUIET_S = 5.0  # said once in a log: a worker that is killed cannot say so
SILENT_S = 15.0  # a worker of which nothing was heard for so long is gone; Locust is told the same, see patience.py
LOOK_S = 1.0
LEFT_EARLY_S = 2.0  # Ctrl-C reaches master and workers of one terminal at once; who ends so long before it has left

logger = logging.getLogger(__name__)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of the run, apart from the profile."""

    runs_dir: Path
    bind: str
    observe: bool
    report: bool
    host: str
    users: int
    spool_only: bool = False  # the workers keep their rows, `loadtest collect` brings them
    collector_port: int = 0  # 0: any that is free
    encrypted_path: str | None = None  # what encrypts the way to the workers, as the user declared
    trace_file: str | None = None
    trace_speed: float = 1.0
    trace_rate: float = 1.0
    ceilings: Ceilings = Ceilings()


class MasterRun:
    """One run as the master sees it. `stripes` maps Locust's client ids to stripe numbers, `view` shows how it
    stands, and `end_load` is called at most once, when a ceiling is met."""

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
    ) -> None:
        self.plan = plan
        self._profile = profile
        self._targets = targets
        self._settings = settings
        self.stripes = stripes
        self.folder = settings.runs_dir / plan.run
        self.folder.mkdir(parents=True)
        self._started_mono_ns = mono_ns()
        self._started_wall_ns = wall_ns()
        self._wall = measure_wall_offset()
        self.reports = Reports(plan.run, stripes.values())
        self._clerk = Clerk(plan.run, self.reports, self.folder, profile.load.workers_lost_max)
        self._mismatches: list[Mismatch] = []
        self.standing: Standing | None = None  # as of the last second
        self._guard = Guard(settings.ceilings)
        self.stopped_by: Stop | None = None
        self._end_load = end_load
        self._view = view
        self._t0_ns: int | None = None
        self._stopped_ns: int | None = None
        self.finishing = False
        self.profile_hash = profile_hash(profile)
        self.roll = RollCall(stripes, self.profile_hash)
        self.exit_code: int | None = None
        runfolder.write_manifest(self.folder, self._manifest("running"))
        self.collector = None if settings.spool_only else Collector(self.folder, settings.bind, settings.collector_port)
        self._observer = Observer(self.folder, settings.host) if settings.observe else None
        self._watcher = gevent.spawn(self._watch)

    # While it runs.

    def begin(self, horizon_us: int, warmup_us: int) -> int:
        """Fix the common start and what is planned; return t0 on the master's monotonic clock."""
        self.plan = msgspec.structs.replace(self.plan, horizon_us=horizon_us, warmup_us=warmup_us)
        self._t0_ns = mono_ns() + START_LEAD_NS
        runfolder.write_manifest(self.folder, self._manifest("running"))
        return self._t0_ns

    @property
    def begun(self) -> bool:
        return self._t0_ns is not None

    def start_up_us(self) -> int:
        """From the start of the test to the instant at which t0 would lie if it were fixed now."""
        return (mono_ns() + START_LEAD_NS - self._started_mono_ns) // 1000

    def take_report(self, report: dict[str, Any]) -> None:
        """A worker's figures; those of another run are not ours."""
        if report.get("run") == self.plan.run:
            self._come_back(report["worker"])
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
        if stripe is not None and not self.reports.is_final(stripe):
            self._lose(stripe, "is missing")

    def _come_back(self, stripe: int) -> None:
        """A worker that was given up for lost reports again: all its rows will come, and tell what it missed."""
        if stripe in self.reports.lost and not self.reports.is_final(stripe):
            self.reports.lost.discard(stripe)
            logger.warning("worker %d is back after %.0f s", stripe, self.reports.silent_s(stripe))

    def _lose(self, stripe: int, why: str) -> None:
        if stripe not in self.reports.lost:
            self.reports.lost.add(stripe)
            allowed = len(self.reports.lost) <= self._profile.load.workers_lost_max
            verdict = "which the profile allows" if allowed else "the run is unfit"
            logger.error("worker %d %s: what it had in flight and still to send is lost, %s", stripe, why, verdict)

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
            self._see_who_left()
            self._see_who_is_quiet()
            self.standing = self._clerk.standing(
                t0_ns=self._t0_ns,
                warmup_s=self.plan.warmup_us / 1e6,
                planned_s=self.plan.horizon_us / 1e6,
                ended=self.load_ended,
                received=0 if self.collector is None else self.collector.received,
                stored=0 if self.collector is None else self.collector.stored,
            )
            self._view.show(self.standing)
            if self.stopped_by is None and not self.load_ended:
                self.stopped_by = self._guard.look(self.standing)
                if self.stopped_by is not None:
                    logger.error("a ceiling is met, nothing more is offered: %s", self.stopped_by.text)
                    self._end_load()

    def _see_who_left(self) -> None:
        """A worker that was told to end before the load did: its rows are all here, its later arrivals are not."""
        for stripe in self.reports.stripes:
            until_ns = self._stopped_ns or mono_ns()
            if self.reports.is_final(stripe) and until_ns - self.reports.ended_ns(stripe) > LEFT_EARLY_S * 1e9:
                self._lose(stripe, "left before the end")

    def _see_who_is_quiet(self) -> None:
        for stripe in self.reports.waited_for():
            quiet_s = self.reports.silent_s(stripe)
            if QUIET_S < quiet_s <= QUIET_S + LOOK_S:
                logger.warning("worker %d has not been heard for %.0f s; lost after %.0f s", stripe, quiet_s, SILENT_S)

    # The end.

    def finish(self, drain_s: float) -> None:
        """Wait for the workers' last words, close the collector, then join and report. Sets `exit_code`.

        `drain_s` is how long their requests in flight may take to end.
        """
        self.stopping()
        self._await_finals(drain_s + FINALS_WAIT_S)
        self._see_who_left()
        self._put_view_away()
        if self.collector is None:
            self._leave_spools()
            return
        try:
            account = self.collector.close(self.plan, self._t0_ns or 0, self._stripes_done())
        except ChildError as error:
            logger.error("%s", error)
            self._give_up_children()
            self.exit_code = 1
            return
        self._mismatches = [
            *self.reports.mismatches,
            *final_mismatches(self.reports.latest.values(), self.reports.lost, account),
        ]
        manifest = self._manifest("recorded", account)
        runfolder.write_manifest(self.folder, manifest)
        logger.info("run folder: %s (%d rows)", self.folder, account["rows"])
        self._finish_observer()
        self.exit_code = judge(self.folder) if self._settings.report else 0

    def _leave_spools(self) -> None:
        """Write down what `loadtest collect` needs beside the spools."""
        close = {"plan": self.plan, "t0_ns": self._t0_ns or 0, "stripes": self._stripes_done()}
        runfolder.write_text(self.folder / "close.json", msgspec.json.encode(close).decode())
        self._mismatches = list(self.reports.mismatches)
        runfolder.write_manifest(self.folder, self._manifest("spooled"))
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
        self._view.close()

    def _give_up_children(self) -> None:
        if self._observer is not None:
            self._observer.kill()

    def _await_finals(self, wait_s: float) -> None:
        deadline = Deadline(wait_s)
        while not deadline.over():
            waited_for = self.reports.waited_for()
            if not waited_for:
                return
            for stripe in waited_for:
                if self.reports.silent_s(stripe) > SILENT_S:
                    self._lose(stripe, f"said nothing for {SILENT_S:.0f} s")
            gevent.sleep(0.1)
        for stripe in self.reports.waited_for():
            self._lose(stripe, f"did not end within {wait_s:.0f} s")

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

    # What is written down.

    def _manifest(self, state: str, account: dict[str, Any] | None = None) -> dict[str, Any]:
        plan, profile, settings = self.plan, self._profile, self._settings
        now = measure_wall_offset()
        stopped_s = None
        if self._stopped_ns is not None and self._t0_ns is not None:
            stopped_s = (self._stopped_ns - self._t0_ns) / 1e9
        return {
            "schema_version": SCHEMA_VERSION,
            "state": state,
            "run": plan.run,
            "started_wall_ns": self._started_wall_ns,
            "profile": {
                "name": profile.name,
                "source": profile.source,
                "hash": self.profile_hash,
                "text": profile.text,
            },
            "seed": plan.seed,
            "mode": profile.load.mode,
            "encoding": profile.writing.encoding,
            "history": profile.writing.history,
            "time_scale": profile.load.time_scale,
            "offered_s": plan.horizon_us / 1e6,
            "warmup_s": plan.warmup_us / 1e6,
            "stopped_early_s": stopped_s if stopped_s is not None and stopped_s < plan.horizon_us / 1e6 else None,
            "stopped_by": self._stopped_by(),
            "ceilings": {name: value for name, value in dataclasses.asdict(settings.ceilings).items() if value},
            "t0_ns": self._t0_ns,
            "trace": {
                "file": settings.trace_file,
                "rows": len(plan.trace),
                "left_out": plan.trace.left_out,
                "speed": settings.trace_speed,
                "rate": settings.trace_rate,
            }
            if plan.trace is not None
            else None,
            "clock": {
                "wall_minus_mono_ns": self._wall.offset_ns,
                "wall_minus_mono_end_ns": now.offset_ns,
                "bound_ns": max(self._wall.bound_ns, now.bound_ns) + abs(now.offset_ns - self._wall.offset_ns),
            },
            "workers_expected": len(self.stripes),
            "workers_lost_max": profile.load.workers_lost_max,
            "workers": [self._worker_entry(stripe) for stripe in self.reports.stripes],
            "targets": [msgspec.to_builtins(target) for target in self._targets],
            "host": settings.host,
            "encrypted_path": settings.encrypted_path,
            "observed": settings.observe,
            "users": settings.users,
            "slos": [{"metric": slo.metric, "limit": slo.limit, "kind": slo.kind} for slo in profile.slos],
            "goodput": dict(profile.goodput),
            "observe": dataclasses.asdict(profile.observe),
            "ledger": self._ledger(account),
            "live": final_figures(self.reports),
            "versions": versions(),
            "command": shlex.join(sys.argv),
        }

    def _stopped_by(self) -> dict[str, Any] | None:
        """The ceiling that ended the load, and what had been used when all had drained."""
        if self.stopped_by is None:
            return None
        used = self._guard.used(self.reports.totals())
        return {**msgspec.to_builtins(self.stopped_by), "used_in_the_end": used.get(self.stopped_by.rule)}

    def _worker_entry(self, stripe: int) -> dict[str, Any]:
        report = {k: v for k, v in self.reports.latest.get(stripe, {}).items() if k not in ("run", "final", "live")}
        lost = stripe in self.reports.lost
        return {
            **report,
            "worker": stripe,
            "lost": lost,
            "lost_from_s": self._run_s(self.reports.heard_ns(stripe)) if lost else None,
            "silences_s": [[self._run_s(a), self._run_s(b)] for a, b in self.reports.silences.get(stripe, [])],
        }

    def _run_s(self, at_ns: int) -> float:
        """Seconds since t0, or since the run was made when it has none."""
        return round((at_ns - (self._t0_ns or self._started_mono_ns)) / 1e9, 3)

    def _ledger(self, account: dict[str, Any] | None) -> dict[str, Any]:
        """Planned turns against stored rows: an open plan is walked by the collector, members count what they begin."""
        if account is None and not self.finishing:
            return {}
        totals = self.reports.totals()
        planned = account and account["planned_turns"]
        return {
            **(account or {}),
            "planned_turns": totals.planned_turns if planned is None else planned,
            "planned_turns_by_workers": totals.planned_turns,
            "started_turns": totals.started_turns,
            "ended_turns_by_workers": totals.outcomes,
            "rows_spooled": totals.rows_spooled,
            "rows_sent": totals.rows_sent,
            "rows_acknowledged": totals.rows_acknowledged,
            "live_reports_missed": self.reports.live.gaps,
            "mismatches": [{"figure": m.figure, "text": m.text} for m in self._mismatches],
        }
