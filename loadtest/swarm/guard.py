"""Stops a run that has used up what it may, or whose target mostly fails. Decided on the master, from reports.

A report is up to 3 s old and the look comes once a second, so what is sent in about 4 s at the rate of the run comes
on top of a ceiling, and so does what is in flight then: it is drained, not cut. The manifest tells the figure at the
decision and the one at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from loadtest.records import NOT_SENT, Outcome
from loadtest.swarm.reports import Totals
from loadtest.swarm.standing import Standing
from loadtest.traffic.ceilings import Ceilings

RATE_WINDOW_S = 10.0
# Not the target's doing: we stopped it, or nobody knows.
_NO_VERDICT = NOT_SENT | {Outcome.CANCELLED, Outcome.LOST}


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run was stopped: the ceiling, the figure that met it, and a sentence for people."""

    rule: str
    figure: float
    limit: float
    text: str


class Point(msgspec.Struct, frozen=True):
    at_s: float
    sent: int
    ended: int
    failed: int


class Guard:
    """Looks at each standing of one run. It remembers a window of counts, for the rate and the breaker."""

    def __init__(self, ceilings: Ceilings) -> None:
        self._ceilings = ceilings
        self._points: deque[Point] = deque()

    def look(self, standing: Standing) -> Stop | None:
        """The first ceiling that is met, or None."""
        if standing.state in ("starting", "draining"):
            return None
        self._remember(standing)
        return next(iter([*self._used_up(standing), *self._rate(), *self._breaker()]), None)

    def used(self, totals: Totals) -> dict[str, float]:
        """What the run has used so far, by the name of its ceiling."""
        prompt, output = totals.prompt_tokens, totals.output_tokens
        return {
            "requests": totals.started_turns,
            "tokens": prompt + output,
            "cost": self._ceilings.cost_of(totals.started_turns, prompt, output),
        }

    def _remember(self, standing: Standing) -> None:
        totals = standing.totals
        ended = sum(n for outcome, n in totals.outcomes.items() if outcome not in _NO_VERDICT)
        failed = ended - totals.outcomes.get(Outcome.OK, 0)
        self._points.append(Point(standing.elapsed_s, totals.started_turns, ended, failed))
        kept_s = max(RATE_WINDOW_S, self._ceilings.error_window_s)
        while len(self._points) > 1 and self._points[1].at_s <= standing.elapsed_s - kept_s:
            self._points.popleft()

    def _since(self, seconds: float) -> tuple[Point, Point]:
        """The newest point and the last one that is at least so old, or the oldest there is."""
        newest = self._points[-1]
        older = [point for point in self._points if point.at_s <= newest.at_s - seconds]
        return (older[-1] if older else self._points[0]), newest

    def _used_up(self, standing: Standing) -> Iterator[Stop]:
        used = self.used(standing.totals) | {"time_s": max(0.0, standing.elapsed_s)}
        for rule, figure in used.items():
            limit = getattr(self._ceilings, rule)
            if limit and figure >= limit:
                text = f"{rule} {figure:,.6g}, the ceiling is {limit:,.6g}"
                yield Stop(rule=rule, figure=figure, limit=limit, text=text)

    def _rate(self) -> Iterator[Stop]:
        limit = self._ceilings.requests_per_s
        first, last = self._since(RATE_WINDOW_S)
        if not limit or last.at_s - first.at_s < RATE_WINDOW_S:
            return
        rate = (last.sent - first.sent) / (last.at_s - first.at_s)
        if rate > limit:
            text = f"requests_per_s {rate:,.6g} over {last.at_s - first.at_s:.0f} s, the ceiling is {limit:,.6g}"
            yield Stop(rule="requests_per_s", figure=rate, limit=limit, text=text)

    def _breaker(self) -> Iterator[Stop]:
        limit = self._ceilings.error_share
        first, last = self._since(self._ceilings.error_window_s)
        ended, failed = last.ended - first.ended, last.failed - first.failed
        if not limit or ended < max(1, self._ceilings.error_requests_min):
            return
        if failed / ended >= limit:
            text = f"{failed} of the last {ended} requests failed ({100 * failed / ended:.0f} %), the circuit breaker "
            text += f"opens at {100 * limit:.0f} % in {self._ceilings.error_window_s:.0f} s"
            yield Stop(rule="error_share", figure=failed / ended, limit=limit, text=text)
