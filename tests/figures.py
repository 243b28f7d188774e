"""Every figure of a page: its exact value beside its text, and the digits that stand outside of any figure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

_NUMBER = re.compile(r"-?[\d,]+(?:\.\d+)?(?:e[-+]?\d+)?")
_VOID = {"meta", "br", "img", "input", "link", "hr"}
# What may hold digits and is no figure of the run: programs, names, definitions, drawings, heads of columns.
_NO_FIGURES = {"pre", "svg", "style", "title", "code", "thead", "dt"}
_NO_FIGURES_CLASSES = {"hostile", "versions", "words", "kicker"}
_OUR_WORDS = re.compile(r"p50|p95|p99|E2E|\b95 %|\b1 %|below 100 %|in (1|10|60) s$|\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d")


class Figures(HTMLParser):
    """`shown` is (exact value, text) of every <data>, `prose` the texts where a figure could be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shown: list[tuple[float, str]] = []
        self.prose: list[str] = []
        self.attributes: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self._value: float | None = None
        self._text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.attributes += given.values()
        if tag == "data":
            self._value, self._text = float(given["value"]), ""
        if tag not in _VOID:
            other = tag in _NO_FIGURES or not _NO_FIGURES_CLASSES.isdisjoint(given.get("class", "").split())
            self._open.append((tag, other))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass
        if tag == "data" and self._value is not None:
            self.shown.append((self._value, self._text))
            self._value = None

    def handle_data(self, data: str) -> None:
        if self._value is not None:
            self._text += data
        elif data.strip() and not any(other for _, other in self._open):
            self.prose.append(data)

    def digits_outside(self, told: list[str]) -> list[str]:
        """Prose with a digit in it that is neither one of `told` (texts of the summary itself) nor ours."""
        known = sorted({text for text in told if re.search(r"\d", text)}, key=len, reverse=True)
        found = []
        for text in self.prose:
            left = text
            for each in known:
                # A short one, such as the name of a session, is only taken out as a word of its own.
                left = left.replace(each, "") if len(each) > 7 else re.sub(rf"(?<!\w){re.escape(each)}(?!\w)", "", left)
            if re.search(r"\d", _OUR_WORDS.sub("", left.strip())):
                found.append(text.strip())
        return found


def is_rounding(value: float, text: str) -> bool:
    """`text` is `value` as printed: rounded to its own decimals, in ms or s, or as a share in %."""
    found = _NUMBER.search(text)
    if found is None:
        return False
    number = found.group()
    shown = float(number.replace(",", ""))
    mantissa = number.partition("e")[0].replace(",", "")
    step = 10.0 ** -len(mantissa.partition(".")[2]) * 10.0 ** float(number.partition("e")[2] or 0)
    rest = text[found.end() :].strip(" *")
    if rest == "%":  # what is not all is never called all: 99.96 % is 99.9 %
        return abs(100 * value - shown) <= step / 2 + 1e-9 or (100 - step <= 100 * value < 100 and shown == 100 - step)
    scales = {"ms": [1.0], "s": [1e-3]}.get(rest, [1.0, 1e-3] if not rest else [])
    return any(abs(value * scale - shown) <= step / 2 * (1 + 1e-9) + 1e-12 for scale in scales)


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """(path, number) of every finite number of a summary; the length of each list is one of them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, f"{path}.{name}")
    elif isinstance(value, list):
        yield f"{path}[]", float(len(value))
        for place, inner in enumerate(value):
            yield from numbers(inner, f"{path}[{place}]")
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield path, float(value)


def texts(value: Any) -> list[str]:
    """Every text of a summary."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def told_apart(value: Any, counter: list[int] | None = None) -> Any:
    """A copy in which every number occurs once, so that a figure of the page names the one place it is from."""
    seen = [0] if counter is None else counter
    if isinstance(value, dict):
        return {name: told_apart(inner, seen) for name, inner in value.items()}
    if isinstance(value, list):
        return [told_apart(inner, seen) for inner in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    seen[0] += 1
    if isinstance(value, int):
        return 100_000 + 7 * seen[0]
    part = (seen[0] * 0.6180339887498949) % 1
    return round(part, 9) if 0 <= value <= 1 else round(value * (1 + part / 100), 6)
