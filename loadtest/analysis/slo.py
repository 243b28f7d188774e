"""Service level objectives: pass, fail or cannot tell.

A percentile objective "ttft_ms_p95 at most 2000" says that 95 % of the turns are within 2 s. The population is
every measured turn that was due; a failed or dropped turn is a miss. A turn that its member broke off as planned is
no miss: it counts in TTFT by what was seen, and in no other objective. Verdict:
- fail: the observed figure misses the limit, with enough turns for the percentile to mean something, or the
  binomial test rejects the objective outright;
- pass: the observed figure keeps the limit, and so few misses would be a chance of at most 1 % if the objective
  did not hold (MLPerf's early stopping: at p99, 0 / 1 / 2 misses need 459 / 662 / 838 turns);
  n and misses are divided by the design effect (`intervals`): turns that fail together prove less;
- cannot tell: anything else. An objective is never passed for lack of turns.

ITL is the exception: its population are gaps and not turns, a failed turn has none to miss, and the gaps of one
answer are not independent. There the observed percentile alone decides, and within the 1 % of its histogram nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from loadtest.analysis import metrics
from loadtest.analysis.chance import queries_needed
from loadtest.analysis.frames import Floats
from loadtest.analysis.intervals import Clusters, design_effect
from loadtest.analysis.percentiles import number, quantile
from loadtest.quantiles import RELATIVE_ERROR, LogHistogram

CONFIDENCE = 0.99
PASS, FAIL, CANNOT_TELL = "pass", "fail", "cannot tell"
_Metric: TypeAlias = Callable[[pd.DataFrame], Floats]
# Each metric with the one that says which dropped turns it applies to: a dropped turn has no service time, but to
# the member it is a miss like any other.
_LATENCIES: dict[str, tuple[_Metric, _Metric]] = {
    "ttft_ms": (metrics.ttft_ms, metrics.ttft_response_ms),
    "tpot_ms": (metrics.tpot_ms, metrics.ttft_response_ms),
    "e2e_ms": (metrics.e2e_ms, metrics.e2e_response_ms),
}
_PERCENTILE = re.compile(r"(?P<metric>\w+)_p(?P<level>\d+(?:\.\d+)?)")


class ByTurn(NamedTuple):
    """At least a share `share` of the values, NaN left out, is to be at most `limit`; +inf failed or was dropped."""

    values: Floats
    limit: float
    share: float


def evaluate(
    slo: Mapping[str, Any], requests: pd.DataFrame, gaps: LogHistogram, clusters: Clusters | None = None
) -> dict[str, Any]:
    """One objective {metric, limit, kind} over the measured cohort and its pooled ITL gaps (ns).

    `clusters` (of the same rows) says which turns depend on each other: a pass must hold for the effective n too.

    Metrics: ttft_ms, tpot_ms, e2e_ms, itl_ms with a percentile ("ttft_ms_p95", at most), and ok_share (at least).
    Returns the objective with observed, n, misses (None for ITL), verdict and why.
    """
    name, limit, kind = str(slo["metric"]), float(slo["limit"]), str(slo["kind"])
    counted = by_turn(slo, requests)
    named = _PERCENTILE.fullmatch(name)
    if counted is not None and name == "ok_share":
        found = _share(np.isfinite(counted.values[~np.isnan(counted.values)]).astype(np.float64), limit)
    elif counted is not None:
        found = _percentile(counted.values, counted.share, limit)
    elif named and named["metric"] == "itl_ms" and kind == "max":
        found = _gaps(gaps, float(named["level"]) / 100, limit)
    else:
        found = _verdict(None, 0, None, CANNOT_TELL, f"{name} ({kind}) is not an objective this version can judge")
    if counted is not None and clusters is not None and found["verdict"] == PASS:
        found = _if_dependent(found, counted, clusters)
    return {"metric": name, "kind": kind, "limit": limit, **found}


def by_turn(slo: Mapping[str, Any], requests: pd.DataFrame) -> ByTurn | None:
    """An objective as a question to each turn; None where it is none, as for ITL, whose population are gaps."""
    name, kind = str(slo["metric"]), str(slo["kind"])
    due = metrics.offered(requests)
    named = _PERCENTILE.fullmatch(name)
    if name == "ok_share" and kind == "min":
        judged = due & ~metrics.broken_off(requests)
        return ByTurn(np.where(judged, np.where(metrics.ok(requests), 0.0, np.inf), np.nan), 0.0, float(slo["limit"]))
    if named and named["metric"] in _LATENCIES and kind == "max" and 0 < float(named["level"]) < 100:
        metric, applies = _LATENCIES[named["metric"]]
        dropped = ~metrics.tried(requests) & ~np.isnan(applies(requests))
        values = np.where(dropped, np.inf, metric(requests))
        return ByTurn(np.where(due, values, np.nan), float(slo["limit"]), float(named["level"]) / 100)
    return None


def result(slos: list[dict[str, Any]]) -> str:
    """The verdict of a run: fail if any objective failed, pass if all passed, none if there is nothing to stand on."""
    verdicts = {slo["verdict"] for slo in slos}
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts == {PASS} else "none"


def slo_passes(n: int, misses: int, q: float, confidence: float = CONFIDENCE) -> bool:
    """Can "at least a share q of turns is good" be claimed? P(Binomial(n, 1 - q) <= misses) <= 1 - confidence."""
    if q >= 1:
        return n > 0 and misses == 0
    return n > 0 and binomial_cdf(misses, n, 1 - q) <= 1 - confidence


def slo_rejected(n: int, misses: int, q: float, confidence: float = CONFIDENCE) -> bool:
    """Can it be ruled out? P(Binomial(n, 1 - q) >= misses) <= 1 - confidence."""
    if q >= 1:
        return misses > 0
    return misses > 0 and 1 - binomial_cdf(misses - 1, n, 1 - q) <= 1 - confidence


def turns_needed(q: float, misses: int = 0) -> int:
    """How many turns with so many misses prove that a share `q` is good; 1 for shares that need no proof by number."""
    return queries_needed(misses, q, CONFIDENCE) if 0 < q < 1 else 1


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) <= k)."""
    return 1.0 if k >= n else float(special.bdtr(k, n, p))


