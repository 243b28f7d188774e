"""Are these runs worse than those? The statistical half of the gate; the unit is the run, never the request.

A figure is worse when two things hold: the exact Mann-Whitney test finds the two groups of runs apart, corrected for
the number of figures (Benjamini-Hochberg, q 0.05), and the Hodges-Lehmann shift is beyond 10 %, or 5 points for a
share. The first without the second is a difference nobody would feel, the second without the first may be luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from loadtest.analysis.ranks import benjamini_hochberg, hodges_lehmann, mann_whitney_p
from loadtest.analysis.run_figures import METRICS, Metric, RunFigures

RUNS_MIN = 5  # a side: 4 v 4 cannot go below p = 0.029, which no correction for six figures survives
Q_MAX = 0.05
RATIO_MAX = 0.10
POINTS_MAX = 0.05
# What a run of answers in one piece is compared by; where there is a TTFT these would only dilute the correction.
_UNSTREAMED = ("e2e_ms_p50", "e2e_ms_p95")

Verdict = Literal["worse", "better", "no change", "missing", "cannot tell"]


class Compared(NamedTuple):
    """One figure of two groups of runs.

    `before` and `after` are medians over the runs that have the figure (n of them). `shift` and `interval` are
    relative for a ratio (0.1 is 10 % more) and differences for a share (0.05 is 5 points more); `q_value` is the
    p-value after the correction.
    """

    metric: Metric
    verdict: Verdict
    text: str
    n_before: int
    n_after: int
    before: float | None = None
    after: float | None = None
    shift: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    q_value: float | None = None


def compare_sides(before: Sequence[RunFigures], after: Sequence[RunFigures]) -> list[Compared]:
    """Every figure that either side has, in the order of METRICS.

    "missing": `before` has the figure and a run of `after` has not. "cannot tell": fewer than RUNS_MIN on a side.
    """
    found = [_compared(metric, before, after) for metric in compared_metrics([*before, *after])]
    tested = [i for i, each in enumerate(found) if each.p_value is not None]
    corrected = benjamini_hochberg([found[i].p_value or 0.0 for i in tested]) if tested else []
    for i, q_value in zip(tested, corrected, strict=True):
        found[i] = _judged(found[i]._replace(q_value=q_value))
    return found


def compared_metrics(runs: Sequence[RunFigures]) -> list[Metric]:
    """The figures that these runs are compared by: TTFT and TPOT where anything streamed, E2E where nothing did."""
    streamed = any(run.ttft_ms_p50 is not None for run in runs)
    present = [m for m in METRICS if any(run.value(m.name) is not None for run in runs)]
    return [metric for metric in present if not (streamed and metric.name in _UNSTREAMED)]


def shift_between(metric: Metric, before: Sequence[float], after: Sequence[float]) -> Compared:
    """The shift of one figure with its interval, without a verdict; neither side is empty."""
    ratio = metric.scale == "ratio"
    sides = [[_log(v) for v in side] if ratio else list(side) for side in (before, after)]
    found = hodges_lehmann(sides[0], sides[1])
    interval = found.interval
    if ratio:
        interval = interval and (_relative(interval[0]), _relative(interval[1]))
    shift = _relative(found.shift) if ratio else found.shift
    counts = (len(before), len(after))
    return Compared(metric, "cannot tell", "", *counts, _median(before), _median(after), shift, interval)


def _compared(metric: Metric, before: Sequence[RunFigures], after: Sequence[RunFigures]) -> Compared:
    had, has = _told(metric, before), _told(metric, after)
    if had and len(has) < len(after):
        absent = [run.run for run in after if run.value(metric.name) is None]
        text = f"{len(absent)} of {len(after)} runs have no {metric.label} ({', '.join(absent)}), the baseline has one"
        return Compared(metric, "missing", text, len(had), len(has))
    if not had or not has:
        text = "the baseline has no such figure" if not had else "no run has it"
        return Compared(metric, "cannot tell", text, len(had), len(has))
    found = shift_between(metric, had, has)
    if min(len(had), len(has)) < RUNS_MIN:
        text = f"{len(has)} runs against {len(had)}: {RUNS_MIN} a side are the least that can prove a change"
        return found._replace(text=text)
    return found._replace(p_value=mann_whitney_p(had, has))


def _judged(found: Compared) -> Compared:
    """The verdict of a tested figure, by its corrected p-value and its shift."""
    assert found.shift is not None and found.q_value is not None and found.p_value is not None
    limit = POINTS_MAX if found.metric.scale == "points" else RATIO_MAX
    apart, beyond = found.q_value <= Q_MAX, abs(found.shift) > limit
    chance = f"p {found.p_value:.2g}, corrected {found.q_value:.2g}"
    if apart and beyond:
        worse = (found.shift > 0) == (found.metric.better == "lower")
        return found._replace(verdict="worse" if worse else "better", text=chance)
    if apart:
        return found._replace(verdict="no change", text=f"{chance}: a difference, and within the limit")
    return found._replace(verdict="no change", text=f"{chance}: {'may be luck' if beyond else 'no difference found'}")


def _told(metric: Metric, runs: Sequence[RunFigures]) -> list[float]:
    return [value for run in runs if (value := run.value(metric.name)) is not None]


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _relative(log_shift: float) -> float:
    return math.expm1(log_shift) if log_shift < 700 else math.inf


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else (low + high) / 2
