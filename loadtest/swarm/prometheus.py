"""A run as Prometheus sees it: the families of /metrics, made from standing and reports when they are asked for.

Every series of a run has the label `run` and begins at 0 when the run is made, so nothing is ever carried from one run
to the next and nothing that counts goes back: the reports' sums and histograms only grow. With the next run the old
series end. Sums are made anew for each scrape, so however often is scraped nothing is counted twice.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.metrics_core import Metric

from loadtest.records import Outcome, Phase, Target
from loadtest.swarm import otel
from loadtest.swarm.metric_names import CLOSED, FAILED, NAMES, STATES, TEXT_MAX
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import Standing, offered_turns
from loadtest.swarm.tally import Distribution


class Watched(NamedTuple):
    """One run, looked at now. `account` is the collector's, once it has closed it; `judged` are the rules of fitness
    that the report found broken, once there is one."""

    standing: Standing
    reports: Reports
    targets: Sequence[Target]
    profile: str
    profile_hash: str
    mode: str
    seed: int
    account: Mapping[str, Any] | None = None
    judged: Sequence[str] | None = None
    over: bool = False


class Families:
    """Metrics by name, in the order of NAMES; a value goes in with its labels."""

    def __init__(self, run: str | None) -> None:
        self._run = {} if run is None else {"run": label(run)}
        self._by_name: dict[str, Metric] = {}

    def family(self, name: str) -> Metric:
        metric = self._by_name.get(name)
        if metric is None:
            metric = self._by_name[name] = Metric(name, NAMES[name].text, NAMES[name].kind)
        return metric

    def put(self, name: str, value: float, **labels: str) -> None:
        suffix = "_total" if NAMES[name].kind == "counter" else ""
        self.family(name).add_sample(name + suffix, {**self._run, **labels}, value)

    def histogram(
        self, name: str, bounds: Iterable[float], counts: Sequence[int], total: float, labels: Mapping[str, str]
    ) -> None:
        """`counts` at or below each bound, and in all."""
        metric, own = self.family(name), {**self._run, **labels}
        for bound, count in zip((*bounds, math.inf), counts, strict=True):
            metric.add_sample(f"{name}_bucket", {**own, "le": otel.bound_text(bound)}, count)
        metric.add_sample(f"{name}_sum", own, total)
        metric.add_sample(f"{name}_count", own, counts[-1])

    def all(self) -> Iterator[Metric]:
        return (self._by_name[name] for name in NAMES if name in self._by_name)


def label(text: str) -> str:
    """A label's value for a text from anywhere: printable, at most TEXT_MAX letters, different for different texts.

    Quotes and backslashes are the writer's to escape. Controls and halves of surrogate pairs are legal JSON, but a NUL
    would end Prometheus's reading, a surrogate has no UTF-8, and what turns the direction of writing fools the eye.
    """
    clean = "".join("�" if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter for letter in text)
    if clean == text and len(text) <= TEXT_MAX:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{clean[: TEXT_MAX - 9]}~{digest}"


def put_run(page: Families, watched: Watched) -> None:
    """All of one run but what the observer knows."""
    _about(page, watched)
    _turns(page, watched)
    gen_ai = {target.name: _gen_ai(target) for target in watched.targets}
    for target, labels in gen_ai.items():
        for phase in Phase:
            _latencies(page, watched.reports.live.of(phase.value, target), labels, phase.value)
    _tokens(page, watched.reports, gen_ai)
    _quantiles(page, watched.standing)
    _harness(page, watched)


def _about(page: Families, watched: Watched) -> None:
    standing = watched.standing
    page.put(
        "loadtest_run_info",
        1,
        profile=label(watched.profile),
        profile_hash=watched.profile_hash,
        mode=watched.mode,
        seed=str(watched.seed),
    )
    for target in watched.targets:
        where = urlsplit(target.url or "")
        page.put(
            "loadtest_target_info",
            1,
            target=label(target.name),
            route=label(target.route),
            gen_ai_request_model=label(target.model),
            server_address=label(where.hostname or ""),
            server_port=str(where.port or ""),
        )
    now = "ended" if watched.over else standing.state
    for state in STATES:
        page.put("loadtest_run_state", state == now, state=state)
    page.put("loadtest_run_elapsed_seconds", standing.elapsed_s)
    page.put("loadtest_run_planned_seconds", standing.planned_s)


def _turns(page: Families, watched: Watched) -> None:
    """Counts of the workers' last reports; at the end those of the collector's account, which knows of the turns that
    were lost with a worker too."""
    totals, account = watched.reports.totals(), watched.account or {}
    outcomes = {o: max(totals.outcomes.get(o, 0), account.get("outcomes", {}).get(o, 0)) for o in Outcome}
    page.put("loadtest_arrivals", totals.arrivals)
    page.put("loadtest_turns_planned", max(totals.planned_turns, account.get("planned_turns") or 0))
    page.put("loadtest_turns_offered", offered_turns(totals))
    page.put("loadtest_turns_started", totals.started_turns)
    for outcome, n in outcomes.items():
        page.put("loadtest_turns_ended", n, outcome=outcome.value)
    page.put("loadtest_turns_in_flight", totals.waiting, waiting_for="first_byte")
    page.put("loadtest_turns_in_flight", totals.answering, waiting_for="rest")
    page.put("loadtest_oldest_in_flight_seconds", totals.oldest_s)


def _gen_ai(target: Target) -> dict[str, str]:
    """What the convention asks to be told of an operation; an empty model is the same as none."""
    return {
        "target": label(target.name),
        "gen_ai_operation_name": "chat" if target.route == "openai-chat" else "text_completion",
        "gen_ai_provider_name": "openai" if target.route.startswith("openai-") else "cortensor",
        "gen_ai_request_model": label(target.model),
    }


_OF_TURNS = {
    "e2e": "gen_ai_client_operation_duration_seconds",
    "ttfc": "gen_ai_client_operation_time_to_first_chunk_seconds",
    "ttft": "loadtest_time_to_first_token_seconds",
    "tpot": "loadtest_time_per_output_token_seconds",
}
_OF_ERRORS = {"send_lag": "loadtest_send_lag_seconds", "first_content_bound": "loadtest_receive_error_seconds"}


def _latencies(page: Families, cell: Mapping[str, Distribution], gen_ai: Mapping[str, str], phase: str) -> None:
    bounds, errors = otel.DURATION_BOUNDS_S, otel.ERROR_BOUNDS_S
    for metric, name in _OF_TURNS.items():
        labels = {**gen_ai, "phase": phase, "error_type": ""}
        page.histogram(name, bounds, *otel.cumulative(cell[metric].values, bounds), labels)
        failed = [0] * len(bounds) + [cell[metric].censored]
        page.histogram(name, bounds, failed, 0.0, {**labels, "error_type": FAILED})
    name = "gen_ai_client_operation_time_per_output_chunk_seconds"
    page.histogram(name, bounds, *otel.cumulative(cell["itl"].values, bounds), {**gen_ai, "phase": phase})
    for metric, name in _OF_ERRORS.items():
        labels = {"target": gen_ai["target"], "phase": phase}
        page.histogram(name, errors, *otel.cumulative(cell[metric].values, errors), labels)


def _tokens(page: Families, reports: Reports, gen_ai: Mapping[str, Mapping[str, str]]) -> None:
    counted = {(target, kind): otel.TokenCounts() for target in gen_ai for kind in CLOSED["gen_ai_token_type"]}
    for report in reports.latest.values():
        for target, kind, counts, total in report.get("tokens", ()):
            sums = counted[target, kind]
            sums.counts = [a + b for a, b in zip(sums.counts, counts, strict=True)]
            sums.sum += total
    for (target, kind), sums in counted.items():
        labels = {**gen_ai[target], "gen_ai_token_type": kind}
        page.histogram("gen_ai_client_token_usage", otel.TOKEN_BOUNDS, otel.running(sums.counts), sums.sum, labels)


def _quantiles(page: Families, standing: Standing) -> None:
    """The first row is that of all targets together, which a target's name cannot be mistaken for: it has none."""
    for n, row in enumerate(standing.rows):
        for metric, latency in row.latencies.items():
            for level, value_ms in latency.quantiles.items():
                if value_ms is not None:
                    page.put(
                        "loadtest_latency_quantile_seconds",
                        value_ms / 1e3,
                        target=label(row.target) if n else "",
                        phase=row.phase,
                        metric=metric,
                        level=level,
                    )


