"""How a run stands at this moment: what the terminal, the web page and the ceilings look at. Made once a second.

Every figure is of the workers' last reports, so it is up to three seconds old.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from loadtest import observed
from loadtest.clock import mono_ns, wall_ns
from loadtest.fitness import Figures, Reason, unfit_reasons
from loadtest.observed import Observed, ObservedNode
from loadtest.records import Outcome, Phase
from loadtest.swarm.reports import Reports, Totals
from loadtest.swarm.tally import Distribution

RATE_WINDOW_S = 10.0
LEVELS = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
NODES_SHOWN = 3
# Rules that cannot be judged before something was measured; the end judges them.
_NOT_YET = frozenset({"empty", "account"})


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of one metric in ms, by "p50", "p95" and "p99"; infinite where they fall among failed turns."""

    n: int
    quantiles: dict[str, float | None]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The latencies of one target, or of all ("all"), in one phase."""

    target: str
    phase: str
    latencies: dict[str, Latency]  # by metric, see tally.METRICS


class PlaceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Turns of one target and session; `session` is "" for a target without, "other" for all beyond a bound."""

    target: str
    session: str
    started: int
    in_flight: int  # lost workers' included until the end
    outcomes: dict[str, int]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    state: str  # "starting", "warm-up", "measuring", "draining"
    elapsed_s: float  # since t0, negative before it
    planned_s: float
    totals: Totals
    offered_per_s: float  # turns due, over the last seconds
    completed_per_s: float
    rows: list[Row]
    places: list[PlaceCounts]
    stored: int  # rows in Parquet
    received: int  # rows the collector has
    workers_expected: int
    workers_lost: list[int]
    workers: list[dict[str, Any]]  # their last reports
    cpu_share_max: float | None
    loop_overshoot_ms_p99: float | None
    clock_bound_ms_max: float | None
    reasons: list[Reason]  # why the run is unfit as it stands
    observed: Observed | None  # the observer's last word on nodes, tasks and routers; None without one
    observed_age_s: float | None  # add it to the ages in `observed`

    @property
    def fit(self) -> bool:
        return not self.reasons

    @property
    def lowest_nodes(self) -> list[ObservedNode]:
        """The nodes of the lowest lifetime rates, lowest first."""
        told = [node for node in self.observed.nodes if node.lowest_rate is not None] if self.observed else []
        return sorted(told, key=lambda node: node.lowest_rate or 0.0)[:NODES_SHOWN]


