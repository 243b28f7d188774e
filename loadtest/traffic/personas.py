"""A kind of community member: what it writes, how often, to whom, and how it behaves on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from loadtest.records import Target
from loadtest.traffic.length_language import read_length, read_scenario
from loadtest.traffic.lengths import Fixed, Length
from loadtest.traffic.reading import Table

TOKENS_MAX = 1_000_000
TURNS_MAX = 1_000
TEXTS = ("prose", "code")
CONNECTIONS = ("kept", "new")


@dataclass(frozen=True, slots=True)
class Cancel:
    """Requests that their member breaks off. One of the two lengths is there.

    Chunks are counted in streams only: an answer in one piece is never broken off after a chunk.
    """

    share: float  # of the requests
    after_chunks: Length | None  # chunks of the answer; on most routes a chunk is a token
    after_s: Length | None  # counted from the instant of sending


@dataclass(frozen=True, slots=True)
class Persona:
    """Tokens are of the stated encoding; `think_s` is before time_scale."""

    name: str
    weight: float
    locales: tuple[str, ...]  # a conversation has one of them, each as likely as the next
    text: str  # "prose", or "code": a question, then what looks like source code
    prompt_tokens: Length  # of one new user message
    output_tokens: Length  # the output cap asked for, and the length of the scripted answer
    turns: Length  # rounded up
    think_s: Length
    stream_share: float  # of the conversations whose target streams
    targets: tuple[str, ...]  # names or routes of the targets it talks to; none means all, by their weights
    connection: str  # "kept" (one may serve many requests), or "new": one for each request, closed after it
    cancel: Cancel | None
    system_prompt_tokens: int
    shared_share: float  # of the conversations; their system prompts begin with the same text
    shared_depth: int  # tokens of that text

    def may_talk_to(self, target: Target) -> bool:
        return not self.targets or target.name in self.targets or target.route in self.targets


def read_persona(table: Table, system_prompt_tokens: int) -> Persona:
    """One [[persona]] section; `system_prompt_tokens` is what it has without its own."""
    scenario = read_scenario(table, "scenario", TOKENS_MAX)
    for name in ("prompt_tokens", "output_tokens"):
        if scenario is not None and name in table.fields and name not in table.changed:
            table.raw(name)
            table.wrong(name, "is told by scenario already, remove one of the two")
    system = table.whole("system_prompt_tokens", 0, TOKENS_MAX, system_prompt_tokens)
    share, depth = _read_shared_prefix(table, system)
    persona = Persona(
        name=table.text("name", "a short name such as coder", pattern=r"[\w-]{1,40}"),
        weight=table.number("weight", 0, 1e9, above=True),
        locales=_read_locales(table),
        text=table.choice("text", TEXTS, "prose"),
        prompt_tokens=_read_tokens(table, "prompt_tokens", scenario, 0),
        output_tokens=_read_tokens(table, "output_tokens", scenario, 1),
        turns=read_length(table, "turns", 0, TURNS_MAX),
        think_s=read_length(table, "think_s", 0, 86_400),
        stream_share=table.number("stream_share", 0, 1, 1.0),
        targets=table.texts("targets", 'a list of names or routes of targets such as ["openai-chat"]'),
        connection=table.choice("connection", CONNECTIONS, "kept"),
        cancel=_read_cancel(table),
        system_prompt_tokens=system,
        shared_share=share,
        shared_depth=depth,
    )
    table.close()
    return persona


def check_targets(table: Table, persona: Persona, targets: Sequence[Target]) -> None:
    """Every target that a persona names must be there, by name or by route."""
    known = [*(target.name for target in targets), *(target.route for target in targets)]
    for name in persona.targets:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(dict.fromkeys(known))}"
            table.wrong("targets", f"{name!r:.60} is neither name nor route of a target, {hint}")


def _read_tokens(table: Table, name: str, scenario: tuple[Length, Length] | None, side: int) -> Length:
    """A length of the scenario's, where there is one and the command line does not say otherwise."""
    if "scenario" not in table.fields or name in table.changed:
        return read_length(table, name, 1, TOKENS_MAX)
    return Fixed(1, 1) if scenario is None else scenario[side]


def _read_locales(table: Table) -> tuple[str, ...]:
    meaning = 'a Faker locale such as "en_US", or a list such as ["zh_CN", "ar_AA"]'
    if isinstance(table.fields.get("locale"), list):
        locales = table.texts("locale", meaning)
        if not locales:
            table.wrong("locale", f"must be {meaning}")
    else:
        locales = (table.text("locale", meaning, "en_US"),)
    for locale in locales:
        if locale and locale not in _known_locales():
            table.wrong("locale", f"{locale!r:.40} is not a locale of Faker, give one such as en_US or de_DE")
    return locales


def _known_locales() -> list[str]:
    from faker.config import AVAILABLE_LOCALES  # imports 0.1 s of providers, so only when a profile is read

    return list(AVAILABLE_LOCALES)


def _inner(table: Table, name: str, meaning: str) -> Table | None:
    """A table inside the section, such as [persona.cancel]; None when there is none."""
    value = table.raw(name)
    if value is None or isinstance(value, dict):
        return None if value is None else Table(value, table.section, table.mistakes, f"{table.prefix}{name}.")
    table.wrong(name, f"must be {meaning}")
    return None


def _read_cancel(table: Table) -> Cancel | None:
    inner = _inner(table, "cancel", 'a table such as { share = 0.05, after_s = "uniform(1, 20)" }')
    if inner is None:
        return None
    share = inner.number("share", 0, 1)
    given = [name for name in ("after_chunks", "after_s") if name in inner.fields]
    if len(given) != 1:
        inner.wrong("after_s", "give either after_s or after_chunks")
    chunks = read_length(inner, "after_chunks", 1, TOKENS_MAX) if given == ["after_chunks"] else None
    seconds = read_length(inner, "after_s", 0, 86_400) if given == ["after_s"] else None
    inner.asked += ["after_chunks", "after_s"]
    inner.close()
    return Cancel(share, chunks, seconds)


def _read_shared_prefix(table: Table, system_prompt_tokens: int) -> tuple[float, int]:
    inner = _inner(table, "shared_prefix", "a table such as { share = 0.9, depth = 800 }")
    if inner is None:
        return 0.0, 0
    share = inner.number("share", 0, 1)
    depth = inner.whole("depth", 1, TOKENS_MAX)
    if depth > system_prompt_tokens:
        inner.wrong("depth", f"must be <= system_prompt_tokens ({system_prompt_tokens}), got {depth}")
    inner.close()
    return share, depth
