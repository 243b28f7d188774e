"""The figures of every cell of a table at once, each with its n, its interval and the reason where it has none.

A latency is a service time in ms; a failed turn is larger than every answer (+inf), so a percentile that falls among
failures is None with a text ("> 120 s": what was waited at the least). Below `SMALLEST_SAMPLE` values the text says
"n too small": the value stays for those who plot it, and is not to be compared.

Nothing is sorted by value: a table orders its rows by cell once (small integers, linear time), and of each cell's
values the wanted ranks alone are selected.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.bounds import rank_intervals, wilson
from loadtest.analysis.frames import Floats, Ints, Mask
from loadtest.analysis.percentiles import LEVELS, SMALLEST_SAMPLE, more_than, nearest_ranks, number

Codes = npt.NDArray[np.int32]
METRICS = ("ttft_ms", "e2e_ms")  # with three percentiles and their intervals; the others with a median
_PAIRS_MAX = 50_000_000


class Grouping(NamedTuple):
    """Which cell each row is in (negative: none), and the names of the cells."""

    codes: Codes
    names: list[str]


class Placed:
    """The rows of a grouping, brought together by cell: `order`, the first place of each cell, and its rows."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping, count = grouping, len(grouping.names)
        own = (grouping.codes + 1).astype(np.min_scalar_type(count + 1))  # 0 is none; the fewer bytes, the faster
        sizes = np.bincount(own, minlength=count + 1).astype(np.int64)
        self.order = np.argsort(own, kind="stable")[sizes[0] :]
        self.rows: Ints = sizes[1:]
        self.starts: Ints = np.cumsum(self.rows) - self.rows

    def gathered(self, values: Floats) -> Gathered:
        """A metric by cell; NaN is absent."""
        own = values[self.order]
        sizes, filled = self.rows.copy(), self.rows > 0
        if len(own):  # the filled cells lie one after the other: each sum ends where the next begins
            sizes[filled] -= np.add.reduceat(np.isnan(own).view(np.int8), self.starts[filled], dtype=np.int64)
        return Gathered(own, self.starts, self.rows, sizes)


class Gathered(NamedTuple):
    """Values by cell in no order, absent ones among them; `sizes` counts the present ones."""

    values: Floats
    starts: Ints
    rows: Ints
    sizes: Ints

    def cell(self, place: int) -> Floats:
        return self.values[self.starts[place] : self.starts[place] + self.rows[place]]

    def select(self, ranks: Ints) -> Floats:
        """The values of 1-based `ranks` (cells by wanted ranks) among those present; NaN for a rank of 0."""
        found = np.full(ranks.shape, np.nan)
        for place in np.flatnonzero(self.sizes).tolist():
            wanted = ranks[place] > 0
            own = self.cell(place)
            own.partition(np.unique(ranks[place][wanted] - 1))  # absent ones, NaN, come last
            found[place, wanted] = own[ranks[place][wanted] - 1]
        return found


