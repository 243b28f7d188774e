"""The community's rank score of every snapshot of a leaderboard at once: `rank_score` in arrays.

The corners, caps and weights are those of `loadtest.rank_score`, where the formula and its source stand; a property
test holds the two together. A score is of its instant: volume is relative to the busiest node of the same leaderboard.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loadtest.analysis.frames import Floats, Ints
from loadtest.rank_score import CAPS, FRESHNESS, VOLUME, WEIGHTS

STAGES = ("precommit", "commit", "prepare")
Stages = dict[str, Floats]


def rank_scores(points: Stages, counters: Stages, last_active_s: Floats, observed_ns: Ints) -> Floats:
    """The score, 0 to 1, two decimals, of each row; NaN without a precommit counter or a last activity.

    `points` and `counters` by stage, NaN where not told. Rows may be in any order.
    """
    told = (np.nan_to_num(counters["precommit"]) > 0) & (np.nan_to_num(last_active_s) > 0)
    points = {stage: np.nan_to_num(values) for stage, values in points.items()}
    counters = {stage: np.nan_to_num(values) for stage, values in counters.items()}
    instants, board = np.unique(observed_ns, return_inverse=True)
    maxima = {stage: _most(counters[stage], board, len(instants)) for stage in STAGES}
    idle_min = (observed_ns // 1_000_000_000 - np.nan_to_num(last_active_s)) / 60
    with np.errstate(divide="ignore", invalid="ignore"):
        share = counters["precommit"] / maxima["precommit"]
        rates = {stage: points[stage] / counters[stage] for stage in STAGES}
        shares = {stage: counters[stage] / maxima[stage] for stage in STAGES}
        kept = counters["commit"] / counters["precommit"]
    has = {stage: counters[stage] > 0 for stage in STAGES}
    perfect = (points["precommit"] == counters["precommit"]) & (points["prepare"] == counters["prepare"])
    perfect &= ~has["commit"] | ((points["commit"] == counters["commit"]) & (kept == 1))

    penalised = {s: _penalised(rates[s], counters[s] - points[s]) for s in ("precommit", "commit")}
    success = np.where(has["commit"], (penalised["precommit"] + penalised["commit"]) / 2, penalised["precommit"])
    prepared = has["prepare"] & (rates["prepare"] > 0.6)
    success = np.where(prepared, np.minimum(1.0, success + 0.3 * (rates["prepare"] - 0.6) ** 2), success)
    rate = rates["precommit"]
    low = np.where(rate < 0.3, 0.2 - 0.19 * (1 - rate / 0.3), 1 - np.minimum(0.95, 8 * (0.6 - rate) ** 2))
    success = np.where(rate < 0.6, success * low, success)
    success = np.where(has["commit"] & (kept < 0.95), success * (1 - (1 - kept) ** 2), success)

    volume = _between(VOLUME, shares["precommit"])
    volume = np.where(has["commit"], (volume + _between(VOLUME, shares["commit"])) / 2, volume)
    volume = np.where(has["prepare"], 0.3 * _between(VOLUME, shares["prepare"]) + 0.7 * volume, volume)
    volume = np.where(perfect, np.maximum(volume, 0.95), volume)

    freshness = np.where(idle_min > FRESHNESS[-1][0], 0.0, _between(FRESHNESS, idle_min))
    weights = np.array([each for _, each in WEIGHTS])[np.searchsorted([limit for limit, _ in WEIGHTS], idle_min)]
    score = (weights * np.stack([freshness, success, volume], axis=1)).sum(axis=1)
    score = np.where(share >= 0.8, score, np.minimum(_cap(share), score))
    score = np.where((share >= 0.8) & perfect & (idle_min <= 5), 1.0, score)
    return np.where(told, np.round(score, 2), np.nan)


def _most(counter: Floats, board: npt.NDArray[np.intp], boards: int) -> Floats:
    """The largest of the same leaderboard, for each row; `board` says of which of them it is."""
    most = np.zeros(boards)
    np.maximum.at(most, board, counter)
    return most[board]


def _penalised(rate: Floats, failures: Floats) -> Floats:
    value = np.where(rate < 0.6, rate * (1 - 2.5 * (0.6 - rate) ** 2), rate)
    value = np.where(rate < 0.3, value * 2 * rate, value)
    value = np.where(failures > 10, value * (1 - np.minimum(0.9, failures / 100)), value)
    value = np.where(rate < 0.2, value * rate, value)
    return np.where(value <= 0, 0.001, np.maximum(0.01, value))


def _between(corners: tuple[tuple[float, float], ...], x: Floats) -> Floats:
    found: Floats = np.interp(x, [at for at, _ in corners], [y for _, y in corners])
    return found


def _cap(share: Floats) -> Floats:
    starts, caps, slopes = (np.array(column) for column in zip(*CAPS, strict=True))
    piece = np.maximum(0, np.searchsorted(starts, share, side="right") - 1)
    found: Floats = caps[piece] + (share - starts[piece]) * slopes[piece]
    return found
