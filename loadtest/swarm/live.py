"""What a worker shows of each turn that ends: in Locust's own table, and in the tally of its next report."""

from __future__ import annotations

import gc

from locust.env import Environment

from loadtest.clock import cpu_ns, mono_ns
from loadtest.records import NOT_SENT, Outcome, RequestRecord, cancelled_by_member
from loadtest.swarm.tally import Tally, tpot_ns


class FailedTurn(Exception):
    """What Locust's failure table shows: outcome and kind, of bounded cardinality, never a body or an id."""


class LiveStats:
    """Feeds Locust's statistics and the tally. TTFT and TPOT get rows of their own, which do not count as requests.

    Firing Locust's request event for them would multiply its totals; `stats.get(...).log` writes the row only.
    """

    def __init__(self, environment: Environment, tally: Tally) -> None:
        self._environment = environment
        self._tally = tally

    def seen(self, record: RequestRecord) -> None:
        self._tally.seen(record)
        if record.outcome in NOT_SENT or record.sent_ns is None or record.done_ns is None:
            return
        name = record.target
        failure = None
        if cancelled_by_member(record.outcome, record.error_kind):
            name = f"{name}, broken off"  # as planned, so no failure; its time is the member's patience
        elif record.outcome != Outcome.OK:
            failure = FailedTurn(f"{record.outcome} {record.error_kind}".strip())
        self._environment.events.request.fire(
            request_type="POST",
            name=name,
            response_time=(record.done_ns - record.sent_ns) / 1e6,
            response_length=record.bytes_received,
            exception=failure,
            context={},
        )
        if record.outcome != Outcome.OK or not record.stream or record.first_content_ns is None:
            return
        stats = self._environment.stats
        stats.get(name, "TTFT").log((record.first_content_ns - record.sent_ns) / 1e6, 0)
        per_token_ns = tpot_ns(record)
        if per_token_ns is not None:
            stats.get(name, "TPOT").log(per_token_ns / 1e6, 0)


class CpuShare:
    """CPU of this process between two looks, as a share of one core, and the highest so far."""

    def __init__(self) -> None:
        self._at_ns, self._cpu_ns = mono_ns(), cpu_ns()
        self.highest = 0.0

    def look(self) -> float:
        at_ns, used_ns = mono_ns(), cpu_ns()
        share = (used_ns - self._cpu_ns) / max(1, at_ns - self._at_ns)
        # A window much shorter than a report's says nothing of a steady load.
        if at_ns - self._at_ns >= 1_000_000_000:
            self.highest = max(self.highest, share)
            self._at_ns, self._cpu_ns = at_ns, used_ns
        return share


def calm_garbage_collector() -> None:
    """Before a run: what is alive now is not looked at again, and full collections become rare.

    A full collection over Faker's and tiktoken's tables stops the loop for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
