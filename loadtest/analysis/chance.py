"""Null distributions: what fair choice, repeats and small counts look like when nothing is wrong.

A *stratum* is a time in which the set of eligible nodes did not change: `draws` tasks each took `size` distinct nodes
of the K eligible ones, uniformly at random. Counts of one stratum are negatively correlated, the more so the larger
`size` is, so Pearson's statistic is too small; the quadratic form in the exact covariance is right for any `size`
and adds over strata in which other nodes were eligible. With one stratum it is the corrected chi-square
((K-1)/K) sum (O - n r/K)^2 / (n (r/K)(1 - r/K)), and with size 1 Pearson's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from loadtest.analysis.frames import Floats

EXPECTED_MIN = 5.0  # below it the chi-square approximation is not used: such nodes are counted together
POWER = 0.8
_RANK = 1e-9


@dataclass(frozen=True, slots=True)
class Stratum:
    """`counts[j]` is how many of the `draws` took `nodes[j]`; each took `size` of them."""

    nodes: tuple[str, ...]
    size: int
    draws: int
    counts: npt.NDArray[np.int64]

    @property
    def tells(self) -> bool:
        """Where all eligible nodes are taken there is no choice to look at."""
        return 0 < self.size < len(self.nodes) and self.draws > 0


class Uniform(NamedTuple):
    """Result of `uniform_test`. `effect` and `smallest` are Cohen's w: the root mean square relative deviation.

    `smallest` would have been found with 80 % probability. `observed` and `expected` are by node, in order of `nodes`.
    """

    nodes: tuple[str, ...]
    observed: Floats
    expected: Floats
    statistic: float
    freedom: int
    p_uneven: float
    p_even: float
    effect: float
    smallest: float
    covariance: npt.NDArray[np.float64]


def uniform_test(strata: Sequence[Stratum], alpha: float) -> Uniform | None:
    """Whether nodes were taken uniformly at random. None: fewer than two groups of nodes have five expected draws."""
    told = [stratum for stratum in strata if stratum.tells]
    nodes = tuple(sorted({node for stratum in told for node in stratum.nodes}))
    place = {node: i for i, node in enumerate(nodes)}
    observed, expected = np.zeros(len(nodes)), np.zeros(len(nodes))
    covariance = np.zeros((len(nodes), len(nodes)))
    information = 0.0
    for stratum in told:
        k, r, n = len(stratum.nodes), stratum.size, stratum.draws
        at = np.array([place[node] for node in stratum.nodes])
        observed[at] += stratum.counts
        expected[at] += n * r / k
        covariance[np.ix_(at, at)] += n * r * (k - r) / (k * (k - 1)) * (np.eye(k) - 1.0 / k)
        information += n * r * (k - 1) / (k - r)
    groups = _groups(expected)
    difference, spread = groups @ (observed - expected), groups @ covariance @ groups.T
    # The counts of a stratum have a known sum, so the covariance is singular; rounding must not look like a direction.
    freedom = int(np.linalg.matrix_rank(spread, tol=_RANK * float(spread.max()))) if len(spread) else 0
    if freedom < 1:
        return None
    statistic = float(difference @ np.linalg.pinv(spread, rcond=_RANK, hermitian=True) @ difference)
    noncentral = float(special.chndtrinc(special.chdtri(freedom, alpha / 2), freedom, 1 - POWER))
    return Uniform(
        nodes,
        observed,
        expected,
        statistic,
        freedom,
        float(special.chdtrc(freedom, statistic)),
        float(special.chdtr(freedom, statistic)),
        math.sqrt(max(0.0, statistic - freedom) / information),
        math.sqrt(noncentral / information),
        covariance,
    )


def _groups(expected: Floats) -> npt.NDArray[np.float64]:
    """One row per group: a node of its own, or all nodes with few expected draws together if that is enough."""
    rows = [np.eye(len(expected))[i] for i in np.flatnonzero(expected >= EXPECTED_MIN)]
    rest = (expected < EXPECTED_MIN).astype(np.float64)
    if rest @ expected >= EXPECTED_MIN:
        rows.append(rest)
    return np.array(rows) if rows else np.zeros((0, len(expected)))


# Concentration.


def jain(values: Floats) -> float:
    """(sum x)^2 / (K sum x^2): 1 when all are equal, 1/K when one has everything; NaN without values."""
    squares = float(np.sum(values**2))
    return float(np.sum(values)) ** 2 / (len(values) * squares) if squares else math.nan


def gini(values: Floats) -> float:
    """Mean absolute difference over twice the mean: 0 when all are equal; NaN without values."""
    ordered = np.sort(values)
    total = float(np.sum(ordered))
    ranks = np.arange(1, len(ordered) + 1)
    return float(np.sum((2 * ranks - len(ordered) - 1) * ordered)) / (len(ordered) * total) if total else math.nan


class Band(NamedTuple):
    """What an index is under the null: its mean and the middle 95 %."""

    mean: float
    low: float
    high: float


def concentration_bands(result: Uniform, seed: int, trials: int = 1000) -> tuple[Band, Band]:
    """Bands of Jain and Gini over observed / expected, from `trials` normal draws with the counts' covariance."""
    rng = np.random.default_rng(seed)
    counts = rng.multivariate_normal(result.expected, result.covariance, trials, method="eigh")
    shares = np.maximum(counts, 0) / result.expected
    figures = [(jain(share), gini(share)) for share in shares]
    return _band([j for j, _ in figures]), _band([g for _, g in figures])


