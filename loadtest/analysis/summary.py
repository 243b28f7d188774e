"""The summary of a run: every figure the report draws, in one JSON file. Nothing downstream computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from loadtest.analysis import metrics, nodes, series, slo, steady
from loadtest.analysis.association import association
from loadtest.analysis.checks import check_run
from loadtest.analysis.cold import cold
from loadtest.analysis.columns import OF_MEASURED, OF_THE_RUN, read_turns
from loadtest.analysis.evidence import Evidence
from loadtest.analysis.frames import Clocks, Floats, Mask, descriptions_frame, use_system_memory
from loadtest.analysis.gaps import GapsByTime
from loadtest.analysis.goodput import goodput
from loadtest.analysis.intervals import Clusters
from loadtest.analysis.join import FIGURES
from loadtest.analysis.limits import limits
from loadtest.analysis.offered import end_s, offered
from loadtest.analysis.percentiles import (
    describe,
    describe_histogram,
    ecdf,
    ecdf_histogram,
    number,
    present,
    present_quantile,
    present_quantiles,
)
from loadtest.analysis.snapshots import Snapshots
from loadtest.clock import utc_text
from loadtest.fitness import Figures, Reason, unfit_reasons
from loadtest.quantiles import LogHistogram
from loadtest.records import SCHEMA_VERSION, Outcome, Phase
from loadtest.runfolder import RunFolderError, read_manifest, update_manifest, write_text

SUMMARY = "summary.json"


def summarise(run: Path) -> dict[str, Any]:
    """Summarise a joined run: write summary.json, put fit and result into the manifest, return the summary.

    RunFolderError when the run is not joined yet or its files are damaged.
    """
    use_system_memory()
    manifest, figures = read_manifest(run), _join_figures(run)
    with ThreadPoolExecutor(1) as beside:  # the checks read turns of their own
        checking = beside.submit(_checked, run)
        whole = _whole_run(run, manifest)
    findings, snapshots = checking.result()
    found, clocks = whole.steadiness, whole.clocks
    cohort = read_turns(run, OF_MEASURED, whole.is_measured)
    # An arrival is a conversation, and its number takes less room than its name.
    clusters = Clusters.of(cohort["arrival"].to_numpy(dtype=np.int64), clocks.run_s(cohort, "scheduled_ns"))
    with ThreadPoolExecutor(2) as pool:  # most of the work are sorts, which let go of the interpreter
        describing = _describing(cohort, clusters, pool)
        load = pool.submit(offered, cohort, clocks, manifest, found["from_s"])
        associating = pool.submit(association, cohort, clocks, snapshots, figures["join"]["tolerance_s"])
        harness = pool.submit(_harness, manifest, cohort).result()
        slos = [slo.evaluate(each, cohort, whole.gaps, clusters) for each in manifest.get("slos", [])]
    del clusters, snapshots  # a fifth of the memory and more, which the tables need
    latency, distributions = _latency(describing, whole.gaps)
    fit = _fit(manifest, cohort, whole.account, latency, harness)
    if found["verdict"] == steady.NOT_STEADY:
        steady.withhold(latency)
        slos = steady.withhold_passes(slos)
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "definitions_version": metrics.DEFINITIONS_VERSION,
        "run": whole.run,
        "fit": fit,
        "steady": found,
        "result": _result(manifest, slos),
        "account": whole.account,
        "offered": {**load.result(), "peak_in_flight": whole.peak_in_flight},
        "latency": latency,
        "goodput": goodput(manifest.get("goodput") or {}, cohort, max(0.0, end_s(manifest) - found["from_s"])),
        "harness": harness,
        "attribution": _with_shares(figures["attribution"], "requests", "attributed", "unattributed"),
        "join": _with_shares(figures["join"], "rows", "with_snapshot"),
        **nodes.tables(cohort, descriptions_frame(run)),
        "cold": whole.cold,
        "association": associating.result(),
        "findings": findings,
        "series": whole.series,
        "series_bin_s": whole.series_bin_s,
        "distributions": distributions,
        "warnings": figures["warnings"],
    }
    summary["limits"] = limits(manifest, cohort, summary)
    write_text(run / SUMMARY, json.dumps(summary, indent=1, allow_nan=False) + "\n")
    if manifest.get("state") != "running":
        update_manifest(run, fit=summary["fit"], result=summary["result"])
    return summary


def _checked(run: Path) -> tuple[list[dict[str, Any]], Snapshots]:
    """The findings, and the snapshots that were read for them."""
    evidence = Evidence.of(run)
    return [finding.as_json() for finding in check_run(evidence)], evidence.snapshots


class _WholeRun(NamedTuple):
    """What all turns are asked for, warm-up included. Their frame is let go before the measured ones are read."""

    run: dict[str, Any]
    account: dict[str, Any]
    clocks: Clocks
    steadiness: dict[str, Any]
    is_measured: Mask
    gaps: LogHistogram
    peak_in_flight: int
    cold: list[dict[str, Any]]
    series: list[dict[str, Any]]
    series_bin_s: int


def _whole_run(run: Path, manifest: dict[str, Any]) -> _WholeRun:
    requests = read_turns(run, OF_THE_RUN)
    clocks = Clocks.of(run, manifest, requests)
    found = steady.steadiness(requests, clocks, manifest)
    requests = steady.cohort_from(requests, clocks, found)
    by_time = GapsByTime(clocks, series.bins_of(requests, clocks))
    with ThreadPoolExecutor(1) as beside:  # the lists of gaps are in the parts as stored, which are read meanwhile
        reading = beside.submit(metrics.itl_histogram, run, from_ns=steady.from_ns(clocks, found), by_time=by_time)
        peak, cold_effects = series.peak_in_flight(requests, clocks), cold(run, requests)
        gaps = reading.result()
    return _WholeRun(
        _run(manifest, requests, clocks),
        _account(manifest, requests),
        clocks,
        found,
        metrics.is_measured(requests),
        gaps,
        peak,
        cold_effects,
        series.rows(requests, clocks, by_time),
        by_time.bins.width_s,
    )


def _result(manifest: dict[str, Any], slos: list[dict[str, Any]]) -> dict[str, Any]:
    """Pass, fail or none. A run that a ceiling stopped has failed: it is not the run that was asked for."""
    stopped_by = manifest.get("stopped_by")
    return {
        "verdict": "fail" if stopped_by else slo.result(slos),
        "met": sum(each["verdict"] == slo.PASS for each in slos),
        "slos": slos,
        "stopped_by": stopped_by,
    }


def _join_figures(run: Path) -> dict[str, Any]:
    path = run / FIGURES
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path}: the run is not joined yet; run `loadtest join` first") from None
    except (OSError, ValueError):
        raise RunFolderError(f"{path}: damaged; join the run again") from None
    return figures


def _run(manifest: dict[str, Any], requests: pd.DataFrame, clocks: Clocks) -> dict[str, Any]:
    profile = manifest.get("profile") or {}
    ends = clocks.wall_ns(requests, "done_ns").dropna()
    started_ns = manifest.get("started_wall_ns")
    return {
        "id": manifest.get("run"),
        "mode": manifest.get("mode"),
        "profile": profile.get("name"),
        "profile_hash": profile.get("hash"),
        "seed": manifest.get("seed"),
        "started_utc": _utc(started_ns),
        "ended_utc": _utc(int(ends.max()) if len(ends) else None),
        "offered_s": manifest.get("offered_s"),
        "warmup_s": manifest.get("warmup_s"),
        "workers": len(manifest.get("workers", [])),
        **{name: manifest.get(name) for name in _OF_MANIFEST},
        "targets": [
            {name: target.get(name) for name in ("name", "url", "route", "model", "stream", "info")}
            for target in manifest.get("targets", [])
        ],
        "versions": manifest.get("versions") or {},
    }


_OF_MANIFEST = ("encoding", "history", "time_scale", "command", "users", "host", "trace")


def _utc(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else utc_text(wall_ns)


_Described = tuple[dict[str, Any], list[list[float]]]


def _describing(cohort: pd.DataFrame, clusters: Clusters, pool: Executor) -> dict[str, Future[_Described]]:
    """The figures and the ECDF of every latency of the measured cohort."""
    waited = {side: metrics.waited_ms(cohort, since) for side, since in _SIDES.items()}

    def described(metric: Callable[[pd.DataFrame], Floats], side: str) -> _Described:
        values = metric(cohort)
        ordered = present(values)
        return describe(values, waited.get(side), clusters, ordered=ordered), ecdf(ordered)

    return {
        "ttft_ms_service": pool.submit(described, metrics.ttft_ms, "service"),
        "ttft_ms_response": pool.submit(described, metrics.ttft_response_ms, "response"),
        "e2e_ms_service": pool.submit(described, metrics.e2e_ms, "service"),
        "e2e_ms_response": pool.submit(described, metrics.e2e_response_ms, "response"),
        "tpot_ms": pool.submit(described, metrics.tpot_ms, ""),
    }


def _latency(describing: dict[str, Future[_Described]], gaps: LogHistogram) -> tuple[dict[str, Any], dict[str, Any]]:
    """The latency block and the ECDFs."""
    cells, distributions = ({name: each.result()[place] for name, each in describing.items()} for place in (0, 1))
    latency: dict[str, Any] = {
        name: {side: cells[f"{name}_{side}"] for side in _SIDES} for name in ("ttft_ms", "e2e_ms")
    }
    latency["tpot_ms"] = {"service": cells["tpot_ms"]}
    latency["itl_ms"] = {"service": describe_histogram(gaps)}
    return latency, {**distributions, "itl_ms": ecdf_histogram(gaps)}


_SIDES = {"service": "sent_ns", "response": "scheduled_ns"}


def _account(manifest: dict[str, Any], requests: pd.DataFrame) -> dict[str, Any]:
    """Planned against stored, over the whole run. `balanced` only when the ledger and the rows agree to the turn.

    `shares` are of what was planned.
    """
    ledger = manifest.get("ledger") or {}
    outcomes = {str(name): int(count) for name, count in sorted(requests["outcome"].value_counts().items()) if count}
    told = {name: count for name, count in (ledger.get("outcomes") or {}).items() if count}
    planned = len(requests) if ledger.get("planned_turns") is None else int(ledger["planned_turns"])
    return {
        "planned": planned,
        "rows": len(requests),
        "outcomes": outcomes,
        "shares": {name: _share(count, planned) for name, count in outcomes.items()},
        "balanced": ledger.get("planned_turns") == len(requests) and told == outcomes,
        "warmup": int((requests["phase"] == Phase.WARMUP.value).sum()),
        "measured": int((requests["phase"] == Phase.MEASURE.value).sum()),
        "first_turns": int((requests["turn"] == 0).sum()),
        "second_turns": int((requests["turn"] == 1).sum()),
    }


def _share(count: int, total: int) -> float | None:
    return round(count / total, 6) if total else None


def _with_shares(block: dict[str, Any], whole: str, *names: str) -> dict[str, Any]:
    """`block` with "NAME_share" beside each of `names`: nothing downstream divides."""
    return {**block, **{f"{name}_share": _share(block[name], block[whole]) for name in names}}


def _harness(manifest: dict[str, Any], cohort: pd.DataFrame) -> dict[str, Any]:
    """How far to believe the rest: our own lateness, the receive bounds, and the workers' own figures."""
    workers = manifest.get("workers", [])
    lag = metrics.send_lag_ms(cohort)
    first = _bound_ms(cohort, "first_content_bound_ns")
    clock_ns = _worst(workers, "clock_bound_ns")
    return {
        "send_lag_ms": _three(lag, lag),
        "first_content_bound_ms": _three(first, first),
        "arrival_bound_ms": _three(
            _bound_ms(cohort, "arrival_bound_ns_p50"), _bound_ms(cohort, "arrival_bound_ns_max")
        ),
        "coalesced_share": _ratio(cohort, "chunks_coalesced", "content_chunks"),
        "kernel_share": _ratio(cohort, "reads_kernel", "reads"),
        "loop_overshoot_ms_p99": _worst(workers, "loop_overshoot_ms_p99"),
        "cpu_share_max": _worst(workers, "cpu_share_max"),
        "clock_bound_ms_max": None if clock_ns is None else number(clock_ns / 1e6),
    }


