"""What each target tells of itself when a run starts: version, models, nodes. For the manifest, of bounded size.

It comes from the network: it is kept as text, the key struck out, and shown escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from loadtest.client.control import ControlClient, ControlError
from loadtest.client.errortext import without_key
from loadtest.client.routes import ROUTES, info_path
from loadtest.records import Target
from loadtest.swarm.preflight import key_of

LETTERS_MAX = 8_000
VERSION_LETTERS_MAX = 100
TOTAL_S = 5.0  # a target that takes longer to say what it is keeps no run from starting


def ask_info(targets: Sequence[Target]) -> dict[str, dict[str, str]]:
    """By target name: {"path", "text"}, or {"path", "error"} where nothing was told. Each API is asked once.

    "version" stands beside "text" where the answer is an object that has one: a comparison of runs looks at it.
    """
    told: dict[tuple[str, str, str | None], dict[str, str]] = {}
    found = {}
    for target in targets:
        asked = (target.url or "", info_path(ROUTES[target.route]), target.key_env)
        if asked not in told:
            told[asked] = _ask(target, asked[1])
        found[target.name] = told[asked]
    return found


def _ask(target: Target, path: str) -> dict[str, str]:
    key = key_of(target)
    try:
        with ControlClient(target.url or "", key, total_s=TOTAL_S) as control:
            document = control.get_json(path)
    except ControlError as error:
        return {"path": path, "error": str(error)}
    text = without_key(msgspec.json.format(msgspec.json.encode(document), indent=1), key).decode("utf-8", "replace")
    if len(text) > LETTERS_MAX:
        text = f"{text[:LETTERS_MAX]}\n… {len(text) - LETTERS_MAX:,} characters more"
    version = _version(document, key)
    return {"path": path, "text": text, **({} if version is None else {"version": version})}


def _version(document: Any, key: str | None) -> str | None:
    """What the document calls its version, as text; None where that is nothing, or no single value."""
    version = document.get("version") if isinstance(document, dict) else None
    if version is None or isinstance(version, dict | list):
        return None
    text = version if isinstance(version, str) else msgspec.json.encode(version).decode()
    return without_key(text.encode(), key).decode("utf-8", "replace")[:VERSION_LETTERS_MAX]
