"""What each target tells of itself when a run starts: version, models, nodes. For the manifest, of bounded size.

It comes from the network: it is kept as text, the key struck out, and shown escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from loadtest.client.control import ControlClient, ControlError
from loadtest.client.errortext import without_key
from loadtest.client.routes import ROUTES, info_path
from loadtest.records import Target
from loadtest.swarm.preflight import key_of

LETTERS_MAX = 8_000
TOTAL_S = 5.0  # a target that takes longer to say what it is keeps no run from starting


def ask_info(targets: Sequence[Target]) -> dict[str, dict[str, str]]:
    """By target name: {"path", "text"}, or {"path", "error"} where nothing was told. Each API is asked once."""
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
    return {"path": path, "text": text}