def _three(typical: Floats, worst: Floats) -> dict[str, float | None]:
    """p50 of the typical value of each request, p99 and max of the worst one."""
    p99, largest = present_quantiles(worst, (0.99, 1.0))
    return {"p50": present_quantile(typical, 0.50), "p99": p99, "max": largest}


def _bound_ms(cohort: pd.DataFrame, name: str) -> Floats:
    values: Floats = cohort[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values / 1e6


def _ratio(cohort: pd.DataFrame, part: str, whole: str) -> float | None:
    total = int(cohort[whole].sum())
    return round(int(cohort[part].sum()) / total, 6) if total else None


def _worst(workers: list[dict[str, Any]], name: str) -> float | None:
    told = [float(worker[name]) for worker in workers if worker.get(name) is not None]
    return max(told) if told else None


def _fit(
    manifest: dict[str, Any],
    cohort: pd.DataFrame,
    account: dict[str, Any],
    latency: dict[str, Any],
    harness: dict[str, Any],
) -> dict[str, Any]:
    workers = manifest.get("workers", [])
    expected = int(manifest.get("workers_expected") or len(workers))
    lost = sum(bool(worker.get("lost")) for worker in workers)
    outcomes = account["outcomes"]
    mismatches = (manifest.get("ledger") or {}).get("mismatches", [])
    reasons = unfit_reasons(
        Figures(
            planned_turns=account["planned"],
            stored_turns=account["rows"],
            lost_turns=outcomes.get(Outcome.LOST.value, 0),
            dropped_turns=outcomes.get(Outcome.DROPPED.value, 0),
            first_turns=account["first_turns"],
            workers_expected=expected,
            workers_lost=max(lost, expected - len(workers)),
            workers_lost_max=int(manifest.get("workers_lost_max") or 0),
            rows_overflowed=sum(int(worker.get("rows_overflowed") or 0) for worker in workers),
            send_lag_ms_p99=harness["send_lag_ms"]["p99"],
            ttft_ms_p50=latency["ttft_ms"]["service"]["p50"],
            receive_error_ms_p99=harness["first_content_bound_ms"]["p99"],
            loop_overshoot_ms_p99=harness["loop_overshoot_ms_p99"],
            worker_cpu_share_max=harness["cpu_share_max"],
            clock_bound_ms_max=harness["clock_bound_ms_max"],
            measured_requests=int(cohort["sent_ns"].notna().sum()),
            ledger_mismatches=tuple((int(each["figure"]), str(each["text"])) for each in mismatches),
        )
    )
    if manifest.get("state") == "running":
        reasons.append(Reason("state", 0, 1, "the run did not end: these are the rows so far"))
    return {"verdict": "unfit" if reasons else "fit", "reasons": [msgspec.to_builtins(reason) for reason in reasons]}
