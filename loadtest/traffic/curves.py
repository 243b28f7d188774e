"""Rates over time as straight pieces, and the instant by which so many arrivals are due.

An arrival process at rate 1 gives S_n, the expected arrivals until arrival n; under a rate that changes it is due at
t_n = L^-1(S_n), with L the integral of the rate (inversion, Cinlar 1975). Every curve is made of straight
pieces, so that only + - * / and the square root are needed, which IEEE 754 defines to the last bit: a sine would differ
between machines, and with it now and then a microsecond of the schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SHORTEST_S = 1e-6  # instants are told to the microsecond, and a shorter piece is a jump

Instants = NDArray[np.int64]

# cos(2 pi k / 24), k = 0 to 12, to six digits: a day as 24 straight pieces, the same on every machine.
_COSINE = (1.0, 0.965926, 0.866025, 0.707107, 0.5, 0.258819, 0.0)
_HALF_DAY = (*_COSINE, *(-value for value in reversed(_COSINE[:-1])))


@dataclass(frozen=True, slots=True)
class Piece:
    """`seconds` during which the rate goes in a straight line between two factors of the profile's `rate_per_s`."""

    seconds: float
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Pieces one after the other, from t0 on; then all of them again, or the last factor for good."""

    pieces: tuple[Piece, ...]
    repeats: bool = False

    def stretched(self, times: float) -> Curve:
        """The same factors, but every piece lasts so many times as long."""
        return Curve(
            tuple(Piece(max(p.seconds * times, SHORTEST_S), p.begins, p.ends) for p in self.pieces), self.repeats
        )

    @property
    def peak(self) -> float:
        """The highest factor."""
        return max(max(piece.begins, piece.ends) for piece in self.pieces)

    def factor(self, at_s: float) -> float:
        """The factor at an instant."""
        total = sum(piece.seconds for piece in self.pieces)
        if at_s >= total:
            if not self.repeats:
                return self.pieces[-1].ends
            at_s %= total
        for piece in self.pieces:
            if at_s < piece.seconds:
                return piece.begins + (piece.ends - piece.begins) * at_s / piece.seconds
            at_s -= piece.seconds
        return self.pieces[-1].ends

    def arrivals(self, rate_per_s: float) -> float:
        """Arrivals that are expected while the pieces last once."""
        return sum((piece.begins + piece.ends) / 2 * rate_per_s * piece.seconds for piece in self.pieces)

    def due_us(self, expected: NDArray[np.float64], rate_per_s: float) -> Instants:
        """The instants, in whole us, by which so many arrivals are expected; ascending as the input is."""
        lengths = np.array([piece.seconds for piece in self.pieces])
        begins = np.array([piece.begins for piece in self.pieces]) * rate_per_s
        ends = np.array([piece.ends for piece in self.pieces]) * rate_per_s
        starts_s = np.concatenate(([0.0], np.cumsum(lengths)))
        counts = np.concatenate(([0.0], np.cumsum((begins + ends) / 2 * lengths)))
        rounds = np.floor(expected / counts[-1]) if self.repeats else np.zeros(len(expected))
        rest = expected - rounds * counts[-1]
        place = np.clip(np.searchsorted(counts, rest, side="right") - 1, 0, len(self.pieces) - 1)
        beyond = (rest >= counts[-1]) & (not self.repeats)
        missing = rest - counts[place]
        slope = (ends[place] - begins[place]) / lengths[place]
        # The root of begins x + slope x^2 / 2 = missing in the form that does not subtract what nearly cancels.
        root = np.sqrt(np.maximum(begins[place] ** 2 + 2 * slope * missing, 0.0))
        divisor = begins[place] + root
        inside = np.divide(2 * missing, divisor, out=np.zeros(len(expected)), where=divisor > 0)
        at_s = starts_s[place] + np.clip(inside, 0.0, lengths[place])
        if beyond.any():
            at_s = np.where(beyond, starts_s[-1] + (rest - counts[-1]) / max(ends[-1], 1e-300), at_s)
        due: Instants = np.rint((rounds * starts_s[-1] + at_s) * 1e6).astype(np.int64)
        return due


FLAT = Curve((Piece(1.0, 1.0, 1.0),))


def ramp(begins: float, ends: float, seconds: float) -> Curve:
    """From one factor to another, then on at the second."""
    return Curve((Piece(seconds, begins, ends),))


def steps(factors: Sequence[float], step_s: float) -> Curve:
    """One level after the other, each for `step_s`; the last one for good."""
    return Curve(tuple(Piece(step_s, factor, factor) for factor in factors))


def spike(at_s: float, seconds: float, factor: float) -> Curve:
    """Factor 1, for `seconds` another one, then 1 again."""
    before = (Piece(at_s, 1.0, 1.0),) if at_s > 0 else ()
    return Curve((*before, Piece(seconds, factor, factor), Piece(1.0, 1.0, 1.0)))


def on_off(on_s: float, off_s: float, off: float) -> Curve:
    """Factor 1 for `on_s`, factor `off` for `off_s`, and again."""
    return Curve((Piece(on_s, 1.0, 1.0), Piece(off_s, off, off)), repeats=True)


def diurnal(period_s: float, low: float, peak_s: float) -> Curve:
    """A cosine between `low` and 1 in 24 straight pieces a period, with its peak `peak_s` after the period's begin."""
    day = [*_HALF_DAY, *reversed(_HALF_DAY[:-1])]
    factors = [round(low + (1 - low) * (1 + cosine) / 2, 9) for cosine in day]
    piece_s = period_s / 24
    turn = round(peak_s / piece_s) % 24  # the peak is moved to the next of the 24 corners
    corners = [factors[(place - turn) % 24] for place in range(25)]
    return Curve(tuple(Piece(piece_s, a, b) for a, b in pairwise(corners)), repeats=True)


def through(points: Iterable[tuple[float, float]]) -> Curve:
    """Straight lines through (second, factor); two points at one second are a jump. The last factor stays."""
    corners = list(points)
    made = [
        Piece(after - before, begins, ends)
        for (before, begins), (after, ends) in pairwise(corners)
        if after - before >= SHORTEST_S
    ]
    return Curve((*made, Piece(1.0, corners[-1][1], corners[-1][1])))
