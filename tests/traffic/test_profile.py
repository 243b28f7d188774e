"""Profiles: every file loads, every mistake is one clear line, and the text always tells the run that is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtest.records import Target
from loadtest.traffic import profile as profiles
from loadtest.traffic.lengths import Fixed, LogNormal, Mixture, Uniform
from loadtest.traffic.profile import ProfileError, Slo, load_profile, parse_profile, profile_hash, profile_names

REPOSITORY = Path(__file__).parents[2]

GOOD = """
[load]
mode = "open"
rate_per_s = 2
duration_s = 60
warmup_s = 10
in_flight_max = 50
[[target]]
name = "a"
route = "cortensor"
sessions = [11, "x-12"]
[[persona]]
name = "quick"
weight = 1
prompt_tokens = { dist = "lognormal", mu = 3.42, sigma = 1.29, min = 2, max = 4096 }
output_tokens = { dist = "mixture", parts = [
    { weight = 3, dist = "fixed", value = 8 }, { weight = 1, dist = "uniform", min = 9, max = 12 }] }
turns = { dist = "fixed", value = 2 }
think_s = { dist = "uniform", min = 1, max = 2.5 }
[[slo]]
metric = "e2e_ms_p95"
max = 10000
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, "x.toml")
    return str(caught.value).splitlines()


