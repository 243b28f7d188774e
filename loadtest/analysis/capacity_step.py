"""What one run of a capacity search came to: its objectives, turn by turn, and the figures of the curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis import metrics, slo
from loadtest.analysis.capacity import Objective, Step, StepResult
from loadtest.analysis.frames import Clocks, Floats, scalar_columns, to_frame
from loadtest.analysis.goodput import goodput
from loadtest.analysis.intervals import Clusters, design_effect
from loadtest.analysis.percentiles import present_quantile
from loadtest.records import Outcome, RequestRecord
from loadtest.runfolder import read_table, require_finished

OF_CAP = "cap"  # dropped because `in_flight_max` conversations were under way: the target's doing, a miss


class Interrupted(Exception):
    """Somebody ended the run before its time: it is no step."""


def judge_step(run: Path, step: Step, slos: Sequence[Mapping[str, Any]], planned_turns: float) -> StepResult:
    """Read a finished run. Interrupted, or RunFolderError when the run folder cannot be read.

    A run that was stopped because of its misses counts as if all turns still planned had been good: what is left of
    `planned_turns`.
    """
    manifest = require_finished(run)
    stopped_by = manifest.get("stopped_by") or {}
    if manifest.get("stopped_early_s") is not None and not stopped_by:
        raise Interrupted(f"{run}: ended early, by hand")
    requests = to_frame(read_table(run, "requests", scalar_columns(RequestRecord)))
    cohort = metrics.measured(requests)
    clocks = Clocks.of(run, manifest, requests)
    fit, why = _fitness(manifest, requests)
    unseen = max(0.0, planned_turns - int(metrics.offered(cohort).sum())) if stopped_by.get("rule") == "misses" else 0.0
    return StepResult(
        kind=step.kind,
        rate_per_s=step.rate_per_s,
        seconds=step.seconds,
        seed=step.seed,
        run=run.name,
        fit=fit,
        saturated=stopped_by.get("rule") == "saturated",
        objectives=_objectives(run, slos, cohort, clocks, round(unseen)),
        figures=_figures(manifest, slos, requests, cohort, clocks),
        why=why or str(stopped_by.get("text", "")),
    )


def _fitness(manifest: Mapping[str, Any], requests: pd.DataFrame) -> tuple[bool, str]:
    """Arrivals that the cap dropped are misses and no fault of the harness; those that were late are."""
    dropped = requests["outcome"] == Outcome.DROPPED.value
    ours = bool((dropped & (requests["error_kind"] != OF_CAP)).any())
    reasons = [
        reason for reason in (manifest.get("fit") or {}).get("reasons", []) if ours or reason["rule"] != "dropped"
    ]
    if "fit" not in manifest:
        return False, "the run was not judged"
    return not reasons, "; ".join(str(reason["text"]) for reason in reasons)


def _objectives(
    run: Path, slos: Sequence[Mapping[str, Any]], cohort: pd.DataFrame, clocks: Clocks, unseen: int
) -> tuple[Objective, ...]:
    due_s = clocks.run_s(cohort, "scheduled_ns")
    clusters = Clusters.of(cohort["conversation"], due_s)
    found = []
    for each in slos:
        counted = slo.by_turn(each, cohort)
        if counted is None:
            told = slo.evaluate(each, cohort, metrics.itl_histogram(run))
            found.append(Objective(name=str(each["metric"]), share=0.0, verdict=str(told["verdict"])))
            continue
        present = ~np.isnan(counted.values)
        missed = counted.values > counted.limit
        found.append(
            Objective(
                name=str(each["metric"]),
                share=counted.share,
                n=int(present.sum()) + unseen,
                misses=int(missed.sum()),
                effect=round(design_effect(missed, clusters, present), 4),
            )
        )
    return tuple(found)


def _figures(
    manifest: Mapping[str, Any],
    slos: Sequence[Mapping[str, Any]],
    requests: pd.DataFrame,
    cohort: pd.DataFrame,
    clocks: Clocks,
) -> dict[str, float | None]:
    """Rates are turns per second of the measured window; `completed` are good answers that ended in it."""
    begin_s = float(manifest.get("warmup_s") or 0.0)
    end_s = float(manifest.get("stopped_early_s") or manifest.get("offered_s") or begin_s)
    window_s = max(1e-9, end_s - begin_s)
    due = metrics.offered(cohort)
    done_s = clocks.run_s(requests, "done_ns")
    ended = metrics.ok(requests) & (done_s >= begin_s) & (done_s < end_s)
    limits: dict[str, float] = {}  # of one request: of two percentiles of a metric the looser limit
    for each in slos:
        metric = str(each["metric"]).rpartition("_p")[0]
        if each["kind"] == "max" and metric != "itl_ms":
            limits[metric] = max(limits.get(metric, 0.0), float(each["limit"]))
    good = goodput(limits, cohort, window_s) or {"per_s": metrics.ok(cohort).sum() / window_s}
    return {
        "window_s": round(window_s, 3),
        "offered_per_s": round(int(due.sum()) / window_s, 4),
        "completed_per_s": round(int(ended.sum()) / window_s, 4),
        "goodput_per_s": None if good["per_s"] is None else round(float(good["per_s"]), 4),
        "ok_share": round(float(metrics.ok(cohort).sum() / due.sum()), 6) if due.any() else None,
        **_latency("ttft_ms", metrics.ttft_ms(cohort)),
        **_latency("e2e_ms", metrics.e2e_ms(cohort)),
    }


def _latency(name: str, values: Floats) -> dict[str, float | None]:
    return {f"{name}_{level}": present_quantile(values, q) for level, q in (("p50", 0.5), ("p95", 0.95))}
