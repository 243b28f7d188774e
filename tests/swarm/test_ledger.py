"""The account: sums that hold are silent, each one that does not says by how much."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.swarm.ledger import Ledger, final_mismatches, worker_mismatches


def report(worker: int = 0, **changes: Any) -> dict[str, Any]:
    """A worker in the middle of its work: 10 planned, 8 started, 2 in flight, 1 dropped, 1 still thinking."""
    ledger = {"planned_turns": 10, "started_turns": 8, "in_flight": 2, "outcomes": {"ok": 6, "dropped": 1}}
    return {
        "worker": worker,
        "final": False,
        "ledger": ledger | changes.pop("ledger", {}),
        "in_flight": 2,
        "rows_spooled": 7,
        "rows_refused": 0,
        "rows_sent": 6,
        "rows_acknowledged": 5,
        **changes,
    }


def ended(worker: int = 0, **changes: Any) -> dict[str, Any]:
    ledger = {"planned_turns": 7, "started_turns": 6, "in_flight": 0} | changes.pop("ledger", {})
    return report(
        worker, **{"final": True, "in_flight": 0, "rows_acknowledged": 7, "rows_sent": 7, **changes}, ledger=ledger
    )


ACCOUNT = {"rows": 14, "open_rows": 0, "filled_rows": 0, "outcomes": {"ok": 12, "dropped": 2}}


def test_the_ledgers_own_counts() -> None:
    ledger = Ledger()
    ledger.arrival(3)
    ledger.started()
    ledger.started()
    assert ledger.in_flight() == 2
    ledger.ended("ok")
    ledger.ended("not_reached")
    figures = ledger.figures()
    assert figures["planned_turns"] == 3 and figures["in_flight"] == 1
    assert figures["outcomes"] == {"ok": 1, "not_reached": 1}


def test_an_account_that_adds_up_has_nothing_to_say() -> None:
    assert worker_mismatches(report()) == []
    assert worker_mismatches(report(rows_spooled=5, rows_refused=2, rows_sent=5)) == [], (
        "what the disk refused is counted"
    )
    assert final_mismatches([ended(0), ended(1)], [], ACCOUNT) == []


@pytest.mark.parametrize(
    ("changes", "figure", "words"),
    [
        ({"rows_spooled": 6}, 1, "7 turns ended, 6 rows were written"),
        ({"ledger": {"planned_turns": 8}}, 1, "more turns ended or in flight than planned (9 against 8)"),
        ({"in_flight": 5}, 3, "the reactor has more in flight than the ledger (5 against 2)"),
        ({"rows_sent": 8, "rows_acknowledged": 5}, 1, "more rows sent than spooled"),
        ({"rows_acknowledged": 7}, 1, "more rows acknowledged than sent"),
    ],
)
def test_a_sum_that_does_not_hold_is_told_with_its_figures(changes: dict[str, Any], figure: int, words: str) -> None:
    (mismatch,) = worker_mismatches(report(**changes))
    assert mismatch.figure == figure and words in mismatch.text and "worker 0" in mismatch.text


@pytest.mark.parametrize(
    ("reports", "lost", "account", "told"),
    [
        ([ended(0, ledger={"planned_turns": 9}), ended(1)], [], {}, [(2, "9 turns planned, 7 ended")]),
        ([ended(0), ended(1)], [], {"rows": 13}, [(1, "14 rows spooled, 13 stored")]),
        (
            [ended(0), ended(1)],
            [],
            {"outcomes": {"ok": 11, "dropped": 2, "lost": 1}},
            [(1, "0 turns ended as lost, 1 are"), (1, "12 turns ended as ok, 11 are")],
        ),
        # Worker 1 is lost: five of its rows were acknowledged and must be there, the others may have been made up.
        ([ended(0), report(1)], [1], {"rows": 14, "open_rows": 2}, []),
        ([ended(0), report(1)], [1], {"rows": 14, "filled_rows": 3}, [(1, "12 rows acknowledged, 11 stored")]),
    ],
)
def test_the_end_of_the_account(
    reports: list[dict[str, Any]], lost: list[int], account: dict[str, Any], told: list[tuple[int, str]]
) -> None:
    found = final_mismatches(reports, lost, ACCOUNT | account)
    assert [each.figure for each in found] == [figure for figure, _ in told]
    for mismatch, (_, words) in zip(found, told, strict=True):
        assert words in mismatch.text
