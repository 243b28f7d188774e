"""What a stated distribution gives, computed from its formula, to set draws against."""

from __future__ import annotations

import math

import numpy as np

from loadtest.traffic.lengths import Fixed, Length, LogNormal, Mixture, Normal, Quantiles, Uniform

ONE_IN_A_THOUSAND = 1.95  # Kolmogorov: sqrt(n) D is larger in one sample of a thousand


def share_below(length: Length, value: float) -> float:
    """The share of draws <= value. Truncation cuts the formula's distribution to its bounds and scales it up."""
    if isinstance(length, Fixed):
        return float(value >= length.low)
    if isinstance(length, Mixture):
        weights = np.diff([0.0, *length.edges])
        return float(sum(w * share_below(part, value) for w, part in zip(weights, length.parts, strict=True)))
    if isinstance(length, Quantiles):
        return float(np.interp(value, length.values, length.shares, left=0, right=1))
    if value >= length.high:
        return 1.0
    if value < length.low:
        return 0.0
    low, mid, high = (_free(length, each) for each in (length.low, value, length.high))
    return (mid - low) / (high - low)


def _free(length: Uniform | Normal | LogNormal, value: float) -> float:
    if isinstance(length, Uniform):
        return value
    if isinstance(length, Normal):
        score = (value - length.mean) / length.sd
    else:
        score = (math.log(value) - length.mu) / length.sigma if value > 0 else -math.inf
    return 0.5 * math.erfc(-score / math.sqrt(2))


def distance(draws: np.ndarray, length: Length, *, step: float = 0.0) -> float:
    """Kolmogorov-Smirnov: the largest gap between the shares seen and stated.

    Draws rounded to a multiple of `step` are compared at the upper ends of their steps: step / 2 beyond the value.
    """
    values, counts = np.unique(draws, return_counts=True)
    seen = np.cumsum(counts) / len(draws)
    stated = np.array([share_below(length, value + step / 2) for value in values])
    if step:
        return float(np.abs(seen - stated).max())
    return float(max(np.abs(seen - stated).max(), np.abs(np.concatenate([[0], seen[:-1]]) - stated).max()))


def fits(draws: np.ndarray, length: Length, *, step: float = 0.0) -> bool:
    """Are the draws what the formula says, at a level of one in a thousand?"""
    return distance(draws, length, step=step) * math.sqrt(len(draws)) < ONE_IN_A_THOUSAND
