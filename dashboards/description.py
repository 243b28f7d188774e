"""What a dashboard is described by, and the pieces of PromQL that many panels share.

Every panel says what it is and when to worry. `approximate` is a quantile read from doubling buckets: it can be off by
a factor of two, and the title says so. `empty_is_right` says why an expression may have no data in a good run.
"""

from __future__ import annotations

from typing import NamedTuple


class Query(NamedTuple):
    expr: str
    legend: str = ""
    empty_is_right: str = ""


class Panel(NamedTuple):
    title: str
    unit: str  # of Grafana's units: s, reqps, short, percentunit, bytes, ...
    queries: tuple[Query, ...]
    worry: str  # the panel's description: what it is, and when to worry
    kind: str = "timeseries"  # or "stat", "table", "heatmap"
    width: int = 12  # of 24
    approximate: bool = False
    red_above: float | None = None
    red_below: float | None = None


class Board(NamedTuple):
    uid: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    of_run: bool = True  # has the variables run and target


RUN = 'run="$run"'
CELL = 'run="$run",target=~"$target",phase=~"$phase"'
RATE = "[$__rate_interval]"
APPROXIMATE = "Approximate: read from buckets that double, so off by up to a factor of two. "
AMONG_FAILED = "327.68 s means that it falls among failed turns. "


def by_buckets(metric: str, *levels: float, by: str = "target") -> tuple[Query, ...]:
    """Quantiles over the last interval, failed turns counted as longer than anything."""
    return tuple(
        Query(
            f"histogram_quantile({level}, sum by (le, {by}) (rate({metric}_bucket{{{CELL}}}{RATE})))",
            f"{{{{{by}}}}} p{100 * level:g}",
        )
        for level in levels
    )


def since_start(metric: str, *levels: str) -> tuple[Query, ...]:
    """The swarm's own quantiles of the phase so far, within 1 %, of all targets together."""
    return tuple(
        Query(
            f'loadtest_latency_quantile_seconds{{{RUN},target="",metric="{metric}",level="{level}"}}',
            f"{level}, {{{{phase}}}}",
        )
        for level in levels
    )


TTFT = "loadtest_time_to_first_token_seconds"
TTFC = "gen_ai_client_operation_time_to_first_chunk_seconds"
TPOT = "loadtest_time_per_output_token_seconds"
ITL = "gen_ai_client_operation_time_per_output_chunk_seconds"
E2E = "gen_ai_client_operation_duration_seconds"
NOT_SENT = 'outcome!~"dropped|not_reached"'
FAILED = 'outcome!~"ok|cancelled|dropped|not_reached"'
