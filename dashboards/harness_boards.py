"""The boards of the harness: whether it could measure, and how the nights went."""

from __future__ import annotations

from description import CELL, RATE, RUN, Board, Panel, Query, since_start

FITNESS = Board(
    "loadtest-fitness",
    "Load test: fitness",
    "Could the harness measure? Look here before believing any other page.",
    (
        Panel(
            "Rules that are broken",
            "short",
            (
                Query(f"sum(loadtest_unfit{{{RUN}}})", "broken"),
                Query(
                    f"loadtest_unfit{{{RUN}}} == 1",
                    "{{rule}}",
                    empty_is_right="a fit run breaks no rule",
                ),
            ),
            "Any is one too many: the run proves nothing, and its report says so.",
            "stat",
            12,
            red_above=1,
        ),
        Panel(
            "Workers",
            "short",
            (
                Query(f"loadtest_workers_expected{{{RUN}}}", "expected"),
                Query(f"loadtest_workers_lost{{{RUN}}}", "lost"),
            ),
            "A lost worker takes with it what it had in flight and what it still had to send.",
            "stat",
            12,
        ),
        Panel(
            "Send lag p99",
            "s",
            (
                Query(
                    f"histogram_quantile(0.99, sum by (le) (rate(loadtest_send_lag_seconds_bucket{{{CELL}}}{RATE})))",
                    "now",
                ),
                *since_start("send_lag", "p99"),
            ),
            "How late requests left. Unfit above 50 ms, or 5 % of the median TTFT. The line named now is approximate.",
            approximate=True,
        ),
        Panel(
            "Receive error p99",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (le) "
                    f"(rate(loadtest_receive_error_seconds_bucket{{{CELL}}}{RATE})))",
                    "now",
                ),
                *since_start("first_content_bound", "p99"),
            ),
            "Width of the interval in which the first text can have arrived. Unfit above 20 ms. The line named now is "
            "approximate.",
            approximate=True,
        ),
        Panel(
            "CPU of workers, highest so far",
            "percentunit",
            (Query(f"loadtest_worker_cpu_max_ratio{{{RUN}}}", "worker {{worker}}"),),
            "Share of one core over a report. Unfit above 90 %: add workers.",
            red_above=0.9,
        ),
        Panel(
            "Loop late p99",
            "s",
            (Query(f'loadtest_worker_loop_late_seconds{{{RUN},level="p99"}}', "worker {{worker}}"),),
            "Unfit above 20 ms: the process stalls, and so do its stamps.",
        ),
        Panel(
            "Clock bound",
            "s",
            (Query(f"loadtest_worker_clock_bound_seconds{{{RUN}}}", "worker {{worker}}"),),
            "To how much a worker's clock is known. Unfit above 50 ms: lines of different machines do not line up.",
        ),
        Panel(
            "Silence of workers",
            "s",
            (Query(f"loadtest_worker_silent_seconds{{{RUN}}}", "worker {{worker}}"),),
            "Heartbeats come every second. After 15 s a worker is lost.",
        ),
        Panel(
            "Rows not yet acknowledged",
            "short",
            (
                Query(
                    f"sum by (worker) (loadtest_rows_spooled_total{{{RUN}}} - "
                    f"loadtest_rows_acknowledged_total{{{RUN}}})",
                    "worker {{worker}}",
                ),
            ),
            "What the loss of a machine would cost. Worry when it grows: the collector or the way to it is slow.",
        ),
        Panel(
            "Rows received, stored",
            "short",
            (
                Query(f"loadtest_rows_received_total{{{RUN}}}", "received"),
                Query(f"loadtest_rows_stored_total{{{RUN}}}", "stored"),
            ),
            "Parquet parts are written every few seconds, so stored follows received in steps.",
        ),
        Panel(
            "Rows lost, sums that do not hold",
            "short",
            (
                Query(f"sum(loadtest_rows_overflowed_total{{{RUN}}})", "did not fit into the queue"),
                Query(f"sum(loadtest_rows_refused_total{{{RUN}}})", "refused by the disk"),
                Query(f"loadtest_ledger_mismatches{{{RUN}}}", "sums that do not hold"),
                Query(f"loadtest_live_reports_missed_total{{{RUN}}}", "reports that never came"),
            ),
            "All four are 0 in a good run. With missed reports these pages lack something; the rows do not.",
            red_above=1,
        ),
        Panel(
            "The master itself",
            "short",
            (
                Query(f'rate(process_cpu_seconds_total{{job="loadtest"}}{RATE})', "{{instance}} cores"),
                Query('process_resident_memory_bytes{job="loadtest"} / 1e9', "{{instance}} GB"),
            ),
            "Above 0.8 of a core heartbeats are answered late, and workers look lost that are not.",
        ),
    ),
)

NIGHTLY = Board(
    "loadtest-nightly",
    "Load test: nightly history",
    "One point for each night, from the file that `loadtest nightly` leaves for a textfile collector.",
    (
        *(
            Panel(
                f"{name}, median of the night's runs",
                "s",
                (
                    Query(
                        f'loadtest_nightly_latency_seconds{{profile=~"$profile",metric="{metric}",level="{level}"}}',
                        "{{profile}} {{kind}}",
                    ),
                ),
                "Exact figures of the reports; no line when it falls among failed turns. Worry when target moves "
                "and control does not; when control moves too, the night says nothing of the network.",
            )
            for metric, level, name in (
                ("ttft", "p50", "TTFT p50"),
                ("ttft", "p95", "TTFT p95"),
                ("tpot", "p50", "TPOT p50"),
                ("e2e", "p50", "E2E p50"),
                ("e2e", "p95", "E2E p95"),
            )
        ),
        Panel(
            "Errors and attainment",
            "percentunit",
            (
                Query('loadtest_nightly_error_ratio{profile=~"$profile"}', "{{profile}} {{kind}} errors"),
                Query('loadtest_nightly_attainment_ratio{profile=~"$profile"}', "{{profile}} {{kind}} attainment"),
            ),
            "Failed of those due, and those that kept every limit. Attainment needs [goodput] in the profile.",
        ),
        Panel(
            "Goodput",
            "reqps",
            (Query('loadtest_nightly_goodput_per_second{profile=~"$profile"}', "{{profile}} {{kind}}"),),
            "Requests per second that kept every limit.",
        ),
        Panel(
            "Runs of the night",
            "short",
            (
                Query('loadtest_nightly_runs{profile=~"$profile"}', "{{profile}} {{kind}}"),
                Query('loadtest_nightly_fit_runs{profile=~"$profile"}', "{{profile}} {{kind}} fit"),
            ),
            "Fewer than five fit runs a side cannot show a regression.",
        ),
        Panel(
            "Verdict",
            "short",
            (Query("loadtest_nightly_exit_code", "exit code"),),
            "0 passed, 3 regressed or missed an SLO, 4 proves nothing, 1 could not run.",
            "stat",
            red_above=1,
        ),
        Panel(
            "Age of the last night",
            "s",
            (Query("time() - loadtest_nightly_finished_timestamp_seconds", "age"),),
            "Worry above 36 hours: the job does not run.",
            "stat",
            red_above=36 * 3600,
        ),
    ),
    of_run=False,
)
