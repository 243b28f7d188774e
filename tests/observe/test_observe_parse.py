"""Every shape that was seen is read; every other is one clear error and never a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import runfolder
from loadtest.observe import parse
from loadtest.records import NodeSnapshot, RouterSample

NOW_S = 1_750_000_000
NOW_NS = NOW_S * 10**9
ROW = {
    "miner": "0xAbCd",
    "last_active": 1_749_999_000,
    "ping_counter": 8123,
    "createPoint": 12,
    "createCounter": 14,
    "precommitPoint": 880,
    "precommitCounter": 1000,
    "commitPoint": 860,
    "commitCounter": 880,
    "endPoint": 0,
}
KEYS = ["miner", "precommit", "commit", "all_timestamps", "success_timestamps", "assigned_miners", "results", "data"]
KEYS += ["miners", "tasks", "status", "finished_at", "id", "precommitCounter", "uptime"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_leaderboard_row() -> None:
    board = parse.leaderboard([ROW], NOW_NS)
    assert board.errors == ()
    (node,) = board.rows
    assert (node.source, node.node, node.node_as_seen) == ("leaderboard", "0xabcd", "0xAbCd")
    assert (node.precommit_points, node.precommit_counter) == (880, 1000)
    assert (node.create_points, node.create_counter) == (12, 14)
    assert (node.last_active_s, node.ping_counter, node.observed_wall_ns) == (1_749_999_000, 8123, NOW_NS)
    assert (node.prepare_points, node.prepare_counter) == (None, None)


def test_a_counter_of_zero_is_no_data() -> None:
    (node,) = parse.leaderboard([{**ROW, "commitCounter": 0, "commitPoint": 0, "last_active": 0}], NOW_NS).rows
    assert (node.commit_counter, node.commit_points, node.last_active_s) == (None, 0, None)


def test_a_bad_row_costs_itself_only() -> None:
    board = parse.leaderboard([ROW, 7, {"miner": None}, {"miner": "x" * 200}, {**ROW, "miner": "0xEF"}], NOW_NS)
    assert [row.node for row in board.rows] == ["0xabcd", "0xef"]
    assert [error.split(":")[0] for error in board.errors] == [f"leaderboard row {i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("body", [None, {"error": "x"}, "html", 3])
def test_a_leaderboard_of_another_shape_is_one_line(body: Any) -> None:
    with pytest.raises(parse.ParseError, match="leaderboard: expected a list of nodes, got ") as error:
        parse.leaderboard(body, NOW_NS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("age_s", "succeeded", "figures"),
    [
        (0, False, (0, 0, 1)),  # just entered: pending
        (179, False, (0, 0, 1)),
        (180, False, (1, 0, 0)),  # from 180 s on it is a failure
        (5000, False, (1, 0, 0)),
        (0, True, (1, 1, 0)),  # a success is settled at once
        (5000, True, (1, 1, 0)),
        (-30, False, (0, 0, 1)),  # the source's clock is ahead of ours
    ],
)
def test_the_pending_rule(age_s: int, succeeded: bool, figures: tuple[int, int, int]) -> None:
    entry = NOW_S - age_s
    assert parse.settle([entry], [entry] if succeeded else [], NOW_S) == figures


def test_two_tasks_of_one_second_and_a_success_without_its_entry() -> None:
    old = NOW_S - 1000
    assert parse.settle([old, old], [old], NOW_S) == (2, 1, 0)
    assert parse.settle([old, old], [old, old], NOW_S) == (2, 2, 0)
    assert parse.settle([old], [old - 1, old], NOW_S) == (1, 1, 0)


@given(st.lists(st.integers(NOW_S - 600, NOW_S + 60)), st.data())
def test_settled_and_pending_are_all_entries_in_any_order(entries: list[int], data: st.DataObject) -> None:
    successes = data.draw(st.lists(st.sampled_from(entries)) if entries else st.just([]))
    settled, succeeded, pending = parse.settle(entries, successes, NOW_S)
    assert settled + pending == len(entries)
    assert 0 <= succeeded <= settled
    shuffled = data.draw(st.permutations(entries))
    assert parse.settle(shuffled, successes, NOW_S) == (settled, succeeded, pending)


@given(st.sets(st.integers(NOW_S - 600, NOW_S)), st.sets(st.integers(NOW_S - 600, NOW_S)))
def test_without_repeats_it_is_the_community_rule_of_sets(entries: set[int], successes: set[int]) -> None:
    failures = {entry for entry in entries - successes if NOW_S - entry >= 180}
    settled, succeeded, _ = parse.settle(sorted(entries), sorted(successes), NOW_S)
    assert succeeded == len(entries & successes)
    assert settled - succeeded == len(failures)


def test_a_reputation_with_one_stage_and_unsorted_lists() -> None:
    stage = {"all_timestamps": [NOW_S - 10, NOW_S - 900, NOW_S - 400], "success_timestamps": [NOW_S - 900]}
    node = parse.reputation({"precommit": stage}, "session-reputation", "0xAB", NOW_NS)
    assert (node.source, node.node, node.effective_s) == ("session-reputation", "0xab", NOW_S - 10)
    assert (node.precommit_all, node.precommit_success, node.precommit_pending) == (2, 1, 1)
    assert (node.commit_all, node.commit_success, node.commit_pending) == (None, None, None)
    assert parse.reputation({"commit": {"all_timestamps": []}}, "reputation", "0xab", NOW_NS).commit_all == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "expected an object with precommit or commit, got a list of 0"),
        ({"detail": "not found"}, "got an object with 1 keys"),
        ({"commit": {"all_timestamps": 7}}, "commit.all_timestamps as a list, got a int"),
        ({"commit": {"all_timestamps": [7, "x", None]}}, "2 values that are not whole seconds"),
        ({"commit": {}, "precommit": "no"}, "precommit.all_timestamps as a list"),
    ],
)
def test_a_reputation_of_another_shape_says_what_came(body: Any, words: str) -> None:
    with pytest.raises(parse.ParseError, match=words):
        parse.reputation(body, "reputation", "0xab", NOW_NS)


def test_both_documented_result_shapes_give_the_same_task() -> None:
    nested = {"assigned_miners": ["0xAA", "0xBB"], "results": {"data": [" a\n", "b"], "miners": ["0xaa", "0xbb"]}}
    flat = {"assigned_miners": ["0xAA", "0xBB"], "results": [" a\n", "b"]}
    facts = parse.task({**nested, "status": 4, "created_at": 5, "finished_at": 9})
    assert facts == parse.task({**flat, "status": 4, "created_at": 5, "finished_at": 9})
    assert (facts.miners, facts.result_sha256) == (("0xaa", "0xbb"), (sha("a"), sha("b")))
    assert (facts.assigned, facts.complete, facts.created_s, facts.finished_s) == (("0xaa", "0xbb"), True, 5, 9)


def test_results_under_the_key_of_another_order_keep_their_miner() -> None:
    body = {"assigned_miners": ["0xaa", "0xbb"], "results": {"data": ["b"], "miners": ["0xBB"]}}
    assert parse.task(body).miners == ("0xbb",)
    assert parse.task({"assigned_miners": ["0xaa", "0xbb"], "results": ["", "b"]}).miners == ("0xbb",)


@pytest.mark.parametrize(
    ("more", "results", "complete"),
    [
        ({}, ["a", None], False),
        ({}, ["a", "b"], True),
        ({"status": 3}, ["a", ""], False),
        ({"status": 4}, ["a", ""], True),  # its session closed it early: no more will come
        ({"finished_at": 1_750_000_000}, [], True),
        ({"finished_at": 0}, [], False),
        ({"finished_at": None}, None, False),
    ],
)
def test_when_a_task_is_complete(more: dict[str, Any], results: Any, complete: bool) -> None:
    assert parse.task({"assigned_miners": ["0xaa", "0xbb"], "results": results, **more}).complete is complete


def test_a_queued_task_without_miners_is_not_complete() -> None:
    assert parse.task({"assigned_miners": [], "results": {"data": [], "miners": []}, "status": 0}).complete is False


def test_the_list_form_with_and_without_ids() -> None:
    body = {
        "tasks": [{"id": 5, "assigned_miners": ["0xA"], "results": ["x"], "results_hash": ["0x1"]}, {"results": []}]
    }
    first, second = parse.tasks(body)
    assert (first.task_id, first.miners, second.task_id) == ("5", ("0xa",), None)
    assert parse.task({"task_id": "abc", "results": []}).task_id == "abc"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "no such task"}, "expected an object with assigned_miners or results"),
        ({"assigned_miners": "0xaa"}, "assigned_miners as a list"),
        ({"assigned_miners": ["0xaa"], "results": ["a", "b"]}, "2 texts for 1 miners"),
        ({"assigned_miners": ["0xaa"], "results": [{"text": "a"}]}, "expected a list of texts"),
        ({"assigned_miners": [5]}, "expected a node's address, got a int"),
    ],
)
def test_a_task_of_another_shape_says_what_came(body: Any, words: str) -> None:
    with pytest.raises(parse.ParseError, match=words):
        parse.task(body)


def test_a_router_status_keeps_what_it_can() -> None:
    body = {"uptime": 12.5, "cpu_usage": "high", "connected_miners": "24", "active_sessions": 3}
    sample = parse.router_status(body, "router", NOW_NS)
    assert (sample.uptime, sample.cpu_usage, sample.connected_miners, sample.active_sessions) == (12.5, None, 24, 3)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((5, 5), ("5", 5), (5.0, 5), ("-5", -5), ("٣", 3)),
        *((True, None), (5.5, None), ("5x", None), ("--5", None), ("", None), (None, None), ([5], None)),
        *((10**30, None), (float("nan"), None), (float("inf"), None)),
    ],
)
def test_whole_numbers(value: Any, number: int | None) -> None:
    assert parse.whole(value) == number


READERS: list[Callable[[Any], Any]] = [
    lambda body: parse.leaderboard(body, NOW_NS),
    lambda body: parse.reputation(body, "reputation", "0xab", NOW_NS),
    lambda body: parse.router_status(body, "t", NOW_NS),
    parse.task,
    parse.tasks,
]


@given(JSON)
def test_any_json_is_read_or_refused(body: Any) -> None:
    for read in READERS:
        try:
            read(body)
        except parse.ParseError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 200


@settings(deadline=None)  # the first example pays for importing Arrow
@given(JSON)
def test_whatever_is_read_can_be_stored(tmp_path_factory: pytest.TempPathFactory, body: Any) -> None:
    folder: Path = tmp_path_factory.getbasetemp()
    rows = parse.leaderboard([{**ROW, "precommitCounter": body, "last_active": body}], NOW_NS).rows
    runfolder.write_part(folder / "x.parquet", rows, NodeSnapshot)
    sample = parse.router_status({"uptime": body, "connected_miners": body}, "t", NOW_NS)
    runfolder.write_part(folder / "y.parquet", [sample], RouterSample)


def test_sessions_in_both_spellings_and_with_what_routers_may_leave_out() -> None:
    whole = {
        "id": "12",
        "active": True,
        "owner": "0x1",
        "miners_count": 2,
        "created_at": 1_750_000_000,
        "updated_at": 1_750_000_001,
        "model_identifier": "llama",
        "redundant": 2,
        "miners": ["0xB", "0xA"],
        "balance": "1000000000000000000000000",
    }
    first, second = parse.sessions({"count": 2, "sessions": [whole, {"session_id": 21, "balance": 1.5}]}, "t", 7)
    assert (first.session, first.model, first.redundant, first.miners) == ("12", "llama", 2, ("0xa", "0xb"))
    assert (first.balance, first.active, first.created_s, first.updated_s) == (
        "1" + "0" * 24,
        True,
        1_750_000_000,
        1_750_000_001,
    )
    assert (second.session, second.miners, second.miners_count, second.observed_wall_ns) == ("21", (), None, 7)
    assert second.balance is None, "a float has lost digits already"
    assert parse.sessions([], "t", 7) == ()
    for wrong in ({"sessions": 3}, {"sessions": [3]}, {"sessions": [{"id": None}]}, "x"):
        with pytest.raises(parse.ParseError, match="sessions: expected"):
            parse.sessions(wrong, "t", 7)


# What nodes are.


@pytest.mark.parametrize("shape", ["map", "list", "bare-list"])
def test_miners_of_every_shape_tell_what_they_are(shape: str) -> None:
    entries = [{"address": "0xAB", "operator": " op  1 ", "hardware": "gpu", "level": "4"}, {"address": "0xCD"}]
    keyed = {entry["address"]: entry for entry in entries}
    body = {"map": {"nodes": keyed, "stats": {}}, "list": {"miners": entries}, "bare-list": entries}[shape]
    (one,), errors = parse.miners(body, 7)  # the second says nothing of what it is
    assert (one.node, one.operator, one.hardware, one.level) == ("0xab", "op 1", "gpu", 4)
    assert (one.source, one.observed_wall_ns, errors) == ("miners", 7, ())


def test_an_entry_without_an_address_is_known_by_its_key() -> None:
    (one,) = parse.miners({"nodes": {"0xAB": {"level": 0}}}, 7).rows
    assert (one.node, one.level, one.operator) == ("0xab", 0, None)


def test_one_bad_entry_of_miners_costs_no_other() -> None:
    body = [{"address": "0x" + "a" * 200, "level": 1}, {"address": "0xAB", "level": 2}, 7]
    found = parse.miners(body, 7)
    assert [row.node for row in found.rows] == ["0xab"]
    assert found.errors == ("miners entry 0: a node's address of 202 letters",)


@pytest.mark.parametrize("body", [None, 5, {}, {"nodes": 3}, {"miners": None}])
def test_miners_of_another_shape_say_so(body: Any) -> None:
    with pytest.raises(parse.ParseError, match="miners: expected"):
        parse.miners(body, 7)
