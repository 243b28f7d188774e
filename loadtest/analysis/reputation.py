"""What was known of the serving node when each request was sent: both reputation series, as of the send.

Rule: the last snapshot of the node with observed < sent - clock bound; equal times are excluded, because at a
coarse resolution "equal" may be after. Backward only: reputation is computed from served requests, perhaps from
this one, so a later or nearest snapshot would be circular. Older than the tolerance is null with a reason, never
carried in silence. The search is `asof.History`.

With a snapshot come its *features*: what the snapshots up to it say of the last hour (`windows`), the community's
score, and how long ago the node was last active. They are null where the snapshot is too old to count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from loadtest.analysis.asof import NO_COUNTS, REASONS, History, Matches
from loadtest.analysis.frames import Floats
from loadtest.analysis.scores import STAGES, rank_scores
from loadtest.analysis.snapshots import LEADERBOARD, SESSION_REPUTATION, Polled, Snapshots
from loadtest.analysis.windows import Counts, Window, window_of_counters, window_of_lists

_BOARD = ("reputation", "snapshot_observed_wall_ns", "snapshot_age_s", "reputation_reason")
_SESSION = ("reputation_session", "session_observed_wall_ns", "session_snapshot_age_s", "reputation_session_reason")
_BOARD_NAMES, _SESSION_NAMES = ("points", "counter"), ("success", "all")
_REASONS = pd.Index(REASONS[1:], dtype="str")
_KEPT = (0, REASONS.index(NO_COUNTS))  # the snapshot counts, whether or not it has a lifetime rate
_IDLE = "idle_s"
FEATURES = (
    *("window_s", "window_tasks", "window_precommit_percent", "window_commit_percent", "score", _IDLE),
    *("session_window_s", "session_window_tasks", "session_window_precommit_percent"),
    *("session_window_commit_percent", f"session_{_IDLE}"),
)


@dataclass(frozen=True, slots=True)
class Series:
    """One source over time, with what else its snapshots say, in their order."""

    history: History
    features: Mapping[str, npt.NDArray[np.float32]]
    quiet_s: Floats  # from the last activity told to the snapshot

    def columns(self, found: Matches, names: tuple[str, str, str, str], prefix: str) -> dict[str, Any]:
        value, observed, age, reason = names
        columns: dict[str, Any] = {
            value: found.value,
            observed: pd.arrays.IntegerArray(found.observed_ns, ~found.seen),
            age: np.where(found.seen, found.age_ns / 1e9, np.nan),
            reason: pd.Categorical.from_codes(found.reason - 1, categories=_REASONS, validate=False),
        }
        rows = np.flatnonzero(np.isin(found.reason, _KEPT) & found.seen)
        at = found.place[rows]
        for name, values in self.features.items():
            columns[f"{prefix}{name}"] = _placed(len(found.place), rows, values[at].astype(np.float64))
        columns[f"{prefix}{_IDLE}"] = _placed(len(found.place), rows, self.quiet_s[at] + found.age_ns[rows] / 1e9)
        return columns


@dataclass(frozen=True, slots=True)
class Reputation:
    """The histories of both series, sorted once and asked for every batch of requests."""

    board: Series  # lifetime rates of the leaderboard
    session: Series  # the session series, user tasks
    levels: History | None = None  # None: nobody told a level

    @classmethod
    def of(cls, snapshots: Snapshots, descriptions: pd.DataFrame | None = None) -> Reputation:
        """`descriptions` is `frames.descriptions_frame`, which may tell levels."""
        return cls(
            _board(snapshots.of_source(LEADERBOARD)),
            _session(snapshots.of_source(SESSION_REPUTATION)),
            None if descriptions is None else _levels(descriptions),
        )

    def before(self, requests: pd.DataFrame, bound_ns: Any, tolerance_s: float) -> pd.DataFrame:
        """Reputation of each row's `node` as of `sent_wall_ns - bound_ns`, from both series, in percent.

        Columns, one row per request in the same order: reputation (lifetime rates of the leaderboard),
        snapshot_observed_wall_ns, snapshot_age_s, reputation_reason, and the same of the session series (user tasks)
        with `session` in the name; then FEATURES and `level`. A reason is null where there is a value.
        """
        nodes = pa.array(requests["node"], from_pandas=True)
        sent = requests["sent_wall_ns"].notna().to_numpy(dtype=bool)
        sent_ns = requests["sent_wall_ns"].to_numpy(dtype=np.int64, na_value=0)
        columns: dict[str, Any] = {}
        for series, names, prefix in ((self.board, _BOARD, ""), (self.session, _SESSION, "session_")):
            found = series.history.before(nodes, sent_ns, sent, bound_ns, tolerance_s)
            columns |= series.columns(found, names, prefix)
        columns["level"] = np.full(len(requests), np.nan)
        if self.levels is not None:  # told when it changes: it holds until something else is told
            columns["level"] = self.levels.before(nodes, sent_ns, sent, bound_ns, math.inf).value
        return pd.DataFrame(columns, index=requests.index)


def impossible(snapshots: Snapshots) -> int:
    """How many snapshots tell more successes than entries of a stage."""
    told = 0
    for source, names in ((LEADERBOARD, _BOARD_NAMES), (SESSION_REPUTATION, _SESSION_NAMES)):
        polled = snapshots.of_source(source)
        more = [good > total for good, total in (_counts(polled, stage, names) for stage in ("precommit", "commit"))]
        told += int(np.logical_or(*more).sum())
    return told


def _board(board: Polled) -> Series:
    history = _history(board, _BOARD_NAMES)
    stages = {stage: _counts(board, stage, _BOARD_NAMES) for stage in STAGES}
    active_s = board.column("last_active_s")
    window = window_of_counters(board.starts, board.observed_ns, stages["precommit"], stages["commit"], board.changed())
    points, counters = ({stage: each[place] for stage, each in stages.items()} for place in (0, 1))
    score = rank_scores(points, counters, active_s, board.observed_ns)
    return Series(history, {**_features(window), "score": score.astype(np.float32)}, _quiet_s(history, active_s))


def _session(lists: Polled) -> Series:
    history = _history(lists, _SESSION_NAMES)
    precommit, commit = (_counts(lists, stage, _SESSION_NAMES) for stage in ("precommit", "commit"))
    pending = sum(np.nan_to_num(lists.column(f"{stage}_pending")) for stage in ("precommit", "commit"))
    newest_s = lists.column("effective_s")
    window = window_of_lists(lists.starts, lists.observed_ns, precommit, commit, np.asarray(pending), newest_s)
    return Series(history, _features(window), _quiet_s(history, newest_s))


def _levels(descriptions: pd.DataFrame) -> History | None:
    told = descriptions[descriptions["level"].notna()].drop_duplicates(["node", "observed_wall_ns"], keep="last")
    if not len(told):
        return None
    nodes = pa.array(told["node"], type=pa.large_string(), from_pandas=True)
    levels: Floats = told["level"].to_numpy(dtype=np.float64, na_value=np.nan)
    return History.of(nodes, told["observed_wall_ns"].to_numpy(dtype=np.int64), levels, "descriptions")


def _history(polled: Polled, names: tuple[str, str]) -> History:
    nodes = pa.array(polled.nodes, type=pa.string())
    return History(nodes, polled.starts, polled.observed_ns, _rates(polled, names))


def _rates(polled: Polled, names: tuple[str, str]) -> Floats:
    """The mean of the precommit and the commit success rate of each snapshot, percent.

    A zero counter means "no data", and more successes than entries cannot be: such a rate is left out, and without both
    there is no value (NaN).
    """
    rates = []
    for stage in ("precommit", "commit"):
        good, total = _counts(polled, stage, names)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(np.where((total > 0) & (good <= total), 100 * good / total, np.nan))
    known = np.sum(~np.isnan(rates), axis=0)
    value: Floats = np.where(known > 0, np.nansum(rates, axis=0) / np.maximum(known, 1), np.nan)
    return value


def _features(window: Window) -> dict[str, npt.NDArray[np.float32]]:
    """Seven digits are enough for what lasts an hour, and half the memory for millions of snapshots."""
    names = ("window_s", "window_tasks", "window_precommit_percent", "window_commit_percent")
    return {name: values.astype(np.float32) for name, values in zip(names, window, strict=True)}


def _quiet_s(history: History, active_s: Floats) -> Floats:
    """Subtracted as integers: as floats, Unix nanoseconds lose their last 256."""
    active = np.where(np.isnan(active_s), 0, active_s).astype(np.int64) * 1_000_000_000
    quiet_s: Floats = np.where(np.isnan(active_s), np.nan, (history.observed_ns - active) / 1e9)
    return quiet_s


def _placed(count: int, rows: npt.NDArray[np.intp], values: Floats) -> Floats:
    column = np.full(count, np.nan)
    column[rows] = values
    return column


def _counts(polled: Polled, stage: str, names: tuple[str, str]) -> Counts:
    return Counts(*(polled.column(f"{stage}_{name}") for name in names))
