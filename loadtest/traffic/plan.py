"""The plan of one run: everything that decides what is sent and when, small enough to send to every worker.

Master, workers and collector build the same schedule from it, so that who sends never changes what is sent, and
the collector can tell which planned turns have no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from loadtest.records import Outcome, Phase, RequestRecord
from loadtest.traffic.profile import Profile, parse_profile
from loadtest.traffic.replay import Trace
from loadtest.traffic.schedule import ConversationShape, Schedule


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of a run agree on. `host` stands in for targets without a `url`."""

    run: str
    profile_text: str
    profile_source: str
    seed: int
    host: str
    workers: int
    warmup_us: int
    horizon_us: int  # arrivals due before it are planned; offsets from t0
    trace: Trace | None = None
    save_text: bool = False  # what every answer said is kept, not only what is wrong with it

    def profile(self) -> Profile:
        return parse_profile(self.profile_text, self.profile_source)

    def schedule(self) -> Schedule:
        return Schedule(self.profile(), self.seed, self.trace)

    def row(
        self,
        shape: ConversationShape,
        turn: int,
        *,
        worker: int,
        seq: int,
        t0_ns: int,
        at_ns: int,
        clock_offset_ns: int = 0,
    ) -> RequestRecord:
        """The row of a planned turn as it stands before anything is known: outcome `lost`.

        `at_ns` is when the turn is due, on the clock on which `t0_ns` is the start.
        """
        planned, target = shape.turns[turn], shape.target
        return RequestRecord(
            run=self.run,
            worker=worker,
            seq=seq,
            arrival=shape.index,
            conversation=f"c{shape.index}",
            turn=turn,
            turns_planned=len(shape.turns),
            persona=shape.persona,
            target=target.name,
            route=target.route,
            model=target.model,
            session=shape.session,
            client_reference=f"{self.run}.{shape.index}.{turn}",
            phase=Phase.WARMUP if at_ns - t0_ns < self.warmup_us * 1000 else Phase.MEASURE,
            scheduled_ns=at_ns,
            prompt_tokens_planned=planned.prompt_tokens,
            output_tokens_max=planned.output_tokens_max,
            stream=shape.stream,
            outcome=Outcome.LOST,
            clock_offset_ns=clock_offset_ns,
        )


class Stripe(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's share of an open plan: its arrivals due before `until_us`, which a stop may have brought forward."""

    worker: int
    until_us: int


class PlannedArrival(NamedTuple):
    """One arrival of an open plan, as the account needs it."""

    arrival: int
    due_us: int
    worker: int
    turns: int


def planned_arrivals(plan: Plan, schedule: Schedule, stripes: list[Stripe]) -> Iterator[PlannedArrival]:
    """Every arrival that was planned, stripe by stripe."""
    for stripe in stripes:
        for arrival in schedule.arrivals(stripe.until_us, stripe.worker, plan.workers):
            yield PlannedArrival(arrival.index, arrival.due_us, stripe.worker, schedule.turns_planned(arrival.index))
