"""Flags in the field's names: each says what it says, the text of the profile tells it, a mistake is one line."""

from __future__ import annotations

import argparse

import pytest

from loadtest.traffic.changes import toml_value
from loadtest.traffic.flags import add_flags, as_arguments
from loadtest.traffic.lengths import Fixed, LogNormal, Normal
from loadtest.traffic.overrides import with_flags
from loadtest.traffic.profile import Profile, ProfileError, Slo, load_profile, parse_profile, profile_hash
from loadtest.traffic.schedule import Schedule


def flags(*words: str, seed: int = 1) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser.add_argument)
    return parser.parse_args(list(words), argparse.Namespace(seed=seed))


def changed(*words: str, profile: str = "smoke") -> Profile:
    made = with_flags(load_profile(profile), flags(*words))
    assert parse_profile(made.text, made.source) == made, "a worker that gets the text has the same profile"
    return made


def refused(*words: str, profile: str = "smoke") -> list[str]:
    with pytest.raises(ProfileError) as caught:
        with_flags(load_profile(profile), flags(*words))
    return str(caught.value).splitlines()


def test_every_flag_changes_what_it_names() -> None:
    assert changed() == load_profile("smoke")
    made = changed(
        *("--request-rate", "7.5", "--burstiness", "0.25", "--max-concurrency", "9", "--duration", "40"),
        *("--isl", "512", "--osl", "lognormal(3, 1) in [2, 90]", "--model", "m-1"),
        *("--header", "X-Team=qa", "--header", "X-Run: a=b", "--extra-body", '{"top_k": 5, "n": {"é": [1.5, true]}}'),
    )
    load = made.load
    assert (load.rate_per_s, load.arrivals, load.clients[0].cv, load.in_flight_max, load.duration_s) == (
        7.5,
        "gamma",
        2,
        9,
        40,
    )
    assert {persona.prompt_tokens for persona in made.personas} == {Fixed(512, 512)}
    assert {persona.output_tokens for persona in made.personas} == {LogNormal(3, 1, 2, 90)}
    assert {target.model for target in made.targets} == {"m-1"}
    assert {target.headers for target in made.targets} == {(("X-Team", "qa"), ("X-Run", "a=b"))}
    assert {target.extra_body for target in made.targets} == {'{"top_k": 5, "n": {"\\u00e9": [1.5, true]}}'}
    assert profile_hash(made) != profile_hash(load_profile("smoke"))


def test_concurrency_makes_a_closed_load_of_an_open_one() -> None:
    made = changed("--concurrency", "12").load
    assert (made.mode, made.members, made.arrivals, made.rate_per_s, made.in_flight_max) == ("closed", 12, "", 0, 0)
    assert changed("--concurrency", "3", profile="members").load.members == 3


def test_a_short_run_keeps_three_quarters_for_measuring() -> None:
    assert changed("--duration", "20", profile="community").load.warmup_s == 5
    assert changed("--duration", "400", profile="community").load.warmup_s == 60


@pytest.mark.parametrize("words", [(), ("--request-rate", "40", "--burstiness", "0.04")])
def test_exactly_so_many_conversations_however_close_they_are(words: tuple[str, ...]) -> None:
    made = changed("--num-prompts", "1500", *words)
    due = [arrival.due_us for arrival in Schedule(made, 1).arrivals(int(made.load.duration_s * 1e6))]
    assert len(due) == 1500 and 0 < made.load.duration_s * 1e6 - due[-1] <= 1001
    shared = [a.index for w in range(3) for a in Schedule(made, 1).arrivals(int(made.load.duration_s * 1e6), w, 3)]
    assert sorted(shared) == list(range(1500))


def test_goodput_is_limits_of_a_request_and_objectives_of_their_p95() -> None:
    made = changed("--goodput", "ttft:500", "tpot:50", "e2el:10000", profile="community")
    assert dict(made.goodput) == {"ttft_ms": 500, "tpot_ms": 50, "e2e_ms": 10_000}
    assert set(made.slos) == {
        Slo("ok_share", 0.95, "min"),
        Slo("ttft_ms_p95", 500, "max"),
        Slo("tpot_ms_p95", 50, "max"),
        Slo("e2e_ms_p95", 10_000, "max"),  # in place of the file's 60 s
    }
    stated = parse_profile(load_profile("community").text + "[goodput]\ne2e_ms = 9\nttft_ms = 8\n", "x.toml")
    assert Slo("e2e_ms_p95", 60_000, "max") in stated.slos and Slo("ttft_ms_p95", 8, "max") in stated.slos
    assert len(stated.slos) == 3, "what the file says of a p95 itself stays"


