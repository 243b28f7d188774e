"""The start form of Locust's page, checked before Locust reads it.

Locust turns each field into the type of the option's default and answers a mistake with Python's own words, as HTML;
what is wrong with a profile it would find only when the run has started. Here a mistake is one line above the form's
button, and nothing has changed yet.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Response, jsonify, request

from loadtest.swarm.preflight import SetupError

if TYPE_CHECKING:
    from locust.web import WebUI

SWARM_PATH = "/swarm"
LETTERS_MAX = 2_000  # of a field
LINE_LETTERS_MAX = 600
NUMBERS = {"seed": int, "limit": int, "speed": float, "trace_rate": float}
LOCUSTS = frozenset({"user_count", "spawn_rate", "run_time", "user_classes"})  # Locust checks these, as words


def check_form(web_ui: WebUI, parsed: Namespace, plan: Callable[[Namespace], None]) -> None:
    """Let `plan` look at what a start would run, given as parsed options; it raises SetupError for what cannot."""

    @web_ui.app.before_request  # type: ignore[untyped-decorator]  # locust is Any to mypy
    def checked() -> Response | None:
        if request.method != "POST" or not request.path.endswith(SWARM_PATH):
            return None
        try:
            plan(asked_for(parsed, request.form))
        except SetupError as error:
            return _refused("; ".join(str(error).splitlines()))
        return None


def asked_for(parsed: Namespace, form: Mapping[str, str]) -> Namespace:
    """The options as the form changes them; SetupError names the first field that is wrong."""
    asked = Namespace(**vars(parsed))
    for name, value in form.items():
        if not hasattr(parsed, name) or name in LOCUSTS:
            continue
        if len(value) > LETTERS_MAX:
            raise SetupError(f"{name}: {len(value)} letters are too many, {LETTERS_MAX} at most", 2)
        if name in NUMBERS:
            try:
                number = NUMBERS[name](value)
            except ValueError:
                kind = "a whole number" if NUMBERS[name] is int else "a number"
                raise SetupError(f"{name}: must be {kind}, got {value!r:.40}", 2) from None
            setattr(asked, name, number)
        elif isinstance(getattr(parsed, name), bool):
            setattr(asked, name, value == "true")
        else:
            setattr(asked, name, value)
    return asked


def _refused(line: str) -> Response:
    answer: dict[str, Any] = {"success": False, "message": line[:LINE_LETTERS_MAX]}
    return jsonify(answer)
