"""The boards of the load itself: what is offered and comes back, and how long it takes."""

from __future__ import annotations

from description import (
    AMONG_FAILED,
    APPROXIMATE,
    CELL,
    E2E,
    ITL,
    RATE,
    RUN,
    TPOT,
    TTFC,
    TTFT,
    Board,
    Panel,
    Query,
    by_buckets,
    since_start,
)

SWARM = Board(
    "loadtest-swarm",
    "Load test: swarm",
    "What is offered, what comes back, and what became of every planned turn.",
    (
        Panel(
            "State",
            "short",
            (Query(f"loadtest_run_state{{{RUN}}} == 1", "{{state}}"),),
            "Where the run is. Worry when it drains for longer than the profile's drain time.",
            "stat",
            6,
        ),
        Panel(
            "Fit",
            "short",
            (Query(f"loadtest_fit{{{RUN}}}", "fit"),),
            "1: the harness can measure. At 0 the run proves nothing, whatever the other panels say: see Fitness.",
            "stat",
            6,
            red_below=1,
        ),
        Panel(
            "Turns ended",
            "short",
            (Query(f"sum(loadtest_turns_ended_total{{{RUN}}})", "ended"),),
            "Planned turns that have an outcome. At the end it equals the turns planned.",
            "stat",
            6,
        ),
        Panel(
            "Failed, of those sent",
            "percentunit",
            (Query("loadtest:turns_failed:share{" + RUN + "}", "failed"),),
            "Over the last minute; cancelled ones are not in it. Worry when it is not 0 and Outcomes do not say why.",
            "stat",
            6,
            red_above=0.05,
        ),
        Panel(
            "Offered and completed",
            "reqps",
            (
                Query("loadtest:turns_offered:rate1m{" + RUN + "}", "offered"),
                Query("loadtest:turns_completed:rate1m{" + RUN + "}", "completed"),
            ),
            "Turns that were due, and turns that ended, per second. Worry when completed stays below offered: a queue "
            "grows somewhere, and open load does not wait for it.",
        ),
        Panel(
            "In flight",
            "short",
            (Query(f"sum by (waiting_for) (loadtest_turns_in_flight{{{RUN}}})", "waiting for {{waiting_for}}"),),
            "By Little's law this is rate times E2E. Worry when it climbs steadily, most of all when what waits "
            "for the first byte does.",
        ),
        Panel(
            "Oldest in flight",
            "s",
            (Query(f"loadtest_oldest_in_flight_seconds{{{RUN}}}", "age"),),
            "Worry when it rises second by second: that request is stuck and will end as a timeout.",
        ),
        Panel(
            "Outcomes",
            "reqps",
            (Query(f"sum by (outcome) (rate(loadtest_turns_ended_total{{{RUN}}}{RATE}))", "{{outcome}}"),),
            "A closed set: every planned turn ends as one of these. Worry about lost (a worker is gone) and dropped "
            "(the harness could not send) before you worry about the network.",
        ),
        Panel(
            "Every planned turn",
            "short",
            (Query(f"loadtest_turns_ended_total{{{RUN}}}", "{{outcome}}"),),
            "The account so far: the sum is every planned turn that has ended, and no turn stands twice.",
            "table",
        ),
        Panel(
            "Turns by target",
            "reqps",
            (Query(f"sum by (target) (rate({E2E}_count{{{CELL}}}{RATE}))", "{{target}}"),),
            "Turns that ended, good or failed. Worry when one target falls behind its weight in the profile.",
        ),
        Panel(
            "Tokens",
            "short",
            (
                Query(
                    "sum by (target, gen_ai_token_type) "
                    f'(rate(gen_ai_client_token_usage_sum{{{RUN},target=~"$target"}}{RATE}))',
                    "{{target}} {{gen_ai_token_type}}",
                ),
            ),
            "Tokens per second of requests that ended. Worry when output falls while the turns do not: answers get "
            "shorter.",
        ),
        Panel(
            "Planned and elapsed",
            "s",
            (
                Query(f"loadtest_run_elapsed_seconds{{{RUN}}}", "elapsed"),
                Query(f"loadtest_run_planned_seconds{{{RUN}}}", "planned"),
            ),
            "Elapsed beyond planned is the drain.",
        ),
    ),
)

LATENCY = Board(
    "loadtest-latency",
    "Load test: latency",
    "Service times as the client saw them. The report of the run has the exact figures.",
    (
        *(
            Panel(
                f"{name} since the phase began",
                "s",
                since_start(metric, "p50", "p95", "p99"),
                f"{meaning} Within 1 %, all targets, failed turns as +Inf (then there is no line).",
            )
            for metric, name, meaning in (
                ("ttft", "TTFT", "First text minus first write."),
                ("e2e", "E2E", "End of the answer minus first write."),
                ("tpot", "TPOT", "Time per token after the first, one value for each turn."),
                ("itl", "ITL", "Gaps between chunks with text, pooled."),
            )
        ),
        *(
            Panel(
                f"{name} now",
                "s",
                by_buckets(metric, *levels),
                f"{APPROXIMATE}{AMONG_FAILED}{worry}",
                approximate=True,
            )
            for name, metric, levels, worry in (
                ("TTFT", TTFT, (0.5, 0.95), "Worry when p95 leaves p50 behind: some requests queue, not all."),
                ("E2E", E2E, (0.5, 0.95), "Worry when it rises while TPOT does not: the wait is before the answer."),
                ("First chunk", TTFC, (0.5, 0.95), "The first event of any kind, often without text."),
                ("TPOT", TPOT, (0.5, 0.95), "Worry when it rises with the load: nodes share their compute."),
            )
        ),
        Panel(
            "ITL now",
            "s",
            by_buckets(ITL, 0.5, 0.99),
            f"{APPROXIMATE}Gaps between chunks with text. Worry when p99 is far above p50: answers stall.",
            approximate=True,
        ),
        Panel(
            "Turns that gave no latency",
            "reqps",
            (
                Query(
                    f'sum by (target) (rate({E2E}_count{{{CELL},error_type="failed"}}{RATE}))',
                    "{{target}}",
                ),
            ),
            "Failed turns: they count as longer than anything in every quantile here.",
        ),
        Panel(
            "E2E, all turns",
            "s",
            (Query(f"sum by (le) (increase({E2E}_bucket{{{CELL}}}{RATE}))", "{{le}}"),),
            "Two bands mean two kinds of nodes, routes or prompts. The top row are failed turns.",
            "heatmap",
        ),
        Panel(
            "TTFT, all turns",
            "s",
            (Query(f"sum by (le) (increase({TTFT}_bucket{{{CELL}}}{RATE}))", "{{le}}"),),
            "Two bands mean that some requests wait for a node and others do not.",
            "heatmap",
        ),
        Panel(
            "Tokens of an answer, mean",
            "short",
            (
                Query(
                    'sum by (target) (rate(gen_ai_client_token_usage_sum{run="$run",target=~"$target",'
                    f'gen_ai_token_type="output"}}{RATE})) / sum by (target) (rate(gen_ai_client_token_usage_count'
                    f'{{run="$run",target=~"$target",gen_ai_token_type="output"}}{RATE}))',
                    "{{target}}",
                ),
            ),
            "E2E follows this. Worry when it moves although the profile does not.",
        ),
    ),
)
