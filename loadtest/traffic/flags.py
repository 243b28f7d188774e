"""The command line of a run in the field's own names, for `loadtest run`, `loadtest plan` and plain Locust.

Every flag overrides the profile (`overrides`); the options of a trace stand beside it (`replay.asked_trace`). This is
what argparse has to know of them, and imports nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Flag(NamedTuple):
    """One flag as argparse takes it; texts are checked here, so that a mistake is one line."""

    name: str
    metavar: str
    help: str
    many: str = ""  # "append" or "+"


FLAGS = (
    Flag("--request-rate", "R", "new conversations per second (requests, where each has one turn)"),
    Flag("--burstiness", "B", "gamma arrivals of shape B as in vLLM: 1 is Poisson, below 1 is burstier"),
    Flag("--concurrency", "N", "a closed load of N members, each with one conversation at a time"),
    Flag("--max-concurrency", "N", "open load: at most N conversations in flight; an arrival above it is dropped"),
    Flag("--num-prompts", "N", "stop offering after N conversations (open load); as long as that takes"),
    Flag("--duration", "S", "offer for S seconds; a warm-up of more than a quarter is cut to it"),
    Flag("--isl", "LENGTH", 'tokens of each new user message: a number or "lognormal(5, 1) in [2, 4096]"'),
    Flag("--osl", "LENGTH", "output cap in tokens, in the same language"),
    Flag("--target", "NAME", "only this target of the profile, by its name or its route; a,b for several"),
    Flag("--model", "NAME", "model of every target"),
    Flag("--header", "NAME=VALUE", "one more header on every request; may be repeated. Never a key", "append"),
    Flag("--extra-body", "JSON", "more fields of every request's body, a JSON object"),
    Flag("--goodput", "M:MS", "limits of a request in ms, ttft:500 tpot:50 e2el:10000; each is an SLO of its p95", "+"),
)


def add_flags(add: Callable[..., Any]) -> None:
    """Add all flags through an `add_argument`."""
    for flag in FLAGS:
        many: dict[str, Any] = {"append": {"action": "append"}, "+": {"nargs": "+"}}.get(flag.many, {})
        add(flag.name, metavar=flag.metavar, help=flag.help, default=None, **many)


def add_trace_options(add: Callable[..., Any]) -> None:
    """Add what says which trace is replayed, and how much of it how fast, through an `add_argument`."""
    add(
        "--trace",
        default="",
        metavar="FILE",
        help="replay a trace (Azure, BurstGPT, Mooncake, ShareGPT) or a run folder",
    )
    add("--limit", type=int, default=0, metavar="N", help="replay only the first N rows; 0 means all")
    add("--speed", type=float, default=1.0, metavar="X", help="replay the trace X times as fast")
    add("--trace-rate", type=float, default=1.0, metavar="X", help="X times as many requests in the same time")


def given_flags(args: argparse.Namespace) -> Iterator[tuple[Flag, Any]]:
    """The flags that were given, with their texts."""
    for flag in FLAGS:
        value = getattr(args, flag.name[2:].replace("-", "_"), None)
        if value not in (None, ""):  # a field of the page's form that was left empty
            yield flag, value


def as_arguments(args: argparse.Namespace) -> list[str]:
    """The given flags as words of a command line, to be passed on to Locust."""
    words: list[str] = []
    for flag, value in given_flags(args):
        if flag.many == "append":
            words += [f"{flag.name}={each}" for each in value]
        elif flag.many:
            words += [flag.name, *value]
        else:
            words.append(f"{flag.name}={value}")
    return words