def _share(good: Floats, limit: float) -> dict[str, Any]:
    n = len(good)
    misses = n - int(good.sum())
    if not n:
        return _verdict(None, 0, 0, CANNOT_TELL, "no measured turn was due")
    return _judged(good.mean(), n, misses, limit, bool(good.mean() >= limit))


def _percentile(values: Floats, q: float, limit: float) -> dict[str, Any]:
    present = np.sort(values[~np.isnan(values)])
    observed = quantile(present, q)
    if observed is None:
        return _verdict(None, 0, 0, CANNOT_TELL, "no measured turn has this metric")
    return _judged(observed, len(present), int((present > limit).sum()), q, observed <= limit)


def _gaps(gaps: LogHistogram, q: float, limit: float) -> dict[str, Any]:
    observed_ns = gaps.quantile(q)
    if observed_ns is None:
        return _verdict(None, 0, None, CANNOT_TELL, "no gap was measured")
    observed, n = observed_ns / 1e6, gaps.total()
    if abs(observed - limit) <= RELATIVE_ERROR * limit:
        return _verdict(observed, n, None, CANNOT_TELL, f"within the {100 * RELATIVE_ERROR:g} % of the histogram")
    return _verdict(observed, n, None, PASS if observed <= limit else FAIL, f"over {n} gaps")


def _judged(observed: float, n: int, misses: int, q: float, kept: bool) -> dict[str, Any]:
    """`q` is the share of turns that must be good."""
    if kept and slo_passes(n, misses, q):
        return _verdict(observed, n, misses, PASS, f"{misses} of {n} turns missed")
    if not kept and (n >= turns_needed(q) or slo_rejected(n, misses, q)):
        return _verdict(observed, n, misses, FAIL, f"{misses} of {n} turns missed")
    enough = turns_needed(q, misses)
    text = f"{misses} of {n} turns missed: too few turns to be 99 % sure (with so many misses {enough} would do)"
    return _verdict(observed, n, misses, CANNOT_TELL, text)


def _if_dependent(found: dict[str, Any], counted: ByTurn, clusters: Clusters) -> dict[str, Any]:
    """A pass, taken back where n and misses divided by the design effect do not prove it."""
    effect = design_effect(counted.values > counted.limit, clusters, ~np.isnan(counted.values))
    n, misses = int(found["n"] / effect), math.ceil(found["misses"] / effect)
    if slo_passes(n, misses, counted.share):
        return found
    text = f"{found['text']}: they come together, so {found['n']} turns tell as much as {n} independent ones, too few"
    return {**found, "verdict": CANNOT_TELL, "text": text}


def _verdict(observed: float | None, n: int, misses: int | None, verdict: str, text: str) -> dict[str, Any]:
    return {"observed": number(observed), "n": n, "misses": misses, "verdict": verdict, "text": text}
