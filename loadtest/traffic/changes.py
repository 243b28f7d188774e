"""What a command line changes in a profile, written behind its text: the text alone tells the run that is made.

[changes.load] replaces fields of [load]; [changes.persona] and [changes.target] do so in every persona and target;
[changes.goodput] replaces fields of [goodput], and each becomes an objective too.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from loadtest.traffic.reading import Table

SECTIONS = ("load", "persona", "target", "goodput")
CHANGES_MARK = "\n# Changed from outside the file, for instance by a command line:\n"
_SPREAD = ("cv", "burstiness", "clients")
OPEN_ONLY = ("arrivals", "rate_per_s", "rate_scale", "curve", *_SPREAD, "in_flight_max", "conversations_max")
_SCENARIO_TELLS = ("prompt_tokens", "output_tokens")

Changes = Mapping[str, Mapping[str, Any]]


def changed_text(text: str, changes: Changes) -> str:
    """The TOML text with these changes behind it, merged with those it has already. ValueError: no TOML has it."""
    before = tomllib.loads(text).get("changes", {})
    body, _, _ = text.partition(CHANGES_MARK)
    parts = []
    for section in SECTIONS:
        fields = {**before.get(section, {}), **changes.get(section, {})}
        if fields:
            parts.append(f"[changes.{section}]\n" + "".join(f"{k} = {toml_value(v)}\n" for k, v in fields.items()))
    return body + CHANGES_MARK + "".join(parts)


def toml_value(value: Any) -> str:
    """A JSON value as TOML on one line. ValueError for null, which TOML does not have."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_text(str(key))} = {toml_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    if value is None or not isinstance(value, bool | int | float):
        raise ValueError("null has no place in a profile, leave the field out")
    return json.dumps(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for surrogate pairs (so none are made) and DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_changes(top: Table) -> dict[str, dict[str, Any]]:
    """The [changes] of a profile by section; a wrong one is noted and read as empty."""
    table = top.table("changes")
    found: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        fields = table.raw(section)
        if fields is not None and not isinstance(fields, dict):
            table.wrong(section, f"must be a section, write [changes.{section}]")
            fields = None
        found[section] = fields or {}
    table.close()
    return found


def change_load(table: Table, changes: dict[str, Any]) -> None:
    """Put the changed fields into [load], in place of those of the file that say the same in another way.

    Who makes an open load closed takes all that only an open one has away.
    """
    replaced: list[str] = []
    if changes.get("mode") == "closed":
        replaced += OPEN_ONLY
    if "arrivals" in changes:
        replaced += _SPREAD
    if "rate_per_s" in changes:
        replaced.append("rate_scale")
    kept = {name: value for name, value in table.fields.items() if name not in replaced}
    table.fields = {**kept, **changes}


def change_members(tables: list[Table], changes: dict[str, Any]) -> None:
    """Put the changed fields into every persona or target.

    A scenario tells both lengths: one that is changed alone leaves it the other (`personas.read_persona`).
    """
    for table in tables:
        table.changed = set(changes)
        table.fields = {**table.fields, **changes}
        if all(name in changes for name in _SCENARIO_TELLS):
            table.fields.pop("scenario", None)


def one_number(text: str) -> str:
    """A length of one number as a distribution, "512" is "fixed(512)"; anything else as it is."""
    return f"fixed({text.strip()})" if re.fullmatch(r"\s*[-+]?\d+(\.\d*)?\s*", text) else text
