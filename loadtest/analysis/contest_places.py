"""Places of a contest by rank: operators' limits, empty places, equal scores; for one reading of the rules.

Nodes are walked best first: by score, then precommit score, then address. Then:

1. each place of a tier goes to the next node whose operator has room in it (`over_limit` says what becomes of others);
2. nodes of equal score settle what their places pay (`ties`). No operator gets above its limit by that.

So the result depends on the nodes and never on the order in which they were given.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from loadtest.analysis.contest_rules import Reading, Tier
from loadtest.analysis.entrants import Entrant


@dataclass(slots=True)
class Placed:
    """What a node's place pays. `place` None: not ranked. `tier` is that of the pay, None where there is none."""

    place: int | None = None
    cents: int = 0
    tier: int | None = None
    settles: bool = False  # takes part when equal scores settle; a node over its operator's limit does not


class Rooms:
    """How many nodes of each operator are paid in each tier."""

    def __init__(self, tiers: Sequence[Tier], cumulative: bool) -> None:
        self._limits = [tier.operator_max for tier in tiers]
        self._cumulative = cumulative
        self._paid: dict[str, Counter[int]] = {}

    def has(self, operator: str, tier: int) -> bool:
        """Whether one more node in `tier` keeps every limit; with cumulative limits also those of the tiers below."""
        paid = self._paid.get(operator)
        if paid is None:
            return True
        if not self._cumulative:
            return _below(paid[tier], self._limits[tier])
        return all(
            _below(sum(paid[better] for better in range(below + 1)), self._limits[below])
            for below in range(tier, len(self._limits))
        )

    def add(self, operator: str, tier: int, nodes: int = 1) -> None:
        self._paid.setdefault(operator, Counter())[tier] += nodes


def _below(count: int, limit: int | None) -> bool:
    return limit is None or count < limit


def walking_order(entrants: Iterable[Entrant]) -> list[Entrant]:
    """Best first. Nodes without a score are left out: nobody can say where they stand."""
    scored = [one for one in entrants if one.score is not None]
    return sorted(scored, key=lambda one: (-(one.score or 0), -(one.precommit_score or 0), one.node))


def operator_of(entrant: Entrant) -> str:
    """A node whose operator was not told is its own."""
    return f"={entrant.operator}" if entrant.operator else f"#{entrant.node}"


def placed_nodes(
    order: Sequence[Entrant], takes_part: frozenset[str], tiers: Sequence[Tier], reading: Reading
) -> dict[str, Placed]:
    """Each node's place and what it pays, by address. `order` is that of walking; only `takes_part` may have places."""
    found = {one.node: Placed() for one in order}
    if reading["empty_places"] == "move-up":
        order = [one for one in order if one.node in takes_part]  # nobody stands where they would
    rooms = Rooms(tiers, reading["limit_counts"] == "up-to-tier")
    _walk(deque(order), takes_part, tiers, reading["over_limit"], rooms, found)
    if reading["ties"] != "precommit":
        for _, equal in groupby(order, key=lambda one: one.score):
            group = [one for one in equal if found[one.node].settles]
            if len(group) > 1:
                _settle(group, reading["ties"], tiers, rooms, found)
    return found


def _walk(
    queue: deque[Entrant],
    takes_part: frozenset[str],
    tiers: Sequence[Tier],
    over_limit: Any,
    rooms: Rooms,
    found: dict[str, Placed],
) -> None:
    for number, tier in enumerate(tiers):
        held: list[Entrant] = []
        place = tier.first
        while place <= tier.last and queue:
            one = queue.popleft()
            operator = operator_of(one)
            if one.node not in takes_part:
                place += 1  # stays empty
            elif rooms.has(operator, number):
                rooms.add(operator, number)
                found[one.node] = Placed(place, tier.cents, number, settles=True)
                place += 1
            elif over_limit == "moves-down":
                held.append(one)
            elif over_limit != "out":
                found[one.node] = Placed(place)
                if over_limit == "paid-lower":
                    _pay_lower(found[one.node], operator, number + 1, tiers, rooms)
                place += 1
        queue.extendleft(reversed(held))
    for place, one in enumerate(queue, start=tiers[-1].last + 1):
        if one.node in takes_part:
            found[one.node] = Placed(place, settles=True)  # behind the last paid place, perhaps equal to it


def _pay_lower(placed: Placed, operator: str, first: int, tiers: Sequence[Tier], rooms: Rooms) -> None:
    """The pay of the first tier from `first` on in which its operator has room."""
    for number in range(first, len(tiers)):
        if rooms.has(operator, number):
            rooms.add(operator, number)
            placed.cents, placed.tier = tiers[number].cents, number
            return


def _settle(group: Sequence[Entrant], ties: Any, tiers: Sequence[Tier], rooms: Rooms, found: dict[str, Placed]) -> None:
    members = [found[one.node] for one in group]
    if ties == "share":
        each, over = divmod(sum(placed.cents for placed in members), len(members))
        # Cents that cannot be shared go to the first addresses, so that nothing of the pool is left.
        for number, one in enumerate(sorted(group, key=lambda one: one.node)):
            found[one.node].cents = each + (number < over)
        return
    paid = [placed.tier for placed in members if placed.tier is not None]
    for one, placed in zip(group, members, strict=True):
        if not paid or placed.tier == min(paid):
            continue
        operator = operator_of(one)
        if placed.tier is not None:
            rooms.add(operator, placed.tier, -1)
        tier = min(paid) if rooms.has(operator, min(paid)) else placed.tier
        if tier is not None:
            rooms.add(operator, tier)
            placed.tier, placed.cents = tier, tiers[tier].cents
