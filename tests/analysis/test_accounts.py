"""Checks of accounts on runs written by hand: each inequality at its edge, and each missing source by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from loadtest.analysis.billing import billing
from loadtest.analysis.counters import counters
from loadtest.analysis.eligibility import choices
from loadtest.analysis.evidence import Evidence
from loadtest.analysis.findings import Finding
from loadtest.analysis.models import promised_model
from loadtest.analysis.pipeline import pipeline
from loadtest.analysis.presence import presence
from loadtest.analysis.redundancy import PASSED_MAX, redundancy, too_often
from loadtest.records import NodeSnapshot, RequestRecord, RouterSample, SessionSample, TaskRecord
from loadtest.runfolder import write_part

from .run_factory import NODE_A, NODE_B, NODE_C, board, task, turn, wall, write_run

COR = 10**15


def second(run_s: float) -> int:
    """Unix second of an instant of the run, as a router tells it."""
    return wall(run_s) // 10**9


def given(
    number: int, at_s: float, nodes: Sequence[str], gave: Sequence[str] | None = None, **changes: Any
) -> TaskRecord:
    """A look-up of the task of `turn(number, at_s)`, ended 3 s after it was sent, asked for 1,000 s later."""
    gave = nodes if gave is None else gave
    fields: dict[str, Any] = {
        "client_reference": f"r1-0-{number}",
        "assigned": tuple(nodes),
        "status": 4,
        "created_s": second(at_s),
        "finished_s": second(at_s + 3),
        "looked_up_wall_ns": wall(at_s + 1000),
    }
    return task(str(number), gave, [f"{number} {node}" for node in gave], **{**fields, **changes})


def user_series(node: str, at_s: float, entries: int, missed: int = 0, pending: int = 0) -> NodeSnapshot:
    """A session reputation: so many precommits, of which so many failed, and a commit for each of the others."""
    good = entries - missed
    return NodeSnapshot(
        source="session-reputation",
        node=node,
        node_as_seen=node,
        observed_wall_ns=wall(at_s),
        effective_s=second(at_s) - 1,
        precommit_all=entries,
        precommit_success=good,
        precommit_pending=pending,
        commit_all=good,
        commit_success=good,
        commit_pending=0,
    )


def session(at_s: float, name: str = "7", **changes: Any) -> SessionSample:
    return SessionSample(target="main", session=name, observed_wall_ns=wall(at_s), **changes)


def found(
    folder: Path,
    rows: Sequence[RequestRecord] = (),
    tasks: Sequence[TaskRecord] = (),
    snapshots: Sequence[NodeSnapshot] = (),
    sessions: Sequence[SessionSample] = (),
    router: Sequence[RouterSample] = (),
) -> dict[str, Finding]:
    """Every account of a run folder with these tables."""
    write_run(folder, rows, tasks, snapshots)
    write_part(folder / "sessions" / "part-0.parquet", sessions, SessionSample)
    write_part(folder / "router" / "part-0.parquet", router, RouterSample)
    source = Evidence.of(folder)
    checks = (pipeline, counters, promised_model, billing, presence)
    findings = [*redundancy(source, choices(source)), *(f for check in checks for f in check(source))]
    return {finding.check: finding for finding in findings}


def test_a_run_without_any_source_claims_nothing(tmp_path: Path) -> None:
    for name, rows in (("empty", []), ("unobserved", [turn(i) for i in range(60)])):
        all_of_them = found(tmp_path / name, rows)
        assert {f.verdict for f in all_of_them.values()} == {"cannot tell"}
        assert all(f.missing for f in all_of_them.values()), "each names what it would need"


# Tasks end, and count once.


def test_a_task_is_stuck_only_when_its_time_is_over(tmp_path: Path) -> None:
    rows = [turn(i, 6 + i, task_id=str(i)) for i in range(4)]
    open_task: dict[str, Any] = {"complete": False, "finished_s": None, "status": 2}
    young = given(3, 9, [NODE_A], [], **open_task, looked_up_wall_ns=wall(9 + 299))
    first = [given(i, 6 + i, [NODE_A]) for i in range(3)]
    assert found(tmp_path / "a", rows, first)["tasks end"].verdict == "consistent"
    waiting = found(tmp_path / "b", rows, [*first, young])["tasks end"]
    assert waiting.verdict == "cannot tell" and "299 s" in waiting.text
    stuck = found(tmp_path / "c", rows, [*first, given(3, 9, [NODE_A], [], **open_task)])["tasks end"]
    assert stuck.verdict == "found" and "precommitted for ever: 1 tasks" in stuck.evidence
    assert stuck.effect == pytest.approx(1 / 4)


def test_a_lost_task_is_found_under_an_id_that_no_answer_told(tmp_path: Path) -> None:
    rows = [turn(i, 6 + i, task_id=str(i)) for i in (1, 3)] + [turn(2, 8, outcome="client_timeout", task_id=None)]
    queued: dict[str, Any] = {"complete": False, "finished_s": None, "status": 0, "client_reference": ""}
    tasks = [given(1, 7, [NODE_A]), given(3, 9, [NODE_A]), given(2, 8, [NODE_A], [], **queued)]
    lost = found(tmp_path, rows, tasks)["tasks end"]
    assert lost.verdict == "found" and "queued for ever: 1 tasks" in lost.evidence


def test_a_copy_has_the_same_nodes_and_texts_and_anothers_task_has_not(tmp_path: Path) -> None:
    rows = [turn(1, 7, task_id="1"), turn(4, 9, task_id="4")]
    ours = [given(1, 7, [NODE_A, NODE_B]), given(4, 9, [NODE_A, NODE_C])]
    copy = task("2", [NODE_B], [f"1 {NODE_B}"], assigned=(NODE_A, NODE_B), created_s=second(7), client_reference="")
    others = task("3", [NODE_A, NODE_B], ["x", "y"], created_s=second(8), client_reference="")
    twice = found(tmp_path / "a", rows, [*ours, copy, others])["tasks count once"]
    assert twice.verdict == "found" and twice.evidence == ("session 7 task 2",)
    once = found(tmp_path / "b", rows, [*ours, others, task("2", [NODE_A], ["z"], client_reference="")])
    assert once["tasks count once"].verdict == "consistent"
    unseen = found(tmp_path / "c", rows, [*ours, others])["tasks count once"]
    assert unseen.verdict == "cannot tell" and "between our tasks" in unseen.missing


# Books of nodes.


def served(count: int = 20) -> tuple[list[RequestRecord], list[TaskRecord]]:
    """Node A has two misses in 20 tasks, and B none."""
    rows = [turn(i, 6 + i, task_id=str(i)) for i in range(count)]
    return rows, [given(i, 6 + i, [NODE_A, NODE_B], [NODE_B] if i in (3, 4) else None) for i in range(count)]


@pytest.mark.parametrize(
    ("entries", "missed", "counted", "claims"),
    [
        (20, 2, "consistent", "consistent"),
        (90, 9, "consistent", "consistent"),  # others' tasks only add
        (19, 2, "found", "consistent"),  # what is not there cannot be claimed
        (20, 1, "consistent", "found"),
        (20, 0, "consistent", "found"),
    ],
)
def test_the_reputation_holds_at_least_what_we_saw(
    tmp_path: Path, entries: int, missed: int, counted: str, claims: str
) -> None:
    rows, tasks = served()
    snapshots = [user_series(node, 0, 50, 5) for node in (NODE_A, NODE_B)]
    snapshots += [user_series(NODE_A, 200, 50 + entries, 5 + missed), user_series(NODE_B, 200, 70, 5)]
    made = found(tmp_path, rows, tasks, snapshots)
    assert (made["tasks reach the reputation"].verdict, made["claims"].verdict) == (counted, claims)
    if claims == "found":
        assert made["claims"].evidence == (f"0xaaaaaa…aaaa missed 2 of 20, {missed} are recorded",)


def test_a_node_whose_entries_are_missing_cannot_be_told_to_have_claimed(tmp_path: Path) -> None:
    rows, tasks = served()
    snapshots = [user_series(node, t, e) for node in (NODE_A, NODE_B) for t, e in ((0, 50), (200, 60))]
    made = found(tmp_path, rows, tasks, snapshots)
    assert made["tasks reach the reputation"].verdict == "found"
    assert made["claims"].verdict == "cannot tell"


def test_pending_entries_may_still_be_misses(tmp_path: Path) -> None:
    rows, tasks = served()
    snapshots = [user_series(node, 0, 50, 5) for node in (NODE_A, NODE_B)]
    snapshots += [user_series(NODE_A, 200, 68, 5, pending=2), user_series(NODE_B, 200, 70, 5)]
    assert found(tmp_path, rows, tasks, snapshots)["claims"].verdict == "consistent"


def test_a_node_without_a_reputation_and_a_window_that_is_full(tmp_path: Path) -> None:
    rows, tasks = served()
    one = [user_series(NODE_A, 0, 50), user_series(NODE_A, 200, 90, 2)]
    absent = found(tmp_path / "a", rows, tasks, one)["tasks reach the reputation"]
    assert absent.verdict == "found"
    assert "0xbbbbbb…bbbb served 20 of our tasks and has no session reputation" in absent.evidence
    full = [user_series(n, t, e) for n in (NODE_A, NODE_B) for t, e in ((0, 990), (100, 1000), (200, 1000))]
    made = found(tmp_path / "b", rows, tasks, full)
    assert made["tasks reach the reputation"].verdict == "cannot tell", "a full window counts nothing"
    assert made["claims"].verdict == "cannot tell"


# Counters, clocks, names.


def lists(node: str, at_s: float, entries: int) -> NodeSnapshot:
    counts = {"precommit_all": entries, "precommit_success": entries, "precommit_pending": 0}
    return NodeSnapshot(
        source="reputation",
        node=node,
        node_as_seen=node,
        observed_wall_ns=wall(at_s),
        effective_s=second(at_s) - 1,
        **counts,
    )


def growing(factor: float) -> list[NodeSnapshot]:
    """An entry every 10 s for half an hour in the lists; a counter that grows `factor` times as fast."""
    told = [lists(NODE_A, t, 10 + t // 10) for t in range(0, 1801, 60)]
    return told + [
        board(NODE_A, t, precommit_counter=1000 + int(factor * t / 10), precommit_points=900)
        for t in range(0, 1801, 60)
    ]


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "consistent"), (0.97, "consistent"), (1.1, "found"), (0.9, "found"), (0.0, "found")]
)
def test_a_counter_grows_with_its_list(tmp_path: Path, factor: float, verdict: str) -> None:
    made = found(tmp_path, snapshots=growing(factor))["leaderboard counters"]
    assert made.verdict == verdict, made.text
    if verdict == "consistent":
        assert 0.03 < (made.smallest_effect or 0) < 0.1, "a tenth is found, so no more than that may be promised"


def test_resets_clocks_and_spellings_name_their_nodes(tmp_path: Path) -> None:
    snapshots = [board(NODE_A, t, precommit_points=points) for t, points in ((0, 100), (60, 3), (120, 7))]
    snapshots += [board(NODE_B, t, last_active_s=second(t) + ahead) for t, ahead in ((0, 29), (60, 31))]
    snapshots += [board(NODE_C, 0), board(NODE_C, 60, node_as_seen=NODE_C.upper())]
    made = found(tmp_path, snapshots=snapshots)
    assert made["counter resets"].evidence == ("0xaaaaaa…aaaa began again 1 times",)
    assert made["node clocks"].evidence == ("0xbbbbbb…bbbb is 31 s ahead",)
    assert made["address spelling"].evidence == ("0xcccccc…cccc was written in 2 ways",)


def test_a_row_of_an_owner_that_goes_is_no_reset(tmp_path: Path) -> None:
    """Two rows of A and one of B; one of A is missing at the end. B really begins again."""
    counts = {"commit_points": None, "commit_counter": None, "precommit_points": None}
    rows = [board(NODE_A, 60 * i, precommit_counter=100 + i, ping_counter=i, **counts) for i in range(4)]
    rows += [board(NODE_A, 60 * i, precommit_counter=900 + i, ping_counter=90 + i, **counts) for i in range(3)]
    rows += [board(NODE_B, 60 * i, precommit_counter=n, **counts) for i, n in enumerate((10, 11, 3, 4))]
    resets = found(tmp_path, snapshots=rows)["counter resets"]
    assert resets.verdict == "found" and [line[:6] for line in resets.evidence] == [NODE_B[:6]], resets.evidence


def test_a_node_that_serves_is_listed(tmp_path: Path) -> None:
    rows, tasks = served()
    made = found(tmp_path / "a", rows, tasks, [board(NODE_A, 0)])["nodes are listed"]
    assert made.evidence == ("0xbbbbbb…bbbb served our tasks and is in no leaderboard",)
    both = [board(NODE_A, 0), board(NODE_B, 0)]
    assert found(tmp_path / "b", rows, tasks, both)["nodes are listed"].verdict == "consistent"


# The promised model, redundancy and presence.


def models(folder: Path, *said: tuple[str, str, str, int], promised: str | None = "llama") -> Finding:
    """The finding of answers counted by (session, model asked for, model told)."""
    rows = [turn(0)]
    made = [["main", *each] for each in said]
    write_run(folder, rows, workers=[{"worker": 0, "models": made[:1]}, {"worker": 1, "models": made[1:]}])
    write_part(folder / "sessions" / "part-0.parquet", [session(0, model=promised)], SessionSample)
    return promised_model(Evidence.of(folder))[0]


def test_the_promised_model_is_the_one_asked_for_or_the_sessions(tmp_path: Path) -> None:
    good = models(tmp_path / "a", ("7", "", "llama", 90), ("", "qwen", "qwen-2.5-0711", 10), ("7", "", "default", 5))
    assert good.verdict == "consistent" and good.text.startswith("All 100 answers")
    bad = models(tmp_path / "b", ("7", "", "llama", 90), ("7", "", "tiny", 2), ("", "qwen", "qwen2", 1))
    assert bad.verdict == "found" and bad.effect == pytest.approx(3 / 93)
    assert bad.evidence[0] == "main, session 7: 2 answers of tiny where llama is promised"
    silent = models(tmp_path / "c", ("7", "", "default", 90), ("", "default", "llama", 4))
    assert (
        silent.verdict == "cannot tell" and "90 name no model, 4 name one where none is promised" in silent.evidence[-1]
    )
    unpromised = models(tmp_path / "d", ("7", "", "tiny", 9), promised=None)
    assert unpromised.verdict == "cannot tell"


def test_redundancy_is_what_the_session_promises(tmp_path: Path) -> None:
    rows, tasks = served()
    good = found(tmp_path / "a", rows, tasks, sessions=[session(0, redundant=2)])["redundancy"]
    assert good.verdict == "consistent"
    assert good.evidence[0].startswith("2 nodes a task (20 tasks): 95 % gave a result, all texts equal in 0 %")
    assert "; 1.9 results were made for each that is used; ended after" in good.evidence[0]
    bad = found(tmp_path / "b", rows, tasks, sessions=[session(0, redundant=3)])["redundancy"]
    assert (
        bad.verdict == "found" and "20 to fewer while all nodes had room, as far as can be seen, 0 to more" in bad.text
    )
    elsewhere = found(tmp_path / "c", rows, tasks, sessions=[session(0, "8", redundant=3)])["redundancy"]
    assert elsewhere.verdict == "cannot tell"


def busy(short: Callable[[int], bool]) -> tuple[list[RequestRecord], list[TaskRecord]]:
    """Six tasks a second for ten minutes, each 3 s long, given to three nodes or, where `short`, to two of them."""
    rows, tasks = [], []
    for i in range(3600):
        nodes = (NODE_A, NODE_B) if short(i) else (NODE_A, NODE_B, NODE_C)
        rows.append(turn(i, i / 6, session="7", task_id=str(i)))
        tasks.append(given(i, i / 6, nodes))
    return rows, tasks


@pytest.mark.parametrize(
    ("short", "verdict", "words"),
    [
        (lambda i: i == 0, "found", "1 to fewer while all nodes had room"),
        (lambda i: i % 200 == 199, "consistent", "18 of 3600 tasks went to fewer nodes than promised, each while a"),
        (
            lambda i: i % 25 == 24,
            "found",
            "144 of 3600 tasks (4 %) went to fewer nodes than promised while a node",
        ),
    ],
)
def test_a_task_has_fewer_nodes_only_while_one_may_be_full(
    short: Callable[[int], bool], verdict: str, words: str, tmp_path: Path
) -> None:
    told = found(tmp_path, *busy(short), sessions=[session(0, redundant=3)])["redundancy"]
    assert told.verdict == verdict and words in told.text, told.text


def test_tasks_with_fewer_nodes_are_counted_by_the_minute() -> None:
    """At the share that is allowed hardly any run alarms, in clumps neither; at four times as many every one does."""
    draw = np.random.default_rng(5)
    minutes = np.repeat(np.arange(20), 150)
    clump = np.repeat(np.tile([0.0, 4.0], 10), 150)  # all of them in every other minute
    for share, low, high in ((PASSED_MAX, 0, 6), (4 * PASSED_MAX, 200, 200)):
        alarms = [too_often(draw.random(3000) < share, minutes) < 0.01 for _ in range(200)]
        assert low <= sum(alarms) <= high
    clumped = [too_often(draw.random(3000) < PASSED_MAX / 2 * clump, minutes) < 0.01 for _ in range(200)]
    assert sum(clumped) <= 6 and too_often(np.zeros(3000, bool), minutes) == 1.0


def alive(node: str, heard_s: Sequence[int], until_s: int = 3600) -> list[NodeSnapshot]:
    """A leaderboard every minute; the node pinged at these instants."""
    made = []
    for t in range(0, until_s + 1, 60):
        pings = [s for s in heard_s if s <= t]
        made.append(board(node, t, ping_counter=100 + len(pings), last_active_s=second(max(pings))))
    return made


def test_pings_silence_and_failover(tmp_path: Path) -> None:
    steady, gone = list(range(0, 3600, 301)), [0, 301, 602, 2408, 2709, 3010, 3311]
    rows = [turn(i, at, task_id=str(i)) for i, at in enumerate((700, 1200, 1700, 2500))]
    tasks = [given(i, at, [NODE_B]) for i, at in enumerate((700, 1200, 1700, 2500))]
    snapshots = alive(NODE_A, steady) + alive(NODE_B, gone)
    made = found(tmp_path / "late", rows, tasks, snapshots)
    assert made["uptime"].verdict == "found" and made["uptime"].evidence == (
        "0xbbbbbb…bbbb made 6 of at least 11 pings",
    )
    assert made["churn"].evidence == ("0xbbbbbb…bbbb was silent for 30 minutes",)
    assert made["failover"].verdict == "found" and made["failover"].effect == pytest.approx(1700 - 602, abs=1)
    soon = found(tmp_path / "soon", rows[:2], tasks[:2], snapshots)["failover"]
    assert soon.verdict == "consistent" and soon.effect == pytest.approx(1200 - 602, abs=1)
    quiet = found(tmp_path / "quiet", rows, tasks, alive(NODE_A, steady) + alive(NODE_B, steady))
    assert [quiet[name].verdict for name in ("uptime", "churn", "failover")] == [
        "consistent",
        "consistent",
        "cannot tell",
    ]


# Billing.


def answers(count: int, wrong: dict[int, int]) -> list[RequestRecord]:
    return [
        turn(i, 6 + i, task_id=str(i), counted_tokens=40, usage_completion_tokens=wrong.get(i, 40))
        for i in range(count)
    ]


def test_usage_is_held_against_our_own_count(tmp_path: Path) -> None:
    assert found(tmp_path / "a", answers(60, {1: 45, 2: 36}))["usage"].verdict == "consistent"
    made = found(tmp_path / "b", answers(60, {7: 60, 9: 20}))["usage"]
    assert made.verdict == "found" and "1 too high, 1 too low" in made.text
    assert any("r1-0-7: 60 told, 40 counted" in line for line in made.evidence)
    other = found(tmp_path / "c", answers(60, dict.fromkeys(range(60), 60)))["usage"]
    assert other.verdict == "cannot tell" and "encoding" in other.missing
    assert found(tmp_path / "d", answers(40, {}))["usage"].verdict == "cannot tell"


def paid(charges: dict[int, int], count: int = 300, step_s: float = 4.0) -> list[SessionSample]:
    """Balances every 30 s; task i costs 1 and a token, unless `charges` says another number of such charges."""
    samples = []
    for t in range(0, int(count * step_s) + 60, 30):
        over = [i for i in range(count) if second(6 + i * step_s + 3) + 1 <= second(t)]
        spent = sum(charges.get(i, 1) * (COR + COR * 40 // 1000) for i in over)
        samples.append(session(t, balance=str(10**24 - spent)))
    return samples


def bought(folder: Path, sessions: Sequence[SessionSample], without: Sequence[int] = ()) -> Finding:
    rows = [turn(i, 6 + 4.0 * i, task_id=str(i), counted_tokens=40, usage_completion_tokens=40) for i in range(300)]
    tasks = [given(i, 6 + 4.0 * i, [NODE_A], [] if i in without else None) for i in range(300)]
    return found(folder, rows, tasks, sessions=sessions)["balances"]


def test_one_price_explains_a_balance_or_none_does(tmp_path: Path) -> None:
    fair = bought(tmp_path / "fair", paid({}))
    assert fair.verdict == "consistent", fair.text
    twice = bought(tmp_path / "twice", paid(dict.fromkeys(range(100, 130), 2)))
    assert twice.verdict == "found" and "No price" in twice.text
    free = bought(tmp_path / "free", paid(dict.fromkeys(range(100, 130), 0)))
    assert free.verdict == "found"
    failed = range(100, 130)
    assert bought(tmp_path / "failed", paid(dict.fromkeys(failed, 0)), failed).verdict == "consistent"
    billed = bought(tmp_path / "billed", paid({}), failed)
    assert billed.verdict == "found" and billed.text.startswith("Tasks without any result were charged")


def test_a_deposit_stops_the_account(tmp_path: Path) -> None:
    samples = paid({})
    richer = [replace(s, balance=str(int(s.balance or 0) + 10**20 * (i > 20))) for i, s in enumerate(samples)]
    assert bought(tmp_path, richer).verdict == "cannot tell"


def test_of_a_very_long_run_the_first_turns_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.analysis.evidence.ROWS_MAX", 200)
    cut = bought(tmp_path, paid({}))
    assert cut.verdict == "cannot tell" and "more turns" in cut.text
    monkeypatch.setattr("loadtest.analysis.evidence.ROWS_MAX", 300)
    assert bought(tmp_path, paid({})).verdict == "consistent"
