"""Texts: exactly as many tokens as planned, in every language, and never the same text twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.traffic.profile import Profile, load_profile, parse_profile
from loadtest.traffic.schedule import Schedule
from loadtest.traffic.texts import HEAD_TOKENS, Phrasebook, phrasebook
from loadtest.traffic.tokens import count_tokens, load_encoding

LOCALES = ["en_US", "de_DE", "fr_FR", "es_ES", "ja_JP", "ru_RU", "pl_PL", "zh_CN", "ar_AA", "el_GR", "ko_KR", "he_IL"]
ENCODING = load_encoding("cl100k_base")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(LOCALES), st.integers(0, 3000), st.integers(0, 2**63))
def test_a_text_has_exactly_the_tokens_asked_for(locale: str, tokens: int, draw: int) -> None:
    text = phrasebook("cl100k_base", locale, 1).compose(np.random.default_rng(draw), tokens)
    assert count_tokens(ENCODING, text) == tokens == len(ENCODING.encode(text))
    assert text == text.strip(), "a router that strips white space must not change the count"


@pytest.mark.parametrize("locale", LOCALES)
def test_every_short_length_and_those_around_the_head(locale: str) -> None:
    book = phrasebook("cl100k_base", locale, 1)
    for tokens in range(HEAD_TOKENS + 80):
        assert count_tokens(ENCODING, book.compose(np.random.default_rng(tokens), tokens)) == tokens


@pytest.mark.parametrize("name", ["community", "demo", "smoke", "members"])
def test_every_content_of_a_conversation_is_exact_and_they_sum_to_the_prompt(name: str) -> None:
    profile = load_profile(name)
    schedule = Schedule(profile, 5)
    seen: dict[str, int] = {}
    for index in range(400):
        shape = schedule.shape(index)
        if seen.setdefault(shape.persona, 0) >= 30:
            continue
        for turn, planned in enumerate(shape.turns[:6]):
            seen[shape.persona] += 1
            messages = schedule.messages(shape, turn)
            counts = [count_tokens(ENCODING, content) for _, content in messages]
            assert sum(counts) == planned.prompt_tokens and counts[-1] == planned.user_tokens
            assert counts[0] == profile.writing.system_prompt_tokens
            roles = ["system"] + ["user", "assistant"] * ((len(messages) - 2) // 2) + ["user"]
            assert [role for role, _ in messages] == roles
    assert set(seen) == {persona.name for persona in profile.personas}, "each persona was looked at"


def test_a_later_request_repeats_the_earlier_one_and_adds_the_answer() -> None:
    schedule = Schedule(load_profile("community"), 2)
    grown = dropped = 0
    for index in range(300):
        shape = schedule.shape(index)
        for turn in range(1, min(len(shape.turns), 12)):
            before, after = schedule.messages(shape, turn - 1), schedule.messages(shape, turn)
            if len(after) == len(before) + 2:
                assert after[:-2] == before and after[-2][0] == "assistant"
                assert count_tokens(ENCODING, after[-2][1]) == shape.turns[turn - 1].output_tokens_max
                grown += 1
            else:
                assert after[0] == before[0] and len(after) < len(before) + 2
                assert len(after) == 2 or after[-3] == before[-1]
                dropped += 1
    assert grown > 300 and dropped > 20


def test_conversations_share_no_text() -> None:
    schedule = Schedule(load_profile("community"), 1)
    systems, users, locales = set(), set(), {p.name: p.locales[0] for p in schedule.profile.personas}
    sharing = {p.name for p in schedule.profile.personas if p.shared_share}
    n = long = 0
    for index in range(3000):
        shape = schedule.shape(index)
        (_, system), (_, user) = schedule.messages(shape, 0)
        if shape.persona not in sharing:
            systems.add(system[:80])
            n += 1
        assert shape.turns[0].user_tokens < 8 or not system.startswith(user[:15]), "two speakers, one stream"
        # A Japanese or Russian word takes several tokens, so only longer messages can all be different.
        if shape.turns[0].user_tokens >= (32 if locales[shape.persona] in ("ja_JP", "ru_RU") else 16):
            users.add(user)
            long += 1
    assert len(systems) == n > 2500 and len(users) == long > 1500


def test_another_seed_knows_other_sentences() -> None:
    one, other = (phrasebook("cl100k_base", "en_US", seed).compose(np.random.default_rng(1), 5000) for seed in (1, 2))
    sentences = set(one.split(". ")[1:-1]), set(other.split(". ")[1:-1])
    assert min(map(len, sentences)) > 200 and not sentences[0] & sentences[1]


def test_languages_are_told_apart() -> None:
    japanese = phrasebook("cl100k_base", "ja_JP", 1).compose(np.random.default_rng(1), 200)
    assert sum(ord(letter) > 0x3000 for letter in japanese) > len(japanese) / 2
    german = phrasebook("cl100k_base", "de_DE", 1).compose(np.random.default_rng(1), 2000)
    assert {"ä", "ö", "ü"} <= set(german)


def test_texts_do_not_depend_on_the_process() -> None:
    """Another process, with another hash seed and another order of use, writes the same words."""
    program = (
        "from loadtest.traffic.profile import load_profile\n"
        "from loadtest.traffic.schedule import Schedule\n"
        "s = Schedule(load_profile('smoke'), 3)\n"
        "print(repr([s.messages(s.shape(i), 0) for i in reversed(range(40))][::-1]))"
    )
    schedule = Schedule(load_profile("smoke"), 3)
    here = repr([schedule.messages(schedule.shape(i), 0) for i in range(40)])
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=root,
        env={"PYTHONPATH": root, "PYTHONHASHSEED": "77", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.stdout.strip() == here


def received(profile: Profile) -> Profile:
    return parse_profile(profile.text.replace('history = "scripted"', 'history = "received"'), "x.toml")


def test_received_history_resends_the_answers_it_is_given() -> None:
    schedule = Schedule(received(load_profile("demo")), 1)
    shape = next(s for s in map(schedule.shape, range(100)) if len(s.turns) >= 3)
    messages = schedule.messages(shape, 2, ["first answer", "second answer"])
    assert [content for role, content in messages if role == "assistant"] == ["first answer", "second answer"]
    scripted = Schedule(load_profile("demo"), 1).messages(shape, 2, ["ignored", "ignored"])
    assert [m for m in messages if m[0] != "assistant"] == [m for m in scripted if m[0] != "assistant"]
    assert "ignored" not in [content for _, content in scripted]
    with pytest.raises(ValueError, match="turn 2 needs the 2 answers received before it, got 1"):
        schedule.messages(shape, 2, ["only one"])


def test_prepare_leaves_nothing_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(load_profile("community"), 987)
    schedule.prepare()
    monkeypatch.setattr("loadtest.traffic.texts.Phrasebook", None)  # a further one could not be made
    assert all(schedule.messages(schedule.shape(index), 0) for index in range(50))


def test_an_encoding_whose_counts_do_not_add_up_is_refused() -> None:
    # Single bytes only, and a pattern that does not cut at spaces: "ab" is a token across the boundary of two pieces.
    ranks = {bytes([value]): value for value in range(256)} | {b". ": 256}
    odd = tiktoken.Encoding("odd", pat_str=r"(?s).+", mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(ValueError, match="encoding odd: texts of exact length cannot be made, use cl100k_base"):
        Phrasebook(odd, "en_US", 1)
