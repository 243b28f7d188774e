"""A run's standing in plain lines, for logs and terminals that cannot be redrawn."""

from __future__ import annotations

import math
from collections.abc import Callable

from loadtest.clock import Deadline
from loadtest.records import Outcome
from loadtest.swarm.standing import Standing

LINE_EVERY_S = 5.0


def outcomes_text(outcomes: dict[str, int]) -> str:
    """ "ok 120, cancelled 3", in the order of the closed set."""
    return ", ".join(f"{outcome} {outcomes[outcome]}" for outcome in Outcome if outcomes.get(outcome))


def when_text(standing: Standing) -> str:
    elapsed_s, planned_s = standing.elapsed_s, standing.planned_s
    if standing.state == "starting":
        return "starting"
    if standing.state == "draining":
        over_s = max(0.0, elapsed_s - planned_s)
        return f"draining at {elapsed_s:.0f} s" if not over_s else f"draining, {over_s:.0f} s over"
    return f"{elapsed_s:.0f} of {planned_s:.0f} s" + (", warm-up" if standing.state == "warm-up" else "")


def ms_text(value_ms: float | None) -> str:
    """Milliseconds to three digits; a quantile among failed turns is longer than anything seen."""
    if value_ms is None:
        return "–"
    if math.isinf(value_ms):
        return "failed"
    if value_ms >= 10_000:
        return f"{value_ms / 1e3:.1f} s"
    return f"{value_ms:.0f} ms" if value_ms >= 100 else f"{value_ms:.3g} ms"


def number_text(value_ms: float | None) -> str:
    """The same as a bare number of milliseconds, for columns that name the unit."""
    if value_ms is None:
        return "–"
    if math.isinf(value_ms):
        return "failed"
    return f"{value_ms:,.0f}" if value_ms >= 100 else f"{value_ms:.3g}"


def share_text(share: float | None) -> str:
    """A share as percent, "–" where nobody told it."""
    return "–" if share is None else f"{100 * share:.1f} %"


def line(standing: Standing) -> str:
    """One line: how far, offered against completed, in flight, latencies, outcomes, fitness."""
    totals, latencies = standing.totals, standing.rows[0].latencies
    parts = [
        f"{when_text(standing)}: offered {standing.offered_per_s:.1f}/s, completed {standing.completed_per_s:.1f}/s",
        f"in flight {totals.in_flight} ({totals.waiting} waiting, {totals.answering} answering, "
        f"oldest {totals.oldest_s:.1f} s)",
    ]
    for name, metric in (("TTFT", "ttft"), ("E2E", "e2e"), ("sent late", "send_lag")):
        if latencies[metric].n:
            quantiles = latencies[metric].quantiles
            parts.append(f"{name} p50 {ms_text(quantiles['p50'])} p99 {ms_text(quantiles['p99'])}")
    parts.append(outcomes_text(totals.outcomes) or "nothing ended yet")
    parts.append("fit so far" if standing.fit else "UNFIT: " + "; ".join(reason.text for reason in standing.reasons))
    return "; ".join(parts)


class Lines:
    """Says a line every few seconds once the run has begun."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._next = Deadline(LINE_EVERY_S)

    def show(self, standing: Standing) -> None:
        if standing.state == "starting" or not self._next.over():
            return
        self._next = Deadline(LINE_EVERY_S)
        self._say(line(standing))

    def close(self) -> None:
        """Nothing to put back."""
