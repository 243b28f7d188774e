"""Which of a session's nodes serve a task: shuffled, among those that have room and have rested; and why these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from loadtest.simulator.faults import Faults
from loadtest.simulator.nodes import Node
from loadtest.simulator.sessions import IN_FLIGHT_SLOTS, Session

LONG_PROMPT = 256  # tokens
Reorder = Callable[[Sequence[Node]], list[Node]]


class Selection:
    """`in_flight` is the pipeline's, by node key. `choose` is asked with instants that do not run backwards."""

    def __init__(self, nodes: Sequence[Node], in_flight: dict[str, int], faults: Faults, cooldown_ns: int) -> None:
        node_ids = [node.node_id for node in nodes]
        self._in_flight = in_flight
        self._faults = faults
        self._cooldown_ns = cooldown_ns
        self._starved = faults.victims("starved-node", node_ids)
        self._sticky = faults.victims("sticky-node", node_ids)
        self._chosen_ns = {node.key: -cooldown_ns for node in nodes}

    def choose(
        self, rng: Random, session: Session, key: str, now_ns: int, prompt_tokens: int = 0
    ) -> tuple[list[Node], str, tuple[str, ...]]:
        """The nodes of a task, why these ("shuffle", "all_full" or a fault), and the faults that changed the choice."""

        def has_room(node: Node) -> bool:
            rested = now_ns - self._chosen_ns[node.key] >= self._cooldown_ns
            return rested and self._in_flight[node.key] < IN_FLIGHT_SLOTS * node.slots

        ordered = shuffle(rng, session)
        chosen = take(ordered, session.redundancy, has_room)
        reason = "shuffle" if any(map(has_room, ordered)) else "all_full"
        struck = []
        for name, reorder in self._reorderings(session, key, prompt_tokens):
            ordered = reorder(ordered)
            taken = take(ordered, session.redundancy, has_room)
            if taken != chosen:
                chosen, reason = taken, name
                struck.append(name)
        for node in chosen:
            self._chosen_ns[node.key] = now_ns
        return chosen, reason, tuple(struck)

    def _reorderings(self, session: Session, key: str, prompt_tokens: int) -> Iterator[tuple[str, Reorder]]:
        if self._faults.strikes("biased-shuffle", key, session.session_id):
            yield "biased-shuffle", lambda nodes: sorted(nodes, key=lambda node: node.operator)
        if prompt_tokens > LONG_PROMPT and self._faults.strikes("long-prompts-apart", key, session.session_id):
            yield "long-prompts-apart", lambda nodes: sorted(nodes, key=lambda node: node.node_id)
        if self._sticky:
            yield "sticky-node", lambda nodes: sorted(nodes, key=lambda node: node.node_id not in self._sticky)
        if self._starved:
            yield "starved-node", lambda nodes: [n for n in nodes if n.node_id not in self._starved] or list(nodes)


def shuffle(rng: Random, session: Session) -> list[Node]:
    """All reserved nodes in the order in which this task would take them.

    One draw for all: who is left out later moves the others up and changes no other draw of the task.
    """
    return rng.sample(session.reserved, len(session.reserved))


def take(ordered: Sequence[Node], count: int, has_room: Callable[[Node], bool]) -> list[Node]:
    """The first `count` nodes that have room.

    Under overload a task gets fewer nodes than its redundancy rather than one more on a node that is full: else a
    slow node's queue grows without bound. Only when no node has room are all of them eligible again.
    """
    free = [node for node in ordered if has_room(node)]
    return (free or list(ordered))[:count]
