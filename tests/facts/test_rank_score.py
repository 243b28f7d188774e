"""The community score against values that its own program gave, and its labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.rank_score import Maxima, label, rank_score
from loadtest.simulator.reputation import NodeStats

NOW_S = 1_750_000_000
MAXIMA = Maxima(1000, 1000, 1000)


def node(tasks: int, rate: float, idle_min: float = 0) -> NodeStats:
    """A node that passes the same share in every stage, and enters commit with what passed precommit."""
    row = NodeStats("0x1", "node-001", last_active=NOW_S - round(60 * idle_min))
    row.prepare_counter = row.precommit_counter = tasks
    row.prepare_point = row.precommit_point = row.commit_counter = round(rate * tasks)
    row.commit_point = round(rate * row.commit_counter)
    return row


@pytest.mark.parametrize(
    ("tasks", "rate", "idle_min", "score"),
    [
        (1000, 1.0, 0, 1.00),
        (500, 1.0, 0, 0.90),
        (100, 1.0, 0, 0.67),
        (5, 1.0, 0, 0.45),
        (1000, 0.9, 0, 0.54),
        (1000, 0.6, 0, 0.46),
        (1000, 0.3, 0, 0.39),
        (1000, 0.2, 0, 0.38),
        (1000, 0.9, 20, 0.42),
        (1000, 0.9, 45, 0.37),
        (1000, 0.9, 300, 0.05),
    ],
)
def test_known_values(tasks: int, rate: float, idle_min: float, score: float) -> None:
    assert rank_score(node(tasks, rate, idle_min), MAXIMA, NOW_S) == pytest.approx(score, abs=0.0101)


def test_no_data_is_zero() -> None:
    assert rank_score(NodeStats("0x1", "node-001", last_active=NOW_S), MAXIMA, NOW_S) == 0.0


@given(st.integers(1, 1000), st.floats(0, 1), st.floats(0, 1000))
def test_it_stays_in_range_and_has_a_label(tasks: int, rate: float, idle_min: float) -> None:
    score = rank_score(node(tasks, rate, idle_min), MAXIMA, NOW_S)
    assert 0.0 <= score <= 1.0
    assert label(score)
