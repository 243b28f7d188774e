"""How a run is cut into rows over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.analysis.frames import Floats

ROWS_MAX = 3600  # a row is a second up to an hour: ten times what a page can show, and small beside the rest
SECONDS_MAX = 100 * 86_400  # instants further away are a broken clock's, and would make every row as wide as a day


@dataclass(frozen=True, slots=True)
class Bins:
    """The first `seconds` since t0 in bins of `width_s` whole seconds; the last one may be shorter."""

    seconds: int
    width_s: int = 1

    @classmethod
    def up_to(cls, last_s: float) -> Bins:
        """ROWS_MAX bins at most, the last of which holds `last_s`; none when that is not finite."""
        seconds = min(SECONDS_MAX, max(0, math.floor(last_s)) + 1) if math.isfinite(last_s) else 0
        return cls(seconds, math.ceil(seconds / ROWS_MAX) or 1)

    @property
    def count(self) -> int:
        return math.ceil(self.seconds / self.width_s)

    def starts_s(self) -> list[int]:
        return [*range(0, self.seconds, self.width_s)]

    def places(self, instants_s: Floats) -> npt.NDArray[np.intp]:
        """The bin of each instant, -1 for what did not happen (NaN) or lies beyond them.

        One before t0, by a clock's error, belongs to the first bin.
        """
        inside = instants_s < self.seconds
        places = np.full(len(instants_s), -1, dtype=np.intp)
        places[inside] = np.maximum(0, np.floor(instants_s[inside] / self.width_s))
        return places

    def counts(self, instants_s: Floats) -> npt.NDArray[np.intp]:
        """How many of the instants each bin has."""
        places = self.places(instants_s)
        return np.bincount(places[places >= 0], minlength=self.count)

    def per_second(self, instants_s: Floats) -> npt.NDArray[Any]:
        """The same per second; whole numbers where a bin is a second."""
        counts = self.counts(instants_s)
        if self.width_s == 1:
            return counts
        widths = np.minimum(self.width_s, self.seconds - np.array(self.starts_s()))
        rates: Floats = np.round(counts / widths, 3)
        return rates
