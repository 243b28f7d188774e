"""Of every shipped persona: counted tokens are the intended ones, and the intended ones are as the profile says."""

from __future__ import annotations

import numpy as np
import pytest
from stated import fits

from loadtest.traffic.personas import Persona
from loadtest.traffic.profile import load_profile
from loadtest.traffic.schedule import Schedule
from loadtest.traffic.texts import phrasebook
from loadtest.traffic.tokens import count_tokens, load_encoding

ENCODING = load_encoding("cl100k_base")
PERSONAS = [(name, persona) for name in ("community", "smoke", "members") for persona in load_profile(name).personas]
LOCALES = ("en_US", "de_DE", "fr_FR", "es_ES", "pl_PL", "ru_RU", "ja_JP", "zh_CN", "ar_AA", "el_GR", "hi_IN", "ko_KR")


def look_at(profile_name: str, persona: Persona, prompts: int) -> np.ndarray:
    """Compose and count so many prompts of one persona; return the intended lengths of their new messages."""
    schedule = Schedule(load_profile(profile_name), 11)
    intended: list[int] = []
    index = 0
    while len(intended) < prompts:
        shape = schedule.shape(index)
        index += 1
        if shape.persona != persona.name:
            continue
        for turn, planned in enumerate(shape.turns[: prompts - len(intended)]):
            messages = schedule.messages(shape, turn)
            if turn == 0 or turn == len(shape.turns) - 1:
                counted = sum(count_tokens(ENCODING, content) for _, content in messages)
                assert counted == planned.prompt_tokens, (persona.name, index - 1, turn)
            else:
                # What is resent was counted when it was new, or is when the conversation ends.
                assert count_tokens(ENCODING, messages[-1][1]) == planned.user_tokens
            intended.append(planned.user_tokens)
    return np.array(intended, dtype=np.float64)


@pytest.mark.parametrize(("profile", "persona"), PERSONAS, ids=lambda each: getattr(each, "name", each))
def test_counted_is_intended(profile: str, persona: Persona) -> None:
    look_at(profile, persona, 60)


@pytest.mark.long
@pytest.mark.parametrize(("profile", "persona"), PERSONAS, ids=lambda each: getattr(each, "name", each))
def test_counted_is_intended_for_ten_thousand_prompts_and_they_are_as_stated(profile: str, persona: Persona) -> None:
    assert fits(look_at(profile, persona, 10_000), persona.prompt_tokens, step=1.0)


@pytest.mark.parametrize(("profile", "persona"), PERSONAS, ids=lambda each: getattr(each, "name", each))
def test_lengths_that_enter_the_schedule_are_the_stated_ones(profile: str, persona: Persona) -> None:
    """Kolmogorov-Smirnov at one in a thousand, of lengths as they are sent: rounded to whole tokens."""
    schedule = Schedule(load_profile(profile), 23)
    turns = [t for s in map(schedule.shape, range(6000)) if s.persona == persona.name for t in s.turns]
    assert len(turns) > 250
    for name, length in (("user_tokens", persona.prompt_tokens), ("output_tokens_max", persona.output_tokens)):
        drawn = np.array([getattr(turn, name) for turn in turns], dtype=np.float64)
        assert fits(drawn, length, step=1.0), (persona.name, name)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", ["prose", "code"])
def test_every_locale_is_exact_at_short_and_long_lengths(locale: str, kind: str) -> None:
    book = phrasebook("cl100k_base", locale, 1, kind)
    rng = np.random.default_rng(3)
    for tokens in [*range(1, 45), *(int(each) for each in rng.lognormal(5, 1.5, 40).clip(1, 8192))]:
        assert count_tokens(ENCODING, book.compose(rng, tokens)) == tokens, (locale, kind, tokens)


@pytest.mark.long
@pytest.mark.parametrize("locale", LOCALES)
def test_ten_thousand_texts_of_every_locale_are_exact(locale: str) -> None:
    book = phrasebook("cl100k_base", locale, 1, "prose")
    rng = np.random.default_rng(7)
    for tokens in rng.lognormal(3.42, 1.29, 10_000).clip(1, 4096).astype(int).tolist():
        assert count_tokens(ENCODING, book.compose(rng, tokens)) == tokens
