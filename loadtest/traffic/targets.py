"""The [[target]] sections of a profile: whom to load, by which route, and what every request carries besides."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from loadtest.records import Target
from loadtest.traffic.reading import Table

KEY_ENV = "LOADTEST_API_KEY"
KEY_HEADERS = ("authorization", "x-api-key", "api-key", "proxy-authorization", "cookie")
OWN_HEADERS = (
    "host",
    "user-agent",
    "content-type",
    "accept",
    "accept-encoding",
    "x-request-id",
    "content-length",
    "transfer-encoding",
    "connection",
    "expect",
    "upgrade",
)
# What the plan decides and the rows record: another value would make them lie.
OWN_FIELDS = ("messages", "prompt", "stream", "stream_options", "max_tokens", "session_id", "client_reference", "model")
HEADERS_MEANING = 'a table of names and texts such as { "X-Team" = "qa" }'


def read_target(table: Table) -> Target:
    """One [[target]] section."""
    sessions = "a list of session ids such as [11, 12]"
    target = Target(
        name=table.text("name", "a short name such as router-a", pattern=r"[\w.-]{1,60}"),
        route=table.text(
            "route", "a route such as cortensor or openai-chat (the README lists them)", pattern=r"[\w-]{1,40}"
        ),
        url=table.text("url", "scheme, host and port such as http://127.0.0.1:5010, without path or user", "") or None,
        weight=table.number("weight", 0, 1e9, 1.0, above=True),
        model=table.text("model", "the model's name", "", pattern=r"[^\r\n]{0,200}"),
        key_env=table.text(
            "key_env", "the name of an environment variable, never the key", KEY_ENV, r"[A-Z_][A-Z0-9_]{0,60}"
        ),
        sessions=table.texts("sessions", sessions),
        stream=table.flag("stream", True),
        timeout_s=table.number("timeout_s", 0, 3_600, 120.0, above=True),
        headers=_read_headers(table),
        extra_body=_read_extra_body(table),
    )
    if target.url is not None and not _is_origin(target.url):
        table.wrong("url", "must be scheme, host and port such as http://127.0.0.1:5010, without path or user")
    table.close()
    return target


def header_mistake(name: str, value: Any) -> str:
    """What is wrong with a header of the user's, or ""; the value is never shown, it may be a key."""
    if name.lower() in KEY_HEADERS:
        return f"{name} may hold a key, which comes from the environment only: export {KEY_ENV}, or name key_env"
    if name.lower() in OWN_HEADERS:
        return f"{name} is set by the harness, remove it"
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        return "a name has letters, digits, - and _ only"
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
        return f"{name} must be a text of printable ASCII"
    return ""


def _read_headers(table: Table) -> tuple[tuple[str, str], ...]:
    value = table.raw("headers")
    if value is not None and not isinstance(value, dict):
        table.wrong("headers", f"must be {HEADERS_MEANING}")
    if not isinstance(value, dict):
        return ()
    wrong = [mistake for name, text in value.items() if (mistake := header_mistake(name, text))]
    for mistake in wrong:
        table.wrong("headers", mistake)
    return () if wrong else tuple(value.items())


def _read_extra_body(table: Table) -> str:
    value = table.raw("extra_body")
    if value is None:
        return ""
    if not isinstance(value, dict):
        table.wrong("extra_body", "must be a table of fields such as { top_k = 5 }")
        return ""
    if own := [name for name in OWN_FIELDS if name in value]:
        table.wrong("extra_body", f"{', '.join(own)}: decided by the plan, remove it")
        return ""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        table.wrong("extra_body", "holds a date, a time, inf or nan, which JSON does not have")
        return ""


def _is_origin(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is not a port
    except ValueError:
        return False
    bare = url == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc
    return bare and parts.scheme in ("http", "https") and bool(parts.hostname)
