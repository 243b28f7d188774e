"""Warm-up and steady state: from when on a run's figures belong to one state of the system, and whether there was one.

Two series of one value per second, from the end of the profile's warm-up to the end of the load: the median TTFT of
the turns that were due in the second (E2E where nothing streams), and the requests in flight. MSER-5 (White 1997;
White, Cobb and Spratt 2000) on batch *medians* cuts each where what is left is known best; on batch means a single
outlier would move the cut. The cohort begins at the later of the two cuts, by the instant a turn was due. "Not steady"
is an allowed answer: a cut in the second half, or a count in flight that rises or falls over the whole window. A
window too short to tell is no verdict, and so is a load that changes by plan.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from loadtest.analysis import metrics
from loadtest.analysis.bins import SECONDS_MAX
from loadtest.analysis.frames import Clocks, Floats
from loadtest.analysis.offered import end_s, load_of
from loadtest.analysis.percentiles import LEVELS, grouped_quantile, number
from loadtest.analysis.series import in_flight
from loadtest.records import Phase

STEADY, NOT_STEADY, CANNOT_TELL = "steady", "not steady", "cannot tell"
WITHHELD = "withheld: not steady"
BATCH_S = 5
BATCHES_MIN = 80  # on noise alone, fewer put the cut of MSER into the second half in more than 3 of 100 runs
ANSWERS_MIN = 60  # the count in flight forgets in about one answer's time: fewer of them, and its noise is a trend
TAIL_SHARE, TAIL_BATCHES_MIN = 0.1, 5  # so few batches at the end look steady by chance
BLOCKS = 10  # means of the count in flight, far enough apart to be nearly independent
SLOPE_S_MIN = 100.0
SLOPE_P = 0.001
SLOPE_SHARE_MIN = 0.10  # a rise over the window of less than this share of the mean harms no percentile
COUNT_VARIANCE = 1 / 12  # of rounding to whole numbers: a count that stands still by chance is not better known
WARMUP_S_MIN = 60.0  # the method's: below it the report says so


class Slope(NamedTuple):
    """The change of a series over its whole length, as a share of its mean, and how likely chance does as much."""

    share: float
    p_value: float


def steadiness(requests: pd.DataFrame, clocks: Clocks, manifest: dict[str, Any]) -> dict[str, Any]:
    """The `steady` block of the summary: verdict, why, and `from_s`, the second since t0 at which the cohort begins.

    `cut_s` are the seconds that MSER-5 takes off each series (None: not looked at), `in_flight_change` the change of
    the count in flight over the window as a share of its mean, `in_flight_p` its p.
    """
    begin_s, over_s = float(manifest.get("warmup_s") or 0.0), end_s(manifest)
    window_s = max(0.0, over_s - begin_s)
    found: dict[str, Any] = {
        "verdict": CANNOT_TELL,
        "why": "",
        "from_s": number(begin_s),
        "window_s": number(window_s),
        "cut_s": {"latency": None, "in_flight": None},
        "in_flight_change": None,
        "in_flight_p": None,
    }
    first, last = math.ceil(begin_s), min(int(over_s), SECONDS_MAX)
    if last - first < SLOPE_S_MIN:
        found["why"] = f"{window_s:.0f} s were measured, and a verdict takes {BATCHES_MIN * BATCH_S} s"
        return found
    count = in_flight(requests, clocks, last).astype(np.float64)[first:]
    change = slope(count)
    found |= {"in_flight_change": number(change.share), "in_flight_p": round(change.p_value, 6)}
    if _planned_to_vary(manifest):
        found["why"] = "the load changes by plan: there is no one state to be in"
        return found
    if change.p_value < SLOPE_P and abs(change.share) >= SLOPE_SHARE_MIN:
        word = "rose" if change.share > 0 else "fell"
        text = f"requests in flight {word} by {100 * abs(change.share):.0f} % of their mean over the measured window"
        return {**found, "verdict": NOT_STEADY, "why": text}
    answer_s = _mean_answer_s(requests)
    needed_s = max(BATCHES_MIN * BATCH_S, ANSWERS_MIN * answer_s)
    if last - first < needed_s:
        found["why"] = f"{window_s:.0f} s were measured, and a verdict takes {needed_s:.0f} s with answers of "
        found["why"] += f"{answer_s:.1f} s on average"
        return found
    name, latency = _latency(requests, clocks, first, last)
    cuts = {"latency": _cut_s(latency, 0.0), "in_flight": _cut_s(count, COUNT_VARIANCE)}
    found["cut_s"] = cuts
    late = [each for each, cut in ((name, cuts["latency"]), ("requests in flight", cuts["in_flight"])) if cut is None]
    if late:
        found["cut_s"] = {"latency": None, "in_flight": None}
        return {**found, "verdict": NOT_STEADY, "why": f"{' and '.join(late)} settled in the second half, if at all"}
    cut = max(each for each in cuts.values() if each is not None)
    why = f"{cut:.0f} s beyond the warm-up were left out" if cut else "nothing beyond the warm-up had to be left out"
    return {**found, "verdict": STEADY, "why": why, "from_s": number(begin_s + (first - begin_s if cut else 0) + cut)}


def mser(values: Floats, least_variance: float = 0.0) -> int | None:
    """Where MSER cuts: the d that minimises sum_{j >= d} (Z_j - mean_d)^2 / (k - d)^2; None in the second half.

    `values` are the Z. `least_variance` is added to the variance of what is left: values that are rounded may be equal
    by chance. The last TAIL_SHARE are never all that is left.
    """
    k = len(values)
    left = k - np.arange(k)
    centred = values - values[-1:]  # so that what stands still at the end has a variance of exactly 0
    sums, squares = np.cumsum(centred[::-1])[::-1], np.cumsum(centred[::-1] ** 2)[::-1]
    variance = np.maximum(0.0, squares / left - (sums / left) ** 2)
    tail = max(TAIL_BATCHES_MIN, int(TAIL_SHARE * k))
    known = (variance + least_variance) / left
    if k <= tail:
        return None
    cut = int(np.argmin(known[: k - tail + 1]))
    return cut if cut < k / 2 else None


def batch_medians(values: Floats, size: int = BATCH_S) -> Floats:
    """Medians of `size` values each, in order; NaN is no value, and a batch without any has the one before it."""
    batches = values[: len(values) // size * size].reshape(-1, size)
    known = ~np.isnan(batches).all(axis=1)
    medians = np.full(len(batches), np.nan)
    medians[known] = np.nanmedian(batches[known], axis=1)
    filled: Floats = pd.Series(medians).ffill().bfill().to_numpy(dtype=np.float64)
    return filled


def slope(values: Floats, blocks: int = BLOCKS) -> Slope:
    """The straight line through the means of `blocks` equal blocks, with a t test.

    What is left of dependence between blocks counts as fewer blocks: n (1 - r) / (1 + r), r the lag-1 correlation of
    the residuals where it is positive.
    """
    size = len(values) // blocks
    means = values[: size * blocks].reshape(blocks, size).mean(axis=1)
    t = np.arange(blocks) - (blocks - 1) / 2
    spread = float((t**2).sum())
    per_block = float((t * means).sum()) / spread
    residuals = means - means.mean() - per_block * t
    rest = float((residuals**2).sum())
    mean = float(means.mean())
    share = per_block * blocks / mean if mean > 0 else 0.0
    if rest <= 1e-18 * float((means**2).sum()):
        return Slope(share, 0.0 if abs(share) > 1e-9 else 1.0)
    correlation = max(0.0, float((residuals[1:] * residuals[:-1]).sum()) / rest)
    effective = max(3.0, blocks * (1 - correlation) / (1 + correlation))
    error = math.sqrt(rest / (blocks - 2) / spread * blocks / effective)
    return Slope(share, float(2 * stats.t.sf(abs(per_block) / error, max(1.0, effective - 2))))


def from_ns(clocks: Clocks, found: dict[str, Any]) -> int:
    """Where MSER cut, on the master's monotonic clock; 0 where nothing beyond the warm-up was cut.

    Then the phase of a row decides alone: its worker knew it to the microsecond, and its clock is known less well.
    """
    return clocks.t0_ns + round(found["from_s"] * 1e9) if any(found["cut_s"].values()) else 0


def cohort_from(requests: pd.DataFrame, clocks: Clocks, found: dict[str, Any]) -> pd.DataFrame:
    """The same rows, with those that were due before the cut in the warm-up phase."""
    begin_ns = from_ns(clocks, found)
    if not begin_ns:
        return requests
    early = (requests["scheduled_ns"] + requests["clock_offset_ns"] < begin_ns).to_numpy(dtype=bool)
    kept = metrics.is_measured(requests) & ~early
    phase = pd.Categorical.from_codes(
        kept.astype(np.int8), categories=pd.Index([Phase.WARMUP.value, Phase.MEASURE.value])
    )
    return requests.assign(phase=phase)


def withhold(latency: dict[str, Any]) -> None:
    """Take the percentiles out of a latency block, in place: what is not steady has none. Numbers of values stay."""
    for sides in latency.values():
        for cell in sides.values():
            for name, _ in LEVELS:
                cell |= {name: None, f"{name}_interval": None, f"{name}_text": WITHHELD}
                cell.pop(f"{name}_n_effective", None)


def withhold_passes(slos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """No objective is passed by what may get worse the longer it lasts. One that was missed stays missed."""
    return [
        {**slo, "verdict": CANNOT_TELL, "text": f"{slo['text']}, but the run was not steady"}
        if slo["verdict"] == "pass"
        else slo
        for slo in slos
    ]


def _planned_to_vary(manifest: dict[str, Any]) -> bool:
    """A curve that is not flat, or a trace. A profile that cannot be read is taken as flat."""
    load = load_of(manifest.get("profile") or {})
    factors = {factor for piece in load.curve.pieces for factor in (piece.begins, piece.ends)} if load else set()
    return bool(manifest.get("trace")) or len(factors) > 1


def _mean_answer_s(requests: pd.DataFrame) -> float:
    took: Floats = (requests["done_ns"] - requests["sent_ns"]).to_numpy(dtype=np.float64, na_value=np.nan)
    known = took[~np.isnan(took)]
    return float(known.mean()) / 1e9 if len(known) else 0.0


def _latency(requests: pd.DataFrame, clocks: Clocks, first: int, last: int) -> tuple[str, Floats]:
    """The name and the medians per second, of the turns due in it; what is censored counts as the longest seen."""
    due = metrics.offered(requests)
    name, values = "TTFT", metrics.ttft_ms(requests)[due]
    if np.isnan(values).all():
        name, values = "E2E", metrics.e2e_ms(requests)[due]
    finite = values[np.isfinite(values)]
    longest = float(finite.max()) if len(finite) else 0.0
    bins = np.floor(clocks.run_s(requests, "scheduled_ns")[due]).astype(np.intp) - first
    bins[bins >= last - first] = -1
    medians = grouped_quantile(bins, last - first, values, 0.5)
    return name, np.where(np.isinf(medians), longest, medians)


def _cut_s(values: Floats, least_variance: float) -> float | None:
    """Seconds that MSER-5 takes off the front; None in the second half."""
    if np.isnan(values).all():
        return 0.0
    cut = mser(batch_medians(values), least_variance)
    return None if cut is None else float(cut * BATCH_S)
