"""The end of collecting: what was planned is held against what has come, and every planned turn gets a row."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtest.collector.rows import RowStore
from loadtest.records import Outcome, RequestRecord
from loadtest.traffic.plan import Plan, PlannedArrival, Stripe, planned_arrivals


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """What was planned, so that every planned turn can be given a row."""

    plan: Plan
    t0_ns: int
    stripes: list[Stripe]  # empty for closed members: there planned = started


def close_account(store: RowStore, close: Close | None, *, leftover_bytes: int, damaged_frames: int) -> dict[str, Any]:
    """Give a row to all that has none, write everything, and return the account; without `close` nothing is known of
    what was planned."""
    open_rows = store.close_open()
    planned, filled = None, 0
    if close is not None and close.stripes:
        planned, filled = _fill_missing(store, close)
    store.flush()
    return {
        "planned_turns": planned,
        "rows": store.outcomes.total(),
        "outcomes": {outcome: store.outcomes[outcome] for outcome in Outcome if store.outcomes[outcome]},
        "open_rows": open_rows,
        "filled_rows": filled,
        "leftover_bytes": leftover_bytes,
        "damaged_frames": damaged_frames,
    }


def _fill_missing(store: RowStore, close: Close) -> tuple[int, int]:
    schedule = close.plan.schedule()

    def row_of(one: PlannedArrival) -> RequestRecord:
        at_ns = close.t0_ns + one.due_us * 1000
        shape = schedule.shape(one.arrival)
        return close.plan.row(shape, 0, worker=one.worker, seq=-1, t0_ns=close.t0_ns, at_ns=at_ns)

    return store.fill_missing(planned_arrivals(close.plan, schedule, close.stripes), row_of)
