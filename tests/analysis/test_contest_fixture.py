"""160 nodes against payouts that were reckoned by hand (tests/data/contest160.md), to the cent and node by node."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis.contest import Payouts, payouts
from loadtest.analysis.contest_rules import Rules, load_rules
from loadtest.analysis.entrants import read_entrants

DATA = Path(__file__).parents[1] / "data"
OTHER: dict[str, Any] = {
    "window_days": 45,
    "short_uptime": "in-proportion",
    "flagged": "out",
    "disqualified": "operator",
    "unknown": "in",
    "ties": "best",
    "over_limit": "unpaid",
    "empty_places": "stay-empty",
    "base_paid_for": "window",
    "bonus_of": "all-rewards",
    "role_bonus_percent": 10,
    "role_bonus_counts": "each-role",
    "multi_node_counts": "entered",
}


def decided(rules: Rules, changes: dict[str, Any]) -> Rules:
    """The rules with one reading of each key: the changed one, or the first."""
    steps = {
        step: {key: (changes.get(key, choices[0]),) for key, choices in getattr(rules, step).items()}
        for step in ("standing", "places", "money")
    }
    assert changes.keys() <= rules.readings.keys()
    return replace(rules, **steps)


def paid(name: str, changes: dict[str, Any]) -> Payouts:
    return payouts(read_entrants(DATA / "contest160.csv"), decided(load_rules(name), changes))


CASES = [
    ("phase4-founding", {}, "first_readings", "4917.00"),
    ("phase4-founding", OTHER, "other_readings", "6435.52"),
    ("phase4-later", {}, "later", "3725.00"),
]


@pytest.mark.parametrize(("rules", "changes", "expected", "total"), CASES, ids=[case[2] for case in CASES])
def test_every_node_gets_what_was_reckoned_by_hand(
    rules: str, changes: dict[str, Any], expected: str, total: str
) -> None:
    result = paid(rules, changes)
    with (DATA / f"contest160_{expected}.csv").open(newline="") as file:
        by_hand = list(csv.DictReader(file))
    assert len(by_hand) == len(result.rows) == 160
    found = {row.entrant.node: row for row in result.rows}
    for line in by_hand:
        row = found[line["node"]]
        amounts = [f"{cents // 100}.{cents % 100:02d}" for cents in (row.base, row.reward, row.bonus, row.payout)]
        told = [line[name] for name in ("base", "reward", "bonus", "payout")]
        assert ([str(row.place or ""), *amounts]) == [line["place"], *told], line
    cents = sum(row.base + row.reward + row.bonus for row in result.rows)
    assert f"{cents / 100:.2f}" == f"{result.total / 100:.2f}" == total
    assert result.readings == 1 and result.low.total == result.high.total == cents


def test_a_node_that_gets_nothing_says_why() -> None:
    rows = {row.entrant.node: row for row in paid("phase4-founding", {}).rows}
    assert rows["n002"].why == "disqualified: claimed a stake that is not there"
    assert rows["n060"].why == "stake 3999 of 4000 COR"
    assert rows["n062"].why == "stake not told"
    assert rows["n063"].why == "uptime 89 % of 90 %"
    assert rows["n065"].why == "uptime not told"
    other = {row.entrant.node: row for row in paid("phase4-founding", OTHER).rows}
    assert other["n015"].why == "flagged: misreporting: claimed 98 % of precommits, observed 61 %"
    assert other["n080"].why.startswith("operator out with n002: disqualified")


def test_the_readings_reckoned_by_hand_lie_between_low_and_high() -> None:
    result = payouts(read_entrants(DATA / "contest160.csv"), load_rules("phase4-founding"))
    assert result.total == 491700 and result.low.total <= 491700 and result.high.total >= 643552
    other = {row.entrant.node: row.payout for row in paid("phase4-founding", OTHER).rows}
    for row in result.rows:
        assert row.low <= min(row.payout, other[row.entrant.node])
        assert max(row.payout, other[row.entrant.node]) <= row.high
    rows = {row.entrant.node: row for row in result.rows}
    # n001 is the best node and undisputed: 20 + 50 at least, 30 + 50 at most; no bonus is within its reach.
    assert (rows["n001"].low, rows["n001"].high) == (7000, 8000)
    # n002 is disqualified under every reading.
    assert (rows["n002"].low, rows["n002"].high, rows["n002"].depends_on) == (0, 0, ())
    assert "over_limit" in rows["n003"].depends_on and "ties" in rows["n155"].depends_on
    # Each extreme is attained: paying by the stated combination gives it.
    for bound in (result.low, result.high):
        assert paid("phase4-founding", dict(bound.reading)).total == bound.total
