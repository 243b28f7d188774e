"""Live numbers: Locust's own table while requests end, and the worker's figures in each report to the master."""

from __future__ import annotations

import gc

from locust.env import Environment

from loadtest.clock import cpu_ns, mono_ns
from loadtest.records import NOT_SENT, Outcome, RequestRecord


class FailedTurn(Exception):
    """What Locust's failure table shows: outcome and kind, of bounded cardinality, never a body or an id."""


class LiveStats:
    """Feeds Locust's statistics. TTFT and TPOT get rows of their own, which do not count as requests.

    Firing Locust's request event for them would multiply its totals; `stats.get(...).log` writes the row only.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def seen(self, record: RequestRecord) -> None:
        if record.outcome in NOT_SENT or record.sent_ns is None or record.done_ns is None:
            return
        name = record.target
        failure = None
        if record.outcome != Outcome.OK:
            failure = FailedTurn(f"{record.outcome} {record.error_kind}".strip())
        self._environment.events.request.fire(
            request_type="POST",
            name=name,
            response_time=(record.done_ns - record.sent_ns) / 1e6,
            response_length=record.bytes_received,
            exception=failure,
            context={},
        )
        if failure is not None or record.first_content_ns is None or record.last_content_ns is None:
            return
        stats = self._environment.stats
        stats.get(name, "TTFT").log((record.first_content_ns - record.sent_ns) / 1e6, 0)
        if record.content_chunks > 1:
            tokens = record.usage_completion_tokens or record.counted_tokens or record.content_chunks
            if tokens > 1:
                per_token = (record.last_content_ns - record.first_content_ns) / (tokens - 1)
                stats.get(name, "TPOT").log(per_token / 1e6, 0)


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
