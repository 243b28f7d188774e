"""Session payment: a balance for each session, the price of a task, and a ledger of what was charged.

The flow is the documented one: deposit, then each task pays from its session to the network, and what was paid is
allocated to the nodes. The price rule is the scenario's, because none is published; so is what happens to a session
that has run empty. Amounts are in the smallest unit of COR.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from loadtest.simulator.scenario import PaymentRule

CHARGES_KEPT = 20_000  # newest; older ones are folded into a sum


class Charge(NamedTuple):
    """One line of the ledger. `reason` is "task", or the name of the fault that made it."""

    session: str
    task_id: int
    at_ns: int
    tokens: int
    amount: int
    reason: str


class Payment:
    """Balances and ledger. `held` is what open tasks will cost: it can be spent no second time."""

    def __init__(self, rule: PaymentRule, sessions: Iterable[str]) -> None:
        self.rule = rule
        self.deposited = dict.fromkeys(sessions, rule.balance)
        self.balance = dict(self.deposited)
        self.held = dict.fromkeys(self.deposited, 0)
        self.ledger: deque[Charge] = deque()
        self.folded = dict.fromkeys(self.deposited, 0)  # sums of charges that are no longer in the ledger
        self.earned: dict[str, int] = {}  # by node key
        self.unallocated = 0  # paid for tasks without a commit, and remainders of divisions

    def price(self, tokens: int) -> int:
        return self.rule.price_task + self.rule.price_1000_tokens * tokens // 1000

    def deposit(self, session: str, amount: int) -> None:
        self.deposited[session] += amount
        self.balance[session] += amount

    def can_pay(self, session: str, tokens_max: int) -> bool:
        """Whether the balance covers the dearest outcome. Without enforcement it always does."""
        return self.rule.on_empty == "serve" or self.balance[session] - self.held[session] >= self.price(tokens_max)

    def hold(self, session: str, amount: int) -> None:
        self.held[session] += amount

    def release(self, session: str, amount: int) -> None:
        self.held[session] -= amount

    def charge(self, one: Charge, nodes: Sequence[str]) -> None:
        """Enter a charge and allocate it in equal parts to `nodes`."""
        self.balance[one.session] -= one.amount
        self.ledger.append(one)
        if len(self.ledger) > CHARGES_KEPT:
            oldest = self.ledger.popleft()
            self.folded[oldest.session] += oldest.amount
        part = one.amount // len(nodes) if nodes else 0
        for node in nodes:
            self.earned[node] = self.earned.get(node, 0) + part
        self.unallocated += one.amount - part * len(nodes)

    def charged(self, session: str) -> int:
        """The sum of all charges of a session, folded ones included."""
        return self.folded[session] + sum(one.amount for one in self.ledger if one.session == session)