def _harness(page: Families, watched: Watched) -> None:
    standing, reports = watched.standing, watched.reports
    broken = {reason.rule for reason in standing.reasons} if watched.judged is None else set(watched.judged)
    page.put("loadtest_fit", not broken)
    for rule in CLOSED["rule"]:
        page.put("loadtest_unfit", rule in broken, rule=rule)
    page.put("loadtest_workers_expected", standing.workers_expected)
    page.put("loadtest_workers_lost", len(reports.lost))
    for stripe in reports.stripes:
        worker = str(stripe)
        page.put("loadtest_worker_up", stripe not in reports.lost, worker=worker)
        silent_s = 0.0 if watched.over or reports.is_final(stripe) else reports.silent_s(stripe)
        page.put("loadtest_worker_silent_seconds", silent_s, worker=worker)
        _worker(page, worker, reports.latest.get(stripe))
    page.put("loadtest_rows_received", max(standing.received, (watched.account or {}).get("rows", 0)))
    page.put("loadtest_rows_stored", max(standing.stored, (watched.account or {}).get("rows", 0)))
    page.put("loadtest_ledger_mismatches", len(reports.mismatches))
    page.put("loadtest_live_reports_missed", reports.live.gaps)


_ROWS = ("rows_spooled", "rows_sent", "rows_acknowledged", "rows_overflowed", "rows_refused")
_LATE = {level: f"overshoot_ns_{level}" for level in ("p50", "p99", "max")}


def _worker(page: Families, worker: str, report: Mapping[str, Any] | None) -> None:
    """Its counts begin at 0 before its first report; what it measures of itself begins with it."""
    told = report or {}
    for name in _ROWS:
        page.put(f"loadtest_{name}", told.get(name, 0), worker=worker)
    page.put("loadtest_worker_connections_opened", told.get("connections_opened", 0), worker=worker)
    if report is None:
        return
    page.put("loadtest_worker_info", 1, worker=worker, host=label(report["host"]))
    page.put("loadtest_worker_cpu_max_ratio", report["cpu_share_max"], worker=worker)
    for level, name in _LATE.items():
        page.put("loadtest_worker_loop_late_seconds", report[name] / 1e9, worker=worker, level=level)
    if report["clock_bound_ns"] is not None:
        page.put("loadtest_worker_clock_bound_seconds", report["clock_bound_ns"] / 1e9, worker=worker)
    page.put("loadtest_worker_in_flight", report["ledger"]["in_flight"], worker=worker)
    page.put("loadtest_worker_connections", report["connections"], worker=worker)
