"""Tabs of our own in Locust's web page: the run, its latencies, its workers.

Locust shows a request once it has ended; these tabs show what is in flight, live quantiles within 1 % and whether the
run is fit. The page asks for /stats/requests every two seconds while a run is on; our tables ride on its answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Response, request

from loadtest.swarm.lines import ms_text, outcomes_text, share_text, when_text
from loadtest.swarm.standing import LEVELS, Standing, offered_turns

if TYPE_CHECKING:
    from locust.web import WebUI

STATS_PATH = "/stats/requests"
METRICS = (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2e", "E2E"), ("send_lag", "Sent late"))
TABS = {"loadtest-run": "Run", "loadtest-latency": "Latency", "loadtest-workers": "Harness"}
COLUMNS: dict[str, list[tuple[str, str]]] = {
    "loadtest-run": [("what", "What"), ("figure", "Now")],
    "loadtest-latency": [
        ("target", "Target"),
        ("phase", "Phase"),
        ("turns", "Turns"),
        *((f"{metric}_{level}", f"{name} {level}") for metric, name in METRICS for level, _ in LEVELS),
    ],
    "loadtest-workers": [
        ("worker", "Worker"),
        ("state", "State"),
        ("in_flight", "In flight"),
        ("ended", "Ended"),
        ("rows", "Rows spooled / acknowledged"),
        ("cpu", "CPU max %"),
        ("loop", "Loop late p99"),
        ("clock", "Clock known to"),
    ],
}


def add_tabs(web_ui: WebUI, standing: Callable[[], Standing | None]) -> None:
    """Announce the tabs to the page and add their rows to what it polls. `standing` gives the run as it stands."""
    web_ui.template_args["extended_tabs"] = [{"title": title, "key": key} for key, title in TABS.items()]
    web_ui.template_args["extended_tables"] = [
        {"key": key, "structure": [{"key": name, "title": title} for name, title in columns]}
        for key, columns in COLUMNS.items()
    ]

    @web_ui.app.after_request  # type: ignore[untyped-decorator]  # locust is Any to mypy
    def with_our_tables(response: Response) -> Response:
        if request.path.endswith(STATS_PATH) and response.status_code == 200 and response.is_json:
            now = standing()
            if now is not None:
                response.set_data(json.dumps({**response.get_json(), "extended_stats": tables(now)}))
        return response


def tables(standing: Standing) -> list[dict[str, Any]]:
    """The rows of each tab, as the page wants them: every cell a text."""
    rows = {
        "loadtest-run": [{"what": what, "figure": figure} for what, figure in run_rows(standing)],
        "loadtest-latency": latency_rows(standing),
        "loadtest-workers": [worker_row(report, standing) for report in standing.workers],
    }
    return [{"key": key, "data": rows[key]} for key in TABS]


def run_rows(standing: Standing) -> list[tuple[str, str]]:
    totals = standing.totals
    ended = sum(totals.outcomes.values())
    rows = [
        ("Run", standing.run),
        ("Progress", when_text(standing)),
        ("Offered", f"{offered_turns(totals):,} turns, {standing.offered_per_s:.1f}/s now"),
        ("Completed", f"{totals.ended:,} turns, {standing.completed_per_s:.1f}/s now"),
        ("In flight", f"{totals.in_flight:,}"),
        ("In flight, waiting for the first byte of the answer", f"{totals.waiting:,}"),
        ("In flight, answering", f"{totals.answering:,}"),
        ("In flight, age of the oldest", f"{totals.oldest_s:.1f} s"),
        ("Outcomes", outcomes_text(totals.outcomes) or "nothing ended yet"),
        ("Ledger", f"planned {totals.planned_turns:,}, started {totals.started_turns:,}, ended {ended:,}"),
        (
            "Rows",
            f"spooled {totals.rows_spooled:,}, sent {totals.rows_sent:,}, acknowledged {totals.rows_acknowledged:,}, "
            f"stored {standing.stored:,}",
        ),
        ("Fitness", "fit so far" if standing.fit else "UNFIT"),
        *((f"Unfit: {reason.rule}", reason.text) for reason in standing.reasons),
    ]
    for node in standing.lowest_nodes:
        rates = (share_text(rate) for rate in (node.precommit_rate, node.commit_rate))
        age_s = (node.age_s or 0.0) + (standing.observed_age_s or 0.0)
        rows.append((f"Low reputation: {node.node}", f"{' / '.join(rates)}, heard {age_s:.0f} s ago"))
    return rows


def latency_rows(standing: Standing) -> list[dict[str, str]]:
    return [
        {"target": row.target, "phase": row.phase, "turns": f"{row.latencies['e2e'].n:,}"}
        | {
            f"{metric}_{level}": ms_text(row.latencies[metric].quantiles[level])
            for metric, _ in METRICS
            for level, _ in LEVELS
        }
        for row in standing.rows
    ]


def worker_row(report: dict[str, Any], standing: Standing) -> dict[str, str]:
    clock_ns = report["clock_bound_ns"]
    state = "lost" if report["worker"] in standing.workers_lost else "ended" if report["final"] else "working"
    return {
        "worker": f"{report['worker']} ({report['host']}, {report['pid']})",
        "state": state,
        "in_flight": f"{report['ledger']['in_flight']:,}",
        "ended": f"{sum(report['ledger']['outcomes'].values()):,}",
        "rows": f"{report['rows_spooled']:,} / {report['rows_acknowledged']:,}",
        "cpu": f"{100 * report['cpu_share_max']:.0f}",
        "loop": ms_text(report["loop_overshoot_ms_p99"]),
        "clock": "–" if clock_ns is None else ms_text(clock_ns / 1e6),
    }