def edited(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"the edit of {old!r} would do nothing or too much"
    return GOOD.replace(old, new)


def test_a_profile_is_read_as_written_and_defaults_are_the_stated_ones() -> None:
    profile = parse_profile(GOOD, "folder/x.toml")
    assert (profile.name, profile.source, profile.text) == ("x", "folder/x.toml", GOOD)
    load = profile.load
    assert (load.mode, load.arrivals, load.rate_per_s, load.duration_s, load.warmup_s) == ("open", "poisson", 2, 60, 10)
    assert (load.time_scale, load.late_max_s, load.in_flight_max, load.members) == (1, 1, 50, 0)
    assert profile.targets == (
        Target(name="a", route="cortensor", key_env="LOADTEST_API_KEY", sessions=("11", "x-12")),
    )
    (persona,) = profile.personas
    assert persona.prompt_tokens == LogNormal(3.42, 1.29, 2, 4096)
    assert persona.output_tokens == Mixture((0.75, 1.0), (Fixed(8, 8), Uniform(9, 12)))
    assert (persona.locales, persona.stream_share) == (("en_US",), 1)
    assert (profile.writing.encoding, profile.writing.history) == ("cl100k_base", "scripted")
    assert profile.slos == (Slo("e2e_ms_p95", 10_000, "max"),)
    assert profile.observe.lookup_share_max == 0.1


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("rate_per_s = 2", "rate_per_s = -1", "[load] rate_per_s", "must be > 0, got -1"),
        ("rate_per_s = 2", "rate_per_s = true", "[load] rate_per_s", "must be a number, got True"),
        ("rate_per_s = 2", "rate_per_s = nan", "[load] rate_per_s", "must be > 0, got nan"),
        ("rate_per_s = 2", "rate_per_s = inf", "[load] rate_per_s", "must be <= 100000, got inf"),
        ("rate_per_s = 2", "", "[load] rate_per_s", "is missing, give a number > 0"),
        (
            "rate_per_s = 2",
            "rate_per_s = 2\nrate_per = 3",
            "[load] rate_per",
            "unknown field, did you mean rate_per_s?",
        ),
        ('mode = "open"', 'mode = "opne"', "[load] mode", "must be one of open, closed, got 'opne'"),
        ('mode = "open"', 'mode = "open"\nmembers = 3', "[load] members", "has no meaning with arrivals"),
        ('mode = "open"', 'mode = "open"\narrivals = "gamma"', "[load] cv", "is missing, give a number > 0"),
        ('mode = "open"', 'mode = "open"\narrivals = "trace"', "[load] rate_per_s", "has no meaning with arrivals"),
        ("in_flight_max = 50", "in_flight_max = 2.5", "[load] in_flight_max", "must be a whole number, got 2.5"),
        ("in_flight_max = 50", "in_flight_max = 0", "[load] in_flight_max", "must be >= 1 and <= 1000000, got 0"),
        ("warmup_s = 10", "warmup_s = 60", "[load] warmup_s", "must be < duration_s (60), got 60"),
        ('route = "cortensor"', "", "[[target]] a route", "is missing, give a route"),
        ('route = "cortensor"', 'route = "cortensor"\nstream = "yes"', "[[target]] a stream", "must be true or false"),
        ('route = "cortensor"', 'route = "r"\nurl = "ftp://h"', "[[target]] a url", "must be scheme, host and port"),
        ('route = "cortensor"', 'route = "r"\nurl = "http://h/v1"', "[[target]] a url", "must be scheme, host"),
        ('route = "cortensor"', 'route = "r"\nurl = "http://h:p"', "[[target]] a url", "must be scheme, host"),
        ('sessions = [11, "x-12"]', "sessions = 11", "[[target]] a sessions", "must be a list of session ids"),
        ('sessions = [11, "x-12"]', "sessions = [1.5]", "[[target]] a sessions", "must be a list of session ids"),
        (
            'name = "quick"',
            'name = "quick"\nlocale = "xx_XX"',
            "[[persona]] quick locale",
            "'xx_XX' is not a locale of Faker",
        ),
        ('name = "quick"', "", "[[persona]] 1 name", "is missing, give a short name"),
        ("sigma = 1.29, ", "", "[[persona]] quick prompt_tokens.sigma", "is missing, give a number >= 0"),
        ("min = 2, max = 4096", "min = 0, max = 9", "[[persona]] quick prompt_tokens.min", "must be >= 1"),
        ("min = 2, max = 4096", "min = 9, max = 8", "[[persona]] quick prompt_tokens.max", "must be >= min (9), got 8"),
        ("mu = 3.42", "mu = 3.42, median = 3", "[[persona]] quick prompt_tokens.median", "unknown field"),
        ("weight = 3", "weight = 0", "[[persona]] quick output_tokens.parts[1].weight", "must be > 0"),
        (
            'dist = "fixed", value = 8',
            'dist = "fix"',
            "[[persona]] quick output_tokens.parts[1].dist",
            "must be one of",
        ),
        ("turns = { dist", "turns = 3\nturn = { dist", "[[persona]] quick turns", "must be a distribution such as"),
        ("turns = { dist", "turn = { dist", "[[persona]] quick turns", "is missing, give a distribution such as"),
        ('metric = "e2e_ms_p95"', 'metric = "e2e_p95"', "[[slo]] 1 metric", "must be ok_share or one of ttft"),
        ("max = 10000", "min = 10000", "[[slo]] 1 max", "is missing, give a number >= 0"),
        ("[[slo]]", "[slo]", "slo", "must be a list of sections, write [[slo]]"),
        ("[[slo]]", "writing = 3\n[[slo]]", "[[persona]] quick writing", "unknown field"),
        ("[load]", "colour = 3\n[load]", "colour", "unknown field"),
        ("[load]", "observe = 3\n[load]", "observe", "must be a section, write [observe]"),
        ("[load]", "[writing]\nhistory = 'real'\n[load]", "[writing] history", "must be one of scripted, received"),
        ("[load]", "[observe]\nlookup_share_max = 2\n[load]", "[observe] lookup_share_max", "must be <= 1, got 2"),
        ("[load]", "[changes]\nload = 2\n[load]", "[changes] load", "must be a section"),
    ],
)
def test_each_mistake_is_a_line_that_says_where_and_what(old: str, new: str, place: str, what: str) -> None:
    lines = mistakes(edited(old, new))
    assert any(line.startswith(f"x.toml: {place}: {what}") for line in lines), lines
    assert all(re.fullmatch(r"x\.toml: \S.*: \S.*", line) for line in lines), lines


def test_all_mistakes_are_reported_together() -> None:
    text = edited("rate_per_s = 2", "rate_per_s = 0").replace("weight = 1\n", "wieght = 1\n").replace("max = 10000", "")
    assert [line.split(": ")[1] for line in mistakes(text)] == [
        "[load] rate_per_s", "[[persona]] quick weight", "[[persona]] quick wieght", "[[slo]] 1 max",
    ]  # fmt: skip


