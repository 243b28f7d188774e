"""Nothing is lost and nothing invented: sums that hold in every scenario, faults off, at every instant."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.simulator.network import Network, Refusal
from loadtest.simulator.reputation import WINDOW_MAX
from loadtest.simulator.scenario import Churn, Clocks, PaymentRule, RouterRule, Scenario, SessionRule
from loadtest.simulator.sessions import Place
from loadtest.simulator.tasks import SECOND_NS, Status, Task

START = 1_750_000_000 * SECOND_NS

rules = st.builds(
    lambda redundancy, room, minimum, seconds, tasks: (redundancy, room, minimum, seconds, tasks),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 2),
    st.sampled_from([20.0, 300.0]),
    st.integers(1, 60),
)
scenarios = st.builds(
    Scenario,
    nodes=st.integers(1, 30),
    history_s=st.sampled_from([0.0, 300.0]),
    pace=st.sampled_from([1.0, 4.0]),
    flaky_share=st.floats(0, 1),
    share_when_short=st.booleans(),
    sessions=st.lists(rules, min_size=1, max_size=4).map(
        lambda drawn: [
            SessionRule(str(10 + i), redundancy, minimum, room and redundancy + minimum + room, seconds, tasks)
            for i, (redundancy, room, minimum, seconds, tasks) in enumerate(drawn)
        ]
    ),
    clocks=st.builds(
        Clocks,
        ping_s=st.sampled_from([20.0, 301.0]),
        alive_s=st.sampled_from([30.0, 360.0]),
        pool_tick_s=st.sampled_from([5.0, 60.0]),
        round_s=st.sampled_from([3.0, 10.0]),
        round_miners=st.integers(1, 4),
        round_cooldown_s=st.sampled_from([0.0, 30.0]),
        user_cooldown_s=st.sampled_from([0.0, 2.0]),
    ),
    churn=st.builds(Churn, up_h_mean=st.sampled_from([0.0, 0.02, 0.2]), away_min_median=st.sampled_from([0.5, 5.0])),
    router=st.builds(RouterRule, tx_queue=st.booleans(), stream_queue_blocking=st.booleans()),
    payment=st.builds(
        PaymentRule,
        balance=st.sampled_from([0, 3 * 10**15, 10**24]),
        on_empty=st.sampled_from(["refuse", "serve"]),
    ),
)
requests = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 3), st.integers(1, 2_000), st.integers(1, 600), st.booleans()),
    max_size=50,
)


def request(network: Network, at_ns: int, session: int, prompt: int, cap: int, stream: bool) -> Task | None:
    """Submit a user task, unless it is refused."""
    session_id = sorted(network.sessions)[session % len(network.sessions)]
    network.advance(at_ns)
    session_now = network.sessions[session_id]
    before = session_now.submitted
    try:
        one = network.submit(at_ns, session_id, prompt_tokens=prompt, tokens_max=cap, stream=stream)
    except Refusal:
        assert session_now.submitted == before
        return None
    assert session_now.submitted == before + 1
    assert 1 <= len({work.node.key for work in one.task.works}) == len(one.task.works)
    assert len(one.task.works) <= network.sessions[session_id].redundancy
    assert all(work.node.model == network.sessions[session_id].model for work in one.task.works)
    assert one.offsets_ns == sorted(one.offsets_ns) and len(one.offsets_ns) <= one.task.tokens + 1
    return one.task


def check_places(network: Network) -> None:
    """Each node is in one place, and the places agree with what put it there."""
    counts = Counter(network.places.values())
    assert sum(counts.values()) == len(network.nodes) == len(network.places)
    reserved = {node.key for session in network.sessions.values() for node in session.reserved}
    assert reserved == {key for key, place in network.places.items() if place is Place.RESERVED}
    assert counts[Place.POOLED] + len(reserved) + counts[Place.CHECKING] + counts[Place.OFFLINE] == len(network.nodes)


def check_counters(network: Network) -> None:
    for stats in network.stats.values():
        assert stats.precommit_point <= stats.precommit_counter
        assert stats.commit_point <= stats.commit_counter <= stats.precommit_point
        assert stats.create_point <= stats.create_counter
        assert stats.prepare_point <= stats.prepare_counter
        assert stats.end_point == stats.correctness_point <= stats.commit_point
    for key, one in network.reputation.items():
        stats = network.stats[key]
        for stage, counter, points in (
            (one.precommit, stats.precommit_counter, stats.precommit_point),
            (one.commit, stats.commit_counter, stats.commit_point),
        ):
            assert len(stage.entered.values) == min(counter, WINDOW_MAX)
            assert len(stage.succeeded.values) == min(points, WINDOW_MAX)
            if counter <= WINDOW_MAX:
                assert not Counter(stage.succeeded.values) - Counter(stage.entered.values)


def check_ledger(network: Network, tasks: list[Task]) -> None:
    payment = network.payment
    for session in network.sessions:
        paid = payment.charged(session)
        assert payment.deposited[session] - payment.balance[session] == paid
        assert payment.held[session] >= 0
        expected = [task.charge for task in tasks if task.session == session]
        assert sum(expected) == paid + payment.held[session]
        if payment.rule.on_empty == "refuse":
            assert payment.balance[session] - payment.held[session] >= 0
    total = sum(payment.charged(session) for session in network.sessions)
    assert sum(payment.earned.values()) + payment.unallocated == total


def check_user_series(network: Network, tasks: list[Task]) -> None:
    """The lists of user tasks are the history of those tasks, entry by entry."""
    now_ns = network.now_ns
    entered: dict[str, Counter[int]] = {key: Counter() for key in network.stats}
    precommits = {key: Counter[int]() for key in network.stats}
    commits = {key: Counter[int]() for key in network.stats}
    for task in tasks:
        for work in task.works:
            second = work.acked_ns // SECOND_NS
            if work.acked_ns <= now_ns:
                entered[work.node.key][second] += 1
            if work.precommit_ns is not None and max(work.precommit_ns, work.acked_ns) <= now_ns:
                precommits[work.node.key][second] += 1
            if work.commit_ns is not None and work.commit_ns <= now_ns:
                commits[work.node.key][task.precommit_end_ns // SECOND_NS] += 1
    for key, one in network.session_reputation.items():
        assert Counter(one.precommit.entered.values) == entered[key]
        assert Counter(one.precommit.succeeded.values) == precommits[key]
        assert Counter(one.commit.succeeded.values) == commits[key]


@settings(max_examples=40, deadline=None)
@given(scenarios, st.integers(0, 1_000), requests)
def test_sums_hold_in_every_scenario(
    scenario: Scenario, seed: int, wanted: list[tuple[int, int, int, int, bool]]
) -> None:
    network = Network(scenario, seed, START)
    tasks = [task for session in network.sessions.values() for task in session.tasks.values()]  # of the history
    at_ns = START
    for gap_ms, session, prompt, cap, stream in wanted:
        at_ns += gap_ms * 1_000_000
        task = request(network, at_ns, session, prompt, cap, stream)
        tasks += [] if task is None else [task]
        check_places(network)
    for _ in range(2):
        check_places(network)
        check_counters(network)
        check_ledger(network, tasks)
        check_user_series(network, tasks)
        ended = sum(task.status is Status.ENDED for task in tasks)
        assert ended == sum(task.finished_ns is not None for task in tasks)
        assert network.tasks_started == len(tasks) + network.network_tasks
        network_ended = network.tasks_ended - ended
        assert 0 <= network.network_tasks - network_ended <= scenario.nodes  # open ones, each with a node of its own
        network.advance(network.now_ns + 900 * SECOND_NS)
    assert all(task.status is Status.ENDED for task in tasks)
    assert min(network.in_flight.values()) >= 0
    assert not any(network.payment.held.values())
