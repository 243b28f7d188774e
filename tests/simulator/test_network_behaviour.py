"""What the scenarios add to the network: churn, queues of the router, empty balances, levels, variants, bounds."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest

from loadtest.simulator import control, payment, reputation, sessions
from loadtest.simulator.contest import play_contest
from loadtest.simulator.network import Network, Refusal
from loadtest.simulator.reputation import Level
from loadtest.simulator.scenario import (
    Churn,
    LevelRule,
    PaymentRule,
    RouterRule,
    Scenario,
    Variants,
    load_scenario,
    scenario_names,
)
from loadtest.simulator.sessions import Place
from loadtest.simulator.tasks import NEVER_NS, SECOND_NS, Status

START = 1_750_000_000 * SECOND_NS
QUIET = Scenario(history_s=600.0)


def make(seed: int = 4, speed: float = 1.0, **changes: Any) -> Network:
    return Network(msgspec.structs.replace(QUIET, **changes), seed, START, speed)


def ask(network: Network, session: str = "11", *, cap: int = 200, stream: bool = True) -> Any:
    return network.submit(network.now_ns, session, prompt_tokens=100, tokens_max=cap, stream=stream)


# Churn.


def test_nodes_that_leave_are_offline_later_and_pooled_only_after_a_check() -> None:
    network = make(churn=Churn(up_h_mean=0.5, away_min_median=20.0, restart_share=0.0))
    seen: dict[str, list[Place]] = {node.key: [network.places[node.key]] for node in network.nodes}
    for step in range(1, 3_600):
        network.advance(START + step * 5 * SECOND_NS)
        for key, place in network.places.items():
            if seen[key][-1] is not place:
                seen[key].append(place)
    moves = {pair for places in seen.values() for pair in pairwise(places)}
    assert (Place.OFFLINE, Place.CHECKING) in moves and (Place.CHECKING, Place.POOLED) in moves
    assert (Place.OFFLINE, Place.POOLED) not in moves and (Place.OFFLINE, Place.RESERVED) not in moves
    told = control.status(network, 0, 0.0, 0.0)["connected_miners"]
    assert told == len(control.miners(network)["nodes"]) < 24  # type: ignore[call-overload]


def test_a_node_that_leaves_in_the_middle_breaks_off_its_text() -> None:
    network = make(churn=Churn(up_h_mean=0.05, away_min_median=2.0), pace=0.5)
    broken = [one for one in (ask_at(network, i) for i in range(400)) if one.offsets_ns[-1] == NEVER_NS]
    partly = [one for one in broken if len(one.offsets_ns) > 1]
    assert partly
    for one in partly:
        work = one.task.returned
        left_ns = work.leaves_ns - one.task.created_ns
        assert one.offsets_ns[-2] < left_ns <= work.ready_ns - one.task.created_ns
        assert len(one.offsets_ns) <= one.task.tokens
        assert work.precommit_ns is work.commit_ns is None


def ask_at(network: Network, second: int) -> Any:
    return network.submit(START + second * 5 * SECOND_NS, "11", prompt_tokens=100, tokens_max=200)


# Queues of the router.


def test_chain_transactions_queue_one_behind_the_other() -> None:
    free, queued = make(), make(router=RouterRule(tx_queue=True, tx_s=2.0))
    waits = []
    for _ in range(6):
        plain, held = ask(free), ask(queued)
        assert [w.node.key for w in plain.task.works] == [w.node.key for w in held.task.works]
        waits.append(round((held.offsets_ns[0] - plain.offsets_ns[0]) / SECOND_NS, 3))
    assert waits == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]


def test_a_blocking_stream_queue_holds_streams_back_and_whole_answers_not() -> None:
    free, blocking = make(), make(router=RouterRule(stream_queue_blocking=True, stream_lanes=1))
    end_ns = 0
    for _ in range(6):
        plain, held = ask(free).offsets_ns, ask(blocking).offsets_ns
        assert held == [max(offset, end_ns) for offset in plain]
        end_ns = held[-1]
    assert ask(free, stream=False).offsets_ns == ask(blocking, stream=False).offsets_ns


# Payment.


def test_an_empty_balance_refuses_until_a_deposit() -> None:
    rule = PaymentRule(price_task=10, price_1000_tokens=0, balance=25)
    network = make(payment=rule, history_s=0.0)
    paid = [ask(network, "21").charge for _ in range(2)]
    with pytest.raises(Refusal) as caught:
        paid.extend(ask(network, "21").charge for _ in range(10))
    assert (caught.value.status, caught.value.code) == (402, "insufficient_balance")
    assert sum(paid) > 25 - 10 >= network.payment.balance["21"] - network.payment.held["21"]
    ask(network, "12")  # another session has its own
    network.payment.deposit("21", 10)
    ask(network, "21")


def test_without_enforcement_the_balance_goes_below_zero() -> None:
    network = make(payment=PaymentRule(balance=0, on_empty="serve"), history_s=0.0)
    charge = ask(network).charge
    network.advance(network.now_ns + 300 * SECOND_NS)
    assert network.payment.balance["11"] == -charge < 0


def test_too_few_nodes_is_a_refusal() -> None:
    sessions_rule = [msgspec.structs.replace(rule, min_nodes=3) for rule in QUIET.sessions]
    network = make(nodes=2, sessions=sessions_rule, share_when_short=False, history_s=0.0)
    with pytest.raises(Refusal, match="no node is free") as caught:
        ask(network)
    assert caught.value.status == 503


# Levels.


def test_levels_go_up_with_successes_in_a_row_and_down_with_a_bad_rate() -> None:
    level = Level(LevelRule(top=2, consecutive=3, success_rate=0.8, fall_rate=0.5, window=4))
    values = []
    for success in (1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0):
        level.add(bool(success))
        values.append(level.value)
    assert values == [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 1, 0]


# Variants of shapes.


def test_variants_of_the_shapes_for_which_sources_conflict() -> None:
    network = make(
        variants=Variants(
            task_results="flat", miners="list", session_key="session_id", leaderboard="devnet7", network_tasks="bare"
        )
    )
    one = ask(network, "21").task
    network.advance(network.now_ns + 120 * SECOND_NS)
    shape = control.task(network, one)
    assert set(shape) == {"assigned_miners", "created_at", "finished_at", "status", "results", "results_hash"}
    assert len(shape["results"]) == len(shape["results_hash"]) == len(shape["assigned_miners"])
    miners = control.miners(network)
    assert isinstance(miners, dict) and set(miners) == {"miners"} and len(miners["miners"]) == 24
    assert control.sessions(network)["sessions"][0]["session_id"] == "11"
    row = control.leaderboard(network)[0]
    assert set(row["qualitative"]) == {"totalScore"}
    assert set(row["quantitive"]) == {"point", "totalCount", "normalCount", "abnormalCount", "lastValidated"}
    assert control.leaderboard_by_address(network)[0] == {"miner": row["miner"], "nodes": [row]}
    number, entry = next(iter(control.network_stats_tasks(network).items()))
    assert entry == {"session_id": int(number)}
    assert set(control.network_stats_tasks(make(variants=Variants(network_tasks="data")))) == {"data"}
    bare = control.miners(make(variants=Variants(miners="bare-list")))
    assert isinstance(bare, list) and len(bare) == 24


# Whole scenarios, determinism, bounds.


@pytest.mark.parametrize("name", scenario_names())
def test_each_scenario_serves_and_the_same_requests_get_the_same_decisions(name: str) -> None:
    scenario = msgspec.structs.replace(load_scenario(name), history_s=1_200.0)
    told = []
    for _ in range(2):
        network = Network(scenario, 7, START)
        rng = Random(7)
        answers: list[Any] = []
        for i in range(120):
            session = rng.choice(sorted(network.sessions))
            try:
                one = network.submit(START + i * SECOND_NS, session, prompt_tokens=50, tokens_max=150, stream=True)
                answers.append([one.offsets_ns, one.charge, [w.node.key for w in one.task.works], one.task.faults])
            except Refusal as refusal:
                answers.append(str(refusal))
        network.advance(START + 900 * SECOND_NS)
        leaderboard = control.leaderboard(network)
        told.append(msgspec.json.encode([answers, leaderboard, control.miners(network), control.sessions(network)]))
        assert sum(not isinstance(answer, str) for answer in answers) > 60
    assert told[0] == told[1]


def test_speed_divides_every_clock() -> None:
    slow, fast = make(speed=1.0), make(speed=10.0)
    slow.advance(START + 3_000 * SECOND_NS)
    fast.advance(START + 300 * SECOND_NS)
    pings = [sum(row.ping_counter for row in network.stats.values()) for network in (slow, fast)]
    assert pings[0] == pytest.approx(pings[1], abs=24)
    assert slow.network_tasks == pytest.approx(fast.network_tasks, rel=0.1)


def test_a_contest_rewards_the_steady_and_says_the_same_twice() -> None:
    scenario = msgspec.structs.replace(load_scenario("phase4"), nodes=30)
    one, two = (play_contest(scenario, 7, 0.5) for _ in range(2))
    assert one.table() == two.table()
    assert [s.score for s in one.standings] == sorted((s.score for s in one.standings), reverse=True)
    assert len(one.standings) == 30 and one.user_tasks > 500
    assert all(0 <= s.uptime <= 1 for s in one.standings)


def test_what_is_kept_is_bounded_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TASKS_KEPT", 100)
    monkeypatch.setattr(payment, "CHARGES_KEPT", 300)
    monkeypatch.setattr(reputation, "WINDOW_MAX", 50)
    network = make(
        speed=8.0, history_s=0.0, faults=["lost-task=0.1", "stuck-task=0.1", "late-counters", "counter-reset"]
    )
    at_ns, sizes = START, []
    tracemalloc.start()
    try:
        for _ in range(6):
            for i in range(600):
                at_ns += SECOND_NS // 5
                network.submit(at_ns, ("11", "12", "21")[i % 3], prompt_tokens=50, tokens_max=100)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert all(len(session.tasks) == 100 for session in network.sessions.values())
    assert len(network.payment.ledger) == 300 and len(network.agenda) < 3_000
    assert sizes[-1] < 1.15 * sizes[2], sizes
    paid = sum(network.payment.charged(session) for session in network.sessions)
    assert paid == sum(network.payment.deposited.values()) - sum(network.payment.balance.values())
    open_tasks = {task.status for session in network.sessions.values() for task in session.tasks.values()}
    assert Status.QUEUED in open_tasks and Status.ENDED in open_tasks
