"""How a distribution is written in a profile or on a command line, as a TOML table or as a text.

    { dist = "lognormal", mu = 3.42, sigma = 1.29, min = 2, max = 4096 }    "lognormal(3.42, 1.29) in [2, 4096]"
    { dist = "normal", mean = 300, sd = 100, min = 1, max = 900 }           "normal(300, 100) in [1, 900]"
    { dist = "uniform", min = 8, max = 40 }                                 "uniform(8, 40)"
    { dist = "fixed", value = 3 }                                           "fixed(3)"
    { dist = "quantiles", points = [[0, 4], [0.5, 45], [1, 4096]] }         "quantiles(0: 4, 0.5: 45, 1: 4096)"
    { dist = "mixture", parts = [{ weight = 0.6, dist = ... }, ...] }       "0.6 uniform(8, 40) + 0.4 fixed(3)"

A text is turned into its table first, so that both are checked by the same rules. Bounds are always written down:
what lies outside is drawn again (`lengths`).

`read_scenario` reads genai-bench's traffic scenarios (genai_bench/scenarios/text.py), input and output at once:
D(in,out), N(mean_in,sd_in)/(mean_out,sd_out), U(min_in,max_in)/(min_out,max_out) and U(max_in,max_out). As there, an
input has at least 1 token and an output 2; that tool sets smaller draws of N to the bound, we draw them again.
"""

from __future__ import annotations

import re
from itertools import accumulate, pairwise
from typing import Any

from loadtest.traffic.lengths import Fixed, Length, LogNormal, Mixture, Normal, Quantiles, Uniform
from loadtest.traffic.reading import Table

DISTRIBUTIONS = ("fixed", "uniform", "normal", "lognormal", "mixture", "quantiles")
EXAMPLE = '"fixed(3)", "lognormal(3.42, 1.29) in [2, 4096]" or { dist = "fixed", value = 3 }'
SCENARIOS = "D(in,out), N(mean_in,sd_in)/(mean_out,sd_out) or U(min_in,max_in)/(min_out,max_out)"
_SCENARIO_OUTPUT_MIN = 2

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_PART = re.compile(
    rf"\s*(?:(?P<weight>{_NUMBER})\s+)?(?P<dist>[a-z]+)\s*\((?P<inside>[^()]*)\)"
    rf"(?:\s*in\s*\[(?P<bounds>[^\[\]]*)\])?\s*"
)
_FIELDS = {"fixed": ("value",), "uniform": ("min", "max"), "normal": ("mean", "sd"), "lognormal": ("mu", "sigma")}
_BOUNDED = ("normal", "lognormal")
_PAIR = r"\((\d{1,7}),(\d{1,7})\)"
_SCENARIO = re.compile(rf"(?P<kind>[DNU]){_PAIR}(?:/{_PAIR})?")


class LanguageError(ValueError):
    """What is wrong with a text, and how it is written right."""


def read_length(table: Table, name: str, low: float, high: float) -> Length:
    """The distribution in field `name`; every value it can give lies in [low, high]. Mistakes go to the table."""
    value = table.raw(name)
    if isinstance(value, str):
        try:
            value = length_table(value)
        except LanguageError as error:
            table.wrong(name, str(error))
            return Fixed(low, low)
    if not isinstance(value, dict):
        meaning = f"a distribution such as {EXAMPLE}"
        table.wrong(name, f"is missing, give {meaning}" if value is None else f"must be {meaning}")
        return Fixed(low, low)
    part = Table(value, table.section, table.mistakes, f"{table.prefix}{name}.")
    length = _read(part, low, high)
    part.close()
    return length


def read_scenario(table: Table, name: str, high: int) -> tuple[Length, Length] | None:
    """(input, output) of a scenario in field `name`; None when there is none or it is wrong."""
    if name not in table.fields:
        return None
    text = table.text(name, f"a scenario such as {SCENARIOS}")
    found = _SCENARIO.fullmatch(re.sub(r"\s", "", text))
    kind, *numbers = found.groups() if found else ("", None)
    if not text:
        return None
    if not found or (kind == "N") > (numbers[2] is not None) or (kind == "D" and numbers[2] is not None):
        table.wrong(name, f"must be {SCENARIOS}, got {text!r:.60}")
        return None
    one, two, three, four = (None if number is None else int(number) for number in numbers)
    if kind == "D":
        given: list[dict[str, Any]] = [{"dist": "fixed", "value": one}, {"dist": "fixed", "value": two}]
    elif kind == "N":
        moments = [(one, two, 1), (three, four, _SCENARIO_OUTPUT_MIN)]
        given = [{"dist": "normal", "mean": mean, "sd": sd, "min": least, "max": high} for mean, sd, least in moments]
    else:
        ends = [(1, one), (_SCENARIO_OUTPUT_MIN, two)] if three is None else [(one, two), (three, four)]
        given = [{"dist": "uniform", "min": least, "max": most} for least, most in ends]
    tables = [Table(fields, table.section, table.mistakes, f"{table.prefix}{name} ") for fields in given]
    return _read(tables[0], 1, high), _read(tables[1], 1, high)


