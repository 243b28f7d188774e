"""Personas: whom they talk to, what they break off, in which languages, and which texts they share."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.traffic.profile import Profile, ProfileError, parse_profile
from loadtest.traffic.schedule import Schedule
from loadtest.traffic.texts import HEAD_TOKENS, phrasebook
from loadtest.traffic.tokens import count_tokens, load_encoding

ENCODING = load_encoding("cl100k_base")

TEXT = """
[load]
mode = "open"
rate_per_s = 2
duration_s = 60
warmup_s = 10
in_flight_max = 50
[writing]
system_prompt_tokens = 120
[[target]]
name = "a"
route = "cortensor"
weight = 3
[[target]]
name = "b"
route = "openai-chat"
[[target]]
name = "c"
route = "openai-chat"
stream = false
[[persona]]
name = "p"
weight = 1
prompt_tokens = "uniform(20, 200)"
output_tokens = "fixed(30)"
turns = "uniform(1, 4)"
think_s = "fixed(1)"
"""


def schedule(more: str = "", seed: int = 3) -> Schedule:
    return Schedule(profile(more), seed)


def profile(more: str = "") -> Profile:
    return parse_profile(TEXT + more, "x.toml")


def mistakes(more: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        profile(more)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("wanted", "shares"),
    [
        ("[]", {"a": 0.6, "b": 0.2, "c": 0.2}),
        ('["openai-chat"]', {"b": 0.5, "c": 0.5}),
        ('["a", "c"]', {"a": 0.75, "c": 0.25}),
        ('["openai-chat", "b"]', {"b": 0.5, "c": 0.5}),
    ],
)
def test_a_persona_talks_to_the_targets_it_names_by_their_weights(wanted: str, shares: dict[str, float]) -> None:
    made = schedule(f"targets = {wanted}")
    n = 4000
    seen = Counter(made.shape(index).target.name for index in range(n))
    assert set(seen) == set(shares)
    for name, share in shares.items():
        assert abs(seen[name] / n - share) < 4 * (share * (1 - share) / n) ** 0.5


def test_requests_are_broken_off_at_the_stated_rate_and_place() -> None:
    by_chunks = schedule('cancel = { share = 0.2, after_chunks = "uniform(1, 40)" }')
    by_time = schedule('cancel = { share = 0.2, after_s = "uniform(0.5, 3)" }')
    turns = [turn for index in range(3000) for turn in by_chunks.shape(index).turns]
    timed = [turn for index in range(3000) for turn in by_time.shape(index).turns]
    for found, name, low, high in (
        (turns, "cancel_after_chunks", 1, 40),
        (timed, "cancel_after_us", 500_000, 3_000_000),
    ):
        values = [getattr(turn, name) for turn in found]
        broken = [value for value in values if value]
        assert abs(len(broken) / len(values) - 0.2) < 4 * (0.16 / len(values)) ** 0.5
        assert low <= min(broken) and max(broken) <= high and len(set(broken)) > 30
    assert not any(turn.cancel_after_us for turn in turns) and not any(turn.cancel_after_chunks for turn in timed)


def test_who_breaks_nothing_off_draws_as_before() -> None:
    """An option that is not used spends no draw: what a seed means does not change with it."""
    plain, never = schedule(), schedule('cancel = { share = 0, after_s = "fixed(1)" }')
    for index in range(50):
        first, second = plain.shape(index), never.shape(index)
        assert (first.target, first.turns[0], len(first.turns)) == (second.target, second.turns[0], len(second.turns))


def test_a_conversation_keeps_one_of_its_locales() -> None:
    made = schedule('locale = ["zh_CN", "ar_AA", "el_GR"]')
    seen = Counter(made.shape(index).locale for index in range(3000))
    assert set(seen) == {"zh_CN", "ar_AA", "el_GR"} and min(seen.values()) > 850
    ranges = {"zh_CN": (0x3000, 0xFFFF), "ar_AA": (0x600, 0x6FF), "el_GR": (0x370, 0x3FF)}
    for index in range(30):
        shape = made.shape(index)
        low, high = ranges[shape.locale]
        for turn in range(len(shape.turns)):
            for role, content in made.messages(shape, turn):
                letters = [letter for letter in content if letter.isalpha()]
                assert sum(low <= ord(letter) <= high for letter in letters) > len(letters) * 0.7, (role, content)


def test_every_request_of_some_personas_opens_a_connection() -> None:
    assert all(schedule().shape(index).keeps_connections for index in range(20))
    assert not any(schedule('connection = "new"').shape(index).keeps_connections for index in range(20))


def test_a_persona_has_its_own_system_prompt() -> None:
    made = schedule("system_prompt_tokens = 0")
    assert [role for role, _ in made.messages(made.shape(0), 0)] == ["user"]
    made = schedule("system_prompt_tokens = 33")
    shape = made.shape(0)
    (_, system), _ = made.messages(shape, 0)
    assert count_tokens(ENCODING, system) == 33
    assert shape.turns[0].prompt_tokens == 33 + shape.turns[0].user_tokens


# Shared prefixes.


@pytest.mark.parametrize(("share", "depth"), [(0.0, 100), (0.7, 100), (1.0, 60), (1.0, 120)])
def test_prefixes_are_shared_at_the_stated_share_and_depth(share: float, depth: int) -> None:
    made = schedule(f"shared_prefix = {{ share = {share}, depth = {depth} }}")
    systems = [made.messages(made.shape(index), 0)[0][1] for index in range(600)]
    tokens = [ENCODING.encode_ordinary(system) for system in systems]
    assert {len(each) for each in tokens} == {120}
    starts = Counter(tuple(each[:depth]) for each in tokens)
    (prefix, sharing), *_ = starts.most_common(1)
    if share == 0:
        assert sharing == 1, "no two begin alike"
        return
    assert abs(sharing / 600 - share) <= 4 * (share * (1 - share) / 600) ** 0.5
    assert all(count == 1 for start, count in starts.items() if start != prefix)
    if depth < 120:
        # What comes behind the shared part is everybody's own: a cache finds `depth` tokens and hardly more.
        own = Counter(tuple(each[depth : depth + 16]) for each in tokens if tuple(each[:depth]) == prefix)
        assert own.most_common(1)[0][1] == 1


def test_two_personas_do_not_share_a_prefix_and_the_seed_decides_it() -> None:
    twin = TEXT[TEXT.index("[[persona]]") :].replace('"p"', '"q"')
    shared = "shared_prefix = { share = 1, depth = 120 }\n"
    prompts = {}
    for seed in (3, 4):
        made = schedule(shared + twin + shared, seed)
        for index in range(40):
            shape = made.shape(index)
            prompts.setdefault((seed, shape.persona), set()).add(made.messages(shape, 0)[0][1])
    assert len(prompts) == 4 and all(len(texts) == 1 for texts in prompts.values())
    assert len(set.union(*prompts.values())) == 4


def test_nothing_is_repeated_between_conversations_unless_it_is_asked_for() -> None:
    made = schedule()
    starts: Counter[tuple[int, ...]] = Counter()
    for index in range(1500):
        shape = made.shape(index)
        for _, content in made.messages(shape, len(shape.turns) - 1):
            starts[tuple(ENCODING.encode_ordinary(content)[:16])] += 1
    repeats = {start: count for start, count in starts.items() if count > 1}
    assert sum(starts.values()) > 5000 and not repeats


# Code.


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["en_US", "de_DE", "ja_JP", "ar_AA"]), st.integers(0, 3000), st.integers(0, 2**63))
def test_code_has_exactly_the_tokens_asked_for(locale: str, tokens: int, draw: int) -> None:
    text = phrasebook("cl100k_base", locale, 1, "code").compose(np.random.default_rng(draw), tokens)
    assert count_tokens(ENCODING, text) == tokens and text == text.strip()


def test_every_short_length_of_code() -> None:
    book = phrasebook("cl100k_base", "en_US", 1, "code")
    for tokens in range(HEAD_TOKENS + 120):
        assert count_tokens(ENCODING, book.compose(np.random.default_rng(tokens), tokens)) == tokens


def test_code_looks_like_code_behind_a_question() -> None:
    made = schedule('text = "code"')
    long = [shape for shape in map(made.shape, range(60)) if shape.turns[0].user_tokens > 120]
    for shape in long:
        (_, system), (_, user) = made.messages(shape, 0)
        question, colon, rest = user.partition(":\n")
        assert colon and question[0].isupper() and "\n" not in question
        assert rest.count("\n") >= 3 and sum(rest.count(sign) for sign in "()=[]{}._;") > 8, user
        assert ":\n" not in system, "the system prompt is prose"
    assert len(long) > 10


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_text_may_go_on_from_another(first: int, second: int, draw: int) -> None:
    book = phrasebook("cl100k_base", "fr_FR", 1)
    start = book.compose(np.random.default_rng(draw), first)
    end = book.compose(np.random.default_rng(draw + 1), second, goes_on=True)
    assert count_tokens(ENCODING, start + end) == first + second


# Received history.


def test_received_answers_count_as_long_as_they_are() -> None:
    """Answers that are longer than planned push older turns out, so that the cap on the history holds."""
    long = '[writing]\nsystem_prompt_tokens = 120\nhistory = "received"\nhistory_tokens_max = 900\n'
    text = TEXT.replace("[writing]\nsystem_prompt_tokens = 120\n", long)
    made = Schedule(parse_profile(text, "x.toml"), 3)
    shape = next(shape for shape in map(made.shape, range(100)) if len(shape.turns) == 4)
    answers = ["word " * length for length in (30, 500, 300)]
    kept = made.messages(shape, 3, answers)
    history = [content for role, content in kept[1:-1]]
    assert sum(count_tokens(ENCODING, content) for content in history) <= 900
    assert answers[2] in history and answers[0] not in history
    assert len(made.messages(shape, 3, ["short", "short", "short"])) == 8


# Mistakes.


@pytest.mark.parametrize(
    ("more", "place", "what"),
    [
        ('targets = ["openai-chta"]', "targets", "'openai-chta' is neither name nor route of a target, did you mean"),
        ('targets = ["zzz"]', "targets", "'zzz' is neither name nor route of a target, there are a, b, c, cortensor"),
        ("targets = 3", "targets", "must be a list of names or routes of targets"),
        ("locale = []", "locale", "must be a Faker locale"),
        ('locale = ["en_US", "xx_XX"]', "locale", "'xx_XX' is not a locale of Faker"),
        ('text = "verse"', "text", "must be one of prose, code, got 'verse'"),
        ('connection = "old"', "connection", "must be one of kept, new, got 'old'"),
        ("cancel = 3", "cancel", "must be a table such as"),
        ('cancel = { share = 2, after_s = "fixed(1)" }', "cancel.share", "must be <= 1, got 2"),
        ("cancel = { share = 0.5 }", "cancel.after_s", "give either after_s or after_chunks"),
        ('cancel = { share = 1, after_s = "fixed(1)", after_chunks = "fixed(1)" }', "cancel.after_s", "give either"),
        ('cancel = { share = 1, after_chunks = "fixed(0)" }', "cancel.after_chunks.value", "must be >= 1, got 0"),
        ('cancel = { share = 1, after = "fixed(1)", after_s = "fixed(1)" }', "cancel.after", "unknown field"),
        ("shared_prefix = 3", "shared_prefix", "must be a table such as"),
        ("shared_prefix = { share = 1, depth = 121 }", "shared_prefix.depth", "must be <= system_prompt_tokens (120)"),
        ("shared_prefix = { share = -1, depth = 9 }", "shared_prefix.share", "must be >= 0, got -1"),
        ("system_prompt_tokens = -1", "system_prompt_tokens", "must be >= 0"),
        ('scenario = "D(1,2)"', "prompt_tokens", "is told by scenario already, remove one of the two"),
        ("stream_share = 1.5", "stream_share", "must be <= 1"),
    ],
)
def test_each_mistake_is_one_line(more: str, place: str, what: str) -> None:
    lines = mistakes(more)
    assert any(line.startswith(f"x.toml: [[persona]] p {place}: {what}") for line in lines), lines


def test_a_scenario_stands_for_both_lengths() -> None:
    text = TEXT.replace('prompt_tokens = "uniform(20, 200)"\noutput_tokens = "fixed(30)"', 'scenario = "D(77,11)"')
    turns = [turn for index in range(50) for turn in Schedule(parse_profile(text, "x.toml"), 1).shape(index).turns]
    assert {(turn.user_tokens, turn.output_tokens_max) for turn in turns} == {(77, 11)}


def test_quick_succession_and_long_rests_are_a_mixture_of_think_times() -> None:
    more = TEXT.replace('think_s = "fixed(1)"', 'think_s = "0.8 uniform(0.05, 0.3) + 0.2 uniform(60, 120)"')
    made = Schedule(parse_profile(more.replace('"uniform(1, 4)"', '"fixed(40)"'), "x.toml"), 2)
    rests = [turn.think_us > 1_000_000 for index in range(50) for turn in made.shape(index).turns[1:]]
    bursts = [after - before for before, after in pairwise(np.flatnonzero(rests))]
    # Five requests to a burst on average: the gap between two rests is geometric.
    assert abs(np.mean(bursts) - 5) < 4 * np.std(bursts) / len(bursts) ** 0.5
