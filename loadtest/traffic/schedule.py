"""The face of the folder: all that a run offers, as a pure function of (profile, seed)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from loadtest.traffic.arrivals import due_times
from loadtest.traffic.conversations import Community, ConversationShape, TurnShape, kept_history
from loadtest.traffic.profile import Profile
from loadtest.traffic.replay import BLOCK_TOKENS, Trace
from loadtest.traffic.streams import Purpose, stream, stream_key
from loadtest.traffic.texts import phrasebook
from loadtest.traffic.tokens import count_tokens, load_encoding

__all__ = ["Arrival", "ConversationShape", "Schedule", "TurnShape"]

TEXTS_KEPT = 4_096  # of 200 tokens as a rule, 1 KB: the turns of about 500 conversations

_SYSTEM, _USER, _ASSISTANT, _SHARED, _BLOCK = 0, 1, 2, 3, 4  # who speaks: one word of the text stream's place


@dataclass(frozen=True, slots=True)
class Arrival:
    """The start of conversation `index`, due `due_us` microseconds after t0."""

    index: int
    due_us: int


class Schedule:
    """What is sent and when. Any worker gets the same answers, and no call changes anything.

    With a trace its rows replace the profile's arrivals, lengths and turns; personas, targets and sessions stay.
    Recorded conversations replace lengths, turns and texts, and arrive as the profile says until the last one has.
    """

    def __init__(self, profile: Profile, seed: int, trace: Trace | None = None) -> None:
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed}")
        if trace is not None and profile.load.mode == "closed":
            raise ValueError(f"{profile.source}: a trace needs an open load, the profile is closed")
        if trace is None and profile.load.arrivals == "trace":
            raise ValueError(f'{profile.source}: [load] arrivals: "trace" needs a trace file, give --trace FILE')
        if trace is not None and trace.talks and profile.load.arrivals == "trace":
            raise ValueError(f"{profile.source}: conversations have no instants, choose a profile that has a rate")
        self.profile = profile
        self.seed = seed
        self._trace = trace
        self._community = Community(profile, seed, trace)
        self._text_key = stream_key(seed, Purpose.TEXTS)
        # A later turn resends what the earlier ones said. The texts of the conversations in flight are kept, the
        # oldest fall out: memory is bounded, and a text that is asked for again is composed again, the same.
        self._composed = lru_cache(maxsize=TEXTS_KEPT)(self._compose)
        self._personas = {persona.name: (place, persona) for place, persona in enumerate(profile.personas)}

    def prepare(self) -> None:
        """Load the encoding and make every phrasebook now. Otherwise the first text of each language stalls its
        process for about 50 ms: call this before t0, and before the fork to share the memory."""
        for _, persona in self._personas.values():
            for locale in persona.locales:
                for kind in {"prose", persona.text}:
                    phrasebook(self.profile.writing.encoding, locale, self.seed, kind)

    def arrivals(self, horizon_us: int, worker: int = 0, workers: int = 1) -> Iterator[Arrival]:
        """The arrivals due before `horizon_us` that worker `worker` of `workers` sends: index % workers == worker."""
        if self.profile.load.mode == "closed":
            raise ValueError(f"{self.profile.source}: a closed load has no arrivals, its members decide")
        if not 0 <= worker < workers:
            raise ValueError(f"worker must be in [0, {workers}), got {worker}")
        trace = self._trace
        instants = trace if trace is not None and trace.due_us else None
        most = self.profile.load.conversations_max or sys.maxsize
        if trace is not None:
            most = min(most, len(trace))
        for index, due_us in due_times(self.profile.load, self.seed, horizon_us, instants, worker, workers):
            if index >= most:
                return
            yield Arrival(index, due_us)

    def shape(self, index: int) -> ConversationShape:
        """The conversation of arrival `index`, without text: O(1) and cheap."""
        return self._community.shape(index)

    def turns_planned(self, index: int) -> int:
        """How many turns arrival `index` has, at a third of the cost of its shape."""
        return self._community.turns_planned(index)

    def planned_turns(self, horizon_us: int) -> int:
        """Sum of the turns of all arrivals due before the horizon, over all workers."""
        return sum(self.turns_planned(arrival.index) for arrival in self.arrivals(horizon_us))

    def messages(
        self, shape: ConversationShape, turn: int, answers: Sequence[str] | None = None
    ) -> tuple[tuple[str, str], ...]:
        """(role, content) of every message of request `turn`: system, kept earlier turns, new user message.

        Each content has exactly its planned number of tokens. `answers` are the texts received for turns 0 to
        turn - 1, used instead of scripted ones when the profile's history is "received"; then what they really cost
        decides how many earlier turns fit.
        """
        if self._trace is not None and not self._trace.talks:
            return (("user", self._row_text(self._trace, shape)),)
        writing = self.profile.writing
        received: Sequence[str] | None = None
        outputs = [one.output_tokens_max for one in shape.turns]
        if writing.history == "received":
            received = answers or ()
            if len(received) < turn:
                raise ValueError(f"turn {turn} needs the {turn} answers received before it, got {len(received)}")
            encoding = load_encoding(writing.encoding)
            outputs = [count_tokens(encoding, answer) for answer in received[:turn]] + outputs[turn:]
        costs = [one.user_tokens + output for one, output in zip(shape.turns, outputs, strict=True)]
        start, _ = next(islice(kept_history(costs, writing.history_tokens_max), turn, None))
        messages = []
        if shape.system_tokens:
            messages.append(("system", self._system_prompt(shape)))
        for earlier in range(start, turn):
            one = shape.turns[earlier]
            messages.append(("user", self._text(shape, _USER, earlier, one.user_tokens)))
            scripted = self._text(shape, _ASSISTANT, earlier, one.output_tokens_max) if received is None else ""
            messages.append(("assistant", received[earlier] if received is not None else scripted))
        messages.append(("user", self._text(shape, _USER, turn, shape.turns[turn].user_tokens)))
        return tuple(messages)

    def _system_prompt(self, shape: ConversationShape) -> str:
        """The text it shares with others of its persona, then its own; each part has its exact number of tokens."""
        shared, own = shape.shared_tokens, shape.system_tokens - shape.shared_tokens
        if not shared:
            return self._text(shape, _SYSTEM, 0, own)
        place, persona = self._personas[shape.persona]
        book = phrasebook(self.profile.writing.encoding, persona.locales[0], self.seed, "prose")
        start = book.compose(stream(self._text_key, place, 0, _SHARED), shared)
        return start + book.compose(stream(self._text_key, shape.index, 0, _SYSTEM), own, goes_on=True)

    def _row_text(self, trace: Trace, shape: ConversationShape) -> str:
        """A row's prompt. Where the trace tells the blocks of it, the same ids are the same text in every prompt."""
        left = shape.turns[0].user_tokens
        if not trace.blocks:
            return self._text(shape, _USER, 0, left)
        book = phrasebook(self.profile.writing.encoding, self.profile.personas[0].locales[0], self.seed)
        parts: list[str] = []
        for block in trace.blocks[shape.index]:
            rng = stream(self._text_key, block, 0, _BLOCK)
            parts.append(book.compose(rng, min(left, BLOCK_TOKENS), goes_on=bool(parts)))
            left -= min(left, BLOCK_TOKENS)
        return "".join(parts)

    def _text(self, shape: ConversationShape, speaker: int, turn: int, tokens: int) -> str:
        if self._trace is not None and self._trace.talks and speaker != _SYSTEM:
            said, answered = self._trace.talks[shape.index][turn]
            return said if speaker == _USER else answered
        # A system prompt is prose for everybody.
        kind = "prose" if speaker == _SYSTEM else self._personas[shape.persona][1].text
        return self._composed(shape.index, speaker, turn, tokens, shape.locale, kind)

    def _compose(self, index: int, speaker: int, turn: int, tokens: int, locale: str, kind: str) -> str:
        book = phrasebook(self.profile.writing.encoding, locale, self.seed, kind)
        return book.compose(stream(self._text_key, index, turn, speaker), tokens)
