"""Counters, windows and field names of what the network remembers."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loadtest.simulator.reputation import WINDOW_MAX, NodeStats, Reputation, Window


def test_a_leaderboard_row_has_the_documented_names() -> None:
    row = msgspec.to_builtins(NodeStats("0xAb", "node-001"))
    assert list(row) == [
        "miner",
        "node_id",
        "last_active",
        "ping_counter",
        "globalPingPoint",
        "requestPoint",
        "createPoint",
        "createCounter",
        "preparePoint",
        "prepareCounter",
        "startPoint",
        "precommitPoint",
        "precommitCounter",
        "commitPoint",
        "commitCounter",
        "endPoint",
        "correctnessPoint",
    ]


@given(st.integers(0, 2 * WINDOW_MAX + 3))
def test_a_window_holds_the_newest_in_ring_order(count: int) -> None:
    window = Window()
    for second in range(count):
        window.add(second)
    assert sorted(window.values) == list(range(max(0, count - WINDOW_MAX), count))
    if WINDOW_MAX < count < 2 * WINDOW_MAX:
        assert window.values != sorted(window.values)


def test_a_success_repeats_the_timestamp_of_its_entry() -> None:
    reputation = Reputation()
    reputation.precommit.entered.add(100)
    reputation.precommit.entered.add(101)
    reputation.precommit.succeeded.add(101)
    assert reputation.shape() == {
        "precommit": {"all_timestamps": [100, 101], "success_timestamps": [101]},
        "commit": {"all_timestamps": [], "success_timestamps": []},
    }
