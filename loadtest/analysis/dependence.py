"""Does the choice of nodes depend on what is asked: prompt length, hour, or the worker that sends?

The null model is that within a stratum (one set of eligible nodes, one number of nodes taken) it does not matter which
task had which length, hour or worker: any dealing of these among the stratum's tasks is as likely as the one seen.
That holds whatever the nodes' shares are, so a biased choice that does not look at the input is no finding here, and
for any number of nodes a task takes. Counts of node by bin are held against the exact mean and covariance of such
dealings; the quadratic form in it adds over strata, and with one stratum and one node a task it is Pearson's
chi-square of the table, times (n - 1) / n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from loadtest.analysis.chance import EXPECTED_MIN, POWER
from loadtest.analysis.eligibility import Choices
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.fairness import TASKS_MIN, cannot_be_told
from loadtest.analysis.findings import ALPHA, Finding, evidence, percent, shorten, too_few
from loadtest.analysis.frames import Floats, Ints

BY_PROMPT, BY_HOUR, BY_WORKER = "choice by prompt length", "choice by hour", "choice by worker"
NAMES = (BY_PROMPT, BY_HOUR, BY_WORKER)
BINS_MAX = 4  # of prompts and hours, about equal; more bins see less of each
GROUPS_MAX = 300  # nodes told apart; the others are counted together
_RANK = 1e-9


class Drawn(NamedTuple):
    """One stratum: which of its nodes each task took (tasks by nodes, 0 or 1), and the bin of each task."""

    nodes: tuple[str, ...]
    taken: npt.NDArray[np.float64]
    bins: Ints


class Table(NamedTuple):
    """Counts of node (rows, `names`; "the others" last if there are any) by bin, what is expected, and the test."""

    names: list[str]
    observed: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]
    statistic: float
    freedom: int
    p_value: float
    effect: float
    smallest: float


def dependence(source: Evidence, choices: Choices) -> list[Finding]:
    """The three findings, in the order of NAMES."""
    untold = cannot_be_told(choices, NAMES)
    if untold:
        return untold
    request = choices.tasks["request"].to_numpy(dtype=np.int64)
    ours = request >= 0
    of_request = source.requests.iloc[np.where(ours, request, 0)]
    prompt = of_request["prompt_tokens_planned"].to_numpy(dtype=np.float64)
    sent_ns = choices.tasks["sent_ns"].to_numpy(dtype=np.int64)
    hour = (sent_ns - sent_ns.min()) // (3600 * SECOND_NS)
    worker = of_request["worker"].to_numpy(dtype=np.int64)
    told = (_parts(prompt[ours]), _parts(hour[ours].astype(np.float64)), np.unique(worker[ours], return_inverse=True))
    words = (("prompt length", "quarter of the lengths"), ("hour", "part of the time"), ("worker", "worker"))
    found = []
    for name, (names, bins), (what, of_what) in zip(NAMES, told, words, strict=True):
        every = np.full(len(request), -1, dtype=np.int64)
        every[ours] = bins
        found.append(_finding(name, what, of_what, len(names), strata(choices, every)))
    return found


def strata(choices: Choices, bins: Ints) -> list[Drawn]:
    """The tasks whose eligible nodes and bin are known (bin >= 0), by eligible nodes and number of nodes taken."""
    groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
    assigned: list[tuple[str, ...]] = choices.tasks["assigned"].tolist()
    for place, (nodes, taken) in enumerate(zip(choices.eligible, assigned, strict=True)):
        if nodes and bins[place] >= 0 and 0 < len(taken) < len(nodes):
            groups.setdefault((nodes, len(taken)), []).append(place)
    found = []
    for (nodes, _), places in sorted(groups.items()):
        at = {node: i for i, node in enumerate(nodes)}
        table = np.zeros((len(places), len(nodes)))
        for row, place in enumerate(places):
            table[row, [at[node] for node in assigned[place]]] = 1
        found.append(Drawn(nodes, table, bins[places]))
    return found


def table_of(drawn: Sequence[Drawn], count: int, alpha: float = ALPHA) -> Table | None:
    """The test of node by bin (0 .. count-1). None: fewer than two nodes or bins have five expected tasks."""
    drawn = [each for each in drawn if len(np.unique(each.bins)) > 1]  # in one bin alone there is nothing to deal
    names = sorted({node for each in drawn for node in each.nodes})
    place = {node: i for i, node in enumerate(names)}
    least, total = np.zeros((len(names), count)), np.zeros(len(names))
    for each in drawn:
        at, took = [place[node] for node in each.nodes], each.taken.sum(axis=0)
        least[at] += np.outer(took, np.bincount(each.bins, minlength=count) / len(each.bins))
        total[at] += took
    used = np.flatnonzero(least.sum(axis=0) > 0)
    apart = np.flatnonzero(least[:, used].min(axis=1) >= EXPECTED_MIN) if len(used) else np.empty(0, np.intp)
    apart = np.sort(apart[np.argsort(-total[apart], kind="stable")][:GROUPS_MAX])
    group = np.full(len(names), len(apart))
    group[apart] = np.arange(len(apart))
    groups = len(apart) + bool((group == len(apart)).any())
    if len(apart) < 1 or groups < 2 or len(used) < 2:
        return None
    observed, expected = np.zeros((groups, count)), np.zeros((groups, count))
    covariance = np.zeros((count, groups, count, groups))
    for each in drawn:
        n = len(each.bins)
        dealt = np.zeros((n, count))
        dealt[np.arange(n), each.bins] = 1
        taken = np.zeros((n, groups))
        np.add.at(taken.T, group[[place[node] for node in each.nodes]], each.taken.T)
        sizes = dealt.sum(axis=0)
        observed += taken.T @ dealt
        expected += np.outer(taken.sum(axis=0), sizes) / n
        centred = taken - taken.mean(axis=0)
        spread = centred.T @ centred / (n - 1)
        covariance += np.einsum("ab,gh->agbh", np.diag(sizes) - np.outer(sizes, sizes) / n, spread)
    return _tested(names, apart, observed, expected, covariance.reshape(count * groups, -1), alpha)


def _tested(
    names: list[str],
    apart: npt.NDArray[np.intp],
    observed: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    covariance: npt.NDArray[np.float64],
    alpha: float,
) -> Table | None:
    # Rows and columns of a table have known sums, so the covariance is singular; rounding must not look like a
    # direction.
    freedom = int(np.linalg.matrix_rank(covariance, tol=_RANK * float(covariance.max())))
    if freedom < 1:
        return None
    difference = (observed - expected).T.ravel()
    statistic = float(difference @ np.linalg.pinv(covariance, rcond=_RANK, hermitian=True) @ difference)
    noncentral = float(special.chndtrinc(special.chdtri(freedom, alpha), freedom, 1 - POWER))
    total = float(observed.sum())
    labels = [names[i] for i in apart] + ["the others"] * (len(observed) - len(apart))
    return Table(
        labels,
        observed,
        expected,
        statistic,
        freedom,
        float(special.chdtrc(freedom, statistic)),
        math.sqrt(max(0.0, statistic - freedom) / total),
        math.sqrt(noncentral / total),
    )


def _finding(name: str, what: str, of_what: str, count: int, drawn: Sequence[Drawn]) -> Finding:
    n = sum(len(each.bins) for each in drawn)
    if count < 2:
        return Finding(name, "cannot tell", f"All tasks have the same {what}.", n=n, missing=f"tasks of another {what}")
    found = table_of(drawn, count) if n >= TASKS_MIN else None
    if found is None:
        return too_few(name, n, f"{n} tasks with a choice among known nodes do not fill a table of node by {what}")
    lines = [
        f"{n} tasks in {len(drawn)} strata of constant eligibility, {len(found.names)} nodes by {count} bins; "
        f"chi-square {found.statistic:.1f} with {found.freedom} degrees of freedom",
        *_extremes(found, of_what),
    ]
    if found.p_value >= ALPHA:
        text = f"Which nodes serve does not depend on the {what}, as far as can be seen; an effect of "
        text += f"{percent(found.smallest)} (w) would have been seen."
    else:
        text = f"Which nodes serve depends on the {what}: the effect is {percent(found.effect)} (w). "
        text += f"{_extremes(found, of_what)[0]}."
    return Finding(
        name,
        "consistent" if found.p_value >= ALPHA else "found",
        text,
        n=n,
        p_value=found.p_value,
        effect=found.effect,
        smallest_effect=found.smallest,
        unit="w",
        evidence=evidence(lines),
    )


def _extremes(found: Table, of_what: str) -> list[str]:
    """The cells that deviate most, in standard deviations of their expectation."""
    score = np.abs(found.observed - found.expected) / np.sqrt(np.maximum(found.expected, 1.0))
    order = np.argsort(-score, axis=None, kind="stable")[:3]
    return [
        f"{shorten(found.names[row])} took {found.observed[row, column]:.0f} of {of_what} {column + 1} where "
        f"{found.expected[row, column]:.0f} were expected"
        for row, column in (divmod(int(place), found.observed.shape[1]) for place in order)
    ]


def _parts(values: Floats) -> tuple[Floats, Ints]:
    """About equal parts, in order: their upper edges, and the part of each value; equal values stay together."""
    if not len(values):
        return np.empty(0), np.empty(0, np.int64)
    edges = np.unique(np.quantile(values, np.arange(1, BINS_MAX) / BINS_MAX, method="inverted_cdf"))
    parts, bins = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
    return parts.astype(np.float64), bins.astype(np.int64)