def _band(values: list[float]) -> Band:
    low, high = np.quantile(values, [0.025, 0.975])
    return Band(float(np.mean(values)), float(low), float(high))


# Repeats.


def overlap_moments(k: int, r: int, s: int) -> tuple[float, float]:
    """Mean and variance of how many nodes two independent draws of r and of s out of k share (hypergeometric)."""
    mean = r * s / k
    return mean, mean * (1 - r / k) * (k - s) / (k - 1) if k > 1 else 0.0


def two_sided(z: float) -> float:
    """p of a standard normal deviate, both tails."""
    return float(special.erfc(abs(z) / math.sqrt(2)))


def smallest_shift(alpha: float) -> float:
    """How many standard deviations a normal mean must be off to be found with the usual power, two-sided."""
    return float(special.ndtri(1 - alpha / 2) + special.ndtri(POWER))


# Small counts.


def counts_below(trials: Sequence[tuple[int, float]], seen: int) -> float:
    """P(sum of independent binomials <= seen); `trials` holds (n, p) of each. Exact."""
    total = np.ones(1)
    for n, p in trials:
        k = np.arange(min(n, seen) + 1)
        total = np.convolve(total, _binomial(k, n, p))[: seen + 1]
    return float(min(1.0, total.sum()))


def _binomial(k: npt.NDArray[Any], n: int, p: float) -> Floats:
    log = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    probabilities: Floats = np.exp(log + special.xlogy(k, p) + special.xlog1py(n - k, -p))
    return probabilities


def binomial_tails(seen: int, n: int, p: float) -> tuple[float, float]:
    """(P(X <= seen), P(X >= seen)) of a binomial, exact."""
    above = 1.0 if seen == 0 else float(special.bdtrc(seen - 1, n, p))
    return float(special.bdtr(seen, n, p)), above


def rate_bound(seen: int, n: int, confidence: float = 0.95) -> float:
    """Clopper and Pearson's upper bound of a rate of which `seen` in `n` were seen; with none, about 3 / n."""
    return 1.0 if seen >= n else float(special.bdtri(seen, n, 1 - confidence))


def queries_needed(misses: int, share: float, confidence: float = 0.99) -> int:
    """MLPerf's early stopping: how many queries with `misses` over the limit prove that `share` keep it.

    The smallest n with BinomCDF(misses; n, 1 - share) <= 1 - confidence. Assumes independent requests.
    """
    low, high = misses, misses + 1
    while special.bdtr(misses, high, 1 - share) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if special.bdtr(misses, middle, 1 - share) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high
