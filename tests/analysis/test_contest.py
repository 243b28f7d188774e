"""Payouts whatever the nodes: sums, limits and caps are kept, the order of rows is nothing, low and high are exact."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis.contest import payouts, play
from loadtest.analysis.contest_money import MoneyReadings
from loadtest.analysis.contest_places import placed_nodes, walking_order
from loadtest.analysis.contest_rules import MONEY, PLACES, Rules, RulesError, Tier, load_rules, read_rules, rules_names
from loadtest.analysis.entrants import Entrant, entrants, read_entrants

FOUNDING = load_rules("phase4-founding")
SMALL_TIERS = (Tier(1, 2, 5000, 1), Tier(3, 5, 3501, 1), Tier(6, 9, 1000, 2), Tier(10, 12, 500, None))
SMALL = replace(FOUNDING, tiers=SMALL_TIERS)
FIRST = {key: (choices[0],) for key, choices in FOUNDING.readings.items()}


def hundredths(low: int, high: int) -> st.SearchStrategy[Decimal]:
    return st.integers(low, high).map(lambda value: Decimal(value) / 100)


NODE = st.builds(
    Entrant,
    node=st.just(""),
    operator=st.sampled_from(["", "a", "a", "b", "c"]),
    score=st.none() | hundredths(40, 46),
    precommit_score=st.none() | hundredths(58, 62),
    stake_cor=st.sampled_from([None, 0, 3999, 4000, 9000]),
    uptime=st.none() | hundredths(79, 100),
    observed_days=st.sampled_from([None, Decimal(31), Decimal(45)]),
    roles=st.lists(st.sampled_from(["miner", "oracle", "verifier", "tester"]), unique=True).map(tuple),
    earlier_phase=st.booleans(),
    reporting=st.sampled_from([None, True, False]),
    disqualified=st.sampled_from(["", "", "", "cheated"]),
    flags=st.sampled_from([(), (), ("misreporting: 98 against 61",)]),
)
NODES = st.lists(NODE, min_size=1, max_size=24).map(
    lambda nodes: [replace(one, node=f"0x{number:03d}") for number, one in enumerate(nodes)]
)


@st.composite
def readings(draw: st.DrawFn) -> dict[str, Any]:
    return {key: draw(st.sampled_from(choices)) for key, choices in FOUNDING.readings.items()}


def decided(reading: dict[str, Any]) -> Rules:
    return replace(
        SMALL,
        standing={key: (reading[key],) for key in SMALL.standing},
        places={key: (reading[key],) for key in SMALL.places},
        money={key: (reading[key],) for key in SMALL.money},
    )


@settings(max_examples=150, deadline=None)
@given(NODES, readings(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(nodes: list[Entrant], reading: dict[str, Any], random: Any) -> None:
    shuffled = list(nodes)
    random.shuffle(shuffled)
    one, other = (payouts(entrants(rows), decided(reading)) for rows in (nodes, shuffled))
    assert one == other


@settings(max_examples=200, deadline=None)
@given(NODES, readings())
def test_a_table_adds_up_and_keeps_its_caps(nodes: list[Entrant], reading: dict[str, Any]) -> None:
    result = payouts(entrants(nodes), decided(reading))
    assert result.total == sum(row.base for row in result.rows) + sum(row.reward + row.bonus for row in result.rows)
    assert result.low.total == result.total == result.high.total
    for row in result.rows:
        assert row.low == row.payout == row.high
        basis = row.base + (row.reward if reading["bonus_of"] == "all-rewards" else 0)
        # Half a cent of rounding above the cap at most.
        assert row.bonus >= 0 and 200 * row.bonus <= 2 * reading["bonus_cap_percent"] * basis + 100
        if not row.takes_part:
            assert row.payout == 0 and row.place is None and row.why
    places = [row.place for row in result.rows if row.place is not None]
    assert len(places) == len(set(places))


@settings(max_examples=200, deadline=None)
@given(NODES, readings())
def test_ranks_pay_no_more_than_the_pool_and_no_operator_above_its_limits(
    nodes: list[Entrant], reading: dict[str, Any]
) -> None:
    part = frozenset(one.node for one in nodes if one.score is not None and one.stake_cor)
    placed = placed_nodes(walking_order(nodes), part, SMALL_TIERS, reading)
    pool = sum(tier.cents * (tier.last - tier.first + 1) for tier in SMALL_TIERS)
    shared = reading["over_limit"] != "paid-lower" and reading["ties"] != "best"
    assert not shared or sum(one.cents for one in placed.values()) <= pool
    # Sharing moves money between equal nodes; who is placed in which tier is what limits are about.
    by_operator: dict[str, Counter[int]] = {}
    for one in nodes:
        tier = placed[one.node].tier if one.node in placed else None
        if one.operator and tier is not None:
            by_operator.setdefault(one.operator, Counter())[tier] += 1
    for counts in by_operator.values():
        for number, tier_rule in enumerate(SMALL_TIERS):
            up_to = reading["limit_counts"] == "up-to-tier"
            count = sum(counts[better] for better in range(number + 1)) if up_to else counts[number]
            assert tier_rule.operator_max is None or count <= tier_rule.operator_max
    if reading["ties"] == "best":
        return
    paid = {one.node: placed[one.node].cents for one in nodes if one.node in placed}
    plain = placed_nodes(walking_order(nodes), part, SMALL_TIERS, {**reading, "ties": "precommit"})
    assert sum(paid.values()) == sum(one.cents for one in plain.values())  # equals share, nothing is lost


FEW: dict[str, tuple[Any, ...]] = {
    "short_uptime": ("nothing", "in-proportion"),
    "unknown": ("out", "in"),
    "window_days": (30, 45),
    "ties": ("share", "best"),
    "over_limit": ("moves-down", "unpaid"),
    "base_paid_for": ("month", "window"),
    "one_time": ("whole", "first-month", "one-node"),
    "bonus_cap_percent": (10, 50),
}


@settings(max_examples=25, deadline=None)
@given(NODES)
def test_low_and_high_are_those_of_every_combination(nodes: list[Entrant]) -> None:
    """The quick way (equal outcomes once, money as arrays) against playing each of 384 combinations by itself."""
    choices = {key: FEW.get(key, FIRST[key]) for key in FOUNDING.readings}
    rules = replace(
        SMALL,
        standing={key: choices[key] for key in SMALL.standing},
        places={key: choices[key] for key in SMALL.places},
        money={key: choices[key] for key in SMALL.money},
    )
    group = entrants(nodes)
    result = payouts(group, rules)
    each: list[list[int]] = []
    for picked in itertools.product(*choices.values()):
        reading = dict(zip(choices, picked, strict=True))
        money = MoneyReadings(rules, {key: (reading[key],) for key in rules.money})
        each.append([int(money.pay(due).payout[0]) for due in play(group.nodes, rules, reading).dues])
    assert len(each) == result.readings == 384
    by_node = {row.entrant.node: (row.low, row.high) for row in result.rows}
    for at, one in enumerate(group.nodes):
        column = [payout[at] for payout in each]
        assert by_node[one.node] == (min(column), max(column))
    assert (result.low.total, result.high.total) == (min(map(sum, each)), max(map(sum, each)))


@settings(max_examples=100, deadline=None)
@given(NODES, readings())
def test_money_is_that_of_fractions(nodes: list[Entrant], reading: dict[str, Any]) -> None:
    """The arrays of cents against the formula of the page in exact fractions, worked out once more here."""
    rules = decided(reading)
    played = play(entrants(nodes).nodes, rules, reading)
    pay = MoneyReadings(rules, {key: (reading[key],) for key in rules.money})
    for due in played.dues:
        months = Fraction(reading["window_days"], 30) if reading["base_paid_for"] == "window" else Fraction(1)
        base = due.window_cents if months != 1 else due.month_cents
        rest = due.reward_cents if reading["bonus_of"] == "all-rewards" else 0
        count = due.eligible if reading["multi_node_counts"] == "eligible" else due.entered
        percent = 20 if count >= 5 else 10 if count >= 3 else 0
        basis = base + rest
        if count >= 5 or reading["one_time_covers"] == "all":
            if reading["one_time"] == "one-node" and not due.leads:
                basis = 0
            if reading["one_time"] == "first-month":
                basis = min(base, due.month_cents) + rest
        roles = due.roles if reading["role_bonus_counts"] == "each-role" else min(1, due.roles)
        bonus = Fraction(percent * basis + reading["role_bonus_percent"] * roles * (base + rest), 100)
        bonus = min(bonus, Fraction(reading["bonus_cap_percent"] * (base + rest), 100))
        assert int(pay.pay(due).payout[0]) == base + due.reward_cents + int(bonus + Fraction(1, 2))


def test_both_versions_of_the_page_are_shipped_and_leave_no_key_out() -> None:
    assert rules_names() == ["phase4-founding", "phase4-later"]
    later = load_rules("phase4-later")
    assert not later.places and later.money.keys() == MONEY.keys() and FOUNDING.places.keys() == PLACES.keys()
    limits = [(tier.first, tier.last, tier.cents, tier.operator_max) for tier in FOUNDING.tiers]
    assert limits == [
        (1, 5, 5000, 1),
        (6, 10, 3500, 1),
        (11, 20, 2500, 1),
        (21, 30, 1500, 1),
        (31, 100, 1000, 5),
        (101, 150, 500, None),
    ]


TEXT = """
[page]
title = "T"
source = "S"
[stake]
cor_min = 1
[uptime]
measure = "pings"
ping_s = 301
alive_s_max = 900
[base]
per_month = 20
[[tier]]
first = 1
last = 2
each = 5
[readings]
""" + "\n".join(f"{key} = {list(choices)!r}" for key, choices in FIRST.items())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("first = 1", "first = 2", "[[tier]]: places 2 to 2: must begin at 1, without gap or overlap"),
        ("each = 5", "each = 5.001", "[[tier]] 1 each: must be whole cents"),
        ("per_month = 20", "", "[base] per_month: is missing"),
        ("ties = ['share']", "ties = ['shared']", "[readings] ties: must be a list of different readings, each out of"),
        ("ties = ['share']", "ties = 'share'", "[readings] ties: must be a list of different readings"),
        ("ties = ['share']", "", "[readings] ties: must be a list of different readings"),
        ("ties = ['share']", "ties = ['share', 'share']", "[readings] ties: must be a list of different readings"),
        ("unknown = ['out']", "unknwon = ['out']", "[readings] unknwon: unknown field, did you mean unknown?"),
        ("bonus_cap_percent = [40]", "bonus_cap_percent = [0.4]", "each from 0 to 1000; the first is the one"),
        (
            "[[tier]]",
            "[score_reward]\neach = 5\ntotal_percent_min = 50\nprecommit_percent_min = 60\n[[tier]]",
            "either",
        ),
        ("[page]", "[page", "not TOML"),
    ],
)
def test_mistakes_of_a_rules_file_say_where(old: str, new: str, told: str) -> None:
    assert old in TEXT and read_rules(TEXT, "t.toml").base_cents == 2000
    with pytest.raises(RulesError) as caught:
        read_rules(TEXT.replace(old, new, 1), "t.toml")
    assert "t.toml: " in str(caught.value) and told in str(caught.value)


def test_unknown_rules_are_refused_with_those_there_are() -> None:
    with pytest.raises(RulesError, match="there are phase4-founding, phase4-later"):
        load_rules("phase5")
    with pytest.raises(RulesError, match="No such file"):
        load_rules("nowhere.toml")


def test_an_operator_is_one_however_it_is_written(tmp_path: Path) -> None:
    """Case, spaces and full-width letters give nobody a second limit; roles have no case either."""
    path = tmp_path / "nodes.csv"
    path.write_text(
        "node,operator,roles\n0xa,Alice S,Miner;miner\n0xb, alice  s,\n0xc,\uff21lice S,\n0xd,Bob,\n0xe,,\n",
        encoding="utf-8",
    )
    found = read_entrants(path)
    assert [one.operator for one in found.nodes] == ["Alice S", "Alice S", "Alice S", "Bob", ""]
    assert found.nodes[0].roles == ("miner", "miner")
    (note,) = found.notes
    assert "operator Alice S is written in 3 ways" in note
