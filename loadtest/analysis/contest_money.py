"""What a node is paid, for many readings of the rules at once. Whole cents throughout; halves of a cent are rounded up.

    base    = base a month x months x share
    reward  = what its place or its scores pay x share
    bonus   = the smaller of cap x basis and multi-node x multi-node basis + role x basis
    payout  = base + reward + bonus

Basis is the base, or base and reward (`bonus_of`). Each line is rounded by itself, so that printed columns add up.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.analysis.contest_rules import MONEY, Reading, Rules

Cents = npt.NDArray[np.int64]
_WHOLE_100 = 10_000  # a hundred per cent, in hundredths of a per cent


class Due(NamedTuple):
    """All that a node's money depends on, beside the readings."""

    reward_cents: int
    month_cents: int  # base of one month
    window_cents: int  # base of the whole window
    eligible: int  # nodes of its operator that take part
    entered: int  # nodes of its operator
    leads: bool  # the best of its operator's nodes that take part
    roles: int


class Pay(NamedTuple):
    """Arrays over readings, in cents; percentages in hundredths of a per cent, before the cap."""

    base: Cents
    reward: Cents
    multi_percent_100: Cents
    role_percent_100: Cents
    bonus: Cents

    @property
    def payout(self) -> Cents:
        return self.base + self.reward + self.bonus


class MoneyReadings:
    """All combinations of the readings of money, as arrays. Place 0 is the one that is paid."""

    def __init__(self, rules: Rules, choices: dict[str, tuple[Any, ...]]) -> None:
        self.list = product_of(choices)
        self._rules = rules
        self._is = {
            (key, word): np.array([reading[key] == word for reading in self.list])
            for key, allowed in MONEY.items()
            if isinstance(allowed, tuple)
            for word in allowed
        }
        self._cap_100 = self._numbers("bonus_cap_percent")
        self._role_100 = self._numbers("role_bonus_percent")

    def _numbers(self, key: str) -> Cents:
        return np.array([100 * int(reading[key]) for reading in self.list], dtype=np.int64)

    def pay(self, due: Due) -> Pay:
        """What a node gets, per combination."""
        base = np.where(self._is["base_paid_for", "window"], due.window_cents, due.month_cents)
        reward = np.full(len(self.list), due.reward_cents, dtype=np.int64)
        rest = np.where(self._is["bonus_of", "all-rewards"], reward, 0)
        basis = base + rest

        by_eligible, by_entered = self._multi(due.eligible), self._multi(due.entered)
        counts_eligible = self._is["multi_node_counts", "eligible"]
        multi_100 = np.where(counts_eligible, by_eligible[0], by_entered[0])
        marked = np.where(counts_eligible, by_eligible[1], by_entered[1])
        once = marked | self._is["one_time_covers", "all"]
        multi_basis = np.where(
            once & self._is["one_time", "first-month"], np.minimum(base, due.month_cents) + rest, basis
        )
        if not due.leads:
            multi_basis = np.where(once & self._is["one_time", "one-node"], 0, multi_basis)

        roles = np.where(self._is["role_bonus_counts", "each-role"], due.roles, min(due.roles, 1))
        role_100 = self._role_100 * roles
        exact = np.minimum(self._cap_100 * basis, multi_100 * multi_basis + role_100 * basis)
        return Pay(base, reward, multi_100, role_100, (2 * exact + _WHOLE_100) // (2 * _WHOLE_100))

    def _multi(self, nodes: int) -> tuple[int, bool]:
        """Hundredths of a per cent of the highest line that so many nodes reach, and whether it is one-time."""
        reached = [line for line in self._rules.multi_nodes if nodes >= line.nodes]
        return (reached[-1].percent_100, reached[-1].one_time) if reached else (0, False)


def half_up(cents: int, share: Fraction) -> int:
    """A share of an amount, to the whole cent, halves up."""
    if share.denominator == 1:  # nearly always
        return cents * share.numerator
    return int((2 * cents * share + 1) // 2)


def product_of(choices: dict[str, tuple[Any, ...]]) -> list[Reading]:
    """All combinations; the first is the one that is paid."""
    return [dict(zip(choices, picked, strict=True)) for picked in itertools.product(*choices.values())]
