"""A contest's payouts: the table for the readings that are paid, and low and high over all readings of the rules.

Three steps, each a module of its own: who takes part (`contest_standing`), where nodes are placed (`contest_places`),
what is paid (`contest_money`). Low and high of a node are exact over every combination of readings; so are those of the
total, and they are not the sums of the nodes' own: what one node wins by a reading another often loses.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from loadtest.analysis.contest_money import Cents, Due, MoneyReadings, half_up, product_of
from loadtest.analysis.contest_places import Placed, operator_of, placed_nodes, walking_order
from loadtest.analysis.contest_rules import Reading, Rules
from loadtest.analysis.contest_standing import Verdict, verdicts
from loadtest.analysis.entrants import Entrant, Entrants

Terms: TypeAlias = tuple[int, int, int, int, bool, int]  # of a Due, but for its reward


@dataclass(frozen=True, slots=True)
class Row:
    """One node. Amounts in cents; percentages before the cap, in hundredths of a per cent.

    `depends_on`: the keys of which another reading, all others as paid, changes this payout.
    """

    entrant: Entrant
    place: int | None
    takes_part: bool
    why: str
    base: int
    reward: int
    multi_percent_100: int
    role_percent_100: int
    bonus: int
    low: int
    high: int
    depends_on: tuple[str, ...]

    @property
    def payout(self) -> int:
        return self.base + self.reward + self.bonus


class Influence(NamedTuple):
    """One reading in place of the paid one, all others as paid."""

    key: str
    reading: Any
    total: int
    nodes_changed: int


class Bound(NamedTuple):
    """The lowest or highest total, and a combination of readings that gives it."""

    total: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Payouts:
    """`rows` best place first, then by address. `readings` is the number of combinations."""

    rules: Rules
    rows: tuple[Row, ...]
    readings: int
    low: Bound
    high: Bound
    influences: tuple[Influence, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(row.payout for row in self.rows)


class Played(NamedTuple):
    """A contest under one reading, per entrant in their order."""

    verdicts: tuple[Verdict, ...]
    places: tuple[Placed, ...]
    dues: tuple[Due, ...]


def payouts(entrants: Entrants, rules: Rules) -> Payouts:
    """Play the contest under the paid reading, under each one beside it, and under all."""
    nodes = entrants.nodes
    paid = play(nodes, rules, rules.paid_reading)
    money = MoneyReadings(rules, {key: choices[:1] for key, choices in rules.money.items()})
    amounts = [money.pay(due) for due in paid.dues]
    own = [int(pay.payout[0]) for pay in amounts]
    influences, depends = _influences(nodes, rules, own)
    low, high, least, most = _over_all(nodes, rules)
    rows = [
        Row(
            entrant=one,
            place=paid.places[at].place,
            takes_part=paid.verdicts[at].takes_part,
            why=paid.verdicts[at].why,
            base=int(amounts[at].base[0]),
            reward=int(amounts[at].reward[0]),
            multi_percent_100=int(amounts[at].multi_percent_100[0]),
            role_percent_100=int(amounts[at].role_percent_100[0]),
            bonus=int(amounts[at].bonus[0]),
            low=low[at],
            high=high[at],
            depends_on=tuple(depends[at]),
        )
        for at, one in enumerate(nodes)
    ]
    rows.sort(key=lambda row: (row.place is None, row.place or 0, row.entrant.node))
    count = math.prod(len(choices) for choices in rules.readings.values())
    return Payouts(rules, tuple(rows), count, least, most, influences, (*entrants.notes, *_notes(nodes, rules)))


def play(nodes: Sequence[Entrant], rules: Rules, reading: Reading) -> Played:
    """The contest under one reading."""
    order = walking_order(nodes)
    found = verdicts(nodes, rules, reading)
    places = _places(nodes, order, found, rules, reading)
    terms = _terms(nodes, order, found, rules, reading["window_days"])
    return Played(found, places, _dues(terms, found, [placed.cents for placed in places]))


def _places(
    nodes: Sequence[Entrant], order: Sequence[Entrant], found: Sequence[Verdict], rules: Rules, reading: Reading
) -> tuple[Placed, ...]:
    if rules.score_reward is not None:
        return tuple(Placed(None, _score_cents(one, rules)) for one in nodes)
    part = frozenset(one.node for one, verdict in zip(nodes, found, strict=True) if verdict.takes_part)
    placed = placed_nodes(order, part, rules.tiers, reading)
    return tuple(placed.get(one.node, Placed()) for one in nodes)


def _score_cents(one: Entrant, rules: Rules) -> int:
    reward = rules.score_reward
    if reward is None or one.score is None or one.precommit_score is None:
        return 0
    return reward.cents if one.score >= reward.score_min and one.precommit_score >= reward.precommit_min else 0


def _terms(
    nodes: Sequence[Entrant], order: Sequence[Entrant], found: Sequence[Verdict], rules: Rules, window_days: int
) -> list[Terms]:
    """What is due to each node beside its reward."""
    operators = [operator_of(one) for one in nodes]
    entered = Counter(operators)
    eligible = Counter(name for name, verdict in zip(operators, found, strict=True) if verdict.takes_part)
    leaders = _leaders(nodes, order, found)
    window = Fraction(window_days, 30)
    return [
        (
            half_up(rules.base_cents, verdict.base_share),
            half_up(rules.base_cents, verdict.base_share * window),
            eligible[operator],
            entered[operator],
            one.node in leaders,
            len(set(one.roles)),
        )
        for one, operator, verdict in zip(nodes, operators, found, strict=True)
    ]


def _dues(terms: Sequence[Terms], found: Sequence[Verdict], cents: Sequence[int]) -> tuple[Due, ...]:
    return tuple(
        Due(half_up(amount, verdict.reward_share), *term)
        for term, verdict, amount in zip(terms, found, cents, strict=True)
    )


def _leaders(nodes: Sequence[Entrant], order: Sequence[Entrant], found: Sequence[Verdict]) -> set[str]:
    """The best-scored node of each operator among those that take part; without a score the first address."""
    part = {one.node for one, verdict in zip(nodes, found, strict=True) if verdict.takes_part}
    best: dict[str, str] = {}
    for one in (*order, *nodes):
        if one.node in part:
            best.setdefault(operator_of(one), one.node)
    return set(best.values())


def _influences(
    nodes: Sequence[Entrant], rules: Rules, own: Sequence[int]
) -> tuple[tuple[Influence, ...], list[list[str]]]:
    """What each reading changes alone, and for each node the keys that change it."""
    found: list[Influence] = []
    depends: list[list[str]] = [[] for _ in nodes]
    for key, choices in rules.readings.items():
        for choice in choices[1:]:
            reading = {**rules.paid_reading, key: choice}
            money = MoneyReadings(rules, {name: (reading[name],) for name in rules.money})
            other = [int(money.pay(due).payout[0]) for due in play(nodes, rules, reading).dues]
            changed = [at for at, (mine, now) in enumerate(zip(own, other, strict=True)) if mine != now]
            found.append(Influence(key, choice, sum(other), len(changed)))
            for at in changed:
                if key not in depends[at]:
                    depends[at].append(key)
    return tuple(found), depends


def _over_all(nodes: Sequence[Entrant], rules: Rules) -> tuple[list[int], list[int], Bound, Bound]:
    """Lowest and highest payout of each node and of the total, over every combination of readings.

    Combinations that come to the same are worked out once: first those of who takes part, then those of places; the
    readings of money are one array.
    """
    money = MoneyReadings(rules, rules.money)
    pays: dict[Due, tuple[Cents, int, int]] = {}
    low, high = [_NO_LOW] * len(nodes), [0] * len(nodes)
    least = most = None
    for dues, reading in _outcomes(nodes, rules):
        total = np.zeros(len(money.list), dtype=np.int64)
        for at, due in enumerate(dues):
            if due not in pays:
                payout = money.pay(due).payout
                pays[due] = payout, int(payout.min()), int(payout.max())
            low[at], high[at] = min(low[at], pays[due][1]), max(high[at], pays[due][2])
        for due, count in Counter(dues).items():
            total += count * pays[due][0]
        down, up = int(total.argmin()), int(total.argmax())
        if least is None or total[down] < least.total:
            least = Bound(int(total[down]), {**reading, **money.list[down]})
        if most is None or total[up] > most.total:
            most = Bound(int(total[up]), {**reading, **money.list[up]})
    assert least is not None and most is not None  # every list has a reading
    return low, high, least, most


_NO_LOW = 1 << 62


def _outcomes(nodes: Sequence[Entrant], rules: Rules) -> Iterator[tuple[tuple[Due, ...], Reading]]:
    """Each different outcome of standing and places, once, with one combination that leads to it."""
    order = walking_order(nodes)
    placings: dict[frozenset[str], dict[tuple[int, ...], Reading]] = {}
    seen: set[tuple[Any, ...]] = set()
    for standing in product_of(rules.standing):
        found = verdicts(nodes, rules, standing)
        key = (standing["window_days"], *(verdict[:3] for verdict in found))
        if key in seen:
            continue
        seen.add(key)
        part = frozenset(one.node for one, verdict in zip(nodes, found, strict=True) if verdict.takes_part)
        if part not in placings:
            placings[part] = {}
            for places in product_of(rules.places):
                cents = tuple(placed.cents for placed in _places(nodes, order, found, rules, places))
                placings[part].setdefault(cents, places)
        terms = _terms(nodes, order, found, rules, standing["window_days"])
        for cents, places in placings[part].items():
            yield _dues(terms, found, cents), {**standing, **places}


def _notes(nodes: Sequence[Entrant], rules: Rules) -> Iterator[str]:
    """What was not told of the nodes, for the reader of the table."""
    waived = [rules.stake_waived and one.earlier_phase for one in nodes]
    missing = {
        "a score": (sum(one.score is None for one in nodes), "they have no place and no reward for scores"),
        "an operator": (sum(not one.operator for one in nodes), "each counts as an operator of its own"),
        "a stake": (
            sum(one.stake_cor is None and not free for one, free in zip(nodes, waived, strict=True)),
            "the key `unknown` decides",
        ),
        "an uptime": (sum(one.uptime is None for one in nodes), "the key `unknown` decides"),
    }
    for what, (count, then) in missing.items():
        if count:
            yield f"{count} of {len(nodes)} nodes without {what}: {then}"
