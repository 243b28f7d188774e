"""`loadtest profile check`: all mistakes at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.cli import main
from loadtest.traffic.profile import load_profile, profile_names


def test_every_mistake_in_one_pass_with_field_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = load_profile("smoke").text
    for old, new in (
        ("rate_per_s = 3.0", "rate_per_s = -3.0"),
        ('route = "openai-chat"', 'route = "openai-chta"'),
        ("weight = 0.7", "weight = 0"),
        ('locale = "ja_JP"', 'locale = "jp_JP"'),
        ('prompt_tokens = { dist = "uniform", min = 8,', 'prompt_tokens = { dist = "uniform", min = -8,'),
        ("system_prompt_tokens = 20", 'system_prompt_tokens = 20\nencoding = "cl99k"'),
        ("poll_s = 2.0", "pol_s = 2.0"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["profile", "check", str(path)]) == 2
    found = capsys.readouterr().err.splitlines()
    lines = text.splitlines()
    for written, said in (
        ("rate_per_s = -3.0", "[load] rate_per_s: must be > 0, got -3"),
        ('route = "openai-chta"', "[[target]] openai-chat route: no route 'openai-chta', did you mean openai-chat?"),
        ("weight = 0,", "[[persona]] quick-question weight: must be > 0, got 0"),
        ('locale = "jp_JP"', "[[persona]] desktop-app locale: 'jp_JP' is not a locale of Faker"),
        ('prompt_tokens = { dist = "uniform", min = -8,', "[[persona]] quick-question prompt_tokens.min: must be >= 1"),
        ('encoding = "cl99k"', "[writing] encoding: 'cl99k' is unknown, choose one of "),
        ("pol_s = 2.0", "[observe] pol_s: unknown field, did you mean poll_s?"),
    ):
        number = next(n for n, line in enumerate(lines, start=1) if f"{line},".startswith(written))
        assert any(line.startswith(f"{path}:{number}: {said}") for line in found), (said, found)
    assert len(found) == 8, "the length is wrong in both personas, and nothing else is said"


def test_what_is_no_profile_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[load]\nmode = \n", encoding="utf-8")
    assert main(["profile", "check", str(path)]) == 2
    assert "line 2" in capsys.readouterr().err
    assert main(["profile", "check", str(tmp_path / "none.toml")]) == 2
    assert "no such profile" in capsys.readouterr().err


@pytest.mark.parametrize("name", profile_names())
def test_the_shipped_profiles_have_no_mistakes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "check", name]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"profiles/{name}.toml: no mistakes; ") and "tokens of cl100k_base" in said