def length_table(text: str) -> dict[str, Any]:
    """The table that a text stands for. Raises LanguageError."""
    parts: list[dict[str, Any]] = []
    place = 0
    while True:
        found = _PART.match(text, place)
        if not found:
            raise LanguageError(f"{text!r:.80} is not a distribution, write one such as {EXAMPLE}")
        parts.append(_part_table(found))
        place = found.end()
        if place == len(text):
            break
        if text[place] != "+":
            raise LanguageError(f"{text[place:]!r:.40} is not understood, join the parts of a mixture with +")
        place += 1
    if len(parts) == 1 and "weight" not in parts[0]:
        return parts[0]
    return {"dist": "mixture", "parts": parts}


def _part_table(found: re.Match[str]) -> dict[str, Any]:
    dist, inside = found["dist"], found["inside"]
    fields: dict[str, Any] = {"dist": dist}
    if dist == "quantiles":
        fields["points"] = [[_number(word) for word in point.split(":")] for point in inside.split(",")]
    elif dist in _FIELDS:
        numbers = [_number(word) for word in inside.split(",")]
        if len(numbers) != len(_FIELDS[dist]):
            raise LanguageError(f"{dist} takes {len(_FIELDS[dist])} numbers ({', '.join(_FIELDS[dist])})")
        fields |= zip(_FIELDS[dist], numbers, strict=True)
    else:
        raise LanguageError(f"{dist!r:.40} is not a distribution, there are {', '.join(_FIELDS)} and quantiles")
    if found["bounds"] is not None:
        ends = [_number(word) for word in found["bounds"].split(",")]
        if dist not in _BOUNDED or len(ends) != 2:
            raise LanguageError(f"only {' and '.join(_BOUNDED)} take bounds, written as in [LOW, HIGH]")
        fields |= {"min": ends[0], "max": ends[1]}
    elif dist in _BOUNDED:
        raise LanguageError(f"{dist} needs its bounds, write {dist}({inside.strip()}) in [LOW, HIGH]")
    if found["weight"] is not None:
        fields["weight"] = float(found["weight"])
    return fields


def _number(word: str) -> float:
    if not re.fullmatch(_NUMBER, word.strip()):
        raise LanguageError(f"{word.strip()!r:.40} is not a number")
    return float(word)


def _read(table: Table, low: float, high: float) -> Length:
    dist = table.choice("dist", DISTRIBUTIONS)
    if dist == "fixed":
        value = table.number("value", low, high)
        return Fixed(value, value)
    if dist == "mixture":
        return _read_mixture(table, low, high)
    if dist == "quantiles":
        return _read_quantiles(table, low, high)
    least, most = table.number("min", low, high), table.number("max", low, high)
    if least > most:
        table.wrong("max", f"must be >= min ({least:g}), got {most:g}")
    if dist == "uniform":
        return Uniform(least, most)
    if dist == "normal":
        return Normal(table.number("mean", -1e9, 1e9), table.number("sd", 0, 1e9), least, most)
    return LogNormal(table.number("mu", -20, 20), table.number("sigma", 0, 10), least, most)


def _read_mixture(table: Table, low: float, high: float) -> Length:
    entries = table.raw("parts")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        table.wrong("parts", 'must be a list such as [{ weight = 0.6, dist = "lognormal", ... }, ...]')
        return Fixed(low, low)
    weights, parts = [], []
    for place, entry in enumerate(entries, start=1):
        part = Table(entry, table.section, table.mistakes, f"{table.prefix}parts[{place}].")
        weights.append(part.number("weight", 0, 1e9, above=True))
        parts.append(_read(part, low, high))
        part.close()
    total = sum(weights) or 1.0
    return Mixture(tuple(edge / total for edge in accumulate(weights)), tuple(parts))


def _read_quantiles(table: Table, low: float, high: float) -> Length:
    points = table.raw("points")
    meaning = "pairs of share and value such as [[0, 4], [0.5, 45], [1, 4096]]"
    if not isinstance(points, list) or len(points) < 2 or not all(_is_point(point) for point in points):
        table.wrong("points", f"must be {meaning}")
        return Fixed(low, low)
    shares, values = zip(*points, strict=True)
    if shares[0] != 0 or shares[-1] != 1 or any(one >= two for one, two in pairwise(shares)):
        table.wrong("points", "the shares must rise from 0 to 1")
    elif any(one > two for one, two in pairwise(values)):
        table.wrong("points", "the values must not fall")
    elif not low <= values[0] <= values[-1] <= high:
        table.wrong("points", f"the values must lie in [{low:g}, {high:g}]")
    else:
        return Quantiles(tuple(map(float, shares)), tuple(map(float, values)))
    return Fixed(low, low)


def _is_point(point: Any) -> bool:
    numbers = isinstance(point, list) and len(point) == 2
    return numbers and all(isinstance(x, int | float) and not isinstance(x, bool) and x == x for x in point)
