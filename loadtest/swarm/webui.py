"""Tabs of our own in Locust's web page, fed through what the page asks for anyway.

Locust shows a request once it has ended; these tabs show what is in flight, quantiles within 1 %, nodes, tasks, and
whether the run is fit. The page asks for /stats/requests every two seconds while a run is on; our tables ride on its
answer. Cells are texts or numbers, which the page escapes and sorts; None is an empty cell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Response, request

from loadtest.observed import Observed, ObservedNode
from loadtest.records import Outcome
from loadtest.swarm.lines import ms_text, when_text
from loadtest.swarm.standing import LEVELS, Latency, Standing, offered_turns

if TYPE_CHECKING:
    from locust.web import WebUI

STATS_PATH = "/stats/requests"
NAME_LETTERS_MAX = 64
# Of the answer that carries all tables, which stays below 100 KB with what is Locust's own.
BYTES_MAX = {
    "loadtest-overview": 10_000,
    "loadtest-outcomes": 14_000,
    "loadtest-nodes": 36_000,
    "loadtest-pipeline": 8_000,
    "loadtest-workers": 16_000,
}

Cells = dict[str, Any]
TABS = {
    "loadtest-overview": "Overview",
    "loadtest-outcomes": "Outcomes",
    "loadtest-nodes": "Nodes",
    "loadtest-pipeline": "Pipeline",
    "loadtest-workers": "Workers and fitness",
}
COLUMNS: dict[str, list[tuple[str, str]]] = {
    "loadtest-overview": [("what", "What"), ("figure", "Now"), *((level, f"{level}") for level, _ in LEVELS)],
    "loadtest-outcomes": [
        ("target", "Target"),
        ("session", "Session"),
        ("outcome", "Outcome"),
        ("turns", "Turns"),
        ("percent", "% of ended"),
    ],
    "loadtest-nodes": [
        ("node", "Node"),
        ("requests", "Requests"),
        ("failures", "Failures"),
        ("failed", "% failed"),
        ("ttft_p50", "TTFT p50 ms"),
        ("ttft_p95", "TTFT p95 ms"),
        ("e2e_p50", "E2E p50 ms"),
        ("tokens", "Tokens/s"),
        ("precommit", "Precommit %"),
        ("commit", "Commit %"),
        ("pending", "Pending"),
        ("age", "Heard s ago"),
    ],
    "loadtest-pipeline": [
        ("what", "Of looked-up tasks"),
        ("reached", "Reached"),
        ("now", "There now"),
        ("left", "Left there"),
        ("oldest", "Oldest s"),
        ("p50", "p50 s"),
        ("p95", "p95 s"),
        ("note", "Note"),
    ],
    "loadtest-workers": [
        ("what", "Worker or rule"),
        ("figure", "State"),
        ("in_flight", "In flight"),
        ("ended", "Ended"),
        ("rows", "Rows spooled / acknowledged"),
        ("cpu", "CPU max %"),
        ("loop", "Loop late p99 ms"),
        ("clock", "Clock known to ms"),
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
                response.set_data(dumped({**response.get_json(), "extended_stats": tables(now)}))
        return response


def tables(standing: Standing) -> list[dict[str, Any]]:
    """The rows of each tab, as the page wants them."""
    rows: dict[str, Iterable[Cells]] = {
        "loadtest-overview": overview(standing),
        "loadtest-outcomes": outcomes(standing),
        "loadtest-nodes": nodes(standing),
        "loadtest-pipeline": pipeline(standing),
        "loadtest-workers": workers(standing),
    }
    return [{"key": key, "data": _fitting(key, rows[key])} for key in TABS]


def _fitting(key: str, rows: Iterable[Cells]) -> list[Cells]:
    """The first rows of a table that together are no longer than it may be, and how many more there are."""
    columns = [name for name, _ in COLUMNS[key]]
    # Cells that are not there would be equal to everything when the page sorts, and so spoil the order of the others.
    empty: Cells = dict.fromkeys(columns)
    fitting: list[Cells] = []
    bytes_left = BYTES_MAX[key]
    more = 0
    for row in rows:
        bytes_left -= len(dumped(empty | row)) + 1 if not more else 0
        if bytes_left < 0:
            more += 1
        else:
            fitting.append(empty | row)
    return [*fitting, empty | {columns[0]: f"… and {more:,} rows more"}] if more else fitting


def dumped(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))


def overview(standing: Standing) -> Iterable[Cells]:
    totals = standing.totals
    figures = [
        ("Run", standing.run),
        ("Progress", when_text(standing)),
        ("Offered", f"{offered_turns(totals):,} turns, {standing.offered_per_s:.1f}/s now"),
        ("Completed", f"{totals.ended:,} turns, {standing.completed_per_s:.1f}/s now"),
        ("In flight", f"{totals.in_flight:,}: {totals.waiting:,} waiting, {totals.answering:,} answering"),
        ("In flight, age of the oldest", f"{totals.oldest_s:.1f} s"),
        ("Fitness", "fit so far" if standing.fit else "UNFIT: " + "; ".join(r.text for r in standing.reasons)),
    ]
    yield from ({"what": what, "figure": figure} for what, figure in figures)
    for row in standing.rows:
        for metric, name in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E")):
            yield _quantiles(f"{name}, {shortened(row.target)} ({row.phase})", row.latencies[metric])


def _quantiles(what: str, latency: Latency) -> Cells:
    levels = {name: ms_text(latency.quantiles[name]) for name, _ in LEVELS}
    return {"what": what, "figure": f"{latency.n:,} turns", **levels}


def outcomes(standing: Standing) -> Iterable[Cells]:
    """All targets together, then each target and session, those with the most turns first."""
    shares: list[tuple[str, str, dict[str, int], int]] = [
        ("all", "", standing.totals.outcomes, standing.totals.in_flight),
        *((place.target, place.session, place.outcomes, place.in_flight) for place in standing.places),
    ]
    for target, session, told, in_flight in shares:
        place = {"target": shortened(target), "session": shortened(session)}
        for outcome, turns, percent in _parts(told, in_flight):
            yield place | {"outcome": outcome, "turns": turns, "percent": percent}


def _parts(told: dict[str, int], in_flight: int) -> Iterable[tuple[str, int, float | None]]:
    ended = sum(told.values())
    for outcome in Outcome:
        if told.get(outcome):
            yield outcome, told[outcome], round(100 * told[outcome] / ended, 2)
    if in_flight:
        yield "(in flight)", in_flight, None


def nodes(standing: Standing) -> Iterable[Cells]:
    """First how much the table is of, then the nodes with the most requests."""
    observed = standing.observed
    if observed is None:
        yield {"node": "no observer: --no-observe, or it has not written yet"}
        return
    age_s = standing.observed_age_s or 0.0
    left_out = f"; {observed.nodes_left_out:,} nodes are left out" if observed.nodes_left_out else ""
    yield {"node": known_text(observed) + left_out, "age": round(age_s, 1)}
    yield from (_node(node, age_s) for node in observed.nodes)


def known_text(observed: Observed) -> str:
    """What per-node figures are of."""
    return f"(of {observed.requests_known:,} requests whose node is known, of {observed.requests:,})"


def _node(node: ObservedNode, age_s: float) -> Cells:
    return {
        "node": shortened(node.node),
        "requests": node.requests,
        "failures": node.failures,
        "failed": _percent(node.failures / node.requests if node.requests else None),
        "ttft_p50": node.ttft_ms_p50,
        "ttft_p95": node.ttft_ms_p95,
        "e2e_p50": node.e2e_ms_p50,
        "tokens": node.tokens_per_s,
        "precommit": _percent(node.precommit_rate),
        "commit": _percent(node.commit_rate),
        "pending": node.pending,
        "age": None if node.age_s is None else round(node.age_s + age_s, 1),
    }


def pipeline(standing: Standing) -> Iterable[Cells]:
    observed = standing.observed
    if observed is None:
        yield {"what": "no observer: --no-observe, or it has not written yet"}
        return
    told, age_s = observed.pipeline, standing.observed_age_s or 0.0
    note = f"{told.tasks:,} tasks told a state, of {observed.requests:,} requests; as of {age_s:.0f} s ago"
    yield {"what": "(all)", "reached": told.tasks, "note": note}
    for stage in told.stages:
        yield {
            "what": stage.stage.capitalize(),
            "reached": stage.reached,
            "now": stage.now,
            "left": stage.left,
            "oldest": stage.oldest_s,
            "p50": stage.seen_s_p50,
            "p95": stage.seen_s_p95,
            "note": "age of a task when first seen here or further on: at the latest then",
        }
    note = "from created to finished, on the router's clock"
    yield {"what": "Took", "reached": told.ended, "p50": told.took_s_p50, "p95": told.took_s_p95, "note": note}
    for router in observed.routers:
        said = [
            "miners not told" if router.connected_miners is None else f"{router.connected_miners:,} miners connected",
            "sessions not told" if router.active_sessions is None else f"{router.active_sessions:,} sessions active",
            f"heard {(router.age_s or 0.0) + age_s:.0f} s ago",
        ]
        what = shortened(f"Router of {', '.join(router.targets)}")
        yield {"what": what, "note": ", ".join(said + ([f"now: {shortened(router.error)}"] if router.error else []))}


def workers(standing: Standing) -> Iterable[Cells]:
    """Is the run fit and why not, the ledger, then the workers: those that are lost or slowest first."""
    totals, measured = standing.totals, standing.rows[0].latencies
    ended = sum(totals.outcomes.values())
    yield {"what": "Fitness", "figure": "fit so far" if standing.fit else "UNFIT"}
    yield from ({"what": f"Unfit: {reason.rule}", "figure": reason.text} for reason in standing.reasons)
    for name, metric in (
        ("Sent late, p99", "send_lag"),
        ("Arrival bound of the first content, p99", "first_content_bound"),
    ):
        yield {"what": name, "figure": ms_text(measured[metric].quantiles["p99"])}
    account = f"planned {totals.planned_turns:,}, started {totals.started_turns:,}, ended {ended:,}"
    yield {"what": "Ledger", "figure": account}
    stored = f"spooled {totals.rows_spooled:,}, sent {totals.rows_sent:,}, acknowledged {totals.rows_acknowledged:,}, "
    yield {"what": "Rows", "figure": f"{stored}stored {standing.stored:,}"}
    lost = set(standing.workers_lost)
    slowest = sorted(standing.workers, key=lambda r: (r["worker"] not in lost, -r["loop_overshoot_ms_p99"]))
    yield from (_worker(report, lost) for report in slowest)


def _worker(report: dict[str, Any], lost: set[int]) -> Cells:
    clock_ns = report["clock_bound_ns"]
    return {
        "what": shortened(f"{report['worker']} ({report['host']}, {report['pid']})"),
        "figure": "lost" if report["worker"] in lost else "ended" if report["final"] else "working",
        "in_flight": report["ledger"]["in_flight"],
        "ended": sum(report["ledger"]["outcomes"].values()),
        "rows": f"{report['rows_spooled']:,} / {report['rows_acknowledged']:,}",
        "cpu": round(100 * report["cpu_share_max"]),
        "loop": _number(report["loop_overshoot_ms_p99"]),
        "clock": None if clock_ns is None else _number(clock_ns / 1e6),
    }


def shortened(name: str) -> str:
    """A name from outside, at a length that leaves room for others."""
    return name if len(name) <= NAME_LETTERS_MAX else name[: NAME_LETTERS_MAX - 1] + "…"


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _number(value: float) -> float | None:
    return None if math.isinf(value) else float(f"{value:.3g}")
