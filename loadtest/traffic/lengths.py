"""Distributions of token counts, turns and pauses, each with stated bounds.

A draw outside the bounds is drawn again, at most `REDRAWS` times, and then clipped: truncation, not a heap of
values at the bounds. A draw is a float; its user rounds it to the integer that enters the schedule.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from loadtest.traffic.reading import Table

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


Length = Fixed | Uniform | Normal | LogNormal | Mixture

DISTRIBUTIONS = ("fixed", "uniform", "normal", "lognormal", "mixture")


def read_length(table: Table, name: str, low: float, high: float) -> Length:
    """The distribution in field `name` of a TOML table; every value it can give lies in [low, high].

    Written as { dist = "lognormal", mu = 3.42, sigma = 1.29, min = 2, max = 4096 }, { dist = "fixed", value = 3 } or
    { dist = "mixture", parts = [{ weight = 0.6, dist = ... }, ...] }.
    """
    value = table.raw(name)
    if not isinstance(value, dict):
        meaning = 'a distribution such as { dist = "fixed", value = 3 }'
        table.wrong(name, f"is missing, give {meaning}" if value is None else f"must be {meaning}")
        return Fixed(low, low)
    part = Table(value, table.section, table.mistakes, f"{table.prefix}{name}.")
    length = _read(part, low, high)
    part.close()
    return length


def _read(table: Table, low: float, high: float) -> Length:
    dist = table.choice("dist", DISTRIBUTIONS)
    if dist == "fixed":
        value = table.number("value", low, high)
        return Fixed(value, value)
    if dist == "mixture":
        return _read_mixture(table, low, high)
    least, most = table.number("min", low, high), table.number("max", low, high)
    if least > most:
        table.wrong("max", f"must be >= min ({least:g}), got {most:g}")
    if dist == "uniform":
        return Uniform(least, most)
    if dist == "normal":
        return Normal(table.number("mean", -1e9, 1e9), table.number("sd", 0, 1e9), least, most)
    return LogNormal(table.number("mu", -20, 20), table.number("sigma", 0, 10), least, most)


def _read_mixture(table: Table, low: float, high: float) -> Length:
    entries = table.raw("parts")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        table.wrong("parts", 'must be a list such as [{ weight = 0.6, dist = "lognormal", ... }, ...]')
        return Fixed(low, low)
    weights, parts = [], []
    for place, entry in enumerate(entries, start=1):
        part = Table(entry, table.section, table.mistakes, f"{table.prefix}parts[{place}].")
        weights.append(part.number("weight", 0, 1e9, above=True))
        parts.append(_read(part, low, high))
        part.close()
    total = sum(weights) or 1.0
    return Mixture(tuple(edge / total for edge in accumulate(weights)), tuple(parts))
