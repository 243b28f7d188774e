"""The community's rank score of a node, 0 to 1, as documented by the tools that show it (conomo-bot).

0.5 x success + 0.4 x volume relative to the busiest node + 0.1 x freshness, with penalties and caps. The official
formula is not published. The score rewards volume and recency as much as quality: it is no measure of latency, and
a node with many absolute failures loses nearly all of its success part however good its rate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

# Corners of piecewise linear functions: (x, y).
FRESHNESS = ((5, 1.0), (15, 0.5), (30, 0.2), (60, 0.05), (240, 0.01))  # of minutes idle; 0 after the last
VOLUME = ((0.0, 0.0), (0.05, 0.02), (0.2, 0.11), (0.5, 0.38), (1.0, 1.0))  # of the share of the network's maximum
# Caps: from this share of the maximum on, (cap at it, slope). The pieces do not quite meet; below 1 % it is steep.
CAPS = ((0.0, 0.4, 10.0), (0.01, 0.5, 2.5), (0.05, 0.6, 1.33), (0.2, 0.8, 0.33), (0.5, 0.9, 0.17), (0.8, 1.0, 0.0))
# Weights of (freshness, success, volume) up to so many minutes idle.
WEIGHTS = (
    (15, (0.1, 0.5, 0.4)),
    (30, (0.2, 0.5, 0.3)),
    (60, (0.4, 0.3, 0.3)),
    (240, (0.6, 0.2, 0.2)),
    (float("inf"), (0.9, 0.05, 0.05)),
)
LABELS = (
    (0.95, "Elite"),
    (0.9, "Exceptional"),
    (0.8, "Excellent"),
    (0.7, "Very Good"),
    (0.6, "Good"),
    (0.5, "Above Average"),
    (0.4, "Average"),
    (0.2, "Below Average"),
    (0.0, "Poor"),
)


class Counters(Protocol):
    """What a leaderboard row counts; `last_active` in Unix seconds, 0 for "not told"."""

    @property
    def last_active(self) -> int: ...
    @property
    def precommit_point(self) -> int: ...
    @property
    def precommit_counter(self) -> int: ...
    @property
    def commit_point(self) -> int: ...
    @property
    def commit_counter(self) -> int: ...
    @property
    def prepare_point(self) -> int: ...
    @property
    def prepare_counter(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Maxima:
    """The largest counters of the network; volume is relative to them."""

    precommit: int
    commit: int
    prepare: int

    @classmethod
    def of(cls, rows: Iterable[Counters]) -> Maxima:
        listed = list(rows)
        return cls(
            max((row.precommit_counter for row in listed), default=0),
            max((row.commit_counter for row in listed), default=0),
            max((row.prepare_counter for row in listed), default=0),
        )


def rank_score(row: Counters, maxima: Maxima, now_s: int) -> float:
    """The score of one leaderboard row; 0 without data. Two decimals, as shown."""
    if not row.precommit_counter or not row.last_active:
        return 0.0
    idle_min = (now_s - row.last_active) / 60
    freshness = 0.0 if idle_min > FRESHNESS[-1][0] else _between(FRESHNESS, idle_min)
    weights = next(weights for limit, weights in WEIGHTS if idle_min <= limit)
    parts = (freshness, _success(row), _volume(row, maxima))
    score = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    share = row.precommit_counter / maxima.precommit
    cap = _cap(share)
    if _is_perfect(row) and idle_min <= 5:
        return round(1.0 if share >= 0.8 else min(cap, score), 2)
    return round(score if share >= 0.8 else min(cap, score), 2)


def label(score: float) -> str:
    return next(name for least, name in LABELS if score >= least)


def _success(row: Counters) -> float:
    precommit = row.precommit_point / row.precommit_counter
    success = _penalised(row.precommit_point, row.precommit_counter)
    if row.commit_counter:
        success = (success + _penalised(row.commit_point, row.commit_counter)) / 2
    if row.prepare_counter and (prepare := row.prepare_point / row.prepare_counter) > 0.6:
        success = min(1.0, success + 0.3 * (prepare - 0.6) ** 2)
    if precommit < 0.3:
        success *= 0.2 - 0.19 * (1 - precommit / 0.3)
    elif precommit < 0.6:
        success *= 1 - min(0.95, 8 * (0.6 - precommit) ** 2)
    if row.commit_counter and (kept := row.commit_counter / row.precommit_counter) < 0.95:
        success *= 1 - (1 - kept) ** 2
    return success


def _penalised(points: int, counter: int) -> float:
    """A success rate, lowered for a rate below 60 % and for more than ten failures in all."""
    rate, failures = points / counter, counter - points
    value = rate
    if rate < 0.6:
        value *= 1 - 2.5 * (0.6 - rate) ** 2
    if rate < 0.3:
        value *= 2 * rate
    if failures > 10:
        value *= 1 - min(0.9, failures / 100)
    if rate < 0.2:
        value *= rate
    return 0.001 if value <= 0 else max(0.01, value)


def _volume(row: Counters, maxima: Maxima) -> float:
    volume = _between(VOLUME, row.precommit_counter / maxima.precommit)
    if row.commit_counter:
        volume = (volume + _between(VOLUME, row.commit_counter / maxima.commit)) / 2
    if row.prepare_counter:
        volume = 0.3 * _between(VOLUME, row.prepare_counter / maxima.prepare) + 0.7 * volume
    return max(volume, 0.95) if _is_perfect(row) else volume


def _is_perfect(row: Counters) -> bool:
    """No failure in any stage that has data, and no precommit without a commit."""
    stages_ok = row.precommit_point == row.precommit_counter and row.prepare_point == row.prepare_counter
    commits_ok = not row.commit_counter or row.commit_point == row.commit_counter == row.precommit_counter
    return stages_ok and commits_ok


def _cap(share: float) -> float:
    start, cap, slope = next(piece for piece in reversed(CAPS) if share >= piece[0])
    return cap + (share - start) * slope


def _between(corners: tuple[tuple[float, float], ...], x: float) -> float:
    """Linear between corners, constant outside them."""
    after = bisect_right(corners, x, key=lambda corner: corner[0])
    if after == 0 or after == len(corners):
        return corners[max(0, after - 1)][1]
    (x0, y0), (x1, y1) = corners[after - 1], corners[after]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
