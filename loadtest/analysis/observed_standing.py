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
import pandas as pd

from loadtest.analysis.contest_rules import UptimeRule
from loadtest.analysis.entrants import Entrant, Entrants, entrants
from loadtest.analysis.frames import to_frame
from loadtest.rank_score import Maxima, rank_score
from loadtest.records import HOLE_FACTOR
from loadtest.runfolder import RunFolderError, read_table

_SCORED = (
    *("precommit_points", "precommit_counter", "commit_points", "commit_counter"),
    *("prepare_points", "prepare_counter"),
)
_COUNTS = (*_SCORED, "ping_counter")
_SECOND, _DAY_S = 1_000_000_000, 86_400


class _Counted(NamedTuple):
    """A leaderboard row as the score takes it; what was not told is 0."""

    precommit_point: int
    precommit_counter: int
    commit_point: int
    commit_counter: int
    prepare_point: int
    prepare_counter: int
    last_active: int


def observed_entrants(run: Path, rule: UptimeRule) -> Entrants:
    """Every node of the leaderboards of `run`.

    Without any `last_active` a node has no score, as the score asks how fresh it is; what uptime needs stands at
    `_uptimes`. RunFolderError: not one leaderboard, or a damaged file.
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
    boards["rows"] = by_node.size()
    boards["last_active_s"] = by_node["last_active_s"].max().fillna(0)
    boards = boards.astype(np.int64).reset_index()

    uptimes = _uptimes(boards, instants, rule)
    last = boards.groupby("node").tail(1)
    names = [str(name) for name in last["node"]]
    counted = [_Counted(*values) for values in last[[*_SCORED, "last_active_s"]].to_numpy().tolist()]
    maxima = Maxima.of(counted)
    now_s = int(instants[-1]) // _SECOND
    days, notes = _window(run, instants, rule)
    found = [
        Entrant(
            node=name,
            score=Decimal(repr(rank_score(row, maxima, now_s))) if row.precommit_counter and row.last_active else None,
            precommit_score=_rate(row.precommit_point, row.precommit_counter),
            uptime=uptimes[name],
            observed_days=days,
        )
        for name, row in zip(names, counted, strict=True)
    ]
    return entrants(found, notes)


def _uptimes(boards: pd.DataFrame, instants: npt.NDArray[np.int64], rule: UptimeRule) -> dict[str, Decimal | None]:
    """By node; None where the leaderboards do not tell what the rule measures.

    "pings": those made since the first leaderboard over those due until the last one, of as many nodes as the owner
    showed. A counter that fell began again, and made what it shows. "seen": the share of leaderboards in which the
    node stood with a `last_active` young enough; one in which it is missing counts as down.
    """
    span_s = (int(instants[-1]) - int(instants[0])) / _SECOND
    due = int(span_s // rule.ping_s)
    found: dict[str, Decimal | None] = {}
    for name, node in boards.groupby("node"):
        if rule.measure == "pings":
            pings = node["ping_counter"].to_numpy()
            steps = np.diff(pings)
            made = int(np.where(steps < 0, pings[1:], steps).sum())
            told = due > 0 and bool(pings.any())
            found[str(name)] = min(Decimal(1), Decimal(made) / (due * int(node["rows"].max()))) if told else None
        else:
            active_s = node["last_active_s"].to_numpy()
            alive = node["observed_wall_ns"].to_numpy() // _SECOND - active_s <= rule.alive_s_max
            found[str(name)] = Decimal(int(alive.sum())) / len(instants) if active_s.any() else None
    return found


def _rate(points: int, counter: int) -> Decimal | None:
    """A zero counter is "no data"."""
    return Decimal(points) / counter if counter else None


def _window(run: Path, instants: npt.NDArray[np.int64], rule: UptimeRule) -> tuple[Decimal, list[str]]:
    """Days that the leaderboards stand for, and what there is to say of them."""
    gaps_s = np.diff(instants) / _SECOND
    usual_s = float(np.median(gaps_s)) if len(gaps_s) else 0.0
    span_s = (int(instants[-1]) - int(instants[0])) / _SECOND + usual_s  # the last one stands for a period too
    days = Decimal(round(span_s)) / _DAY_S
    holes = gaps_s[gaps_s > HOLE_FACTOR * usual_s]
    by = f"pings every {rule.ping_s:g} s" if rule.measure == "pings" else f"activity in the last {rule.alive_s_max} s"
    note = f"{run}: uptime is by {by}, out of {len(instants)} leaderboards over {float(days):.3g} days"
    if len(holes):
        note += f"; {len(holes)} holes, the longest of {holes.max() / 3600:.1f} h, say nothing of any node"
    return days, [note]
