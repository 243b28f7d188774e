"""Every fault of the machine, off and on with one seed: it changes what it names, and nothing else."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest
from pictures import GAP_S, SCENARIO, START, TASKS, Picture, play

from loadtest.simulator.backend import LATE_S, RESET_S, SKEW_S
from loadtest.simulator.faults import FAULTS, Faults
from loadtest.simulator.network import Network
from loadtest.simulator.tasks import NEVER_NS, SECOND_NS, Status

SERVED = {"assigned", "acked", "precommits", "commits", "committed", "finished", "returned", "why", "offsets"}
PAID = {"charge", "charged"}
# Faults of tasks: what may differ in a task that was struck, and the sums that follow from it.
TASK_FAULTS: dict[str, tuple[set[str], set[str]]] = {
    "biased-shuffle": (SERVED | PAID, {"user_series", "ledger"}),
    "long-prompts-apart": (SERVED | PAID, {"user_series", "ledger"}),
    "wrong-model": ({"model"}, set()),
    "lost-task": ({"committed", "finished", "status", "returned", "why", "offsets"} | PAID, {"user_series", "ledger"}),
    "stuck-task": ({"committed", "finished", "status"} | PAID, {"user_series", "ledger"}),
    "duplicate-task": ({"charged"}, {"user_series", "ledger"}),
    "late-first-token": ({"offsets"}, set()),
    "double-billing": (PAID, {"ledger"}),
    "billed-failure": (PAID, {"ledger"}),
    "unbilled-success": (PAID, {"ledger"}),
    "token-over-count": ({"told"} | PAID, {"ledger"}),
}
# Faults of nodes that change how tasks are served.
SERVING_FAULTS: dict[str, tuple[set[str], set[str]]] = {
    "sticky-node": (SERVED | PAID, {"user_series", "ledger"}),
    "starved-node": (SERVED | PAID, {"user_series", "ledger"}),
    "slow-but-reputed-node": ({"offsets", "returned"}, {"user_series", "series", "stats", "rows", "lists"}),
    "misreporting-node": (set(), {"user_series", "series", "stats", "rows", "lists"}),
}
TELLING_FAULTS = (
    "wrong-counters",
    "late-counters",
    "stale-snapshot",
    "missing-node",
    "address-case-change",
    "counter-reset",
    "clock-skew",
)
SUMS = ("stats", "series", "user_series", "places", "rows", "lists", "ledger")
MACHINE = {*TASK_FAULTS, *SERVING_FAULTS, *TELLING_FAULTS}


@cache
def off() -> Picture:
    return play()


@cache
def on(*switches: str) -> Picture:
    return play(*switches)


def without_last_active(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """User tasks move `last_active` also; who serves them decides whose."""
    return {key: {name: value for name, value in row.items() if name != "last_active"} for key, row in rows.items()}


def check_tasks(before: Picture, after: Picture, named: dict[str, set[str]]) -> set[str]:
    """Compare all tasks; a struck one may differ where one of its faults names it. Returns the keys of struck ones."""
    assert before.tasks.keys() == after.tasks.keys()
    struck = set()
    for key, was in before.tasks.items():
        now = after.tasks[key]
        assert set(now["faults"]) <= named.keys()
        may = {"faults"}.union(*(named[name] for name in now["faults"]))
        if after.copies:
            may.add("id")
        assert {field for field in was if was[field] != now[field]} <= may, key
        if now["faults"]:
            struck.add(key)
    return struck


def check_sums(before: Picture, after: Picture, may: set[str]) -> None:
    for name in SUMS:
        was, now = getattr(before, name), getattr(after, name)
        if name == "rows":
            was, now = without_last_active(was), without_last_active(now)
        if name not in may:
            assert was == now, name


def victims(after: Picture, name: str) -> set[str]:
    nodes = after.network.nodes
    struck = after.network.faults.victims(name, [node.node_id for node in nodes])
    return {node.key for node in nodes if node.node_id in struck}


def test_every_fault_of_the_machine_is_covered_here() -> None:
    """The table has those of the machine first and those of the shell after them."""
    names = list(FAULTS)
    assert set(names[: names.index("buffering-proxy")]) == MACHINE


def test_faults_of_the_shell_change_nothing_in_the_machine() -> None:
    after = play(*(f"{name}=1" for name in FAULTS if name not in MACHINE))
    assert not check_tasks(off(), after, {})
    check_sums(off(), after, set())


@pytest.mark.parametrize("name", TASK_FAULTS)
def test_a_fault_of_tasks(name: str) -> None:
    fields, sums = TASK_FAULTS[name]
    rate = 1.0 if name == "billed-failure" else 0.3
    after = on(f"{name}={rate}")
    struck = check_tasks(off(), after, {name: fields})
    check_sums(off(), after, sums)
    differing = {key for key in struck if off().tasks[key] != after.tasks[key]}
    assert differing
    if name not in ("biased-shuffle", "long-prompts-apart", "billed-failure", "double-billing", "unbilled-success"):
        expected = {key for key in off().tasks if after.network.faults.strikes(name, key)}
        assert struck == expected and 20 < len(struck) < 80


def test_what_is_lost_and_what_is_stuck() -> None:
    for key, task in on("lost-task=0.3").tasks.items():
        lost = "lost-task" in task["faults"]
        assert (task["status"] == Status.QUEUED) == lost
        if lost and task["offsets"] is not None:
            assert (task["offsets"], task["returned"], task["charged"]) == ([NEVER_NS], None, 0), key
    for task in on("stuck-task=0.3").tasks.values():
        assert (task["status"] == Status.PRECOMMITTED) == ("stuck-task" in task["faults"])


def test_what_is_charged() -> None:
    before = off().tasks
    assert any(task["charge"] == 0 for task in before.values()), "some task fails, or billed-failure shows nothing"
    price = off().network.payment.price
    for key, was in before.items():
        full = price(was["tokens"][0])
        assert was["charge"] == (full if any(was["committed"]) else 0)
        assert on("billed-failure=1.0").tasks[key]["charge"] == full
        twice = on("double-billing=0.3").tasks[key]
        assert twice["charge"] == was["charge"] * (2 if "double-billing" in twice["faults"] else 1)
        free = on("unbilled-success=0.3").tasks[key]
        assert free["charge"] == (0 if "unbilled-success" in free["faults"] else was["charge"])
        over = on("token-over-count=0.3").tasks[key]
        if "token-over-count" in over["faults"]:
            assert over["told"] >= 1.5 * over["tokens"][0]
            assert over["charge"] == (price(over["told"]) if was["charge"] else 0)


def test_a_duplicate_is_a_second_task_of_the_same_nodes() -> None:
    after = on("duplicate-task=0.3")
    assert after.copies == [key for key, task in after.tasks.items() if task["faults"]]
    for session in after.network.sessions.values():
        assert session.tasks_started == len(session.tasks) > session.submitted
        for task in session.tasks.values():
            if "duplicate-task" in task.faults:
                same = [one for one in session.tasks.values() if one.serial == task.serial]
                assert len(same) == 2 and same[0].task_id + 1 == same[1].task_id
                assert [w.node for w in same[0].works] == [w.node for w in same[1].works]


@pytest.mark.parametrize("name", SERVING_FAULTS)
def test_a_fault_of_nodes_that_serve(name: str) -> None:
    fields, sums = SERVING_FAULTS[name]
    after = on(f"{name}=0.2")
    struck = check_tasks(off(), after, {name: fields})
    assert struck
    check_sums(off(), after, sums)
    if name in ("slow-but-reputed-node", "misreporting-node"):
        changed = victims(after, name)
        for table in sums:
            was, now = getattr(off(), table), getattr(after, table)
            assert {key for key in was if was[key] != now[key]} <= changed
        for key in changed:
            for stage in ("precommit", "commit"):
                lists = after.series[key][stage]
                failed = set(lists["all_timestamps"]) - set(lists["success_timestamps"])
                assert all(second > after.network.now_ns // SECOND_NS - 60 for second in failed)  # still open


def test_starved_sticky_and_biased_choices() -> None:
    starved = on("starved-node=0.2")
    for task in starved.tasks.values():
        assert not victims(starved, "starved-node") & set(task["assigned"])
    stuck = on("sticky-node=0.2")
    chosen = [bool(victims(stuck, "sticky-node") & set(task["assigned"])) for task in stuck.tasks.values()]
    before = [bool(victims(stuck, "sticky-node") & set(task["assigned"])) for task in off().tasks.values()]
    assert sum(chosen) > 1.2 * sum(before)
    biased = on("biased-shuffle=1")
    assert len({tuple(task["assigned"]) for task in biased.tasks.values()}) < 0.6 * len(
        {tuple(task["assigned"]) for task in off().tasks.values()}
    )


def test_a_slow_node_is_eight_times_slower() -> None:
    after = on("slow-but-reputed-node=1")
    pairs = [
        (was["offsets"][-1], now["offsets"][-1])
        for was, now in zip(off().tasks.values(), after.tasks.values(), strict=True)
        if was["offsets"] and was["returned"] == now["returned"]
    ]
    assert len(pairs) > 40
    assert all(now == pytest.approx(8 * was, rel=1e-6) for was, now in pairs)


def test_a_late_first_token_is_a_fifth_later_and_all_that_follow_by_as_much() -> None:
    seen = 0
    for key, was in off().tasks.items():
        now = on("late-first-token=1").tasks[key]["offsets"]
        if was["offsets"] and was["offsets"][-1] != NEVER_NS:
            later = now[0] - was["offsets"][0]
            assert later == was["offsets"][0] * 20 // 100
            assert now == [offset + later for offset in was["offsets"]]
            seen += 1
    assert seen > 40


# What the network tells of its nodes.


@pytest.mark.parametrize("name", TELLING_FAULTS)
def test_a_fault_of_telling_leaves_what_is_true(name: str) -> None:
    after = on(name if name == "stale-snapshot" else f"{name}=0.2")
    assert not check_tasks(off(), after, {})
    check_sums(off(), after, {"rows", "lists"})
    changed = {key for key in off().rows if off().rows[key] != after.rows.get(key)}
    assert changed
    if name != "stale-snapshot":
        assert changed <= victims(after, name)
    if name not in ("late-counters", "missing-node", "clock-skew"):
        assert after.lists == off().lists


def test_wrong_counters_are_too_high_and_points_are_right() -> None:
    after = on("wrong-counters=0.2")
    for key in victims(after, "wrong-counters"):
        was, now = off().rows[key], after.rows[key]
        assert now["precommitCounter"] > was["precommitCounter"]
        assert {name for name in was if was[name] != now[name]} <= {name for name in was if name.endswith("Counter")}


def test_late_counters_are_those_of_ten_minutes_ago() -> None:
    after = on("late-counters=0.2")
    earlier = Network(SCENARIO, 3, START, faults=Faults((), 3))
    replay(earlier, after.network.now_ns - LATE_S * SECOND_NS)
    then = {row.node_id: row for row in earlier.backend.rows}
    for row in after.network.backend.rows:
        if any(
            node.node_id == row.node_id and node.key in victims(after, "late-counters") for node in after.network.nodes
        ):
            assert row == then[row.node_id]
    until_s = after.network.now_ns // SECOND_NS - LATE_S
    for key in victims(after, "late-counters"):
        told, true = after.lists[key]["precommit"], off().lists[key]["precommit"]
        assert told["all_timestamps"] == [second for second in true["all_timestamps"] if second <= until_s]


def replay(network: Network, until_ns: int) -> None:
    """The requests of `play`, as far as they came before an instant."""
    rng = Random(3)
    sessions = sorted(network.sessions)
    for i in range(TASKS):
        at_ns = START + i * GAP_S * SECOND_NS
        if at_ns > until_ns:
            break
        network.submit(at_ns, rng.choice(sessions), prompt_tokens=rng.randint(20, 400), tokens_max=300)
    network.advance(until_ns)


def test_stale_missing_recased_reset_and_skewed() -> None:
    first = Network(SCENARIO, 3, START, faults=Faults((), 3)).backend.rows
    assert on("stale-snapshot").network.backend.rows == first
    missing = on("missing-node=0.2")
    gone = victims(missing, "missing-node")
    assert missing.rows.keys() == off().rows.keys() - gone
    assert all(missing.lists[key] is None for key in gone)
    skewed = on("clock-skew=0.2")
    for key in victims(skewed, "clock-skew"):
        assert skewed.rows[key]["last_active"] == off().rows[key]["last_active"] + SKEW_S
        for stage in ("precommit", "commit"):
            for name, seconds in skewed.lists[key][stage].items():
                assert seconds == [second + SKEW_S for second in off().lists[key][stage][name]]
    recased = on("address-case-change=0.2").network
    spellings: dict[str, set[str]] = {}
    for _ in range(2):
        recased.advance(recased.now_ns + 2 * SECOND_NS)
        for row in recased.backend.rows:
            spellings.setdefault(row.node_id, set()).add(row.miner)
    struck = recased.faults.victims("address-case-change", list(spellings))
    assert {node_id for node_id, seen in spellings.items() if len(seen) == 2} == struck


def test_a_reset_counter_begins_again_at_zero() -> None:
    after = on("counter-reset=0.2")
    assert after.network.now_ns - START > RESET_S * SECOND_NS
    for key in victims(after, "counter-reset"):
        assert 0 <= after.rows[key]["ping_counter"] < off().rows[key]["ping_counter"]
        assert after.rows[key]["precommitCounter"] < off().rows[key]["precommitCounter"]


# Pairs: each does what it does alone.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lost-task", "stuck-task"),
        ("token-over-count", "wrong-model"),
        ("duplicate-task", "wrong-model"),
        ("starved-node", "token-over-count"),
        ("misreporting-node", "unbilled-success"),
        ("clock-skew", "double-billing"),
        ("billed-failure", "missing-node"),
    ],
)
def test_two_faults_at_once(one: str, other: str) -> None:
    alone = [on(f"{name}=0.3") for name in (one, other)]
    both = on(f"{one}=0.3", f"{other}=0.3")
    rules = TASK_FAULTS | SERVING_FAULTS
    check_tasks(off(), both, {name: rules[name][0] for name in (one, other) if name in rules})
    for key, task in both.tasks.items():
        expected = {name for picture in alone for name in picture.tasks[key]["faults"]}
        if one == "lost-task":
            assert set(task["faults"]) <= expected  # what is lost cannot be stuck, and is told once
        else:
            assert set(task["faults"]) == expected
