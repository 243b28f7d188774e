"""Where nodes stand by the leaderboards a run folder holds: score, precommit score and uptime, as a contest needs them.

Snapshots tell no stake, operator or roles: a CSV file adds them (`entrants.with_registry`). Scores follow the
community's formula on the last row of each node, since the official one is not published.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loadtest.analysis.contest_rules import UptimeRule
from loadtest.analysis.entrants import Entrant, Entrants, entrants
from loadtest.analysis.frames import Floats, Ints
from loadtest.analysis.snapshots import LEADERBOARD, Polled, read_snapshots
from loadtest.rank_score import Maxima, rank_score
from loadtest.records import HOLE_FACTOR
from loadtest.runfolder import RunFolderError

_SECOND, _DAY_S = 1_000_000_000, 86_400


class _Counted(NamedTuple):
    """The last leaderboard row of a node as the score takes it; what was not told is 0."""

    precommit_point: int
    precommit_counter: int
    commit_point: int
    commit_counter: int
    prepare_point: int
    prepare_counter: int
    last_active: int

    @property
    def is_scored(self) -> bool:
        """The score needs a counter and asks how fresh a node is; more points than entries cannot be."""
        stages = ((self.precommit_point, self.precommit_counter), (self.commit_point, self.commit_counter))
        told = self.precommit_counter > 0 and self.last_active > 0
        return told and all(points <= counter for points, counter in stages)


_SCORED = (
    *("precommit_points", "precommit_counter", "commit_points", "commit_counter"),
    *("prepare_points", "prepare_counter", "last_active_s"),
)


def observed_entrants(run: Path, rule: UptimeRule) -> Entrants:
    """Every node of the leaderboards of `run`.

    Without any `last_active` a node has no score; what uptime needs stands at `_uptime`. RunFolderError: not one
    leaderboard, or a damaged file.
    """
    board = read_snapshots(run).of_source(LEADERBOARD)
    if not board.nodes:
        raise RunFolderError(
            f"{run}: no leaderboard snapshots, so nobody knows how nodes stand; observe the network or import snapshots"
        )
    instants = np.unique(board.observed_ns)
    last = np.nan_to_num([board.column(name)[board.last()] for name in _SCORED]).astype(np.int64)
    counted = [_Counted(*values) for values in last.T.tolist()]
    maxima, now_s = Maxima.of(counted), int(instants[-1]) // _SECOND
    uptimes = _uptimes(board, instants, rule)
    days, notes = _window(run, instants, rule)
    found = [
        Entrant(
            node=name,
            score=Decimal(repr(rank_score(row, maxima, now_s))) if row.is_scored else None,
            precommit_score=_rate(row.precommit_point, row.precommit_counter),
            uptime=uptime,
            observed_days=days,
        )
        for name, row, uptime in zip(board.nodes, counted, uptimes, strict=True)
    ]
    return entrants(found, notes)


def _uptimes(board: Polled, instants: Ints, rule: UptimeRule) -> list[Decimal | None]:
    """By node; None where the leaderboards do not tell what the rule measures.

    "pings": those made since the first leaderboard over those due until the last one, of as many nodes as the owner
    showed. "seen": the share of leaderboards in which the node stood with a `last_active` young enough; one in which it
    is missing counts as down.
    """
    if rule.measure == "pings":
        pings = np.nan_to_num(board.column("ping_counter"))
        due = int((int(instants[-1]) - int(instants[0])) / _SECOND // rule.ping_s)
        return [_by_pings(pings[rows], board.owned[rows], due) for _, rows in board.rows()]
    active_s = np.nan_to_num(board.column("last_active_s")).astype(np.int64)
    alive = board.observed_ns // _SECOND - active_s <= rule.alive_s_max
    return [
        Decimal(int(alive[rows].sum())) / len(instants) if active_s[rows].any() else None for _, rows in board.rows()
    ]


def _by_pings(pings: Floats, owned: Ints, due: int) -> Decimal | None:
    """A counter that fell began again, and made what it shows. Where rows of the owner came or went, a step is none."""
    if due <= 0 or not pings.any():
        return None
    steps = np.diff(pings)
    made = np.where(np.diff(owned) != 0, 0, np.where(steps < 0, pings[1:], steps))
    return min(Decimal(1), Decimal(int(made.sum())) / (due * int(owned.max())))


def _rate(points: int, counter: int) -> Decimal | None:
    """A zero counter is "no data", and more points than entries cannot be."""
    return Decimal(points) / counter if counter and points <= counter else None


def _window(run: Path, instants: Ints, rule: UptimeRule) -> tuple[Decimal, list[str]]:
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
