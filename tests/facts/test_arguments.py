"""Numbers on a command line: every bound at its edge, and the line that says it."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

import pytest

from loadtest.arguments import amount, number, whole


@pytest.mark.parametrize(("least", "most", "text"), [(1, None, "1"), (1, None, "10"), (0, 36, "0"), (0, 36, "36")])
def test_whole_numbers_within_their_bounds(least: int, most: int | None, text: str) -> None:
    assert whole(least, most)(text) == int(text)


@pytest.mark.parametrize(
    ("least", "most", "text", "said"),
    [
        (1, None, "0", "must be 1 or more, got 0"),
        (0, 36, "37", "must be 0 to 36, got 37"),
        (2, 3, "-1", "must be 2 to 3"),
    ],
)
def test_whole_numbers_beyond_them(least: int, most: int | None, text: str, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        whole(least, most)(text)


def test_amounts() -> None:
    assert amount("0") == 0.0 and amount("2.5") == 2.5
    for text in ("-0.1", "1.1e9", "nan", "inf"):
        with pytest.raises(ArgumentTypeError, match=r"from 0 to 1e\+09"):
            amount(text)


def test_what_is_no_number_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    parser.add_argument("--step-s", type=number(0.001, 5))
    for text, told in (("abc", "invalid number value: 'abc'"), ("6", "must be a number from 0.001 to 5, got 6")):
        with pytest.raises(SystemExit):
            parser.parse_args(["--step-s", text])
        assert f"argument --step-s: {told}" in capsys.readouterr().err
