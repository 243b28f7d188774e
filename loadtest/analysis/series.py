"""The run over time: rows of one second, wider ones in a long run, and what was in flight."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.bins import Bins
from loadtest.analysis.frames import Clocks, Floats
from loadtest.analysis.gaps import LEVELS, GapsByTime
from loadtest.analysis.percentiles import grouped_quantiles, number


def bins_of(requests: pd.DataFrame, clocks: Clocks) -> Bins:
    """From t0 to the last instant of a turn that was due."""
    due = metrics.offered(requests)
    instants = [clocks.run_s(requests, name)[due] for name in ("scheduled_ns", "sent_ns", "done_ns")]
    return Bins.up_to(max(float(np.fmax.reduce(each, initial=-math.inf)) for each in instants))


def rows(requests: pd.DataFrame, clocks: Clocks, gaps: GapsByTime) -> list[dict[str, Any]]:
    """One row per bin of `gaps`, all phases; t_s is its first second since t0.

    Turns per second, by when it happened: planned (due in it; not reached left out), sent, completed (ok), failed (not
    those that their member broke off; a turn that failed without an instant counts where it was due). in_flight: at the
    end of the bin; a turn without an end (lost) is left out of it. Latencies are service times of the turns sent in it.
    """
    due, bins = metrics.offered(requests), gaps.bins
    planned_s, sent_s, done_s = (clocks.run_s(requests, name)[due] for name in ("scheduled_ns", "sent_ns", "done_ns"))
    ok, broken_off = metrics.ok(requests)[due], metrics.broken_off(requests)[due]
    failed_s = np.where(np.isnan(done_s), planned_s, done_s)[~ok & ~broken_off]
    columns = {
        "t_s": bins.starts_s(),
        "planned": bins.per_second(planned_s).tolist(),
        "sent": bins.per_second(sent_s).tolist(),
        "completed": bins.per_second(done_s[ok]).tolist(),
        "failed": bins.per_second(failed_s).tolist(),
        "in_flight": _open_at_ends(sent_s, done_s, bins).tolist(),
    }
    places = bins.places(sent_s)
    for metric in (metrics.ttft_ms, metrics.tpot_ms, metrics.e2e_ms):
        found = grouped_quantiles(places, bins.count, metric(requests)[due], [*LEVELS.values()])
        for level, values in zip(LEVELS, found, strict=True):
            columns[f"{metric.__name__}_{level}"] = [number(value) for value in values.tolist()]
    for level, values in gaps.percentiles_ms().items():
        columns[f"itl_ms_{level}"] = [number(value) for value in values.tolist()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def in_flight(requests: pd.DataFrame, clocks: Clocks, count: int) -> npt.NDArray[np.intp]:
    """Requests open at the end of each of the first `count` seconds; one without an end (lost) is left out."""
    return _open_at_ends(clocks.run_s(requests, "sent_ns"), clocks.run_s(requests, "done_ns"), Bins(count))


def _open_at_ends(sent_s: Floats, done_s: Floats, bins: Bins) -> npt.NDArray[np.intp]:
    both = ~np.isnan(sent_s) & ~np.isnan(done_s)
    return np.cumsum(bins.counts(sent_s[both]) - bins.counts(done_s[both]))


def peak_in_flight(requests: pd.DataFrame, clocks: Clocks) -> int:
    """The most requests open at one instant; one that ends as another starts does not overlap it."""
    begun, ended = clocks.run_s(requests, "sent_ns"), clocks.run_s(requests, "done_ns")
    both = ~np.isnan(begun) & ~np.isnan(ended)
    if not both.any():
        return 0
    starts = np.sort(begun[both])
    over = np.searchsorted(np.sort(ended[both]), starts, side="right")
    return int((np.arange(1, len(starts) + 1) - over).max())


def running(starts: npt.NDArray[Any], ends: npt.NDArray[Any], at: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """How many of the intervals [start, end) hold each instant of `at`."""
    begun = np.searchsorted(np.sort(starts), at, side="right")
    over = np.searchsorted(np.sort(ends), at, side="right")
    return (begun - over).astype(np.int64)
