"""What arrival i is: who talks, to whom, for how many turns of how many tokens. Integers only, text is apart.

Everything comes from the stream of index i, so no arrival depends on another. The rules:
- persona and target by weight, the target among those the persona talks to; the whole conversation keeps one locale
  and one session of its target, each drawn uniformly;
- it streams when its target streams and a draw falls within the persona's `stream_share`;
- a scripted answer is as long as the output cap of its turn, also where the request is to be broken off;
- a turn resends the system prompt and the latest earlier turns (user and answer together) that fit
  `history_tokens_max`; the oldest are left out whole.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from loadtest.records import Target
from loadtest.traffic.personas import Persona
from loadtest.traffic.profile import Profile
from loadtest.traffic.replay import Trace
from loadtest.traffic.streams import Purpose, stream, stream_key
from loadtest.traffic.tokens import count_tokens, load_encoding


@dataclass(frozen=True, slots=True)
class TurnShape:
    """One request. Tokens count message contents in the profile's encoding, without any template of a route."""

    user_tokens: int  # the new message
    prompt_tokens: int  # the whole request: system prompt, kept history, new message
    output_tokens_max: int
    think_us: int  # the pause before this turn, scaled; 0 for the first turn of an open load
    cancel_after_chunks: int = 0  # the member breaks the answer off after so many chunks; 0: does not
    cancel_after_us: int = 0  # or so long after sending


@dataclass(frozen=True, slots=True)
class ConversationShape:
    """One conversation without its text."""

    index: int
    persona: str
    target: Target
    session: str | None
    stream: bool
    turns: tuple[TurnShape, ...]
    locale: str = "en_US"
    system_tokens: int = 0
    shared_tokens: int = 0  # leading tokens of the system prompt that it has in common with others of its persona
    keeps_connections: bool = True  # False: every request opens its own


class Community:
    """Draws conversations by index for one profile and seed. Not bound to time."""

    def __init__(self, profile: Profile, seed: int, trace: Trace | None) -> None:
        self.profile = profile
        self.trace = trace
        self._key = stream_key(seed, Purpose.SHAPES)
        self._persona_edges = _edges([persona.weight for persona in profile.personas])
        self._targets = {
            persona.name: tuple(target for target in profile.targets if persona.may_talk_to(target))
            for persona in profile.personas
        }
        self._target_edges = {
            name: _edges([target.weight for target in targets]) for name, targets in self._targets.items()
        }

    def shape(self, index: int) -> ConversationShape:
        """The conversation of one arrival; with a trace, the single turn of its row or its recorded turns. O(1), about
        25 us, and what it takes to count the tokens of recorded texts."""
        rng, persona, target, count = self._opening(index)
        session = target.sessions[int(rng.integers(len(target.sessions)))] if target.sessions else None
        streams = rng.random() < persona.stream_share and target.stream
        locale = persona.locales[int(rng.integers(len(persona.locales)))] if len(persona.locales) > 1 else None
        shares = persona.shared_depth > 0 and rng.random() < persona.shared_share
        if self.trace is not None and not self.trace.talks:
            turns: tuple[TurnShape, ...] = (self._row(self.trace, index),)
        else:
            turns = self._turns(rng, persona, self._lengths(rng, persona, index, count))
        return ConversationShape(
            index,
            persona.name,
            target,
            session,
            streams,
            turns,
            locale or persona.locales[0],
            persona.system_prompt_tokens,
            persona.shared_depth if shares else 0,
            persona.connection == "kept",
        )

    def turns_planned(self, index: int) -> int:
        """len(shape(index).turns) at less than half the cost."""
        return (
            self._opening(index)[3] if self.trace is None else len(self.trace.talks[index]) if self.trace.talks else 1
        )

    def _opening(self, index: int) -> tuple[np.random.Generator, Persona, Target, int]:
        rng = stream(self._key, index)
        persona = self.profile.personas[_pick(self._persona_edges, rng.random())]
        target = self._targets[persona.name][_pick(self._target_edges[persona.name], rng.random())]
        return rng, persona, target, max(1, math.ceil(persona.turns.draw(rng)))

    def _lengths(self, rng: np.random.Generator, persona: Persona, index: int, count: int) -> Iterator[tuple[int, int]]:
        """(new message, answer) in tokens of each turn, drawn or recorded."""
        if self.trace is None:
            for _ in range(count):
                yield max(1, round(persona.prompt_tokens.draw(rng))), max(1, round(persona.output_tokens.draw(rng)))
            return
        encoding = load_encoding(self.profile.writing.encoding)
        for said, answered in self.trace.talks[index]:
            yield count_tokens(encoding, said), count_tokens(encoding, answered)

    def _turns(
        self, rng: np.random.Generator, persona: Persona, lengths: Iterable[tuple[int, int]]
    ) -> tuple[TurnShape, ...]:
        load, writing = self.profile.load, self.profile.writing
        costs: list[int] = []
        drawn: list[tuple[int, int, int, int, int]] = []
        for turn, (user, output) in enumerate(lengths):
            # A member of a closed load pauses before every conversation too, or single turns would follow at once.
            pauses = turn > 0 or load.mode == "closed"
            think_us = round(persona.think_s.draw(rng) * load.time_scale * 1e6) if pauses else 0
            drawn.append((user, output, think_us, *_cancelled(rng, persona)))
            costs.append(user + output)
        system = persona.system_prompt_tokens
        windows = kept_history(costs, writing.history_tokens_max)
        return tuple(
            TurnShape(user, system + kept + user, output, think_us, chunks, after_us)
            for (user, output, think_us, chunks, after_us), (_, kept) in zip(drawn, windows, strict=True)
        )

    def _row(self, trace: Trace, index: int) -> TurnShape:
        tokens = min(trace.prompt_tokens[index], self.profile.writing.trace_prompt_tokens_max)
        return TurnShape(tokens, tokens, trace.output_tokens[index], 0)


def _cancelled(rng: np.random.Generator, persona: Persona) -> tuple[int, int]:
    """(chunks, microseconds) after which a request is broken off; no draw is spent on personas that never do."""
    cancel = persona.cancel
    if cancel is None or rng.random() >= cancel.share:
        return 0, 0
    if cancel.after_chunks is not None:
        return max(1, round(cancel.after_chunks.draw(rng))), 0
    assert cancel.after_s is not None
    return 0, max(1, round(cancel.after_s.draw(rng) * 1e6))


def kept_history(costs: Sequence[int], tokens_max: int) -> Iterator[tuple[int, int]]:
    """Per turn: (first earlier turn that is resent, tokens of all that are); costs are user plus answer tokens.

    The longest run of latest turns with at most `tokens_max` tokens; its start never moves back.
    """
    start, kept = 0, 0
    for turn in range(len(costs)):
        yield start, kept
        kept += costs[turn]
        while kept > tokens_max:
            kept -= costs[start]
            start += 1


def _edges(weights: Sequence[float]) -> list[float]:
    return list(accumulate(weights))


def _pick(edges: list[float], draw: float) -> int:
    """Index of the weight that a draw from [0, 1) falls on."""
    return bisect_right(edges, draw * edges[-1], hi=len(edges) - 1)