def test_a_length_of_a_scenario_may_be_changed_alone() -> None:
    head, tail = load_profile("smoke").text.split("[[persona]]", 1)
    persona = '[[persona]]\nname = "p"\nweight = 1\nscenario = "N(480,240)/(300,150)"\n'
    persona += 'turns = "fixed(1)"\nthink_s = "fixed(0)"\n'
    profile = parse_profile(head + persona, "x.toml")
    (one,) = with_flags(profile, flags("--osl", "7")).personas
    assert isinstance(one.prompt_tokens, Normal) and one.output_tokens == Fixed(7, 7)
    (two,) = with_flags(profile, flags("--isl", "8", "--osl", "7")).personas
    assert (two.prompt_tokens, two.output_tokens) == (Fixed(8, 8), Fixed(7, 7))
    assert "[[slo]]" in tail


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--request-rate", "-1"), "--request-rate: must be a number > 0, got -1"),
        (("--request-rate", "inf"), "--request-rate: must be a number > 0, got inf"),
        (("--burstiness", "x"), "--burstiness: must be a number > 0, got 'x'"),
        (("--concurrency", "0"), "--concurrency: must be a whole number from 1 to 1000000, got '0'"),
        (("--num-prompts", "1.5"), "--num-prompts: must be a whole number from 1 to 1000000, got '1.5'"),
        (("--isl", "-4"), "profiles/smoke.toml: [[persona]] quick-question prompt_tokens.value: must be >= 1, got -4"),
        (("--osl", "gauss(1)"), "profiles/smoke.toml: [[persona]] quick-question output_tokens: 'gauss' is not a dist"),
        (("--header", "X-A"), "--header: write NAME=VALUE"),
        (("--header", "Host=a"), "--header: Host is set by the harness, remove it"),
        (("--extra-body", "{"), "--extra-body: is not JSON ("),
        (("--extra-body", "[1]"), "--extra-body: must be a JSON object"),
        (("--extra-body", '{"a": null}'), "null has no place in a profile, leave the field out"),
        (("--extra-body", '{"stream": true}'), "profiles/smoke.toml: [[target]] cortensor-stream extra_body: stream: "),
        (("--goodput", "p99:3"), "--goodput: write limits in ms such as ttft:500"),
        (("--concurrency", "3", "--request-rate", "2"), "--request-rate: has no meaning in a closed load"),
    ],
)
def test_each_mistake_is_one_line(words: tuple[str, ...], line: str) -> None:
    assert refused(*words)[0].startswith(line), refused(*words)


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "Cookie"])
def test_a_key_is_never_taken_from_the_command_line(name: str) -> None:
    for sign in ("=", ": "):
        (line,) = refused("--header", f"{name}{sign}Bearer sk-secret")
        assert "sk-secret" not in line and "environment" in line and "LOADTEST_API_KEY" in line


def test_flags_of_the_wrong_profile_are_refused() -> None:
    assert refused("--request-rate", "3", profile="members")[0].endswith(
        "(profiles/members.toml is one), remove one of the two"
    )
    assert "brings its own" in refused("--isl", "3", profile="replay-azure")[0]


def test_flags_pass_on_as_they_came() -> None:
    words = ["--request-rate=3", "--header=X-A=1", "--header=X-B=-2", "--goodput", "ttft:5", "e2el:6"]
    assert as_arguments(flags(*words)) == words


def test_values_that_toml_does_not_have() -> None:
    assert toml_value({"a b": ["x\x7f\n", 1, 2.5, False, {}]}) == '{ "a b" = ["x\\u007f\\n", 1, 2.5, false, {  }] }'
    with pytest.raises(ValueError, match="null"):
        toml_value([None])
