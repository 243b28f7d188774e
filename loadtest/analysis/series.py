"""The run over time: 1 s bins, and what was in flight."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.frames import Clocks, Floats
from loadtest.analysis.gaps import LEVELS, GapsByTime
from loadtest.analysis.percentiles import grouped_quantiles, number

SECONDS_MAX = 86_400  # one day of 1 s bins; a run folder with wild instants must not fill the disk


def length(requests: pd.DataFrame, clocks: Clocks) -> int:
    """Seconds from t0 to the last instant of a turn that was due."""
    instants = np.concatenate([clocks.run_s(requests, name) for name in ("scheduled_ns", "sent_ns", "done_ns")])
    instants[np.tile(~metrics.offered(requests), 3)] = np.nan
    seconds_of = _second(instants)
    return min(SECONDS_MAX, int(seconds_of.max()) + 1) if len(seconds_of) else 0


def seconds(requests: pd.DataFrame, clocks: Clocks, gaps: GapsByTime) -> list[dict[str, Any]]:
    """One row per second since t0, all phases.

    planned: turns due in it (not reached left out). sent, completed (ok), failed (not those that their member broke
    off): by when that happened; a turn that failed without an instant counts where it was due. in_flight: at the end
    of the second; a turn without an end (lost) is left out of it. Latencies are service times of the turns sent in
    the second; gaps of a run beyond an hour stand in bins of several seconds (`gaps.BINS_MAX`).
    """
    due = metrics.offered(requests)
    planned_s, sent_s, done_s = (clocks.run_s(requests, name)[due] for name in ("scheduled_ns", "sent_ns", "done_ns"))
    count = length(requests, clocks)
    ok, broken_off = metrics.ok(requests)[due], metrics.broken_off(requests)[due]
    columns: dict[str, npt.NDArray[np.intp]] = {
        "planned": _per_second(planned_s, count),
        "sent": _per_second(sent_s, count),
        "completed": _per_second(done_s[ok], count),
        "failed": _per_second(np.where(np.isnan(done_s), planned_s, done_s)[~ok & ~broken_off], count),
        "in_flight": _open_at_ends(sent_s, done_s, count),
    }
    bins = np.full(len(sent_s), -1, dtype=np.intp)
    bins[~np.isnan(sent_s)] = _second(sent_s)
    bins[bins >= count] = -1
    latencies = {
        f"{metric.__name__}_{level}": values
        for metric in (metrics.ttft_ms, metrics.tpot_ms, metrics.e2e_ms)
        for level, values in zip(
            LEVELS, grouped_quantiles(bins, count, metric(requests)[due], [*LEVELS.values()]), strict=True
        )
    }
    latencies |= {f"itl_ms_{level}": values for level, values in gaps.percentiles_ms().items()}
    return [
        {
            "t_s": t,
            **{name: int(values[t]) for name, values in columns.items()},
            **{name: number(float(values[t])) for name, values in latencies.items()},
        }
        for t in range(count)
    ]


def in_flight(requests: pd.DataFrame, clocks: Clocks, count: int) -> npt.NDArray[np.intp]:
    """Requests open at the end of each of the first `count` seconds; one without an end (lost) is left out."""
    return _open_at_ends(clocks.run_s(requests, "sent_ns"), clocks.run_s(requests, "done_ns"), count)


def _open_at_ends(sent_s: Floats, done_s: Floats, count: int) -> npt.NDArray[np.intp]:
    both = ~np.isnan(sent_s) & ~np.isnan(done_s)
    return np.cumsum(_per_second(sent_s[both], count) - _per_second(done_s[both], count))


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


def _second(instants_s: Floats) -> npt.NDArray[np.intp]:
    """The bin of each instant that happened; one before t0, by a clock's error, belongs to the first bin."""
    return np.maximum(0, np.floor(instants_s[~np.isnan(instants_s)])).astype(np.intp)


def _per_second(instants_s: Floats, count: int) -> npt.NDArray[np.intp]:
    bins = _second(instants_s)
    return np.bincount(bins[bins < count], minlength=count)