def test_an_empty_profile_says_what_it_needs() -> None:
    lines = mistakes("")
    assert "x.toml: [load] mode: is missing, give one of open, closed" in lines
    assert "x.toml: persona: is missing, give at least one [[persona]] section" in lines
    assert "x.toml: target: is missing, give at least one [[target]] section" in lines


def test_twin_names_and_broken_toml() -> None:
    twin = GOOD[GOOD.index("[[target]]") : GOOD.index("[[persona]]")]
    assert mistakes(GOOD + twin) == ["x.toml: [[target]] name: a is there twice, give each its own name"]
    (line,) = mistakes("[load\n")
    assert line.startswith("x.toml: not valid TOML, correct it: ") and "line 1" in line


@pytest.mark.parametrize("field", ['key_env = "sk-geheim-1"', 'url = "http://me:geheim@h:1"', 'api_key = "geheim"'])
def test_a_key_in_the_wrong_place_is_never_printed(field: str) -> None:
    lines = mistakes(edited('route = "cortensor"', f'route = "cortensor"\n{field}'))
    assert len(lines) == 1 and "geheim" not in lines[0] and "[[target]] a" in lines[0]


def test_changes_are_checked_and_told_by_the_text_and_the_hash() -> None:
    before = parse_profile(GOOD, "x.toml")
    after = before.with_changes(load={"rate_per_s": 5.5, "duration_s": 90}).with_changes(
        load={"duration_s": 120.0, "arrivals": "constant"}
    )
    assert (after.load.rate_per_s, after.load.duration_s, after.load.arrivals) == (5.5, 120, "constant")
    assert (after.load.warmup_s, after.targets, after.personas) == (10, before.targets, before.personas)
    assert parse_profile(after.text, after.source) == after, "a worker that gets the text must get the same profile"
    assert profile_hash(after) != profile_hash(before)
    assert before.with_changes() is before and before.with_changes(load={}) is before
    with pytest.raises(ProfileError, match=r"^x\.toml: \[load\] duration_s: must be <= 7776000, got 80000000$"):
        before.with_changes(load={"duration_s": 8e7})
    with pytest.raises(ProfileError, match=r"\[load\] members: has no meaning with arrivals"):
        before.with_changes(load={"members": 3})


def test_the_hash_follows_text_and_library_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = parse_profile(GOOD, "x.toml")
    known = profile_hash(profile)
    assert re.fullmatch(r"[0-9a-f]{16}", known) and known == profile_hash(parse_profile(GOOD, "y.toml"))
    assert known != profile_hash(parse_profile(GOOD + "\n# a comment", "x.toml"))
    monkeypatch.setattr(profiles, "version", lambda package: "0" if package == "Faker" else "1")
    assert known != profile_hash(profile)


def test_every_file_in_profiles_loads_by_name_and_by_path() -> None:
    files = sorted((REPOSITORY / "profiles").glob("*.toml"))
    assert {"community", "demo", "smoke", "members"} <= {path.stem for path in files}
    for path in files:
        named, given = load_profile(path.stem), load_profile(str(path))
        assert named.source == f"profiles/{path.name}" and named.text == given.text == path.read_text(encoding="utf-8")
        assert {target.key_env for target in named.targets} == {"LOADTEST_API_KEY"}
    assert load_profile("members").load.members == 40
    assert [load_profile(name).load.mode for name in ("community", "members")] == ["open", "closed"]


def test_unknown_names_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile("comunity")
    assert str(caught.value) == (
        f"comunity: no such profile, choose one of {', '.join(profile_names())} or name a .toml file"
    )
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(ProfileError, match=r"latin\.toml: cannot be read \(not UTF-8 text\), name a readable"):
        load_profile(str(tmp_path / "latin.toml"))
    with pytest.raises(ProfileError, match=r"cannot be read \(Is a directory\)"):
        load_profile(f"{tmp_path}/")


def test_a_wheel_finds_profiles_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only-here.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(profiles, "_FOLDERS", (tmp_path, *profiles._FOLDERS))
    assert load_profile("only-here").source == "profiles/only-here.toml"
