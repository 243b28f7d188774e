"""What a node did lately: successes and volume over a trailing window, from snapshots that count since ever.

Every figure belongs to a snapshot and uses that snapshot and earlier ones of its node only, so joining it as of a
request (`reputation`) cannot look ahead. The window is the last WINDOW_S at most: it begins with the first snapshot
inside it, and `span_s` says how long it really is. Two kinds of counts:

- *counters* (leaderboard) only grow. One that fell began again (a new network, an indexer's reset): all it shows then
  was counted since. Where an owner's rows, which are summed, became more or fewer, the sum tells no growth: a window
  with such a step has no figures.
- *lists* (session reputation) are windows of timestamps themselves. One that is full takes new entries and has no
  more of them, so its growth counts nothing: no figures either.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.analysis.frames import Floats, Ints, Mask

WINDOW_S = 3600.0


class Counts(NamedTuple):
    """Successes and entries of one stage, by snapshot; NaN where not told."""

    good: Floats
    total: Floats


class Window(NamedTuple):
    """By snapshot. Percentages are NaN without an entry in the window, everything is with one snapshot only.

    `tasks` are the entries into the precommit stage.
    """

    span_s: Floats
    tasks: Floats
    precommit_percent: Floats
    commit_percent: Floats


def window_of_counters(starts: Ints, observed_ns: Ints, precommit: Counts, commit: Counts, changed: Mask) -> Window:
    """The window before each snapshot of a leaderboard; `changed` marks those that sum other rows than the one before.

    Snapshots lie sorted by node and time; `starts` has the first place of each node, and the end.
    """
    begins = _begins(starts, observed_ns)
    first = _first_of_node(starts, len(observed_ns))
    grown = [_grown(first, counts) for counts in (precommit, commit)]
    return _window(begins, observed_ns, grown, changed)


def window_of_lists(
    starts: Ints, observed_ns: Ints, precommit: Counts, commit: Counts, pending: Floats, newest_s: Floats
) -> Window:
    """The same of lists of timestamps: `pending` entries of both stages together, `newest_s` the newest entry."""
    first = _first_of_node(starts, len(observed_ns))
    steps = [_steps(first, counts) for counts in (precommit, commit)]
    entries = np.nan_to_num(precommit.total) + np.nan_to_num(commit.total) + np.nan_to_num(pending)
    newer = _step(first, np.nan_to_num(newest_s)) > 0
    more = _step(first, entries)
    full = (more < 0) | ((more == 0) & newer)
    return _window(_begins(starts, observed_ns), observed_ns, steps, full)


def _window(begins: Ints, observed_ns: Ints, steps: list[Counts], broken: Mask) -> Window:
    """Sums of the steps after each window's first snapshot; none over a broken step."""
    at = np.arange(len(begins))
    alone = begins == at

    def since(values: npt.NDArray[np.generic]) -> Floats:
        sums = np.cumsum(values, dtype=np.float64)
        return np.where(alone, np.nan, sums - sums[begins])

    told = since(broken) == 0
    rates, tasks = [], np.full(len(begins), np.nan)
    for place, step in enumerate(steps):
        good, total = since(step.good), since(step.total)
        if place == 0:
            tasks = np.where(told, total, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(np.where(told & (total > 0) & (good >= 0) & (good <= total), 100 * good / total, np.nan))
    span_s = np.where(alone, np.nan, (observed_ns - observed_ns[begins]) / 1e9)
    return Window(span_s, tasks, rates[0], rates[1])


def _begins(starts: Ints, observed_ns: Ints) -> Ints:
    """The first snapshot of its node that lies in the window before each snapshot."""
    begins = np.empty(len(observed_ns), dtype=np.int64)
    window_ns = round(WINDOW_S * 1e9)
    for first, end in itertools.pairwise(starts):
        instants = observed_ns[first:end]
        begins[first:end] = first + np.searchsorted(instants, instants - window_ns, side="left")
    return begins


def _first_of_node(starts: Ints, rows: int) -> Mask:
    first = np.zeros(rows, dtype=np.bool_)
    first[starts[:-1][starts[:-1] < starts[1:]]] = True
    return first


def _grown(first: Mask, counts: Counts) -> Counts:
    """Steps of counters: what is shown after a fall was counted since."""
    good, total = _known(first, counts)
    steps = _steps(first, Counts(good, total))
    fell = (steps.good < 0) | (steps.total < 0)
    return Counts(np.where(fell, good, steps.good), np.where(fell, total, steps.total))


def _steps(first: Mask, counts: Counts) -> Counts:
    return Counts(*(_step(first, values) for values in _known(first, counts)))


def _step(first: Mask, values: Floats) -> Floats:
    """From one snapshot of a node to the next; 0 at its first and where nothing was known before."""
    steps = np.diff(values, prepend=np.nan)
    return np.where(first | np.isnan(steps), 0.0, steps)


def _known(first: Mask, counts: Counts) -> Counts:
    """A snapshot that does not tell a stage leaves it as last told."""
    told = ~(np.isnan(counts.good) | np.isnan(counts.total))
    at = np.maximum.accumulate(np.where(told | first, np.arange(len(first)), 0)) if len(first) else np.empty(0, int)
    return Counts(*(np.where(told, values, np.nan)[at] for values in counts))
