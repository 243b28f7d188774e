"""The bill of a run: every way in which it can be wrong is one line's change, and found; a right one is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from loadtest.analysis.charges import POLL_S, charges
from loadtest.analysis.evidence import Evidence
from loadtest.analysis.findings import Finding
from loadtest.records import ChargeRecord, RequestRecord, SessionSample, TaskRecord
from loadtest.runfolder import write_part

from .run_factory import NODE_A, task, turn, wall, write_run

STEP_S, COUNT = 10.0, 60
PRICE = 10**18 + 1  # more than a float holds exactly
EMPTY = (5,)  # tasks that no node gave a result for


def request(number: int, **changes: Any) -> RequestRecord:
    told: dict[str, Any] = {"usage_prompt_tokens": 20, "usage_completion_tokens": 40, "counted_tokens": 40}
    return turn(number, 6 + STEP_S * number, **{"task_id": str(number), **told, **changes})


def looked_up(number: int) -> TaskRecord:
    gave = [] if number in EMPTY else [NODE_A]
    return task(str(number), gave, [f"text {number}" for _ in gave], assigned=(NODE_A,), looked_up_wall_ns=wall(5000))


def line(number: int, **changes: Any) -> ChargeRecord:
    told: dict[str, Any] = {
        "session": "7",
        "task_id": str(number),
        "client_reference": None,
        "amount": str(PRICE),
        "charged_wall_ns": wall(10 + STEP_S * number),
        "prompt_tokens": 20,
        "completion_tokens": 40,
        "total_tokens": 60,
    }
    return ChargeRecord(**{**told, **changes})


def whole_bill() -> list[ChargeRecord]:
    return [line(number) for number in range(COUNT) if number not in EMPTY]


def balances(bill: Sequence[ChargeRecord], step_s: float = 50.0) -> list[SessionSample]:
    """What a session that paid this bill has left, polled in between the charges."""
    samples = []
    for poll in range(1 + round(COUNT * STEP_S / step_s)):
        at_ns = wall(5 + step_s * poll)
        spent = sum(int(each.amount) for each in bill if (each.charged_wall_ns or 0) < at_ns)
        left = str(10**24 - spent)
        samples.append(SessionSample(target="main", session="7", observed_wall_ns=at_ns, balance=left))
    return samples


def found(
    folder: Path,
    bill: Sequence[ChargeRecord],
    rows: Sequence[RequestRecord] | None = None,
    sessions: Sequence[SessionSample] = (),
) -> Finding:
    rows = [request(number) for number in range(COUNT)] if rows is None else rows
    write_run(folder, rows, [looked_up(number) for number in range(COUNT)], ())
    write_part(folder / "charges" / "part-0.parquet", bill, ChargeRecord)
    write_part(folder / "sessions" / "part-0.parquet", sessions, SessionSample)
    return charges(Evidence.of(folder))


def test_a_right_bill_is_right_to_the_unit(tmp_path: Path) -> None:
    bill = whole_bill()
    made = found(tmp_path, bill, sessions=balances(bill))
    assert made.verdict == "consistent", made.text
    assert made.n == COUNT - len(EMPTY) and "add up to what 1 balances lost" in made.text
    assert f"ok: {made.n} of {COUNT} on the bill" in made.evidence


def test_without_a_bill_or_with_anothers_nothing_is_claimed(tmp_path: Path) -> None:
    none = found(tmp_path / "none", [])
    assert none.verdict == "cannot tell" and "loadtest import" in none.missing
    other = found(tmp_path / "other", [line(3, session="8")])
    assert other.verdict == "cannot tell" and "bill of our sessions" in other.missing


@pytest.mark.parametrize(
    ("at", "changed", "kind"),
    [
        (3, [line(3), line(3)], "1 charged more than once"),
        (3, [], "1 ended well and not charged"),
        (5, [line(5)], "1 charged without any result"),
        (3, [line(3, completion_tokens=41, total_tokens=61)], "1 with other completion_tokens"),
        (3, [line(3, prompt_tokens=21)], "1 with other prompt_tokens"),
        (3, [line(3, total_tokens=61)], "1 with another total"),
        (3, [line(3, amount=str(PRICE + 1))], "1 at another price"),
    ],
)
def test_one_wrong_line_among_all_is_found(tmp_path: Path, at: int, changed: list[ChargeRecord], kind: str) -> None:
    bill = [each for each in whole_bill() if each.task_id != str(at)] + changed
    made = found(tmp_path, bill)
    assert made.verdict == "found" and kind in made.text, made.text
    assert f"session 7 task {at}" in made.evidence[0]


def test_what_is_not_charged_yet_is_not_missing(tmp_path: Path) -> None:
    """The last tasks of a run settle after it: only one older than a charged one by two minutes is missing."""
    late = [each for each in whole_bill() if int(each.task_id or 0) < COUNT - 20]
    assert found(tmp_path / "late", late).verdict == "consistent"
    hole = [each for each in whole_bill() if int(each.task_id or 0) not in range(40, 60) or each.task_id == "59"]
    made = found(tmp_path / "hole", hole)
    # Task 59 was sent at 596 s; task 46, done at 468 s, is the last one that 120 s lie behind.
    assert made.verdict == "found" and "7 ended well and not charged" in made.text, made.text


def test_lines_are_found_by_our_reference_too(tmp_path: Path) -> None:
    named = [replace(each, task_id=None, client_reference=f"r1-0-{each.task_id}") for each in whole_bill()]
    assert found(tmp_path / "a", named).n == COUNT - len(EMPTY)
    rows = [request(number, task_id=None) for number in range(COUNT)]
    assert found(tmp_path / "b", [*named, named[9]], rows).effect == pytest.approx(1 / (COUNT - len(EMPTY)))


def test_a_balance_that_lost_one_unit_more_than_the_bill_is_found(tmp_path: Path) -> None:
    bill = whole_bill()
    right = balances(bill)
    wrong = [*right[:-1], replace(right[-1], balance=str(int(right[-1].balance or 0) - 1))]
    quiet = [each for each in bill if (each.charged_wall_ns or 0) < wall(5 + COUNT * STEP_S - 2 * POLL_S)]
    made = found(tmp_path / "more", quiet, sessions=balances(quiet)[:-1] + wrong[-1:])
    assert made.verdict == "found" and "balances that lost another sum" in made.text, made.text
    deposit = [*right[:-1], replace(right[-1], balance=str(10**25))]
    told = found(tmp_path / "deposit", bill, sessions=deposit)
    assert told.verdict == "consistent" and "no balance was there to compare" in told.text