class Rates:
    """Turns offered and completed per second over the last ten seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, int, int]] = deque()

    def take(self, now_ns: int, offered: int, completed: int) -> tuple[float, float]:
        self._points.append((now_ns, offered, completed))
        while len(self._points) > 2 and now_ns - self._points[1][0] >= RATE_WINDOW_S * 1e9:
            self._points.popleft()
        first_ns, first_offered, first_completed = self._points[0]
        seconds = (now_ns - first_ns) / 1e9
        if seconds <= 0:
            return 0.0, 0.0
        return (offered - first_offered) / seconds, (completed - first_completed) / seconds


def offered_turns(totals: Totals) -> int:
    """Turns that were due: started, or dropped."""
    return totals.started_turns + totals.outcomes.get(Outcome.DROPPED, 0)


def phase_shown(reports: Reports) -> Phase:
    """The measured cohort as soon as there is one; until then the warm-up."""
    measuring = any(phase == Phase.MEASURE for _, _, phase in reports.live.cells)
    return Phase.MEASURE if measuring else Phase.WARMUP


def latency_rows(reports: Reports, phase: Phase) -> list[Row]:
    """All targets together, then one by one when there are several."""
    targets = reports.live.targets()
    return [_row("all", phase, reports.live.of(phase))] + [
        _row(target, phase, reports.live.of(phase, target)) for target in targets if len(targets) > 1
    ]


def place_counts(reports: Reports) -> list[PlaceCounts]:
    """What was begun and how it ended, by target and session, those of most turns first."""
    return [
        PlaceCounts(
            target=target,
            session=session,
            started=counts.started,
            in_flight=max(0, counts.started - counts.ended),
            outcomes=dict(counts.outcomes),
        )
        for (target, session), counts in sorted(
            reports.live.places.items(), key=lambda item: (-item[1].started, item[0])
        )
    ]


def final_figures(reports: Reports) -> list[dict[str, Any]]:
    """What the live view ended with, for the manifest: by target and phase, ms; None where a quantile is unknown or
    falls among failed turns, which `failed` counts."""

    def finite(value: float | None) -> float | None:
        return None if value is None or math.isinf(value) else value

    return [
        {
            "target": target,
            "phase": phase,
            "metrics": {
                metric: {"n": d.n(), "failed": d.censored}
                | {f"{name}_ms": finite(d.quantile_ms(q)) for name, q in LEVELS}
                for metric, d in reports.live.of(phase, target).items()
            },
        }
        for target, phase in sorted({(target, phase) for target, _, phase in reports.live.cells})
    ]


def _row(target: str, phase: Phase, cells: dict[str, Distribution]) -> Row:
    return Row(
        target=target,
        phase=phase.value,
        latencies={
            metric: Latency(n=d.n(), quantiles={name: d.quantile_ms(q) for name, q in LEVELS})
            for metric, d in cells.items()
        },
    )


def worst(reports: Reports, name: str) -> float | None:
    told = [report[name] for report in reports.latest.values() if report.get(name) is not None]
    return max(told) if told else None


def live_reasons(reports: Reports, totals: Totals, workers_lost_max: int = 0) -> list[Reason]:
    """The rules of fitness on what is known now. Planned turns have no rows yet, so that sum waits for the end; the
    sums of the ledger are judged with every report."""
    measured = reports.live.of(Phase.MEASURE)
    clock_ns = worst(reports, "clock_bound_ns")
    n = measured["e2e"].n()

    def p(metric: str, q: float) -> float | None:
        value = measured[metric].quantile_ms(q)
        return None if value is None or math.isinf(value) else value

    reasons = unfit_reasons(
        Figures(
            planned_turns=0,
            stored_turns=0,
            lost_turns=0,
            dropped_turns=totals.outcomes.get(Outcome.DROPPED, 0),
            first_turns=totals.arrivals,
            workers_expected=len(reports.stripes),
            workers_lost=len(reports.lost),
            rows_overflowed=sum(report["rows_overflowed"] for report in reports.latest.values()),
            send_lag_ms_p99=p("send_lag", 0.99),
            ttft_ms_p50=p("ttft", 0.50),
            receive_error_ms_p99=p("first_content_bound", 0.99),
            loop_overshoot_ms_p99=worst(reports, "loop_overshoot_ms_p99"),
            worker_cpu_share_max=worst(reports, "cpu_share_max"),
            clock_bound_ms_max=None if clock_ns is None else clock_ns / 1e6,
            measured_requests=n,
            workers_lost_max=workers_lost_max,
            ledger_mismatches=tuple(reports.mismatches),
        )
    )
    return [reason for reason in reasons if reason.rule not in _NOT_YET]


class LiveFile:
    """live.json of a run, read again when it was replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[int, int] | None = None
        self._read: Observed | None = None

    def look(self) -> tuple[Observed | None, float | None]:
        """What it says, and how many seconds ago that was written; None, None without it."""
        try:
            stat = (self._folder / observed.FILE).stat()
        except OSError:
            return None, None
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            self._stamp, self._read = stamp, observed.read(self._folder)
        if self._read is None:
            return None, None
        return self._read, max(0.0, (wall_ns() - self._read.written_wall_ns) / 1e9)


class Clerk:
    """Makes the standing of one run from its reports; `stored` is the collector's own count."""

    def __init__(self, run: str, reports: Reports, folder: Path, workers_lost_max: int = 0) -> None:
        self._run = run
        self._reports = reports
        self._live_file = LiveFile(folder)
        self._workers_lost_max = workers_lost_max
        self._rates = Rates()

    def standing(
        self, *, t0_ns: int | None, warmup_s: float, planned_s: float, ended: bool, received: int, stored: int
    ) -> Standing:
        reports, now_ns = self._reports, mono_ns()
        totals = reports.totals()
        elapsed_s = 0.0 if t0_ns is None else (now_ns - t0_ns) / 1e9
        if t0_ns is None or elapsed_s < 0:
            state = "starting"
        elif ended or elapsed_s >= planned_s:
            state = "draining"
        else:
            state = "warm-up" if elapsed_s < warmup_s else "measuring"
        if state == "starting":
            self._rates = Rates()
        offered, completed = self._rates.take(now_ns, offered_turns(totals), totals.ended)
        found, found_age_s = self._live_file.look()
        clock_ns = worst(reports, "clock_bound_ns")
        return Standing(
            run=self._run,
            state=state,
            elapsed_s=elapsed_s,
            planned_s=planned_s,
            totals=totals,
            offered_per_s=offered,
            completed_per_s=completed,
            rows=latency_rows(reports, phase_shown(reports)),
            places=place_counts(reports),
            received=received,
            stored=stored,
            workers_expected=len(reports.stripes),
            workers_lost=sorted(reports.lost),
            workers=[reports.latest[worker] for worker in reports.stripes if worker in reports.latest],
            cpu_share_max=worst(reports, "cpu_share_max"),
            loop_overshoot_ms_p99=worst(reports, "loop_overshoot_ms_p99"),
            clock_bound_ms_max=None if clock_ns is None else clock_ns / 1e6,
            reasons=live_reasons(reports, totals, workers_lost_max=self._workers_lost_max),
            observed=found,
            observed_age_s=found_age_s,
        )
