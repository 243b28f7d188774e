"""Closed forms that tests hold the checks' statistics against."""

from __future__ import annotations

import math

from scipy import special

from loadtest.analysis.chance import POWER


def draws_needed(effect: float, freedom: int, alpha: float, power: float = POWER) -> int:
    """Draws that find Cohen's w = `effect` with a chi-square test of `freedom` degrees at `alpha` (upper tail)."""
    noncentral = float(special.chndtrinc(special.chdtri(freedom, alpha), freedom, 1 - power))
    return math.ceil(noncentral / effect**2)


def jain_expected(draws: int, nodes: int, size: int = 1) -> float:
    """About what Jain's index is under fair random choice; not 1. With size 1: N / (N + K - 1)."""
    return draws * size / (draws * size + nodes - size)


def gini_expected(draws: int, nodes: int, size: int = 1) -> float:
    """About what Gini's index is under fair random choice; not 0. With size 1 and many nodes sqrt(K / (pi N))."""
    return math.sqrt((nodes - size) / (math.pi * draws * size))
