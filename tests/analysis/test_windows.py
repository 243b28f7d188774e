"""The last hour of a node as of a request: against a loop that walks the snapshots, and against leakage."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis.reputation import FEATURES, Reputation
from loadtest.analysis.scores import rank_scores
from loadtest.analysis.windows import WINDOW_S
from loadtest.rank_score import Maxima, rank_score
from loadtest.records import NodeSnapshot
from loadtest.simulator.reputation import NodeStats

from .run_factory import NODE_A, NODE_B, board, snapshots_of, wall

BASE_S = 1_790_000_000
TOLERANCE_S = 3000.0
BOARD = ("precommit_points", "precommit_counter", "commit_points", "commit_counter")


def before(snapshots: list[NodeSnapshot], asked: list[tuple[str, int]]) -> pd.DataFrame:
    requests = pd.DataFrame(
        {
            "node": pd.Series([node for node, _ in asked], dtype="str"),
            "sent_wall_ns": pd.Series([at for _, at in asked], dtype="Int64"),
        }
    )
    return Reputation.of(snapshots_of(snapshots)).before(requests, 0, TOLERANCE_S)


def plain(value: Any) -> float | None:
    return None if pd.isna(value) else round(float(value), 4)


# The leaderboard, by hand.


def test_an_hour_of_a_node_by_hand() -> None:
    counts = [(100, 100, 90, 90), (130, 140, 110, 130), (190, 200, 168, 190)]
    rows = [
        board(NODE_A, at, last_active_s=BASE_S, **dict(zip(BOARD, each, strict=True)))
        for at, each in zip((0, 1800, 3600), counts, strict=True)
    ]
    (row,) = before(rows, [(NODE_A, wall(3700))]).to_dict("records")
    assert row["window_s"] == 3600 and row["window_tasks"] == 100
    assert row["window_precommit_percent"] == pytest.approx(90)
    assert row["window_commit_percent"] == pytest.approx(78)
    assert row["idle_s"] == pytest.approx(wall(3700) / 1e9 - BASE_S, abs=1e-3)
    assert row["reputation"] == pytest.approx(50 * (190 / 200 + 168 / 190))  # the lifetime rates, as ever


def test_what_is_older_than_an_hour_is_not_in_the_window() -> None:
    rows = [board(NODE_A, at, precommit_points=n, precommit_counter=n) for at, n in ((0, 10), (1, 500), (3601, 600))]
    (row,) = before(rows, [(NODE_A, wall(3602))]).to_dict("records")
    assert (row["window_s"], row["window_tasks"]) == (3600, 100)


def test_a_counter_that_began_again_counts_what_it_shows() -> None:
    counts = [(900, 1000), (950, 1050), (8, 10), (26, 30)]
    rows = [
        board(NODE_A, 60 * i, precommit_points=good, precommit_counter=all_, commit_points=None, commit_counter=None)
        for i, (good, all_) in enumerate(counts)
    ]
    (row,) = before(rows, [(NODE_A, wall(200))]).to_dict("records")
    assert row["window_tasks"] == 50 + 10 + 20
    assert row["window_precommit_percent"] == pytest.approx(100 * (50 + 8 + 18) / 80)
    assert pd.isna(row["window_commit_percent"])  # not told


def test_an_owner_of_several_rows_who_loses_one_did_not_begin_again() -> None:
    """Rows of 1000 and 500 entries, polled every minute: the second is gone at minutes 2 and 3 and is back at 4."""
    mine, other = [1000, 1001, 1002, 1003, 1004], {0: 500, 1: 501, 4: 502}
    told = [(i, n) for i, n in enumerate(mine)] + [*other.items()]
    rows = [
        board(NODE_A, 60 * i, precommit_points=n, precommit_counter=n, commit_points=n, commit_counter=n)
        for i, n in told
    ]
    found = before(rows, [(NODE_A, wall(60 * i + 1)) for i in range(5)])
    assert found["window_tasks"].fillna(-1).tolist() == [-1, 2, -1, -1, -1]
    assert (found["reputation"] == 100).all()


def test_one_snapshot_has_no_window_and_a_stale_one_has_nothing() -> None:
    asked = [(NODE_A, wall(20)), (NODE_A, wall(20 + TOLERANCE_S)), (NODE_B, wall(20))]
    found = before([board(NODE_A, 10, last_active_s=BASE_S)], asked)
    assert found["window_s"].isna().all() and found["window_tasks"].isna().all()
    assert found["idle_s"].notna().tolist() == [True, False, False]
    assert found["score"].notna().tolist() == [True, False, False]


# Lists of timestamps.


def lists(at_s: float, success: int, settled: int, pending: int = 0, newest: int = 0) -> NodeSnapshot:
    counts = {f"{s}_{w}": v for s in ("precommit", "commit") for w, v in (("all", settled), ("success", success))}
    return NodeSnapshot(
        source="session-reputation",
        node=NODE_A,
        node_as_seen=NODE_A,
        observed_wall_ns=wall(at_s),
        effective_s=BASE_S + newest,
        precommit_pending=pending,
        commit_pending=pending,
        **counts,
    )


def test_the_session_series_has_a_window_of_its_own() -> None:
    rows = [lists(0, 10, 10, newest=0), lists(60, 17, 20, pending=1, newest=50)]
    (row,) = before(rows, [(NODE_A, wall(70))]).to_dict("records")
    assert row["session_window_tasks"] == 10
    assert row["session_window_precommit_percent"] == pytest.approx(70)
    assert pd.isna(row["window_tasks"])


def test_a_list_that_is_full_counts_nothing() -> None:
    rows = [lists(60 * i, 900, 1000, newest=50 * i) for i in range(3)]
    (row,) = before(rows, [(NODE_A, wall(130))]).to_dict("records")
    assert row["session_window_s"] == 120
    assert pd.isna(row["session_window_tasks"]) and pd.isna(row["session_window_precommit_percent"])
    (quiet,) = before([lists(60 * i, 900, 1000) for i in range(3)], [(NODE_A, wall(130))]).to_dict("records")
    assert quiet["session_window_tasks"] == 0  # nothing new came: it may be full and need not be


# Against a loop.

counts = st.none() | st.integers(0, 8)
sightings = st.lists(
    st.tuples(st.sampled_from((NODE_A, NODE_B)), st.integers(0, 12), counts, counts, counts, counts, counts),
    max_size=14,
    unique_by=lambda row: row[:2],
)
STEP_S = 900  # five steps are more than the window
Sighting = tuple[Any, ...]


def as_snapshot(row: Sighting) -> NodeSnapshot:
    node, step, *told, active = row
    return board(node, STEP_S * step, **dict(zip(BOARD, told, strict=True)), last_active_s=active and BASE_S + active)


def walked(seen: list[Sighting], node: str, sent_s: float) -> list[float | None]:
    """window_s, tasks and the two percentages by a loop over snapshots."""
    past = sorted(row for row in seen if row[0] == node and STEP_S * row[1] < sent_s)
    if not past or sent_s - STEP_S * past[-1][1] > TOLERANCE_S:
        return [None] * 4
    last = past[-1][1]
    inside = [row for row in past if STEP_S * (last - row[1]) <= WINDOW_S]
    if len(inside) < 2:
        return [None] * 4
    sums = []
    for good_at, all_at in ((2, 3), (4, 5)):
        known: tuple[int, int] | None = None
        good = entries = 0
        for row in past:
            told = row[good_at], row[all_at]
            if None in told:
                continue
            if known is not None and row[1] > inside[0][1]:
                fell = told[0] < known[0] or told[1] < known[1]
                good += told[0] if fell else told[0] - known[0]
                entries += told[1] if fell else told[1] - known[1]
            known = told
        sums.append((good, entries))
    rates = [100 * good / entries if entries and 0 <= good <= entries else None for good, entries in sums]
    span_s = STEP_S * (last - inside[0][1])
    return [span_s, sums[0][1], *rates]


@settings(max_examples=300, deadline=None)
@given(sightings, st.lists(st.tuples(st.sampled_from((NODE_A, NODE_B)), st.integers(0, 13)), max_size=6))
def test_equals_a_loop(seen: list[Sighting], asked: list[tuple[str, int]]) -> None:
    found = before([as_snapshot(row) for row in seen], [(node, wall(STEP_S * step + 1)) for node, step in asked])
    for (node, step), (_, row) in zip(asked, found.iterrows(), strict=True):
        expected = walked(seen, node, STEP_S * step + 1)
        assert [plain(row[name]) for name in FEATURES[:4]] == [plain(value) for value in expected]


# Leakage.


def growing(shift_s: float = 0.0, periods: int = 24) -> list[NodeSnapshot]:
    """A counter that grows faster and fails more with every period of 300 s."""
    return [
        board(
            NODE_A,
            300 * k + shift_s,
            last_active_s=wall(300 * k) // 10**9 - k,
            **dict(zip(BOARD, (10 * k * k, 11 * k * k + k, 9 * k * k, 10 * k * k), strict=True)),
        )
        for k in range(1, periods)
    ]


def test_snapshots_from_the_future_change_every_feature() -> None:
    """Were a later snapshot ever used, shifting all of them by one period would change nothing here."""
    asked = [(NODE_A, wall(300 * k + 100)) for k in range(14, 22)]
    now, shifted = before(growing(), asked), before(growing(300.0), asked)
    for name in ("window_tasks", "window_precommit_percent", "idle_s"):
        assert (now[name] != shifted[name]).all(), name
    for name in ("window_s", "window_tasks", "window_precommit_percent", "window_commit_percent"):
        assert now[name].tolist()[:-1] == shifted[name].tolist()[1:], name  # each is what it was a period before


def test_what_comes_after_a_request_changes_nothing() -> None:
    at = wall(300 * 12 + 100)
    known = [row for row in growing() if row.observed_wall_ns < at]
    later = [board(NODE_A, 300 * k, 1, last_active_s=BASE_S + 9**9) for k in range(13, 20)]
    fewer, more = (before(rows, [(NODE_A, at)])[list(FEATURES)] for rows in (known, [*later, *known]))
    pd.testing.assert_frame_equal(fewer, more)
    assert len(later) and fewer["window_tasks"].notna().all()


def test_order_of_snapshots_changes_nothing() -> None:
    rows = [*growing(), *(board(NODE_B, 300 * k, k % 100) for k in range(20))]
    asked = [(NODE_B, wall(4000)), (NODE_A, wall(5000))]
    pd.testing.assert_frame_equal(before(rows, asked), before(rows[::-1], asked))


# The score.

stages = st.tuples(st.integers(0, 300), st.floats(0, 1))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(stages, stages, stages, st.integers(0, 400)), min_size=1, max_size=6))
def test_scores_in_arrays_are_those_of_the_formula(rows: list[Any]) -> None:
    now_s = BASE_S
    nodes = []
    for *counted, idle_min in rows:
        one = NodeStats("0x1", "node-001", last_active=now_s - 60 * idle_min)
        for stage, (entries, rate) in zip(("precommit", "commit", "prepare"), counted, strict=True):
            setattr(one, f"{stage}_counter", entries)
            setattr(one, f"{stage}_point", round(rate * entries))
        nodes.append(one)
    maxima = Maxima.of(nodes)
    names = ("precommit", "commit", "prepare")
    points, counters = (
        {stage: np.array([getattr(n, f"{stage}_{kind}") for n in nodes], dtype=float) for stage in names}
        for kind in ("point", "counter")
    )
    active = np.array([n.last_active for n in nodes], dtype=float)
    found = rank_scores(points, counters, active, np.full(len(nodes), now_s * 10**9))
    for node, score in zip(nodes, found, strict=True):
        expected = rank_score(node, maxima, now_s)
        if not node.precommit_counter:
            assert math.isnan(score)
        else:  # what lies half-way between two hundredths may be rounded to either
            assert score == pytest.approx(expected, abs=0.0101) and (score == expected or abs(score - expected) > 0.009)


def test_a_score_is_relative_to_its_own_leaderboard() -> None:
    counters = {stage: np.array([100.0, 100.0, 1000.0]) for stage in ("precommit", "commit", "prepare")}
    instants = np.array([BASE_S, BASE_S + 60, BASE_S + 60]) * 10**9
    found = rank_scores(counters, counters, instants / 1e9, instants)
    assert found[0] == 1.0 and found[1] < 0.7 and found[2] == 1.0
    assert all(a != b for a, b in pairwise(found))
