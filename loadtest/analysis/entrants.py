"""Who is in a contest: nodes with score, stake, operator, uptime and roles, from a CSV file.

Nothing is guessed and nothing is dropped: a row that cannot be read is a mistake with its file and row, and an empty
field is "not told", which the rules' key `unknown` then decides.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

ENTRANTS_MAX = 2_000
CSV_BYTES_MAX = 16_000_000
MISTAKES_SHOWN = 20
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


class EntrantsError(ValueError):
    """What is wrong with a file of nodes: one line per mistake, 'file, row N: field: what is wrong, what to do'."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """One node. Shares are 0 to 1; None is "not told"."""

    node: str  # lower case
    operator: str = ""  # "": nobody else's
    score: Decimal | None = None
    precommit_score: Decimal | None = None
    level: int | None = None
    stake_cor: int | None = None
    uptime: Decimal | None = None
    observed_days: Decimal | None = None  # over so many days the uptime was seen; None: over the whole window
    roles: tuple[str, ...] = ()
    earlier_phase: bool = False
    reporting: bool | None = None  # took part in bug reports
    disqualified: str = ""  # decided, with the reason
    flags: tuple[str, ...] = ()  # "kind: evidence", not decided


class Entrants(NamedTuple):
    """`nodes` in order of address, whatever the order of the input; `notes` are lines for the reader of the result."""

    nodes: tuple[Entrant, ...]
    notes: tuple[str, ...]


def read_entrants(path: Path) -> Entrants:
    """Nodes of a CSV file with a header. EntrantsError: every mistake of the file."""
    rows, notes = _rows(path)
    nodes: dict[str, Entrant] = {}
    mistakes: list[str] = []
    for number, row in rows:
        entrant = _entrant(row, f"{path}, row {number}", mistakes)
        if entrant.node in nodes:
            mistakes.append(f"{path}, row {number}: node: {entrant.node} is there twice; keep one row per node")
        nodes[entrant.node] = entrant
    if not mistakes and not nodes:
        mistakes.append(f"{path}: no rows; give a header line and one row per node")
    raise_mistakes(mistakes)
    return entrants(nodes.values(), notes)


def entrants(nodes: Iterable[Entrant], notes: Sequence[str] = ()) -> Entrants:
    """In order of address. EntrantsError above ENTRANTS_MAX nodes: all readings of all of them are worked out."""
    ordered = sorted(nodes, key=lambda one: one.node)
    if len(ordered) > ENTRANTS_MAX:
        raise EntrantsError(
            f"{len(ordered)} nodes: at most {ENTRANTS_MAX} can take part; give the contest's nodes only"
        )
    spelt, more = _one_spelling(ordered)
    return Entrants(tuple(spelt), (*notes, *more))


def _one_spelling(ordered: Sequence[Entrant]) -> tuple[list[Entrant], list[str]]:
    """Operators by their first spelling: "Alice" and " ALICE" would else have a limit each."""
    ways: dict[str, dict[str, None]] = {}  # by the folded name its spellings, in order
    for one in ordered:
        ways.setdefault(_folded(one.operator), {})[one.operator] = None
    first = {name: next(iter(spellings)) for name, spellings in ways.items()}
    notes = [
        f"operator {first[name]} is written in {len(spellings)} ways, and is taken for one: {', '.join(spellings)}"
        for name, spellings in ways.items()
        if len(spellings) > 1
    ]
    return [replace(one, operator=first[_folded(one.operator)]) for one in ordered], notes


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def with_registry(observed: Entrants, path: Path) -> Entrants:
    """Observed nodes with what a CSV file says of them; what the file tells replaces what was observed.

    Nodes that only the file names take part too, as nodes that nobody observed.
    """
    registry = read_entrants(path)
    told = {one.node: one for one in registry.nodes}
    seen = {one.node: one for one in observed.nodes}
    merged = [_merged(seen.get(node), told.get(node)) for node in sorted(seen.keys() | told.keys())]
    notes = [*observed.notes, *registry.notes]
    for only, where in ((seen.keys() - told.keys(), "observed but not in"), (told.keys() - seen.keys(), "only in")):
        if only:
            notes.append(
                f"{len(only)} nodes are {where} {path}: {', '.join(sorted(only)[:3])}{', ...' * (len(only) > 3)}"
            )
    return entrants(merged, notes)


def _merged(seen: Entrant | None, told: Entrant | None) -> Entrant:
    if seen is None or told is None:
        one = seen or told
        assert one is not None
        return one
    default = Entrant(seen.node)
    changes = {f: getattr(told, f) for f in Entrant.__slots__ if getattr(told, f) != getattr(default, f)}
    return replace(seen, **changes)


def raise_mistakes(mistakes: Sequence[str]) -> None:
    """EntrantsError with the first MISTAKES_SHOWN lines, and how many there are, when there are any."""
    if mistakes:
        more = [f"... and {len(mistakes) - MISTAKES_SHOWN} more mistakes"] if len(mistakes) > MISTAKES_SHOWN else []
        raise EntrantsError("\n".join([*mistakes[:MISTAKES_SHOWN], *more]))


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """(row number as a spreadsheet counts, fields) of each row, and notes on columns that are not read."""
    try:
        if path.stat().st_size > CSV_BYTES_MAX:
            raise EntrantsError(f"{path}: larger than {CSV_BYTES_MAX // 10**6} MB; give one row per node")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise EntrantsError(f"{path}: {error.strerror}; give a run folder or a CSV file of nodes") from None
    except UnicodeDecodeError:
        raise EntrantsError(f"{path}: not UTF-8 text; save it as a CSV file in UTF-8") from None
    # csv.DictReader would take two columns of one name for one, and tell the line of a row's end, not of its begin.
    lines: list[list[str]] = []
    try:
        lines += csv.reader(text.splitlines(keepends=True), strict=True)
    except csv.Error as error:
        raise EntrantsError(f"{path}, row {len(lines) + 1}: not CSV ({error})") from None
    header = [name.strip().lower() for name in lines[0]] if lines else []
    if "node" not in header or len(set(header)) < len(header):
        raise EntrantsError(f"{path}, row 1: must be the names of the columns, each once, node among them")
    numbered = [(n, row) for n, row in enumerate(lines[1:], start=2) if any(row)]
    raise_mistakes(
        [
            f"{path}, row {n}: {len(row)} fields, the header has {len(header)}"
            for n, row in numbered
            if len(row) != len(header)
        ]
    )
    rows = [(n, dict(zip(header, row, strict=True))) for n, row in numbered]
    unread = [name for name in header if name not in Entrant.__slots__]
    return rows, [f"{path}: columns that are not read: {', '.join(unread)}"] if unread else []


def _entrant(row: dict[str, str], where: str, mistakes: list[str]) -> Entrant:
    """One row; what cannot be read is added to `mistakes` and left out."""

    def field(name: str, read: Callable[[str], Any], absent: Any = None) -> Any:
        text = row.get(name, "").strip()
        try:
            return read(text) if text else absent
        except ValueError as error:
            mistakes.append(f"{where}: {name}: {error}")
            return absent

    node = field("node", _address, "")
    if not node and not row["node"].strip():
        mistakes.append(f"{where}: node: is empty")
    return Entrant(
        node=node or where,
        operator=field("operator", str, ""),
        score=field("score", _share),
        precommit_score=field("precommit_score", _share),
        level=field("level", _whole),
        stake_cor=field("stake_cor", _whole),
        uptime=field("uptime", _share),
        observed_days=field("observed_days", _days),
        roles=field("roles", lambda text: _list(text.lower()), ()),
        earlier_phase=field("earlier_phase", _yes, False),
        reporting=field("reporting", _yes),
        disqualified=field("disqualified", str, ""),
        flags=field("flags", _list, ()),
    )


def _address(text: str) -> str:
    if not re.fullmatch(r"[\w.:-]{1,128}", text, re.ASCII):
        raise ValueError("must be an address of letters and digits")
    return text.lower()


def _share(text: str) -> Decimal:
    value = _number(text)
    if not 0 <= value <= 1:
        raise ValueError(f"must be a share from 0 to 1, got {text[:40]}; divide percentages by 100")
    return value


def _days(text: str) -> Decimal:
    value = _number(text)
    if not 0 <= value <= 10_000:
        raise ValueError(f"must be a number of days, got {text[:40]}")
    return value


def _number(text: str) -> Decimal:
    if not re.fullmatch(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})", text, re.ASCII):
        raise ValueError(f"must be a plain number such as 0.97, got {text[:40]!r}")
    return Decimal(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise ValueError(f"must be a whole number of 0 or more, got {text[:40]!r}")
    return int(text)


def _yes(text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise ValueError(f"must be yes or no, got {text[:40]!r}")
    return text.lower() in _YES


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())
