"""What a master writes down of its run: the manifest, at the start, when t0 is fixed, and at the end."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest import runfolder
from loadtest.clock import measure_wall_offset, mono_ns, wall_ns
from loadtest.records import SCHEMA_VERSION, Target
from loadtest.swarm.hopeless import MissesMax
from loadtest.swarm.ledger import Mismatch
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import final_figures
from loadtest.swarm.versions import versions
from loadtest.traffic.ceilings import Ceilings
from loadtest.traffic.plan import Plan
from loadtest.traffic.profile import Profile, profile_hash


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the run before it begins, apart from the profile: the command line, and what targets told."""

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
    stop_saturated: bool = False
    misses_max: tuple[MissesMax, ...] = ()
    infos: dict[str, dict[str, str]] = {}  # by target, see `target_info`


class Course(msgspec.Struct, kw_only=True):
    """What a run comes to while it goes on: where it has got to when the manifest is written."""

    t0_ns: int | None = None  # master's monotonic clock, as all instants here
    stopped_ns: int | None = None  # the end of the load
    stopped_by: dict[str, Any] | None = None  # the ceiling that ended it, or why it could only fail
    mismatches: Sequence[Mismatch] = ()  # of the ledger
    account: dict[str, Any] | None = None  # the collector's
    over: bool = False  # the workers have said their last word, or will not


class Manifest:
    """Of one run. Made when it starts, which is the start the manifest states."""

    def __init__(
        self, folder: Path, profile: Profile, targets: Sequence[Target], settings: Settings, reports: Reports
    ) -> None:
        self._folder = folder
        self._profile, self._targets, self._settings, self._reports = profile, targets, settings, reports
        self._started_wall_ns = wall_ns()
        self._wall = measure_wall_offset()
        self.started_ns = mono_ns()

    def write(self, state: str, plan: Plan, course: Course) -> None:
        """`state` is "running", "recorded" or "spooled"; later ones are written by who brings them about."""
        profile, settings, reports = self._profile, self._settings, self._reports
        content = {
            "schema_version": SCHEMA_VERSION,
            "state": state,
            "run": plan.run,
            "started_wall_ns": self._started_wall_ns,
            "profile": {
                "name": profile.name,
                "source": profile.source,
                "hash": profile_hash(profile),
                "text": profile.text,
            },
            **self._offered(plan, course),
            "clock": self._clock(),
            "workers_expected": len(reports.stripes),
            "workers_lost_max": profile.load.workers_lost_max,
            "workers": [self._worker(stripe, course) for stripe in reports.stripes],
            "targets": [
                {**msgspec.to_builtins(target), "info": settings.infos.get(target.name)} for target in self._targets
            ],
            "host": settings.host,
            "encrypted_path": settings.encrypted_path,
            "observed": settings.observe,
            "users": settings.users,
            "slos": [{"metric": slo.metric, "limit": slo.limit, "kind": slo.kind} for slo in profile.slos],
            "goodput": dict(profile.goodput),
            "observe": dataclasses.asdict(profile.observe),
            "ledger": self._ledger(course),
            "live": final_figures(reports),
            "versions": versions(),
            "command": shlex.join(sys.argv),
        }
        runfolder.write_manifest(self._folder, content)

    def _offered(self, plan: Plan, course: Course) -> dict[str, Any]:
        """What was to be offered, from when on, and what ended it."""
        load, settings = self._profile.load, self._settings
        offered_s, stopped_s = plan.horizon_us / 1e6, None
        if course.stopped_ns is not None and course.t0_ns is not None:
            stopped_s = (course.stopped_ns - course.t0_ns) / 1e9
        return {
            "seed": plan.seed,
            "mode": load.mode,
            "encoding": self._profile.writing.encoding,
            "history": self._profile.writing.history,
            "time_scale": load.time_scale,
            "offered_s": offered_s,
            "warmup_s": plan.warmup_us / 1e6,
            "stopped_early_s": stopped_s if stopped_s is not None and stopped_s < offered_s else None,
            "stopped_by": course.stopped_by,
            "ceilings": {name: value for name, value in dataclasses.asdict(settings.ceilings).items() if value},
            "t0_ns": course.t0_ns,
            "trace": {
                "file": settings.trace_file,
                "rows": len(plan.trace),
                "left_out": plan.trace.left_out,
                "speed": settings.trace_speed,
                "rate": settings.trace_rate,
            }
            if plan.trace is not None
            else None,
        }

    def _clock(self) -> dict[str, int]:
        now = measure_wall_offset()
        moved_ns = abs(now.offset_ns - self._wall.offset_ns)
        return {
            "wall_minus_mono_ns": self._wall.offset_ns,
            "wall_minus_mono_end_ns": now.offset_ns,
            "bound_ns": max(self._wall.bound_ns, now.bound_ns) + moved_ns,
        }

    def _worker(self, stripe: int, course: Course) -> dict[str, Any]:
        """What a worker reported last, and when it was not heard."""
        reports = self._reports
        report = {
            k: v for k, v in reports.latest.get(stripe, {}).items() if k not in ("run", "final", "live", "tokens")
        }
        lost = stripe in reports.lost

        def run_s(at_ns: int) -> float:
            """Seconds since t0, or since the run was made when it has none."""
            return round((at_ns - (course.t0_ns or self.started_ns)) / 1e9, 3)

        return {
            **report,
            "worker": stripe,
            "lost": lost,
            "lost_from_s": run_s(reports.heard_ns(stripe)) if lost else None,
            "silences_s": [[run_s(a), run_s(b)] for a, b in reports.silences.get(stripe, [])],
        }

    def _ledger(self, course: Course) -> dict[str, Any]:
        """Planned turns against stored rows: an open plan is walked by the collector, members count what they begin."""
        account = course.account
        if account is None and not course.over:
            return {}
        totals = self._reports.totals()
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
            "live_reports_missed": self._reports.live.gaps,
            "mismatches": [{"figure": m.figure, "text": m.text} for m in course.mismatches],
        }