class Rows:
    """The measured cohort as the tables read it. `frame` is the joined frame, or those of its columns that are used."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.due: Mask = metrics.offered(frame)
        self.ok: Mask = metrics.ok(frame)
        self.broken_off: Mask = metrics.broken_off(frame)
        self.nodes = codes_of(frame["node"])
        values = {name: getattr(metrics, name)(frame) for name in (*METRICS, "tpot_ms", "tokens_per_s")}
        self._values: dict[str, Floats] = values

    @cached_property
    def least(self) -> dict[str, Floats]:
        """What each value is known to be at least: itself, the time waited, or +inf for an outright error."""
        waited = metrics.waited_ms(self.frame, "sent_ns")
        known = ~np.isnan(waited)
        return {name: np.where(np.isinf(self._values[name]) & known, waited, self._values[name]) for name in METRICS}

    def cells(self, placed: Placed, smallest: int) -> list[dict[str, Any]]:
        """One dictionary per cell, in the order of the names; `n_too_small`: fewer than `smallest` turns."""
        codes, count = placed.grouping.codes, len(placed.grouping.names)

        def counted(mask: Mask) -> Ints:
            return np.bincount(codes[mask & (codes >= 0)], minlength=count).astype(np.int64)

        total = counted(np.ones(len(codes), dtype=np.bool_))
        good, ended = counted(self.ok), total - counted(self.broken_off)
        low, high = wilson(good, ended)
        nodes = self._nodes_of(placed.grouping)
        found: list[dict[str, Any]] = [
            {
                "nodes": int(nodes[i]),
                "requests": int(total[i]),
                "ok": int(good[i]),
                "failed": int(ended[i] - good[i]),
                "ok_share": number(good[i] / ended[i]) if ended[i] else None,
                "ok_share_interval": [round(float(low[i]), 4), round(float(high[i]), 4)] if ended[i] else None,
                "n_too_small": bool(total[i] < smallest),
            }
            for i in range(count)
        ]
        for name in METRICS:
            self._add_percentiles(found, placed, name)
        for name in ("tpot_ms", "tokens_per_s"):
            gathered = placed.gathered(self._values[name])
            sizes, medians = gathered.sizes, medians_of(gathered)
            for cell, median, n in zip(found, medians, sizes.tolist(), strict=True):
                cell[f"{name}_p50"] = number(float(median))
                if n < SMALLEST_SAMPLE["p50"]:
                    cell[f"{name}_p50_text"] = _too_small(n, "p50")
        return found

    def _add_percentiles(self, cells: list[dict[str, Any]], placed: Placed, name: str) -> None:
        gathered = placed.gathered(self._values[name])
        sizes = gathered.sizes
        for cell, n in zip(cells, sizes, strict=True):
            cell[f"{name.removesuffix('_ms')}_n"] = int(n)
        ranks = [np.where(sizes > 0, nearest_ranks(sizes, q), 0) for _, q in LEVELS]
        bounds = [bound for _, q in LEVELS for bound in rank_intervals(sizes, q)]
        found = gathered.select(np.stack([*ranks, *bounds], axis=1).astype(np.int64))
        for place, (level, _) in enumerate(LEVELS):
            picked = found[:, place]
            low, high = found[:, len(LEVELS) + 2 * place], found[:, len(LEVELS) + 2 * place + 1]
            texts = self._texts(placed, name, level, gathered, picked)
            for i, cell in enumerate(cells):
                cell[f"{name}_{level}"] = number(float(picked[i]))
                whole = np.isfinite(low[i]) and np.isfinite(high[i])
                cell[f"{name}_{level}_interval"] = [number(float(low[i])), number(float(high[i]))] if whole else None
                if texts[i]:
                    cell[f"{name}_{level}_text"] = texts[i]

    def _texts(self, placed: Placed, name: str, level: str, gathered: Gathered, picked: Floats) -> list[str]:
        """Why a cell's percentile has no value, or should not be compared; "" for most."""
        needed, q = SMALLEST_SAMPLE[level], dict(LEVELS)[level]
        texts = [_too_small(n, level) if n < needed else "" for n in gathered.sizes.tolist()]
        censored = np.flatnonzero((gathered.sizes >= needed) & np.isinf(picked))
        if len(censored):
            least = placed.gathered(self.least[name])
            known = least.select(np.where(least.sizes > 0, nearest_ranks(least.sizes, q), 0)[:, None])[:, 0]
            for i in censored.tolist():
                own = gathered.cell(i)
                answers = own[np.isfinite(own)]
                texts[i] = more_than(float(known[i]), float(answers.max()) if len(answers) else None)
        return texts

    def _nodes_of(self, grouping: Grouping) -> Ints:
        """How many nodes served the rows of each cell."""
        count, nodes = len(grouping.names), max(1, len(self.nodes.names))
        both = (grouping.codes >= 0) & (self.nodes.codes >= 0)
        pairs = grouping.codes[both].astype(np.int64) * nodes + self.nodes.codes[both]
        if count * nodes > _PAIRS_MAX:
            return np.bincount(np.unique(pairs) // nodes, minlength=count).astype(np.int64)
        seen = np.zeros(count * nodes, dtype=np.bool_)
        seen[pairs] = True
        served: Ints = seen.reshape(count, nodes).sum(axis=1).astype(np.int64)
        return served


def codes_of(values: pd.Series[str]) -> Grouping:
    """Cells by the values of a text column, in name order; a missing value is in none."""
    codes, found = pd.factorize(values)
    names = np.array([str(name) for name in found], dtype=object)
    order = np.argsort(names, kind="stable")  # by name: the order of a file's categories is nobody's
    place = np.empty(len(names) + 1, dtype=np.int32)
    place[order], place[-1] = np.arange(len(names)), -1
    return Grouping(place[codes], names[order].tolist())


def _too_small(n: int, level: str) -> str:
    return f"n too small ({n} < {SMALLEST_SAMPLE[level]})"


def medians_of(gathered: Gathered) -> Floats:
    """The nearest-rank median of each cell; NaN without values, +inf among failures."""
    ranks = np.where(gathered.sizes > 0, nearest_ranks(gathered.sizes, 0.5), 0)
    return gathered.select(ranks[:, None].astype(np.int64))[:, 0]
