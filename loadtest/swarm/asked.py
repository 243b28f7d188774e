"""What a run is asked to be, on the command line or in the page's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from loadtest import runfolder
from loadtest.swarm import options, preflight
from loadtest.swarm.hopeless import MissesMax
from loadtest.swarm.manifest import Settings
from loadtest.traffic.ceilings import Ceilings, with_ceilings
from loadtest.traffic.overrides import with_flags
from loadtest.traffic.plan import Plan
from loadtest.traffic.profile import Profile, load_profile
from loadtest.traffic.replay import Trace, asked_trace
from loadtest.traffic.schedule import Schedule


class Asked(NamedTuple):
    """The profile as flags have changed it, the trace that gives its arrivals, and what may be used up."""

    profile: Profile
    trace: Trace | None
    ceilings: Ceilings
    misses_max: tuple[MissesMax, ...] = ()

    @classmethod
    def of(cls, parsed: Any) -> Asked:
        """From Locust's parsed options; SetupError with the reader's own lines."""
        try:
            profile = load_profile(parsed.profile or options.DEFAULT_PROFILE)
            profile = with_flags(profile, options.with_locusts_own(parsed, profile.load.mode))
            trace = asked_trace(parsed)
            ceilings = with_ceilings(profile.ceilings, parsed.ceiling)
            misses_max = tuple(MissesMax.read(text) for text in parsed.misses_max)
            Schedule(profile, 0, trace)  # says now, and not on a worker, that a profile and a trace do not go together
        except ValueError as error:
            raise preflight.SetupError(str(error), preflight.EXIT_USAGE) from None
        return cls(profile, trace, ceilings, misses_max)

    def plan(self, parsed: Any, host: str, workers: int) -> Plan:
        """The plan of one run, but for its length, which is fixed at its start."""
        return Plan(
            run=parsed.run_id or runfolder.new_run_id(),
            profile_text=self.profile.text,
            profile_source=self.profile.source,
            seed=parsed.seed,
            host=host,
            workers=workers,
            warmup_us=0,
            horizon_us=0,
            trace=self.trace,
            save_text=parsed.save_text,
        )

    def settings(self, parsed: Any, *, bind: str, host: str, users: int, infos: dict[str, dict[str, str]]) -> Settings:
        return Settings(
            runs_dir=Path(parsed.runs_dir),
            bind=bind,
            observe=not parsed.no_observe,
            report=not parsed.no_report,
            host=host,
            users=users,
            spool_only=parsed.spool_only,
            collector_port=parsed.collector_port,
            encrypted_path=parsed.encrypted_path or None,
            trace_file=parsed.trace or None,
            trace_speed=parsed.speed,
            trace_rate=parsed.trace_rate,
            ceilings=self.ceilings,
            stop_saturated=parsed.stop_saturated,
            misses_max=self.misses_max,
            infos=infos,
        )
