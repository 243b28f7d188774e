"""Texts of an exact token count, fast: pre-tokenised pieces whose counts add up.

Why they add up. Every tiktoken encoding first cuts text by a pattern in which a space followed by a letter always
starts a new cut, and encodes each cut alone. A piece that starts with a space and a letter and does not end in
white space therefore has the same tokens wherever it stands. Sentences and words are such pieces, measured once;
the first word of a text has no space before it and is measured so. A piece that starts with a letter and ends in a
line end is one too, after another such: source code is made of these. `Phrasebook` checks the sum on all its pieces,
so an encoding for which this were false is refused and not miscounted.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

import numpy as np
import tiktoken
from faker import Faker

from loadtest.traffic.codetext import snippets
from loadtest.traffic.streams import Purpose, stream_key
from loadtest.traffic.tokens import count_tokens, load_encoding

SENTENCES = 400
HEAD_TOKENS = 32  # drawn word by word, 2 (Japanese) to 10 bits (English) a token: heads of two texts hardly ever agree
WORD_TOKENS_MAX = 8
HEAD_ENDS = {"prose": ".", "code": ":\n"}  # one token each
# Single tokens in every encoding of tiktoken, with and without a space, for a language that has no short words.
FILLERS = ("and", "the", "now", "here", "more", "time", "yes", "so")


class _Words:
    """Words in order of their token count, so that one that fits is drawn at once."""

    def __init__(self, counted: list[tuple[str, int]]) -> None:
        fit = sorted((pair for pair in counted if pair[1] <= WORD_TOKENS_MAX), key=lambda pair: pair[1])
        self.texts = [text for text, _ in fit]
        self.tokens = [tokens for _, tokens in fit]

    def fit(self, draw: int, room: int) -> tuple[str, int]:
        """A word of at most `room` tokens (at least 1), by a draw below 2^32."""
        place = (draw * bisect_right(self.tokens, room)) >> 32
        return self.texts[place], self.tokens[place]


class Phrasebook:
    """Words and sentences of one locale, counted in one encoding. `kind` "code" has source code for sentences."""

    def __init__(self, encoding: tiktoken.Encoding, locale: str, seed: int, kind: str = "prose") -> None:
        # 63 bits of the purpose's key: Faker takes one integer, and no other stream must share it.
        number = int(stream_key(seed, Purpose.PHRASES)[0] >> np.uint64(1))
        fake = Faker(locale)
        fake.seed_instance(number)
        listed = [word for word in dict.fromkeys(fake.get_words_list()) if word.isalpha()]
        self._head_end = HEAD_ENDS[kind]
        self._last_words = 1 if kind == "code" else 0
        if kind == "code":
            programmer = Faker("en_US")
            programmer.seed_instance(number)
            self._sentences = snippets(programmer)
        else:
            drawn = (" " + fake.sentence() for _ in range(SENTENCES))
            self._sentences = [text for text in drawn if text[1].isalpha() and not text[-1].isspace()]
        self._sentence_tokens = np.array([count_tokens(encoding, text) for text in self._sentences], dtype=np.int64)
        self._longest = int(self._sentence_tokens.max())
        self._mean = float(self._sentence_tokens.mean())
        self._openers = _counted(encoding, [word[0].upper() + word[1:] for word in listed], FILLERS)
        self._words = _counted(encoding, [" " + word for word in listed], tuple(" " + word for word in FILLERS))
        self._check_sum(encoding)

    def compose(self, rng: np.random.Generator, tokens: int, *, goes_on: bool = False) -> str:
        """A text of exactly `tokens` tokens: a head of single words, then sentences, then words to the end.

        With `goes_on` it begins with a space, to be set behind another text of ours without changing its tokens.
        """
        if tokens < 1:
            return ""
        draws = iter(rng.integers(0, 1 << 32, size=HEAD_TOKENS + self._longest + 2).tolist())
        opener, used = (self._words if goes_on else self._openers).fit(next(draws), tokens)
        parts = [opener]
        # Without a sentence the whole text is words; with one, a full stop or a colon (one token) ends the head.
        head = tokens if tokens <= HEAD_TOKENS + 1 else HEAD_TOKENS
        while used < head:
            word, count = self._words.fit(next(draws), head - used)
            parts.append(word)
            used += count
        if used < tokens:
            parts.append(self._head_end)
            # Code ends in a line end, which a router could strip: at least one word comes after it.
            used += 1 + self._add_sentences(rng, parts, tokens - used - 1 - self._last_words)
        while used < tokens:
            word, count = self._words.fit(next(draws), tokens - used)
            parts.append(word)
            used += count
        return "".join(parts)

    def _add_sentences(self, rng: np.random.Generator, parts: list[str], room: int) -> int:
        """Append whole sentences up to the first that does not fit in `room` tokens; returns the tokens added."""
        added = 0
        while added < room:
            picks = rng.integers(0, len(self._sentences), size=int((room - added) / self._mean) + 4)
            ends = np.cumsum(self._sentence_tokens[picks])
            fit = int(np.searchsorted(ends, room - added, side="right"))
            parts.extend([self._sentences[pick] for pick in picks[:fit].tolist()])
            added += int(ends[fit - 1]) if fit else 0
            if fit < len(picks):
                break
        return added

    def _check_sum(self, encoding: tiktoken.Encoding) -> None:
        last = self._words
        pieces = [self._openers.texts[0], *last.texts, self._head_end, *self._sentences, last.texts[0]]
        planned = self._openers.tokens[0] + sum(last.tokens) + 1 + int(self._sentence_tokens.sum()) + last.tokens[0]
        counted = count_tokens(encoding, "".join(pieces))
        if counted != planned or self._openers.tokens[0] != 1 or self._words.tokens[0] != 1:
            raise ValueError(f"encoding {encoding.name}: texts of exact length cannot be made, use cl100k_base")


def _counted(encoding: tiktoken.Encoding, texts: list[str], fillers: tuple[str, ...]) -> _Words:
    counted = [(text, count_tokens(encoding, text)) for text in texts]
    if not any(tokens == 1 for _, tokens in counted):
        counted += [(text, count_tokens(encoding, text)) for text in fillers]
    return _Words(counted)


@lru_cache(maxsize=64)
def phrasebook(encoding: str, locale: str, seed: int, kind: str = "prose") -> Phrasebook:
    """The shared phrasebook: making one costs about 50 ms, 20 of them for the Faker instance.

    To the cache a `kind` that is left out is another one than "prose": who prepares and who uses must both name it.
    """
    return Phrasebook(load_encoding(encoding), locale, seed, kind)
