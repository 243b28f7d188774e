"""Reading a TOML file whose mistakes are all reported at once, one clear line each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PROFILE_FOLDERS = (Path(__file__).parents[1] / "profiles", Path(__file__).parents[2] / "profiles")  # wheel, repository


class Mistake(NamedTuple):
    """`place` is the section and field, as in "[load] rate_per_s"."""

    place: str
    what: str


class Mistakes:
    """The lines of what is wrong with one file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[Mistake] = []

    def add(self, place: str, what: str) -> None:
        """One line: `place` is the section and field, `what` says what is wrong and what to do."""
        self.found.append(Mistake(place, what))

    @property
    def lines(self) -> list[str]:
        return [f"{self.source}: {place}: {what}" for place, what in self.found]


class Table:
    """One TOML table being read, field by field. A mistake is noted and reading goes on with a stand-in value.

    Call `close` at the end: every field that nobody asked for is a mistake too.
    """

    def __init__(self, fields: dict[str, Any], section: str, mistakes: Mistakes, prefix: str = "") -> None:
        self.fields = fields
        self.section = section
        self.mistakes = mistakes
        self.prefix = prefix
        self.asked: list[str] = []
        self.changed: set[str] = set()  # fields that a command line put in place of the file's

    def wrong(self, name: str, what: str) -> None:
        self.mistakes.add(f"{self.section} {self.prefix}{name}".strip(), what)

    def raw(self, name: str) -> Any:
        """The value as TOML gave it, or None; counts as asked for."""
        self.asked.append(name)
        return self.fields.get(name)

    def _take(self, name: str, default: object, meaning: str) -> Any:
        self.asked.append(name)
        if name in self.fields:
            return self.fields[name]
        if default is None:
            self.wrong(name, f"is missing, give {meaning}")
        return None

    def number(self, name: str, low: float, high: float, default: float | None = None, *, above: bool = False) -> float:
        """A number in [low, high], or in (low, high] with `above`."""
        floor = f"{'>' if above else '>='} {low:.12g}"
        value = self._take(name, default, f"a number {floor}")
        if value is None:
            return low if default is None else default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(name, f"must be a number, got {value!r:.60}")
        elif value > high:
            self.wrong(name, f"must be <= {high:.12g}, got {value:.12g}")
        elif not value >= low or (above and value == low):  # also nan
            self.wrong(name, f"must be {floor}, got {value:.12g}")
        else:
            return float(value)
        return low

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number in [low, high]."""
        value = self._take(name, default, f"a whole number >= {low} and <= {high}")
        if value is None:
            return low if default is None else default
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(name, f"must be a whole number, got {value!r:.60}")
        elif not low <= value <= high:
            self.wrong(name, f"must be >= {low} and <= {high}, got {value}")
        else:
            return value
        return low

    def flag(self, name: str, default: bool) -> bool:
        value = self._take(name, default, "true or false")
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(name, f"must be true or false, got {value!r:.60}")
        return default

    def text(self, name: str, meaning: str, default: str | None = None, pattern: str = r".+") -> str:
        """A text that matches `pattern` whole. The text itself is never printed: it could be a pasted key."""
        value = self._take(name, default, meaning)
        if value is None:
            return default or ""
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        self.wrong(name, f"must be {meaning}")
        return ""

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self._take(name, default, "one of " + ", ".join(choices))
        if value is None:
            return default or choices[0]
        if isinstance(value, str) and value in choices:
            return value
        self.wrong(name, f"must be one of {', '.join(choices)}, got {value!r:.60}")
        return choices[0]

    def texts(self, name: str, meaning: str) -> tuple[str, ...]:
        """A list of texts; whole numbers are taken as texts. Missing means empty."""
        value = self._take(name, (), meaning)
        if value is None:
            return ()
        entries = value if isinstance(value, list) else [None]
        if any(isinstance(entry, bool) or not isinstance(entry, str | int) or entry == "" for entry in entries):
            self.wrong(name, f"must be {meaning}")
            return ()
        return tuple(str(entry) for entry in entries)

    def table(self, name: str) -> Table:
        """A table of the top level, such as [load]. A missing one is read as empty: its fields say what they need."""
        value = self.raw(name)
        if value is not None and not isinstance(value, dict):
            self.wrong(name, f"must be a section, write [{name}]")
            value = None
        return Table(value or {}, f"[{name}]", self.mistakes)

    def tables(self, name: str, *, required: bool) -> list[Table]:
        """The tables of a [[name]] list, each labelled with its place and its own `name` when it has one."""
        value = self._take(name, None if required else (), f"at least one [[{name}]] section")
        if value is None:
            return []
        if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
            self.wrong(name, f"must be a list of sections, write [[{name}]]")
            return []
        labels = [entry.get("name") for entry in value]
        return [
            Table(entry, f"[[{name}]] " + (label if isinstance(label, str) else f"{place}"), self.mistakes)
            for place, (entry, label) in enumerate(zip(value, labels, strict=True), start=1)
        ]

    def close(self) -> None:
        """Report the fields that do not exist, with the nearest one that does."""
        for name in self.fields:
            if name not in self.asked:
                near = difflib.get_close_matches(name, self.asked, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(self.asked)}"
                self.wrong(name, f"unknown field, {hint}")
