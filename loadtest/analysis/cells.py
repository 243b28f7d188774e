"""The figures of every cell of a table at once, each with its n, its interval and the reason where it has none.

A latency is a service time in ms; a failed turn is larger than every answer (+inf), so a percentile that falls among
failures is None with a text ("> 120 s": what was waited at the least). Below `SMALLEST_SAMPLE` values the text says
"n too small": the value stays for those who plot it, and is not to be compared.

Each metric is sorted once; a table then costs one pass of small integers for each metric, so ten million turns make a
dozen tables within seconds.
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
Shifted = npt.NDArray[np.unsignedinteger[Any]]
METRICS = ("ttft_ms", "e2e_ms")  # with three percentiles and their intervals; the others with a median
_PAIRS_MAX = 50_000_000


class Grouping(NamedTuple):
    """Which cell each row is in (negative: none), and the names of the cells."""

    codes: Codes
    names: list[str]


class Sorted:
    """The present values of a metric, sorted once and asked for any number of groupings."""

    def __init__(self, values: Floats) -> None:
        present = np.flatnonzero(~np.isnan(values))
        self._rows = present[np.argsort(values[present])].astype(np.int32)
        self._values: Floats = values[self._rows]

    def by_group(self, shifted: Shifted, count: int) -> tuple[Floats, Ints, Ints]:
        """The values by group and size, the first place of each group, and how many it has."""
        own = shifted[self._rows]  # of the smallest type that holds them: a gather and a radix sort by its bytes
        order = np.argsort(own, kind="stable")
        sizes = np.bincount(own, minlength=count + 1).astype(np.int64)
        return self._values[order], (np.cumsum(sizes) - sizes)[1:], sizes[1:]


def shifted(grouping: Grouping) -> Shifted:
    """The cell of each row from 1; 0 is none."""
    kind = np.min_scalar_type(len(grouping.names) + 1)
    codes: Shifted = (grouping.codes + 1).astype(kind)
    return codes


class Rows:
    """The measured cohort as the tables read it. `frame` is the joined frame, or those of its columns that are used."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.due: Mask = metrics.offered(frame)
        self.ok: Mask = metrics.ok(frame)
        self.broken_off: Mask = metrics.broken_off(frame)
        self.nodes = codes_of(frame["node"])
        values = {name: getattr(metrics, name)(frame) for name in (*METRICS, "tpot_ms", "tokens_per_s")}
        self.sorted = {name: Sorted(each) for name, each in values.items()}
        self._values = {name: values[name] for name in METRICS}

    @cached_property
    def least(self) -> dict[str, Sorted]:
        """What each value is known to be at least: itself, the time waited, or +inf for an outright error."""
        waited = metrics.waited_ms(self.frame, "sent_ns")
        return {
            name: Sorted(np.where(np.isinf(values) & ~np.isnan(waited), waited, values))
            for name, values in self._values.items()
        }

    def cells(self, grouping: Grouping, smallest: int) -> list[dict[str, Any]]:
        """One dictionary per cell, in the order of the names; `n_too_small`: fewer than `smallest` turns."""
        codes, count, places = grouping.codes, len(grouping.names), shifted(grouping)

        def counted(mask: Mask) -> Ints:
            return np.bincount(codes[mask & (codes >= 0)], minlength=count).astype(np.int64)

        total = counted(np.ones(len(codes), dtype=np.bool_))
        good, ended = counted(self.ok), total - counted(self.broken_off)
        low, high = wilson(good, ended)
        nodes = self._nodes_of(grouping)
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
            self._add_percentiles(found, places, name)
        for name in ("tpot_ms", "tokens_per_s"):
            values, starts, sizes = self.sorted[name].by_group(places, count)
            medians = _at(values, starts, nearest_ranks(sizes, 0.5), sizes > 0)
            for cell, median, n in zip(found, medians, sizes.tolist(), strict=True):
                cell[f"{name}_p50"] = number(float(median))
                if n < SMALLEST_SAMPLE["p50"]:
                    cell[f"{name}_p50_text"] = _too_small(n, "p50")
        return found

    def _add_percentiles(self, cells: list[dict[str, Any]], places: Shifted, name: str) -> None:
        values, starts, sizes = self.sorted[name].by_group(places, len(cells))
        for cell, n in zip(cells, sizes, strict=True):
            cell[f"{name.removesuffix('_ms')}_n"] = int(n)
        for level, q in LEVELS:
            picked = _at(values, starts, nearest_ranks(sizes, q), sizes > 0)
            ranks = rank_intervals(sizes, q)
            low, high = (_at(values, starts, rank, rank > 0) for rank in ranks)
            texts = self._texts(places, name, level, (values, starts, sizes), picked)
            for i, cell in enumerate(cells):
                cell[f"{name}_{level}"] = number(float(picked[i]))
                whole = np.isfinite(low[i]) and np.isfinite(high[i])
                cell[f"{name}_{level}_interval"] = [number(float(low[i])), number(float(high[i]))] if whole else None
                if texts[i]:
                    cell[f"{name}_{level}_text"] = texts[i]

    def _texts(
        self, places: Shifted, name: str, level: str, groups: tuple[Floats, Ints, Ints], picked: Floats
    ) -> list[str]:
        """Why a cell's percentile has no value, or should not be compared; "" for most."""
        values, starts, sizes = groups
        needed, q = SMALLEST_SAMPLE[level], dict(LEVELS)[level]
        texts = [_too_small(n, level) if n < needed else "" for n in sizes.tolist()]
        censored = np.flatnonzero((sizes >= needed) & np.isinf(picked))
        if len(censored):
            least, first, counts = self.least[name].by_group(places, len(sizes))
            known = _at(least, first, nearest_ranks(counts, q), counts > 0)
            for i in censored:
                own = values[starts[i] : starts[i] + sizes[i]]
                answers = own[np.isfinite(own)]
                texts[i] = more_than(float(known[i]), float(answers[-1]) if len(answers) else None)
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


def median_of(ordered: Sorted, grouping: Grouping) -> Floats:
    """The nearest-rank median of each cell; NaN without values, +inf among failures."""
    values, starts, sizes = ordered.by_group(shifted(grouping), len(grouping.names))
    return _at(values, starts, nearest_ranks(sizes, 0.5), sizes > 0)


def _at(values: Floats, starts: Ints, ranks: npt.NDArray[np.integer], there: Mask) -> Floats:
    """The value of a 1-based rank in each group, NaN where there is none."""
    found = np.full(len(starts), np.nan)
    found[there] = values[(starts + ranks - 1)[there]]
    return found
