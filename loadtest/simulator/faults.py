"""Faults by name: which there are, which are switched on, and whom each one strikes.

A switch is written `name`, `name=rate` or `name=rate@target`, in a scenario's `faults` list or after `--fault`:

    lost-task                the fault at its usual rate (see FAULTS)
    lost-task=0.02           two tasks in a hundred
    lost-task=0.02@11        two in a hundred, of session 11 only
    starved-node=1@node-007  this node; a target alone is `name=1@target`

Every decision is a pure function of (seed, fault name, key) and of nothing else: no random stream is shared, so a
switch changes what it names and leaves every other decision as it was; and what strikes at a rate also strikes at
every higher one. What a caller needs:

    faults = Faults.read(["lost-task=0.02"], seed)      FaultError: one line for the user
    faults.strikes("lost-task", "11/17", "11")          key of the decision, then what a target may be
    faults.victims("starved-node", ["node-001", ...])   for faults of kind "node": whom it strikes, at least one
    faults.is_on("429-storm")                           cheap; False for nearly all of them

Keys: a task is "SESSION/TASK" ("11/17"; `Task.key`, which a duplicated task does not shift), a request that has no
task yet is its client reference, a connection is its number, a node is its id ("node-007"). Targets: a session for
faults of kind "task", a node id for faults of kind "node"; faults of kind "connection" and "snapshot" have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from typing import Literal, NamedTuple

Kind = Literal["node", "task", "snapshot", "connection"]


class Fault(NamedTuple):
    """One line of the table. `usual_rate` holds for a bare name: a share of what `kind` says."""

    kind: Kind
    usual_rate: float
    what: str


FAULTS: dict[str, Fault] = {
    # Selection of nodes.
    "biased-shuffle": Fault(
        "task", 1.0, "a task goes to nodes in the order of their operators' names, not to shuffled ones"
    ),
    "long-prompts-apart": Fault(
        "task",
        1.0,
        "a prompt of more than 256 tokens goes to the first nodes of its session, not to shuffled ones",
    ),
    "sticky-node": Fault("node", 0.05, "every task of its session goes to this node, as long as it has room"),
    "starved-node": Fault("node", 0.05, "the node is never chosen for a user task"),
    # Nodes that are not what they seem.
    "misreporting-node": Fault("node", 0.05, "precommits and commits that it missed are recorded as made"),
    "slow-but-reputed-node": Fault("node", 0.05, "answers eight times slower, and what it misses is recorded as made"),
    "wrong-model": Fault("task", 0.05, "another model than the session's makes the answer; chat answers name it"),
    # Tasks.
    "lost-task": Fault("task", 0.02, "nobody ever hears of the work on it; it stays queued for ever"),
    "stuck-task": Fault("task", 0.02, "answered, but nobody commits: it stays precommitted for ever"),
    "duplicate-task": Fault("task", 0.02, "queued a second time, under the next task id, for the same nodes"),
    "late-first-token": Fault("task", 1.0, "the first token takes 20 % longer, the gaps after it as long as ever"),
    # What the network tells of its nodes.
    "wrong-counters": Fault("node", 0.1, "leaderboard counters of the node are a tenth too high, its points are right"),
    "late-counters": Fault("node", 0.1, "leaderboard row and timestamps of the node are ten minutes old"),
    "stale-snapshot": Fault("snapshot", 1.0, "a refresh of the leaderboard that does not happen"),
    "missing-node": Fault("node", 0.1, "the node is absent from the leaderboard and has no reputation"),
    "address-case-change": Fault("node", 0.1, "every other leaderboard writes the node's address in capitals"),
    "counter-reset": Fault("node", 0.1, "leaderboard counters of the node begin again at zero every thirty minutes"),
    "clock-skew": Fault("node", 0.1, "timestamps of the node are ninety seconds ahead"),
    # Billing.
    "double-billing": Fault("task", 0.05, "one task is charged twice"),
    "billed-failure": Fault("task", 1.0, "a task without any commit is charged in full"),
    "unbilled-success": Fault("task", 0.05, "a task that ended well is not charged"),
    "token-over-count": Fault("task", 0.05, "usage and charge count half as many tokens again as were sent"),
    # Connections and refusals.
    "buffering-proxy": Fault("task", 1.0, "all chunks of a stream are held back and arrive at its end"),
    "connection-reset": Fault("task", 0.02, "the connection is reset (RST) in the middle of the answer"),
    "reset-before-headers": Fault("task", 0.02, "the connection is reset (RST) when the answer was to begin"),
    "bad-gateway": Fault("task", 0.05, "the proxy finds no router behind it: its page with status 502"),
    "slow-accept": Fault("connection", 0.05, "a new connection is accepted after two seconds"),
    "429-storm": Fault("task", 0.2, "refused with 429 and Retry-After before it has a task"),
    # Streams: what a client of an SSE endpoint has to survive or to report.
    "cut-stream": Fault("task", 0.05, "the stream ends in the middle of an event, without the last HTTP chunk"),
    "error-in-stream": Fault("task", 0.05, "an error object is an event of a stream with status 200, and its last"),
    "early-end": Fault("task", 0.05, "the stream ends cleanly half-way: no finish reason, no [DONE]"),
    "missing-done": Fault("task", 1.0, "the last event has its finish reason, but [DONE] does not follow"),
    "json-for-stream": Fault("task", 0.05, "plain JSON is the answer though a stream was asked for"),
    "keep-alive-comment": Fault("task", 1.0, "comment lines stand between events"),
    "crlf": Fault("task", 1.0, "lines end with CR LF"),
    "no-space": Fault("task", 1.0, "no space follows `data:`"),
    "event-line": Fault("task", 1.0, "each event has an `event:` and an `id:` line"),
    "several-data-lines": Fault("task", 1.0, "the JSON of an event is spread over two `data:` lines"),
    "bom": Fault("task", 1.0, "the stream begins with a byte order mark"),
    "byte-splits": Fault("task", 1.0, "events are written in pieces that end anywhere, inside a character also"),
    "two-events-in-one-packet": Fault("task", 1.0, "events are written in pairs"),
    "only-eos": Fault("task", 0.05, "the whole text is `</s>`"),
    "unfinished-think": Fault("task", 0.05, "the text begins with `<think>`, which is never closed"),
    "interleaved-miners": Fault("task", 0.2, "chunks of a second node, under another id, stand between ours"),
    "gzip": Fault("task", 0.2, "the body is compressed although nobody asked for it"),
    "html-200": Fault("task", 0.05, "a page of HTML with status 200 is the answer"),
    "usage-only-chunk": Fault("task", 1.0, "a chunk without choices tells the usage before [DONE]"),
}


class FaultError(ValueError):
    """A switch that cannot be understood; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One fault switched on: at `rate`, for `target` only unless that is ""."""

    name: str
    rate: float
    target: str = ""


def read_switch(text: str) -> Switch:
    """A switch from `name`, `name=rate` or `name=rate@target`. FaultError: it is none."""
    name, equals, rest = text.strip().partition("=")
    fault = FAULTS.get(name)
    if fault is None:
        close = get_close_matches(name, FAULTS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(FAULTS)}"
        raise FaultError(f"fault {text!r}: no fault is called {name!r}; {hint}")
    if not equals:
        return Switch(name, fault.usual_rate)
    rate_text, at, target = rest.partition("@")
    try:
        rate = float(rate_text)
    except ValueError:
        raise FaultError(f"fault {text!r}: {rate_text!r} is no rate; write {name}=0.1, from 0 to 1") from None
    if not 0.0 <= rate <= 1.0:
        raise FaultError(f"fault {text!r}: the rate must be from 0 to 1")
    if at and not target:
        raise FaultError(f"fault {text!r}: the target after @ is missing")
    if at and fault.kind in ("snapshot", "connection"):
        raise FaultError(f"fault {text!r}: {name} takes no target; write {name}={rate_text}")
    return Switch(name, rate, target)


class Faults:
    """The faults that are switched on. With none of them every question is answered by one failed look-up."""

    def __init__(self, switches: Iterable[Switch] = (), seed: int = 0) -> None:
        self.seed = seed
        self._on: dict[str, tuple[Switch, ...]] = {}
        for switch in switches:
            known = self._on.get(switch.name, ())
            if any(switch.target == other.target for other in known):
                at = f"@{switch.target}" if switch.target else ""
                raise FaultError(f"fault {switch.name}{at}: given twice; which rate is meant?")
            self._on[switch.name] = (*known, switch)

    @classmethod
    def read(cls, texts: Iterable[str], seed: int) -> Faults:
        return cls([read_switch(text) for text in texts], seed)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._on)

    @property
    def switches(self) -> tuple[Switch, ...]:
        return tuple(switch for switches in self._on.values() for switch in switches)

    def is_on(self, name: str) -> bool:
        return name in self._on

    def strikes(self, name: str, key: str, *about: str) -> bool:
        """Whether the fault strikes what `key` names. A switch with a target strikes only if it is in `about`."""
        switches = self._on.get(name)
        if switches is None:
            return False
        luck = self._luck(name, key)
        return any(luck < switch.rate and (not switch.target or switch.target in about) for switch in switches)

    def victims(self, name: str, nodes: Sequence[str]) -> frozenset[str]:
        """The nodes a fault strikes: its target, or a share by rate; never none, unless the rate is 0."""
        struck: set[str] = set()
        for switch in self._on.get(name, ()):
            able = [node for node in nodes if switch.target in ("", node)] if switch.rate else []
            hit = {node for node in able if self._luck(name, node) < switch.rate}
            struck |= hit or set(sorted(able, key=lambda node: self._luck(name, node))[:1])
        return frozenset(struck)

    def choose(self, name: str, key: str, count: int) -> int:
        """A number below `count` for what a struck case needs beside yes or no, such as where a stream is cut."""
        return int(self._luck(f"{name}/which", key) * count)

    def _luck(self, name: str, key: str) -> float:
        """Uniform in [0, 1), the same in every process and on every machine."""
        digest = blake2b(f"{self.seed}/{name}/{key}".encode(), digest_size=7).digest()
        return (int.from_bytes(digest, "big") >> 3) / (1 << 53)


def check_targets(faults: Faults, nodes: Sequence[str], sessions: Sequence[str]) -> None:
    """Refuse a target that nothing is called: such a switch would do nothing, in silence. FaultError: one line."""
    for switch in faults.switches:
        kind = FAULTS[switch.name].kind
        names = nodes if kind == "node" else sessions
        if switch.target and switch.target not in names:
            what = "node" if kind == "node" else "session"
            known = f"{names[0]} to {names[-1]}" if kind == "node" else ", ".join(names)
            raise FaultError(f"fault {switch.name}: no {what} is called {switch.target!r}; there are {known}")
