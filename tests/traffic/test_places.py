"""The line of a mistake is the line an editor must go to."""

from __future__ import annotations

import pytest

from loadtest.traffic.places import line_of

TEXT = """# a comment: rate_per_s = 9
colour = 3
[load]
mode = "open"
  rate_per_s = 2

[[persona]]   # the first
name = "one"
weight = 0
turns = { dist = "uniform", min = 0, max = 2 }
[persona.prompt_tokens]
dist = "mixture"
parts = [
    { weight = 0.6, dist = "fixed", value = 3 },
    { weight = 0, dist = "uniform", min = 1, max = 2 },
]
[[persona]]
weight = 1
think_s = {
  dist = "uniform",
  min = 5,
  max = 4,
}
[[target]]
name = "a"
[changes.load]
rate_per_s = 3
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("colour", 2),
        ("[load] rate_per_s", 5),
        ("[load] duration_s", 3),
        ("[[persona]] one weight", 9),
        ("[[persona]] one turns.max", 10),
        ("[[persona]] one prompt_tokens", 11),
        ("[[persona]] one prompt_tokens.dist", 12),
        ("[[persona]] one prompt_tokens.parts[2].weight", 15),
        ("[[persona]] one locale", 7),
        ("[[persona]] 2 weight", 18),
        ("[[persona]] 2 think_s.max", 22),
        ("[[persona]] 2 name", 17),
        ("[[target]] a route", 24),
        ("[writing] encoding", 1),
        ("slo", 1),
    ],
)
def test_the_line_of_a_place(place: str, line: int) -> None:
    assert line_of(TEXT, place) == line
