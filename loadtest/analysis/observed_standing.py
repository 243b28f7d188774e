"""Where nodes stand by the leaderboards a run folder holds: score, precommit score and uptime, as a contest needs them.

Snapshots tell no stake, operator or roles: a CSV file adds them (`entrants.with_registry`). Scores follow the
community's formula on the last row of each node, since the official one is not published.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.analysis.entrants import Entrant, Entrants, entrants
from loadtest.analysis.frames import to_frame
from loadtest.rank_score import Maxima, rank_score
from loadtest.runfolder import RunFolderError, read_table

_COUNTS = (
    *("precommit_points", "precommit_counter", "commit_points", "commit_counter"),
    *("prepare_points", "prepare_counter"),
)
_SECOND, _DAY_S = 1_000_000_000, 86_400
HOLE_FACTOR = 3  # two leaderboards further apart than so many usual periods have a hole between them


class _Counted(NamedTuple):
    """A leaderboard row as the score takes it; what was not told is 0."""

    precommit_point: int
    precommit_counter: int
    commit_point: int
    commit_counter: int
    prepare_point: int
    prepare_counter: int
    last_active: int


def observed_entrants(run: Path, alive_s_max: int) -> Entrants:
    """Every node of the leaderboards of `run`.

    Uptime is the share of leaderboards in which the node stood with a `last_active` at most `alive_s_max` old; a node
    that is missing in one counts as down in it. Without any `last_active` neither uptime nor score is told.
    RunFolderError: not one leaderboard, or a damaged file.
    """
    columns = ["source", "node", "observed_wall_ns", "last_active_s", *_COUNTS]
    rows = to_frame(read_table(run, "snapshots", columns))
    rows = rows[rows["source"] == "leaderboard"]
    if not len(rows):
        raise RunFolderError(
            f"{run}: no leaderboard snapshots, so nobody knows how nodes stand; observe the network or import snapshots"
        )
    instants = np.sort(rows["observed_wall_ns"].to_numpy(dtype=np.int64))
    instants = instants[np.concatenate([[True], np.diff(instants) > 0])]
    by_node = rows.groupby(["node", "observed_wall_ns"])
    boards = by_node[list(_COUNTS)].sum()  # a node may own several rows of one leaderboard
    boards["last_active_s"] = by_node["last_active_s"].max().fillna(0)
    boards = boards.astype(np.int64).reset_index()

    idle_s = boards["observed_wall_ns"] // _SECOND - boards["last_active_s"]
    alive = (idle_s <= alive_s_max).groupby(boards["node"]).sum()
    ever_active = (boards["last_active_s"] > 0).groupby(boards["node"]).any()  # some loggers do not keep it
    last = boards.groupby("node").tail(1)
    names = [str(name) for name in last["node"]]
    counted = [_Counted(*values) for values in last[[*_COUNTS, "last_active_s"]].to_numpy().tolist()]
    maxima = Maxima.of(counted)
    now_s = int(instants[-1]) // _SECOND
    days, notes = _window(run, instants)
    found = [
        Entrant(
            node=name,
            score=Decimal(repr(rank_score(row, maxima, now_s))) if row.precommit_counter and row.last_active else None,
            precommit_score=_rate(row.precommit_point, row.precommit_counter),
            uptime=Decimal(int(alive[name])) / len(instants) if ever_active[name] else None,
            observed_days=days,
        )
        for name, row in zip(names, counted, strict=True)
    ]
    return entrants(found, notes)


def _rate(points: int, counter: int) -> Decimal | None:
    """A zero counter is "no data"."""
    return Decimal(points) / counter if counter else None


def _window(run: Path, instants: npt.NDArray[np.int64]) -> tuple[Decimal, list[str]]:
    """Days that the leaderboards stand for, and what there is to say of them."""
    gaps_s = np.diff(instants) / _SECOND
    usual_s = float(np.median(gaps_s)) if len(gaps_s) else 0.0
    span_s = (int(instants[-1]) - int(instants[0])) / _SECOND + usual_s  # the last one stands for a period too
    days = Decimal(round(span_s)) / _DAY_S
    holes = gaps_s[gaps_s > HOLE_FACTOR * usual_s]
    note = f"{run}: uptime is out of {len(instants)} leaderboards over {float(days):.3g} days"
    if len(holes):
        note += f"; {len(holes)} holes, the longest of {holes.max() / 3600:.1f} h, say nothing of any node"
    return days, [note]
