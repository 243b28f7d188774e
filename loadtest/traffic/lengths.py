"""Distributions of token counts, turns and pauses, each with stated bounds.

A draw outside the bounds is drawn again, at most `REDRAWS` times, and then clipped: truncation, not a heap of
values at the bounds. A draw is a float; its user rounds it to the integer that enters the schedule.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

REDRAWS = 32


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always `low`, which equals `high`."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return self.low


@dataclass(frozen=True, slots=True)
class Uniform:
    """Uniform on [low, high]."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return self.low + (self.high - self.low) * rng.random()


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal with `mean` and `sd`, truncated to [low, high]."""

    mean: float
    sd: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        for _ in range(REDRAWS):
            value = rng.normal(self.mean, self.sd)
            if self.low <= value <= self.high:
                return value
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """exp of a normal with `mu` and `sigma` (natural logarithm), truncated to [low, high]. Median exp(mu)."""

    mu: float
    sigma: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        for _ in range(REDRAWS):
            value = rng.lognormal(self.mu, self.sigma)
            if self.low <= value <= self.high:
                return value
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Mixture:
    """One of `parts`, chosen by weight; `edges` are the cumulated shares, the last one 1 or a hair beside it."""

    edges: tuple[float, ...]
    parts: tuple[Length, ...]

    @property
    def low(self) -> float:
        return min(part.low for part in self.parts)

    @property
    def high(self) -> float:
        return max(part.high for part in self.parts)

    def draw(self, rng: np.random.Generator) -> float:
        return self.parts[bisect_right(self.edges, rng.random(), hi=len(self.parts) - 1)].draw(rng)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Empirical: `values[i]` is the quantile at `shares[i]`, straight lines between. Shares rise from 0 to 1."""

    shares: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        return self.values[0]

    @property
    def high(self) -> float:
        return self.values[-1]

    def draw(self, rng: np.random.Generator) -> float:
        share = rng.random()
        place = bisect_right(self.shares, share) - 1
        part = (share - self.shares[place]) / (self.shares[place + 1] - self.shares[place])
        return self.values[place] + part * (self.values[place + 1] - self.values[place])


Length = Fixed | Uniform | Normal | LogNormal | Mixture | Quantiles
