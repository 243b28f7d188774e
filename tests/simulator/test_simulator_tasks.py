"""What is drawn for one task: lengths, service times, stages. Closed forms where there are any."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.simulator.nodes import HARDWARE, Node, draw_nodes
from loadtest.simulator.tasks import (
    NETWORK_PACE,
    ORACLE_TICK_S,
    PRECOMMIT_TIMEOUT_S,
    SECOND_NS,
    Work,
    draw_offsets,
    draw_tokens,
    draw_work,
    plan_stages,
)

NODE = draw_nodes(1, 1)[0]
NOW = 1_750_000_000 * SECOND_NS
DEADLINE_NS = round(PRECOMMIT_TIMEOUT_S / NETWORK_PACE * SECOND_NS)


def make_work(node: Node, ready_s: float) -> Work:
    return Work(node, first_ns=NOW, ready_ns=NOW + round(ready_s * SECOND_NS), acked_ns=NOW)


def test_classes_are_dealt_by_quota() -> None:
    nodes = draw_nodes(5, 100)
    for hardware in HARDWARE:
        dealt = sum(node.hardware == hardware.name for node in nodes)
        assert abs(dealt - 100 * hardware.share) <= 3
    assert len({node.key for node in nodes}) == 100


def test_classes_differ_in_speed_by_more_than_their_spread() -> None:
    nodes = draw_nodes(5, 200)
    medians = {}
    for hardware in HARDWARE:
        speeds = sorted(node.decode_ns for node in nodes if node.hardware == hardware.name)
        medians[hardware.name] = speeds[len(speeds) // 2] / 1e6
    assert medians["cpu"] > 2 * medians["gpu"] > 3 * medians["big-gpu"]
    assert medians["gpu"] == pytest.approx(11, rel=0.2)


@given(st.integers(0, 10_000), st.integers(1, 2_000))
def test_a_cap_is_honoured_and_named(seed: int, tokens_max: int) -> None:
    natural, reason = draw_tokens(Random(seed), 1_000_000)
    tokens, capped_reason = draw_tokens(Random(seed), tokens_max)
    assert reason == "stop"
    assert tokens == min(natural, tokens_max)
    assert capped_reason == ("length" if natural > tokens_max else "stop")


@given(st.integers(0, 10_000), st.integers(1, 400))
def test_offsets_begin_and_end_where_the_work_does(seed: int, tokens: int) -> None:
    work = draw_work(Random(seed), NODE, 0, NOW, 100, tokens, 1.0)
    offsets = draw_offsets(Random(seed), work, NOW, tokens)
    assert len(offsets) == tokens
    assert offsets[0] == work.first_ns - NOW > 0
    assert offsets[-1] == work.ready_ns - NOW
    assert offsets == sorted(offsets)


def test_a_busy_node_is_slower_by_the_stated_factor() -> None:
    idle = draw_work(Random(1), NODE, 0, NOW, 100, 101, 1.0)
    half = draw_work(Random(1), NODE, NODE.slots // 2, NOW, 100, 101, 1.0)
    double = draw_work(Random(1), NODE, 2 * NODE.slots, NOW, 100, 101, 1.0)
    assert half == idle
    assert double.ready_ns - double.first_ns == pytest.approx(2.5 * (idle.ready_ns - idle.first_ns), abs=2)


def test_speed_divides_every_service_time() -> None:
    slow = draw_work(Random(1), NODE, 0, NOW, 100, 101, 1.0)
    fast = draw_work(Random(1), NODE, 0, NOW, 100, 101, 4.0)
    for name in ("first_ns", "ready_ns", "acked_ns"):
        assert getattr(fast, name) - NOW == pytest.approx((getattr(slow, name) - NOW) / 4, abs=2)


def test_perfect_nodes_precommit_and_commit_and_the_phases_end_with_the_last_of_them() -> None:
    perfect = replace(NODE, reliability=1.0)
    works = [make_work(perfect, 0.1), make_work(perfect, 0.4)]
    ends = plan_stages(Random(1), works, NOW, PRECOMMIT_TIMEOUT_S, 1.0)
    precommits = [work.precommit_ns for work in works if work.precommit_ns is not None]
    commits = [work.commit_ns for work in works if work.commit_ns is not None]
    assert len(precommits) == len(commits) == 2
    assert ends == (max(precommits), max(commits))
    assert min(commits) > ends[0]


def test_text_after_the_deadline_is_a_missed_precommit_and_leads_to_no_commit() -> None:
    perfect = replace(NODE, reliability=1.0)
    works = [make_work(perfect, 0.1), make_work(perfect, DEADLINE_NS / SECOND_NS)]
    precommit_end, _ = plan_stages(Random(1), works, NOW, PRECOMMIT_TIMEOUT_S, 1.0)
    assert works[0].precommit_ns is not None
    assert works[1].precommit_ns is works[1].commit_ns is None
    assert precommit_end == NOW + DEADLINE_NS


def test_the_oracle_closes_a_phase_nobody_can_complete() -> None:
    hopeless = replace(NODE, reliability=1.0 - 1.0 / 0.7)
    works = [make_work(hopeless, 0.5)]
    precommit_end, commit_end = plan_stages(Random(1), works, NOW, PRECOMMIT_TIMEOUT_S, 1.0)
    tick_ns = round(ORACLE_TICK_S / NETWORK_PACE * SECOND_NS)
    assert precommit_end == works[0].ready_ns + tick_ns
    assert commit_end == precommit_end + tick_ns


@given(st.integers(0, 100_000), st.integers(1, 3), st.floats(0.4, 1.0))
def test_stages_come_in_order(seed: int, count: int, reliability: float) -> None:
    rng = Random(seed)
    node = replace(NODE, reliability=reliability)
    works = [draw_work(rng, node, 0, NOW, 200, rng.randint(2, 600), 1.0) for _ in range(count)]
    precommit_end, commit_end = plan_stages(rng, works, NOW, PRECOMMIT_TIMEOUT_S, 1.0)
    assert NOW < precommit_end <= commit_end
    for work in works:
        assert work.acked_ns <= precommit_end
        if work.precommit_ns is not None:
            assert work.ready_ns < work.precommit_ns <= min(precommit_end, NOW + DEADLINE_NS)
        if work.commit_ns is not None:
            assert work.precommit_ns is not None
            assert precommit_end < work.commit_ns <= commit_end
