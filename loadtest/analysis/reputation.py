"""What was known of the serving node when each request was sent: both reputation series, as of the send.

Rule: the last snapshot of the node with observed < sent - clock bound; equal times are excluded, because at a
coarse resolution "equal" may be after. Backward only: reputation is computed from served requests, perhaps from
this one, so a later or nearest snapshot would be circular. Older than the tolerance is null with a reason, never
carried in silence. The search is `asof.History`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from loadtest.analysis.asof import REASONS, History
from loadtest.analysis.frames import Floats

_BOARD = ("reputation", "snapshot_observed_wall_ns", "snapshot_age_s", "reputation_reason")
_SESSION = ("reputation_session", "session_observed_wall_ns", "session_snapshot_age_s", "reputation_session_reason")


class Reputation(NamedTuple):
    """The histories of both series, sorted once and asked for every batch of requests."""

    board: History  # lifetime rates of the leaderboard
    session: History  # the session series, user tasks

    @classmethod
    def of(cls, snapshots: pd.DataFrame) -> Reputation:
        """From `frames.snapshots_frame`; RunFolderError when a source has two rows of one node at one instant."""
        return cls(
            _history(snapshots, "leaderboard", ("points", "counter")),
            _history(snapshots, "session-reputation", ("success", "all")),
        )

    def before(self, requests: pd.DataFrame, bound_ns: Any, tolerance_s: float) -> pd.DataFrame:
        """Reputation of each row's `node` as of `sent_wall_ns - bound_ns`, from both series, in percent.

        Columns, one row per request in the same order: reputation (lifetime rates of the leaderboard),
        snapshot_observed_wall_ns, snapshot_age_s, reputation_reason, and the same of the session series (user tasks)
        with `session` in the name. A reason is null where there is a value.
        """
        nodes = pa.array(requests["node"], type=pa.large_string(), from_pandas=True).dictionary_encode()
        sent = requests["sent_wall_ns"].notna().to_numpy(dtype=bool)
        sent_ns = requests["sent_wall_ns"].to_numpy(dtype=np.int64, na_value=0)
        columns: dict[str, Any] = {}
        for history, (value, observed, age, reason) in ((self.board, _BOARD), (self.session, _SESSION)):
            found = history.before(nodes, sent_ns, sent, bound_ns, tolerance_s)
            columns[value] = found.value
            columns[observed] = pd.arrays.IntegerArray(found.observed_ns, ~found.seen)
            columns[age] = np.where(found.seen, found.age_ns / 1e9, np.nan)
            columns[reason] = pd.array(np.array([None, *REASONS[1:]], dtype=object)[found.reason], dtype="str")
        return pd.DataFrame(columns, index=requests.index)


def _history(snapshots: pd.DataFrame, source: str, names: tuple[str, str]) -> History:
    rows = snapshots[snapshots["source"] == source]
    nodes = pa.array(rows["node"], type=pa.large_string(), from_pandas=True)
    observed_ns = rows["observed_wall_ns"].to_numpy(dtype=np.int64)
    return History(nodes, observed_ns, _rates(rows, names), f"{source} snapshots")


def _rates(rows: pd.DataFrame, names: tuple[str, str]) -> Floats:
    """The mean of the precommit and the commit success rate of each snapshot, percent.

    A zero counter means "no data": that rate is left out, and without both there is no value (NaN).
    """
    rates = []
    for stage in ("precommit", "commit"):
        good, total = (rows[f"{stage}_{name}"].to_numpy(dtype=np.float64, na_value=np.nan) for name in names)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(np.where(total > 0, 100 * good / total, np.nan))
    known = np.sum(~np.isnan(rates), axis=0)
    value: Floats = np.where(known > 0, np.nansum(rates, axis=0) / np.maximum(known, 1), np.nan)
    return value
