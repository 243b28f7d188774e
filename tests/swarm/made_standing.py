"""A run in full swing, for tests of what people look at."""

from __future__ import annotations

import math
from typing import Any

from msgspec.structs import replace

from loadtest.observed import Observed, ObservedNode, Pipeline, Router, Stage
from loadtest.swarm.reports import Totals
from loadtest.swarm.standing import Latency, PlaceCounts, Row, Standing
from loadtest.swarm.tally import METRICS


def made_totals(**changes: Any) -> Totals:
    totals = Totals(
        arrivals=900,
        planned_turns=1300,
        started_turns=1000,
        outcomes={"ok": 940, "truncated": 20, "dropped": 5},
        waiting=30,
        answering=10,
        oldest_s=14.2,
        rows_spooled=965,
        rows_sent=960,
        rows_acknowledged=950,
        prompt_tokens=60_000,
        output_tokens=40_000,
    )
    return replace(totals, **changes)


def latencies(p50: float, p99: float = math.inf) -> dict[str, Latency]:
    quantiles: dict[str, float | None] = {"p50": p50, "p95": 2 * p50, "p99": p99}
    return {metric: Latency(n=960, quantiles=quantiles) for metric in METRICS}


def made_report(worker: int, **changes: Any) -> dict[str, Any]:
    return {
        "worker": worker,
        "host": "box",
        "pid": 17,
        "final": False,
        "ledger": {"planned_turns": 650, "started_turns": 500, "in_flight": 20, "outcomes": {"ok": 480}},
        "rows_spooled": 480,
        "rows_acknowledged": 470,
        "cpu_share_max": 0.3,
        "loop_overshoot_ms_p99": 1.25,
        "clock_bound_ns": 400_000,
        **changes,
    }


def made_observed(**changes: Any) -> Observed:
    observed = Observed(
        schema_version=2,
        written_wall_ns=0,
        state="running",
        requests=900,
        requests_known=90,
        requests_looked_up=95,
        nodes_known=24,
        nodes_left_out=22,
        nodes=[
            ObservedNode(
                node="0xdef",
                requests=60,
                failures=2,
                ttft_ms_p50=81.5,
                ttft_ms_p95=240.0,
                e2e_ms_p50=900.0,
                e2e_ms_p95=1800.0,
                tokens_per_s=41.25,
                precommit_rate=0.99,
                commit_rate=0.98,
                age_s=2.0,
            ),
            ObservedNode(node="0xabc", requests=30, precommit_rate=0.71, age_s=3.2),
        ],
        pipeline=Pipeline(
            tasks=95,
            stages=[
                Stage(stage="queued", now=0, left=0, reached=95),
                Stage(stage="acked", now=1, left=0, reached=95, oldest_s=12.0, seen_s_p50=10.5, seen_s_p95=11.5),
                Stage(stage="precommitted", now=2, left=1, reached=94, oldest_s=31.0, seen_s_p50=11.0, seen_s_p95=19.0),
                Stage(stage="committed", now=0, left=0, reached=91, seen_s_p50=14.0, seen_s_p95=22.0),
                Stage(stage="completed", now=0, left=88, reached=88, seen_s_p50=15.0, seen_s_p95=25.0),
            ],
            ended=88,
            took_s_p50=13.0,
            took_s_p95=22.0,
        ),
        routers=[Router(targets=["chat", "whole"], connected_miners=24, active_sessions=3, age_s=4.0)],
    )
    return replace(observed, **changes)


def made_standing(**changes: Any) -> Standing:
    standing = Standing(
        run="r-1",
        state="measuring",
        elapsed_s=62.0,
        planned_s=600.0,
        totals=made_totals(),
        offered_per_s=20.25,
        completed_per_s=19.5,
        rows=[
            Row(target="all", phase="measure", latencies=latencies(84.2)),
            Row(target="chat", phase="measure", latencies=latencies(91.0, 1234.5)),
            Row(target="whole", phase="measure", latencies=latencies(55.0, 99.0)),
        ],
        places=[
            PlaceCounts(target="chat", session="", started=700, in_flight=25, outcomes={"ok": 660, "truncated": 15}),
            PlaceCounts(target="whole", session="12", started=300, in_flight=15, outcomes={"ok": 280, "dropped": 5}),
        ],
        stored=900,
        received=955,
        workers_expected=3,
        workers_lost=[1],
        workers=[made_report(0), made_report(1), made_report(2, cpu_share_max=0.8)],
        cpu_share_max=0.8,
        loop_overshoot_ms_p99=1.25,
        clock_bound_ms_max=0.4,
        reasons=[],
        observed=made_observed(),
        observed_age_s=1.0,
    )
    return replace(standing, **changes)
