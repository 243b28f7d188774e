"""The profiles we ship: each can be planned, and those that vary the community vary its load only."""

from __future__ import annotations

import itertools
import re

import pytest

from loadtest.traffic.profile import load_profile, profile_names, profile_text
from loadtest.traffic.schedule import Schedule

PROMISED = ("smoke", "demo", "community", "community-bursty", "community-day", "spike", "soak", "capacity")
PROMISED = (*PROMISED, "replay-azure", "single-shot")


def test_what_is_promised_is_there() -> None:
    assert set(PROMISED) <= set(profile_names())


@pytest.mark.parametrize("name", ["community-bursty", "community-day", "spike", "soak"])
def test_a_variant_of_the_community_differs_in_its_load_only(name: str) -> None:
    community, variant = load_profile("community"), load_profile(name)
    assert (variant.personas, variant.targets) == (community.personas, community.targets)
    assert (variant.writing, variant.slos, variant.observe) == (community.writing, community.slos, community.observe)
    assert variant.load != community.load


@pytest.mark.parametrize("name", [name for name in profile_names() if load_profile(name).load.arrivals != "trace"])
def test_the_first_conversations_of_each_can_be_made(name: str) -> None:
    profile = load_profile(name)
    schedule = Schedule(profile, 1)
    for index in range(20):
        shape = schedule.shape(index)
        assert schedule.messages(shape, 0)[-1][0] == "user" and shape.turns[0].prompt_tokens > 0
    if profile.load.mode == "open":
        due = [arrival.due_us for arrival in itertools.islice(schedule.arrivals(1 << 60), 20)]
        assert due == sorted(due)


def test_the_community_has_every_kind_of_behaviour() -> None:
    personas = load_profile("community").personas
    assert any(persona.text == "code" for persona in personas)
    assert any(persona.connection == "new" for persona in personas)
    assert any(persona.shared_share > 0 for persona in personas)
    assert any(persona.cancel is not None for persona in personas)
    locales = {locale for persona in personas for locale in persona.locales}
    assert len(locales) >= 5 and {"ja_JP", "ru_RU"} <= locales, "two scripts beside Latin"


@pytest.mark.parametrize("name", profile_names())
def test_figures_of_load_and_lengths_have_a_source(name: str) -> None:
    """A line of [load] or a length tells where its figure is from, or the head of the file says that all are ours."""
    text, _ = profile_text(name)
    if re.search(r"figures are ours", " ".join(line.lstrip("# ") for line in text.splitlines()), re.IGNORECASE):
        return
    for line in text.splitlines():
        if re.match(r"(rate_per_s|duration_s|curve|burstiness|prompt_tokens|output_tokens) =", line):
            assert "#" in line, line
