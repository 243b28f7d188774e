"""Which tasks are looked up, when, how often, and what is recorded when nothing comes."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.observe import lookups
from loadtest.observe.lookups import (
    ATTEMPTS_MAX,
    BETWEEN_MAX,
    GAP_IDS_MAX,
    LATE_MAX,
    PER_S_MAX,
    RETRY_NS,
    Ids,
    Lookups,
    chosen,
)
from loadtest.observe.rows import Row
from loadtest.observe.sources import NODE_POLLS_PER_S_MAX, NodeSources, Source
from loadtest.records import TaskRecord

S = 10**9
WALL = 1_750_000_000 * S
ROUTES = {"router": "cortensor", "chat": "openai-chat"}


def row(reference: str = "r-1", **fields: Any) -> Row:
    whole = Row(reference, "router", "12", "5", hashlib.sha256(b"hello").hexdigest(), 100 * S, 0)
    return whole._replace(**fields)


def one(share: float = 1.0, grace_s: int = 10, **fields: Any) -> Lookups:
    found = Lookups(seed=7, share_max=share, grace_ns=grace_s * S, routes=ROUTES)
    assert found.offer([row(**fields)], WALL) == []
    return found


def half() -> dict[str, Any]:
    return {"assigned_miners": ["0xaa", "0xbb"], "results": {"data": ["hello"], "miners": ["0xaa"]}}


def test_the_sample_is_the_same_for_everybody_and_nested() -> None:
    references = [f"run-{i}" for i in range(5000)]
    tenth = {r for r in references if chosen(r, 7, 0.1)}
    assert tenth == {r for r in reversed(references) if chosen(r, 7, 0.1)}
    assert tenth < {r for r in references if chosen(r, 7, 0.3)}
    assert abs(len(tenth) - 500) < 4 * (5000 * 0.1 * 0.9) ** 0.5  # four standard deviations of a fair draw
    assert tenth != {r for r in references if chosen(r, 8, 0.1)}


@given(st.text(), st.integers())
def test_share_zero_takes_none_and_share_one_takes_all(reference: str, seed: int) -> None:
    assert not chosen(reference, seed, 0.0)
    assert chosen(reference, seed, 1.0)


def test_due_is_the_answer_on_the_masters_clock_plus_grace() -> None:
    found = one(grace_s=10, done_ns=100 * S, clock_offset_ns=3 * S)
    assert found.next_due_ns() == 113 * S
    assert found.take(113 * S - 1) is None
    lookup = found.take(113 * S)
    assert lookup is not None
    assert lookup.path == "/api/v1/tasks/12/5"


def test_what_needs_no_look_up_gets_none() -> None:
    for fields in ({"session": None}, {"done_ns": None}, {"target": "gone"}, {"task_id": None, "text_sha256": None}):
        assert one(**fields).open_count() == 0
    assert one(target="chat", task_id=None).open_count() == 0
    assert one(target="chat").open_count() == 1  # an OpenAI route that names session and task can be asked
    assert one(task_id=None).open_count() == 1


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    lookup = one(session="../x?", task_id="5/6#").take(200 * S)
    assert lookup is not None
    assert lookup.path == "/api/v1/tasks/..%2Fx%3F/5%2F6%23"


def test_half_results_are_asked_again_until_they_are_whole() -> None:
    found = one()
    lookup = found.take(200 * S)
    assert lookup is not None
    assert found.answered(lookup, half(), "", "", 200 * S, WALL) is None
    assert found.next_due_ns() == 200 * S + RETRY_NS
    again = found.take(200 * S + RETRY_NS)
    assert again is lookup
    whole = half() | {"results": {"data": ["hello", "you"], "miners": ["0xaa", "0xBB"]}}
    record = found.answered(again, whole, "", "", 202 * S, WALL)
    assert record is not None
    assert (record.complete, record.miners, record.error, record.client_reference) == (
        True,
        ("0xaa", "0xbb"),
        "",
        "r-1",
    )
    assert (found.open_count(), found.counts.complete, found.counts.requests) == (0, 1, 2)


@pytest.mark.parametrize(("body", "error"), [({"no": 1}, "expected an object"), (None, "status: 500")])
def test_eight_tries_and_then_the_record_of_why_nothing_is_known(body: Any, error: str) -> None:
    found, now, record = one(), 200 * S, None
    for attempt in range(1, ATTEMPTS_MAX + 1):
        lookup = found.take(now)
        assert lookup is not None
        record = found.answered(
            lookup, body, "status" if body is None else "", error if body is None else "", now, WALL
        )
        assert (record is None) == (attempt < ATTEMPTS_MAX)
        now += RETRY_NS
    assert isinstance(record, TaskRecord)
    assert record.complete is False
    assert error in record.error
    assert found.open_count() == 0


def test_a_task_that_does_not_end_is_asked_for_ever_more_rarely_and_nobody_waits_for_it() -> None:
    """It shows by its age that it is stuck, so its record must tell when it was last seen open."""
    found, now = one(), 200 * S
    asked = []
    while (due := found.next_due_ns()) is not None:
        now = max(now, due)
        lookup = found.take(now)
        assert lookup is not None
        asked.append((now - 200 * S) / S)
        record = found.answered(lookup, half(), "", "", now, now)
        assert found.open_count() == (len(asked) < ATTEMPTS_MAX)
    assert record is not None and (record.complete, record.error, record.miners) == (False, "", ("0xaa",))
    assert len(asked) == ATTEMPTS_MAX + LATE_MAX
    assert [b - a for a, b in pairwise(asked[ATTEMPTS_MAX - 1 :])] == [3 << i for i in range(LATE_MAX)]
    assert record.looked_up_wall_ns == now
    left = one()
    lookup = left.take(200 * S)
    assert lookup is not None
    left.answered(lookup, half(), "", "", 200 * S, WALL)
    (record,) = left.give_up("over", WALL + 99 * S)
    assert record.looked_up_wall_ns == WALL, "not when it was given up"


def test_a_task_whose_results_are_all_there_is_asked_once_more_for_its_end() -> None:
    whole = {"assigned_miners": ["0xaa"], "results": {"data": ["hello"], "miners": ["0xaa"]}, "status": 3}
    found = one()
    for now, body in ((200 * S, whole), (210 * S, {**whole, "status": 4, "finished_at": 1_750_000_002})):
        lookup = found.take(now)
        assert lookup is not None
        record = found.answered(lookup, body, "", "", now, WALL + now)
    assert record is not None and (record.complete, record.finished_s) == (True, 1_750_000_002)
    silent = one()
    for now in (200 * S, 210 * S):
        lookup = silent.take(now)
        assert lookup is not None
        record = silent.answered(lookup, whole, "", "", now, WALL + now)
    assert record is not None and (record.complete, record.finished_s, silent.counts.requests) == (True, None, 2)
    untold = {name: value for name, value in whole.items() if name != "status"}
    short = one()
    lookup = short.take(200 * S)
    assert lookup is not None
    assert short.answered(lookup, untold, "", "", 200 * S, WALL) is not None, "a router that tells no state has no end"


def test_an_error_after_half_a_result_keeps_the_half() -> None:
    found = one()
    lookup = found.take(200 * S)
    assert lookup is not None
    found.answered(lookup, half(), "", "", 200 * S, WALL)
    found.take(210 * S)
    found.answered(lookup, None, "timeout", "timeout: GET", 210 * S, WALL)
    (record,) = found.give_up("over", WALL)
    assert (record.miners, record.error, record.complete) == (("0xaa",), "", False)


def test_a_router_without_the_task_route_is_asked_for_its_list() -> None:
    found = one()
    lookup = found.take(200 * S)
    assert lookup is not None
    assert found.answered(lookup, None, "not_found", "not_found: 404", 200 * S, WALL) is None
    again = found.take(210 * S)
    assert again is not None
    assert again.path == "/api/v1/tasks/12"
    entry = {"assigned_miners": ["0xaa"], "results": ["hello"]}
    body = {"tasks": [{**entry, "id": 4}, {**entry, "id": 5}]}
    record = found.answered(again, body, "", "", 210 * S, WALL)
    assert record is not None
    assert (record.task_id, record.miners, record.complete) == ("5", ("0xaa",), True)


def test_a_row_without_a_task_id_finds_its_task_by_the_text() -> None:
    entry = {"assigned_miners": ["0xaa"], "results": [" hello\n"]}
    other = {"assigned_miners": ["0xbb"], "results": ["you"]}
    for listed, known in (([other, entry], True), ([entry, entry], False), ([other], False)):
        found = one(task_id=None)
        lookup = found.take(200 * S)
        assert lookup is not None
        assert lookup.path == "/api/v1/tasks/12"
        record = found.answered(lookup, {"tasks": listed}, "", "", 200 * S, WALL)
        assert (record is not None) == known
        if record is not None:
            assert (record.miners, record.client_reference, record.task_id) == (("0xaa",), "r-1", "")
        else:
            assert "listed tasks can be this one" in lookup.error


def test_the_rate_of_requests_is_bounded() -> None:
    found = Lookups(seed=7, share_max=1.0, grace_ns=0, routes=ROUTES)
    found.offer([row(f"r-{i}") for i in range(500)], WALL)
    taken = sum(found.take(200 * S + ms * S // 1000) is not None for ms in range(2000))
    assert taken == 2 * PER_S_MAX


def test_the_queue_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "WAITING_MAX", 3)
    found = Lookups(seed=7, share_max=1.0, grace_ns=0, routes=ROUTES)
    records = found.offer([row(f"r-{i}") for i in range(5)], WALL)
    assert [r.client_reference for r in records] == ["r-3", "r-4"]
    assert records[0].error == "not looked up: 3 tasks were waiting"
    assert (found.open_count(), found.counts.chosen, found.counts.failed) == (3, 5, 2)


def test_giving_up_leaves_a_record_of_each() -> None:
    found = Lookups(seed=7, share_max=1.0, grace_ns=0, routes=ROUTES)
    found.offer([row(f"r-{i}") for i in range(3)], WALL)
    assert found.take(200 * S) is not None
    assert len(found.give_up("over", WALL)) == 2
    (asked,) = found.give_up("stopped", WALL, asked_too=True)
    assert (asked.client_reference, asked.error, asked.task_id, found.open_count()) == ("r-0", "stopped", "5", 0)


class NoClient:
    def get_json(self, path: str) -> Any:
        raise AssertionError(path)


def test_a_failing_source_backs_off_and_comes_back() -> None:
    source, now, waits = Source("leaderboard", NoClient(), "/leaderboard", 5 * S), 0, []
    for _ in range(7):
        source.asked(now)
        source.answered("connect: refused", now, WALL)
        waits.append((source.next_ns - now) // S)
        now = source.next_ns
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    source.asked(now)
    assert not source.due(now + 60 * S)  # one question at a time
    source.answered("", now + S, WALL)
    assert (source.next_ns, source.failures, source.errors) == (now + 5 * S, 0, 7)


def test_a_slow_period_is_not_shortened_by_failing() -> None:
    source = Source("leaderboard", NoClient(), "/leaderboard", 900 * S)
    source.asked(0)
    source.answered("x", 0, WALL)
    assert source.next_ns == 900 * S


def test_nodes_share_a_rate_and_none_starves() -> None:
    nodes = NodeSources(NoClient(), period_ns=1 * S)
    nodes.know([f"0x{i:040x}" for i in range(50)], 0)
    nodes.know(["0X" + "0" * 40], 0)  # known already, in other letters
    taken = []
    for ms in range(10_000):
        source = nodes.take(ms * S // 1000)
        if source is not None:
            taken.append(source.path)
            source.asked(ms * S // 1000)
            source.answered("", ms * S // 1000, WALL)
            nodes.wait(source)
    assert len(taken) == 10 * NODE_POLLS_PER_S_MAX
    assert {taken.count(path) for path in taken} == {2}  # 100 sources, 200 polls
    assert taken[0] == "/reputation/0x" + "0" * 40


def test_too_many_nodes_for_the_rate_are_a_gap() -> None:
    def late(count: int) -> str:
        nodes = NodeSources(NoClient(), period_ns=2 * S)
        nodes.know([f"0x{i:040x}" for i in range(count)], 0)
        for tick in range(10 * NODE_POLLS_PER_S_MAX):
            now = tick * S // NODE_POLLS_PER_S_MAX
            source = nodes.take(now)
            if source is not None:
                source.asked(now)
                source.answered("", now, WALL)
                nodes.wait(source)
        told = nodes.take_late()
        assert nodes.take_late() == ""  # told once
        return told

    assert late(20) == ""  # 40 polls every 2 s are what the rate allows
    assert late(60).startswith("late: 120 polls of nodes due every 2 s, at most 20 of them a second; the latest was ")


def test_an_address_that_is_no_address_is_not_put_into_a_url() -> None:
    nodes = NodeSources(NoClient(), period_ns=S)
    nodes.know(["../../admin", "0xab?x=1", "", "节点", "0xAB"], 0)
    assert [source.path for source in nodes.all()] == ["/reputation/0xAB", "/session-reputation/0xAB"]
    nodes.know(["../../admin", "0xAB"], 1)
    assert nodes.refused == 4, "nodes are counted, not polls"


def test_ids_between_those_of_our_tasks_are_asked_for_at_the_end() -> None:
    """A lost task has one of them, and so has a task that was queued twice."""
    routers = {"a": "http://r1", "b": "http://r1", "c": "http://r2"}
    made = Lookups(7, 1.0, 0, dict.fromkeys(routers, "cortensor"), routers)
    rows = [
        Row(f"r{i}", target, session, task_id, None, None, 0)
        for i, (target, session, task_id) in enumerate(
            [
                ("a", "12", "3"),
                ("b", "12", "6"),
                ("a", "12", "9"),
                ("c", "12", "4"),
                ("c", "12", "5"),
                ("a", "21", None),
            ]
        )
    ]
    made.offer(rows, 1)
    made.look_between(100)
    asked = []
    now = 100
    while (lookup := made.take(now)) is not None:
        asked.append((lookup.row.target, lookup.path, lookup.row.client_reference))
        now += 10**9
    assert asked == [("a", f"/api/v1/tasks/12/{i}", "") for i in (4, 5, 7, 8)]


@given(st.sets(st.integers(0, 60), min_size=1), st.lists(st.integers(0, 60), unique=True))
def test_untold_ids_are_those_between_the_first_and_the_last(told: set[int], places: list[int]) -> None:
    ids = Ids(next(iter(told)), next(iter(told)), set())
    for number in told:
        ids.add(number)
    untold = [number for number in range(min(told), max(told)) if number not in told]
    assert ids.between() == len(untold)
    inside = [place for place in places if place < len(untold)]
    assert [*ids.pick(inside)] == [untold[place] for place in inside]
    ids.add(min(told) + GAP_IDS_MAX)
    assert ids.between() == 0 and not ids.told, "ids that do not count up are not held"


def test_ids_between_are_bounded_and_spread() -> None:
    made = Lookups(7, 1.0, 0, {"a": "cortensor"}, {"a": "http://r1"})
    rows = [Row(f"r{i}", "a", "12", str(1 + 5000 * (i % 2)), None, None, 0) for i in range(1000)]
    made.offer(rows, 1)
    made.look_between(100)
    assert made.open_count() == BETWEEN_MAX
    none = Lookups(7, 0.0, 0, {"a": "cortensor"}, {"a": "http://r1"})
    none.offer(rows, 1)
    none.look_between(100)
    assert none.open_count() == 0, "no look-ups were allowed"
