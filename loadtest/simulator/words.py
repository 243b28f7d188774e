"""The text of an answer: words drawn from a seed, one word a token, a slightly different text for every node.

Texts are never stored. They are drawn again from (seed, session, task, node) whenever a look-up asks, which keeps
the memory of a long run bounded.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random

# Frequent English words: with the blank before them each is one token of cl100k_base, so that tokens counted by a
# client agree with ours. The two at the end are there because clients must survive them: an escape and non-ASCII.
_PLAIN = """
    the of and to in is that for it as was with be by on not he this are or his from at which but have an had they
    you were their one all we can her has there been if more when will would who so no out up into do any your what
    now just like other how then its our two these may first see him way could people than only over new some time
    model node network task answer question result value number data system line point work part place case week
    company world school state family student group country problem hand start might show every small large
    next early young important few public bad same able good great long little own old right big high different
"""
WORDS = (*_PLAIN.split(), "…", "\n")

SAME_TEXT_SHARE = 0.25  # nodes that return the common text word for word: a text match cannot tell these apart
CHANGED_EVERY = 12  # the others change about one word in so many


@lru_cache(maxsize=2048)
def answer_pieces(seed: int, session: str, task: int, node: str, tokens: int) -> tuple[str, ...]:
    """The pieces one node gives as answer, one per token; joined they are the text."""
    rng = Random(f"{seed}/text/{session}/{task}")
    words = rng.choices(WORDS, k=tokens)
    own = Random(f"{seed}/text/{session}/{task}/{node}")
    if own.random() >= SAME_TEXT_SHARE:
        for _ in range(max(1, tokens // CHANGED_EVERY)):
            words[own.randrange(tokens)] = own.choice(WORDS)
    return (words[0].strip() or "the", *(_after_blank(word) for word in words[1:]))


def _after_blank(word: str) -> str:
    return word if word in ("…", "\n") else " " + word
