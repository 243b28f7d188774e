"""What is left of a turn's latency or failure when length, hour, worker and the node's own load are taken out.

The slopes and the effects of hour and worker are estimated *within* nodes (a mean for each node stands in the model),
and the node's mean is then left in the residual. Without that, a slow node, which holds more of our requests at once
because it is slow, would have its slowness explained away by its load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.cells import codes_of
from loadtest.analysis.frames import Clocks, Floats, Ints

FIT_ROWS_MAX = 500_000  # an even sample of more turns gives the same slopes
HOUR_S = 3600.0
CONTROLS = ("prompt length", "output length", "hour", "worker", "our requests at the node when it was sent")
_SWEEPS_MAX, _STILL = 60, 1e-9
Codes = npt.NDArray[np.integer]


class Served(NamedTuple):
    """Turns that name their node, one entry each; `at` is their place in the cohort."""

    at: npt.NDArray[np.intp]
    node: Ints
    names: list[str]
    sent_s: Floats  # since t0
    latency: Floats  # residual of the natural log; +inf: failed, NaN: has none
    failure: Floats  # residual of 1 for failed, 0 for ok; NaN: broken off by its member
    metric: str  # of the latency


def served(cohort: pd.DataFrame, clocks: Clocks) -> Served:
    """Residuals of every turn of the measured cohort that was sent and names its node.

    The latency is TTFT, service; E2E when nothing was streamed.
    """
    nodes = codes_of(cohort["node"])
    sent_s, done_s = clocks.run_s(cohort, "sent_ns"), clocks.run_s(cohort, "done_ns")
    at = np.flatnonzero((nodes.codes >= 0) & ~np.isnan(sent_s))
    node, sent_s = nodes.codes[at].astype(np.int64), sent_s[at]
    ttft = metrics.ttft_ms(cohort)[at]
    metric = "ttft_ms" if np.isfinite(ttft).any() else "e2e_ms"
    latency = ttft if metric == "ttft_ms" else metrics.e2e_ms(cohort)[at]
    hour = np.floor(sent_s / HOUR_S).astype(np.int64)
    worker = cohort["worker"].to_numpy(dtype=np.int64, na_value=-1)[at]
    prompt = np.log1p(_floats(cohort, "prompt_tokens_planned")[at])
    load = np.log1p(held(node, sent_s, done_s[at]).astype(np.float64))
    output = np.log1p(np.nan_to_num(metrics.output_tokens(cohort)[at]))
    with np.errstate(divide="ignore", invalid="ignore"):
        logged = np.where(np.isinf(latency), np.nan, np.log(latency))
    logged[~np.isfinite(logged)] = np.nan  # an answer that was there at once has no logarithm
    factors = [pd.factorize(each)[0] for each in (hour, worker)]
    residual = residuals(logged, [prompt, output, load], node, factors)
    failed = np.where(metrics.broken_off(cohort)[at], np.nan, 1.0 - metrics.ok(cohort)[at])
    failure = residuals(failed, [prompt, load], node, factors)
    return Served(at, node, nodes.names, sent_s, np.where(np.isinf(latency), np.inf, residual), failure, metric)


def held(node: Ints, sent_s: Floats, done_s: Floats) -> Ints:
    """How many of our other requests each node held when a request was sent to it; one without an end is not held."""
    found = np.zeros(len(node), dtype=np.int64)
    order = np.lexsort((sent_s, node))
    for places in np.split(order, np.flatnonzero(np.diff(node[order])) + 1):
        if len(places):
            starts, ends = sent_s[places], done_s[places]
            ended = ~np.isnan(ends)
            begun = np.searchsorted(starts[ended], starts, side="left")
            over = np.searchsorted(np.sort(ends[ended]), starts, side="right")
            found[places] = np.maximum(0, begun - over)
    return found


def residuals(y: Floats, columns: Sequence[Floats], node: Ints, factors: Sequence[Codes]) -> Floats:
    """y less the slopes of `columns` and the effects of `factors`, with the node's own mean left in.

    NaN where y is. Slopes are of least squares within nodes, hours and workers at once.
    """
    known = np.flatnonzero(~np.isnan(y))
    left = np.full(len(y), np.nan)
    if not len(known):
        return left
    rows = known[:: max(1, -(-len(known) // FIT_ROWS_MAX))]
    groups = [_Group(node[rows]), *(_Group(each[rows]) for each in factors if len(np.unique(each[rows])) > 1)]
    swept = [_swept(each[rows], groups) for each in (y, *columns)]
    design = np.stack(swept[1:], axis=1) if columns else np.zeros((len(rows), 0))
    moves = np.linalg.norm(design, axis=0) > 1e-6 * np.sqrt(len(rows))
    slopes = np.zeros(len(columns))
    if moves.any():
        slopes[moves] = np.linalg.lstsq(design[:, moves], swept[0], rcond=None)[0]
    explained = sum((slope * column for slope, column in zip(slopes, columns, strict=True)), np.zeros(len(y)))
    left[known] = (y - explained)[known]
    for factor, effect in zip(factors, _effects(left[rows], node[rows], [each[rows] for each in factors]), strict=True):
        inside = np.minimum(factor, len(effect) - 1)
        left -= np.where(factor < len(effect), effect[inside], 0.0)
    return left


class _Group:
    """Rows by a code: means of any column."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes
        self._sizes = np.maximum(1, np.bincount(codes))

    def means(self, values: Floats) -> Floats:
        found: Floats = np.bincount(self.codes, values) / self._sizes
        return found


def _swept(values: Floats, groups: Sequence[_Group]) -> Floats:
    """Without the means of every group, by turns until nothing moves (alternating projections)."""
    values = values - values.mean()
    scale = float(np.abs(values).max()) or 1.0
    for _ in range(_SWEEPS_MAX):
        moved = 0.0
        for group in groups:
            means = group.means(values)
            values = values - means[group.codes]
            moved = max(moved, float(np.abs(means).max()))
        if moved < _STILL * scale or len(groups) == 1:
            break
    return values


def _effects(left: Floats, node: Ints, factors: Sequence[Codes]) -> list[Floats]:
    """The effect of each level of each factor within nodes, centred: what every node has in common stays."""
    groups = [_Group(each) for each in factors]
    own = _Group(node)
    effects = [np.zeros(int(each.max()) + 1) for each in factors]
    for _ in range(_SWEEPS_MAX):
        moved = 0.0
        for i, group in enumerate(groups):
            others = sum((effects[j][factors[j]] for j in range(len(factors)) if j != i), np.zeros(len(left)))
            rest = left - others
            rest = rest - own.means(rest - effects[i][factors[i]])[node]
            effect = group.means(rest)
            effect -= effect[factors[i]].mean()
            moved = max(moved, float(np.abs(effect - effects[i]).max()))
            effects[i] = effect
        if moved < _STILL:
            break
    return effects


def _floats(rows: pd.DataFrame, name: str) -> Floats:
    values: Floats = rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values
