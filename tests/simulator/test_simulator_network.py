"""The state machine on a virtual clock: nothing is lost, nothing invented, and reputation follows from deeds."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.simulator.control import text_of
from loadtest.simulator.network import Network, Submitted
from loadtest.simulator.scenario import Scenario
from loadtest.simulator.selection import Selection
from loadtest.simulator.sessions import Place
from loadtest.simulator.tasks import SECOND_NS, Status

START = 1_750_000_000 * SECOND_NS
LONG_S = 120  # every task is over by then
SMALL = Scenario()


def make_network(seed: int, nodes: int, start: int = START, history_s: float = SMALL.history_s) -> Network:
    return Network(msgspec.structs.replace(SMALL, nodes=nodes, history_s=history_s), seed, start)


def load(network: Network, seed: int, tasks: int, gap_ms: int = 200) -> list[Submitted]:
    """User tasks at even intervals, spread over the sessions."""
    rng = Random(seed)
    sessions = sorted(network.sessions)
    begin = network.now_ns
    return [
        network.submit(begin + i * gap_ms * 1_000_000, rng.choice(sessions), prompt_tokens=100, tokens_max=200)
        for i in range(tasks)
    ]


def precommit_rate(network: Network, key: str) -> float:
    stats = network.stats[key]
    return stats.precommit_point / stats.precommit_counter


steps = st.lists(
    st.tuples(st.integers(0, 3_000), st.sampled_from(["11", "12", "21"]), st.integers(1, 3_000), st.integers(1, 900)),
    max_size=60,
)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1_000), st.integers(1, 12), steps)
def test_tasks_are_conserved(seed: int, nodes: int, submitted: list[tuple[int, str, int, int]]) -> None:
    network = make_network(seed, nodes, history_s=60)
    tasks = []
    now_ns = START
    for gap_ms, session, prompt_tokens, tokens_max in submitted:
        now_ns += gap_ms * 1_000_000
        before = network.tasks_started
        one = network.submit(now_ns, session, prompt_tokens=prompt_tokens, tokens_max=tokens_max)
        assert network.tasks_started > before
        assert 1 <= len(one.task.works) <= network.sessions[session].redundancy
        tasks.append(one.task)
        open_works = sum(w.ready_ns > network.now_ns for t in tasks for w in t.works)
        assert sum(network.in_flight.values()) >= open_works
        for stats in network.stats.values():
            assert stats.precommit_point <= stats.precommit_counter
            assert stats.commit_point <= stats.commit_counter <= stats.precommit_point
            assert stats.create_point <= stats.create_counter
            assert stats.prepare_point <= stats.prepare_counter
    network.advance(now_ns + 4_000 * SECOND_NS)
    assert all(task.status is Status.ENDED and task.finished_ns is not None for task in tasks)
    assert min(network.in_flight.values()) >= 0
    open_network_tasks = network.tasks_started - network.tasks_ended
    assert 0 <= open_network_tasks <= nodes


def test_user_tasks_number_from_one_and_all_are_kept() -> None:
    network = make_network(1, 6, history_s=0)
    load(network, 1, 90)
    for session in network.sessions.values():
        assert list(session.tasks) == list(range(1, session.tasks_started + 1))


def test_session_reputation_is_the_history_of_user_tasks() -> None:
    network = make_network(3, 24)
    load(network, 1, 200)
    network.advance(network.now_ns + LONG_S * SECOND_NS)
    entered: dict[str, list[int]] = {node.key: [] for node in network.nodes}
    committed: dict[str, list[int]] = {node.key: [] for node in network.nodes}
    for session in network.sessions.values():
        for task in session.tasks.values():
            for work in task.works:
                entered[work.node.key].append(work.acked_ns // SECOND_NS)
                if work.commit_ns is not None:
                    committed[work.node.key].append(task.precommit_end_ns // SECOND_NS)
    assert sum(map(len, entered.values())) > 400
    for key, reputation in network.session_reputation.items():
        assert sorted(reputation.precommit.entered.values) == sorted(entered[key])
        assert sorted(reputation.commit.succeeded.values) == sorted(committed[key])
        for stage in (reputation.precommit, reputation.commit):
            assert not Counter(stage.succeeded.values) - Counter(stage.entered.values)


def test_network_reputation_agrees_with_the_counters() -> None:
    network = make_network(3, 24, history_s=3_600)
    for key, stats in network.stats.items():
        reputation = network.reputation[key]
        assert len(reputation.precommit.entered.values) == stats.precommit_counter > 0
        assert len(reputation.precommit.succeeded.values) == stats.precommit_point
        assert len(reputation.commit.entered.values) == stats.commit_counter
        assert len(reputation.commit.succeeded.values) == stats.commit_point
        assert START // SECOND_NS - 400 < stats.last_active <= START // SECOND_NS


def decisions(network: Network, submitted: list[Submitted]) -> bytes:
    tasks = [
        (
            [work.node.key for work in one.task.works],
            one.offsets_ns,
            one.task.tokens,
            [text_of(network, one.task, work) for work in one.task.works],
            [work.committed for work in one.task.works],
        )
        for one in submitted
    ]
    return msgspec.json.encode([tasks, [precommit_rate(network, node.key) for node in network.nodes]])


def test_same_seed_same_decisions_at_any_date() -> None:
    outcomes = []
    for seed, start in ((5, START), (5, START + 86_400 * SECOND_NS), (6, START)):
        network = make_network(seed, 12, start, history_s=1_800)
        submitted = load(network, 1, 80)
        network.advance(network.now_ns + LONG_S * SECOND_NS)
        outcomes.append(decisions(network, submitted))
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_time_may_come_in_any_portions() -> None:
    whole, portions = (make_network(5, 12, history_s=600) for _ in range(2))
    whole.advance(START + 900 * SECOND_NS)
    for step in range(1, 9_001):
        portions.advance(START + step * SECOND_NS // 10)
    assert msgspec.json.encode(list(whole.stats.values())) == msgspec.json.encode(list(portions.stats.values()))
    portions.advance(START)  # a clock that runs backwards plays nothing again
    assert portions.now_ns == START + 900 * SECOND_NS


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_better_nodes_end_with_better_reputation(seed: int) -> None:
    network = make_network(seed, 48)
    rate = {node.key: precommit_rate(network, node.key) for node in network.nodes}
    steady = [node for node in network.nodes if node.reliability > 0.9]
    flaky = [node for node in network.nodes if node.reliability <= 0.9]
    assert steady and flaky
    mean_steady, mean_flaky = (sum(rate[n.key] for n in group) / len(group) for group in (steady, flaky))
    assert mean_steady > mean_flaky + 0.08
    by_speed = sorted(steady, key=lambda node: node.decode_ns)
    third = len(by_speed) // 3
    fast, slow = by_speed[:third], by_speed[-third:]
    assert sum(rate[n.key] for n in fast) / third > sum(rate[n.key] for n in slow) / third + 0.05


def test_the_text_comes_from_the_node_that_speaks_first() -> None:
    network = make_network(2, 24, history_s=600)
    submitted = load(network, 4, 60)
    for one in submitted:
        first = min(one.task.works, key=lambda work: work.first_ns)
        assert one.task.returned is first
        assert one.offsets_ns[0] == first.first_ns - one.task.created_ns
        assert one.task.chosen_because.endswith(", first_token" if len(one.task.works) > 1 else ", only_node")
    assert {one.task.chosen_because for one in submitted} == {"shuffle, first_token", "shuffle, only_node"}


def test_results_arrive_after_the_answer_and_one_by_one() -> None:
    network = make_network(2, 24, history_s=600)
    one = network.submit(START, "21", prompt_tokens=50, tokens_max=30).task
    assert one.returned is not None
    seen = []
    at_ns = START
    while one.status is not Status.ENDED:
        at_ns += SECOND_NS // 200
        network.advance(at_ns)
        seen.append((int(one.status), sum(work.committed for work in one.works)))
        if at_ns <= one.returned.ready_ns:
            assert seen[-1][1] == 0
    assert seen == sorted(seen)
    assert {status for status, _ in seen} == set(Status)


def test_a_session_draws_again_after_its_tasks_and_after_its_time() -> None:
    network = make_network(4, 24, history_s=600)
    session = network.sessions["11"]
    network.submit(START, "11", prompt_tokens=10, tokens_max=10)
    left = session.rule.reserve_tasks - session.tasks_since_drawn
    draws = session.draws
    for _ in range(left):
        network.submit(START, "11", prompt_tokens=10, tokens_max=10)
    assert session.draws == draws
    network.submit(START, "11", prompt_tokens=10, tokens_max=10)
    assert (session.draws, session.tasks_since_drawn) == (draws + 1, 1)
    network.submit(START + round(session.rule.reserve_s + 1) * SECOND_NS, "11", prompt_tokens=10, tokens_max=10)
    assert session.draws == draws + 2


def test_released_nodes_must_pass_a_check_before_they_are_pooled() -> None:
    network = make_network(4, 24, history_s=600)
    session = network.sessions["11"]
    before = list(session.reserved)
    network.submit(START + round(2 * session.rule.reserve_s) * SECOND_NS, "11", prompt_tokens=10, tokens_max=10)
    released = [node.key for node in before if node not in session.reserved]
    assert released
    assert {network.places[key] for key in released} == {Place.CHECKING}
    commits = {key: network.stats[key].commit_point for key in released}
    network.advance(network.now_ns + 100 * SECOND_NS)
    pooled = [key for key in released if network.places[key] is Place.POOLED]
    assert pooled
    assert all(network.stats[key].commit_point > commits[key] for key in pooled)
    reserved = {node.key for one in network.sessions.values() for node in one.reserved}
    assert sorted(reserved) == sorted(key for key, place in network.places.items() if place is Place.RESERVED)


def test_selection_is_even_among_nodes_with_room_and_avoids_full_ones() -> None:
    network = make_network(4, 24, history_s=600)
    session = network.sessions["12"]
    full, *free = session.reserved
    in_flight = {node.key: 0 for node in network.nodes} | {full.key: 2 * full.slots}
    rng = Random(1)
    selection = Selection(network.nodes, in_flight, network.faults, 0)
    choices = [selection.choose(rng, session, "", START) for _ in range(3_000)]
    drawn = Counter(node.key for chosen, _, _ in choices for node in chosen)
    assert full.key not in drawn
    assert {reason for _, reason, _ in choices} == {"shuffle"}
    expected = 3_000 * 2 / len(free)
    for node in free:
        assert abs(drawn[node.key] - expected) < 5 * (3_000 * 2 / 9) ** 0.5
    in_flight |= {node.key: 2 * node.slots for node in network.nodes}
    chosen, reason, _ = selection.choose(rng, session, "", START)
    assert (len(chosen), reason) == (2, "all_full")


def test_a_node_that_served_rests_while_others_have_room() -> None:
    network = make_network(4, 24, history_s=600)
    session = network.sessions["11"]
    selection = Selection(network.nodes, network.in_flight, network.faults, 10 * SECOND_NS)
    count = len(session.reserved)
    rng = Random(1)
    served = [selection.choose(rng, session, "", START)[0][0].key for _ in range(count)]
    assert len(set(served)) == count > 2
    assert selection.choose(rng, session, "", START + SECOND_NS)[1] == "all_full"
    assert selection.choose(rng, session, "", START + 10 * SECOND_NS)[1] == "shuffle"


def test_one_node_can_carry_all_sessions() -> None:
    network = make_network(9, 1, history_s=300)
    for session in ("11", "12", "21"):
        one = network.submit(START, session, prompt_tokens=10, tokens_max=10)
        assert [work.node for work in one.task.works] == list(network.nodes)


def test_an_unknown_session_is_a_key_error_and_starts_nothing() -> None:
    network = make_network(9, 3, history_s=0)
    with pytest.raises(KeyError):
        network.submit(START, "99", prompt_tokens=10, tokens_max=10)
    assert network.tasks_started == 0
