"""The length language: texts and tables mean the same, genai-bench's scenarios, and every mistake is one line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.traffic.length_language import length_table, read_length, read_scenario
from loadtest.traffic.lengths import Fixed, Length, LogNormal, Mixture, Normal, Quantiles, Uniform
from loadtest.traffic.reading import Mistakes, Table


def read(value: Any, low: float = 1, high: float = 1e6) -> tuple[Length, list[str]]:
    mistakes = Mistakes("x.toml")
    return read_length(Table({"f": value}, "[s]", mistakes), "f", low, high), mistakes.lines


@pytest.mark.parametrize(
    ("text", "table", "expected"),
    [
        ("fixed(3)", {"dist": "fixed", "value": 3}, Fixed(3, 3)),
        ("uniform(8, 40)", {"dist": "uniform", "min": 8, "max": 40}, Uniform(8, 40)),
        (
            "normal(300, 100) in [1, 900]",
            {"dist": "normal", "mean": 300, "sd": 100, "min": 1, "max": 900},
            Normal(300, 100, 1, 900),
        ),
        (
            " lognormal( 3.42,1.29 )in[2,4096] ",
            {"dist": "lognormal", "mu": 3.42, "sigma": 1.29, "min": 2, "max": 4096},
            LogNormal(3.42, 1.29, 2, 4096),
        ),
        (
            "quantiles(0: 4, 0.5: 45, 1: 4096)",
            {"dist": "quantiles", "points": [[0, 4], [0.5, 45], [1, 4096]]},
            Quantiles((0, 0.5, 1), (4, 45, 4096)),
        ),
        (
            "3 fixed(8) + 1 lognormal(-.3, 1e0) in [9, 12]",
            {
                "dist": "mixture",
                "parts": [
                    {"weight": 3, "dist": "fixed", "value": 8},
                    {"weight": 1, "dist": "lognormal", "mu": -0.3, "sigma": 1, "min": 9, "max": 12},
                ],
            },
            Mixture((0.75, 1.0), (Fixed(8, 8), LogNormal(-0.3, 1, 9, 12))),
        ),
    ],
)
def test_a_text_is_its_table(text: str, table: dict[str, Any], expected: Length) -> None:
    assert read(text) == read(table) == (expected, [])


@given(st.text(alphabet="fixednormalu()[],.+-: 0123456789", max_size=60))
def test_any_text_is_a_distribution_or_one_line(text: str) -> None:
    length, lines = read(text)
    assert lines or 1 <= length.low <= length.high <= 1e6
    assert all(line.startswith("x.toml: [s] f") and "\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("value", "place", "what"),
    [
        ("lognormal(3.42, 1.29)", "f", "lognormal needs its bounds, write lognormal(3.42, 1.29) in [LOW, HIGH]"),
        ("normal(3) in [1, 2]", "f", "normal takes 2 numbers (mean, sd)"),
        ("uniform(8, x)", "f", "'x' is not a number"),
        ("uniform(8, 40) in [1, 2]", "f", "only normal and lognormal take bounds, written as in [LOW, HIGH]"),
        ("normal(3, 1) in [1]", "f", "only normal and lognormal take bounds"),
        ("pareto(2)", "f", "'pareto' is not a distribution, there are fixed, uniform, normal, lognormal and quantiles"),
        ("uniform(1, 2) fixed(3)", "f", "'fixed(3)' is not understood, join the parts of a mixture with +"),
        ("twelve", "f", "'twelve' is not a distribution, write one such as "),
        ("fixed(0)", "f.value", "must be >= 1, got 0"),
        ("uniform(40, 8)", "f.max", "must be >= min (40), got 8"),
        ("normal(300, -1) in [1, 9]", "f.sd", "must be >= 0, got -1"),
        ("0 fixed(1) + 1 fixed(2)", "f.parts[1].weight", "must be > 0, got 0"),
        ("fixed(1) + 1 fixed(2)", "f.parts[1].weight", "is missing, give a number > 0"),
        ("quantiles(0: 4, 1)", "f.points", "must be pairs of share and value"),
        ("quantiles(0.1: 4, 1: 5)", "f.points", "the shares must rise from 0 to 1"),
        ("quantiles(0: 4, 0.5: 6, 0.5: 7, 1: 8)", "f.points", "the shares must rise from 0 to 1"),
        ("quantiles(0: 4, 1: 3)", "f.points", "the values must not fall"),
        ("quantiles(0: -4, 1: 3)", "f.points", "the values must lie in [1, 1e+06]"),
        (3, "f", 'must be a distribution such as "fixed(3)"'),
    ],
)
def test_each_mistake_is_one_line(value: Any, place: str, what: str) -> None:
    _, lines = read(value)
    assert len(lines) == 1 and lines[0].startswith(f"x.toml: [s] {place}: {what}"), lines


def scenario(text: Any) -> tuple[tuple[Length, Length] | None, list[str]]:
    mistakes = Mistakes("x.toml")
    return read_scenario(Table({"f": text}, "[s]", mistakes), "f", 1000), mistakes.lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The examples of genai_bench/scenarios/text.py.
        ("D(100,1000)", (Fixed(100, 100), Fixed(1000, 1000))),
        ("N(300,150)/(480,240)", (Normal(300, 150, 1, 1000), Normal(480, 240, 2, 1000))),
        ("U(100,200)/(200,300)", (Uniform(100, 200), Uniform(200, 300))),
        ("U(1000, 100)", (Uniform(1, 1000), Uniform(2, 100))),
    ],
)
def test_scenarios_of_genai_bench(text: str, expected: tuple[Length, Length]) -> None:
    assert scenario(text) == (expected, [])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("N(300,150)", "must be D(in,out), N(mean_in,sd_in)/(mean_out,sd_out) or U"),
        ("D(1,2)/(3,4)", "must be D(in,out)"),
        ("D(1)", "must be D(in,out)"),
        ("E(1024)", "must be D(in,out)"),
        ("D(-1,5)", "must be D(in,out)"),
        (7, "must be a scenario such as D(in,out)"),
        ("D(0,5)", "value: must be >= 1, got 0"),
        ("U(9,5)/(1,2)", "max: must be >= min (9), got 5"),
    ],
)
def test_wrong_scenarios_are_one_line(text: Any, what: str) -> None:
    _, lines = scenario(text)
    assert len(lines) == 1 and lines[0].startswith("x.toml: [s] f") and what in lines[0], lines


def test_a_table_of_one_weighted_part_is_a_mixture_of_one() -> None:
    assert length_table("2 fixed(4)") == {"dist": "mixture", "parts": [{"dist": "fixed", "value": 4, "weight": 2}]}
