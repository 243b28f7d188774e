"""Error texts made comparable: the same fault reads the same, and no secret is in it."""

from __future__ import annotations

import re

LENGTH_MAX = 200
_MARK = "\ue000"  # stands for a secret while the markup is taken out
_LOOKED_AT_MAX = 4_000  # of a body; the rest cannot reach the first 200 characters

_STEPS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<!--.*?-->|<[a-zA-Z/!][^<>]*>", re.DOTALL), " "),  # markup of error pages
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+"), r"\1 <secret>"),
    (
        re.compile(
            r"(?i)\b(api[_-]?key|access[_-]?token|token|secret|password|authorization)(\"?\s*[:=]\s*\"?)[^\s\"',;&]+"
        ),
        r"\1\2<secret>",
    ),
    (re.compile(r"\bsk-[\w-]{8,}"), "<secret>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b(?=[\w-]*\d)[\w-]{16,}\b"), "<id>"),
    (re.compile(r"\d+(?:\.\d+)?"), "<n>"),
    (re.compile(r"[\s\x00-\x1f\x7f]+"), " "),
)


def normalise(text: str, secrets: tuple[str, ...] = ()) -> str:
    """One line of at most 200 characters with ids, digits, addresses and secrets replaced by their kind."""
    for secret in filter(None, secrets):
        text = text.replace(secret, _MARK)
    # A lone half of a surrogate pair, as from a message of the system, could not be stored.
    text = text[:_LOOKED_AT_MAX].encode("utf-8", "replace").decode()
    for pattern, replacement in _STEPS:
        text = pattern.sub(replacement, text)
    text = text.replace(_MARK, "<secret>").strip()
    return text if len(text) <= LENGTH_MAX else text[: LENGTH_MAX - 1] + "…"


def without_key(body: bytes, key: str | None) -> bytes:
    """Raw bytes with the key struck out: some servers repeat what they were given."""
    return body.replace(key.encode(), b"<secret>") if key else body
