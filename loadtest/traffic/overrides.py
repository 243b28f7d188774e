"""What the flags of a command line make of a profile.

They become changes of its text (`changes`), so that the profile in the manifest and its hash are those of the run
that was made.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from loadtest.traffic.changes import one_number
from loadtest.traffic.flags import given_flags
from loadtest.traffic.load import DURATION_S_MAX
from loadtest.traffic.profile import Profile, ProfileError
from loadtest.traffic.schedule import Schedule
from loadtest.traffic.targets import header_mistake

GOODPUT = {"ttft": "ttft_ms", "tpot": "tpot_ms", "e2el": "e2e_ms"}  # vLLM's names


def with_flags(profile: Profile, args: argparse.Namespace) -> Profile:
    """The profile as the flags change it. Raises ProfileError with one line for each mistake."""
    given = {flag.name: value for flag, value in given_flags(args)}
    if not given:
        return profile
    changes: dict[str, dict[str, Any]] = {"load": {}, "persona": {}, "target": {}, "goodput": {}}
    mistakes: list[str] = []
    for name, value in given.items():
        try:
            _CHANGE[name](value, changes)
        except ValueError as error:
            mistakes.append(f"{name}: {error}")
    mistakes += _conflicts(profile, given, changes["load"])
    if mistakes:
        raise ProfileError("\n".join(mistakes))
    endless = "--num-prompts" in given and "--duration" not in given and profile.load.arrivals != "trace"
    if endless:
        changes["load"] |= {"duration_s": DURATION_S_MAX}
    else:
        _fit_warmup(profile, changes["load"])
    try:
        changed = profile.with_changes(**changes)
        return _as_long_as_it_takes(profile, changed, args.seed) if endless else changed
    except ProfileError:
        raise
    except ValueError as error:
        raise ProfileError(str(error)) from None


def _as_long_as_it_takes(before: Profile, profile: Profile, seed: int) -> Profile:
    """The profile that ends a millisecond after the last of its conversations is due."""
    last_us = 0
    for arrival in Schedule(profile, seed).arrivals(int(DURATION_S_MAX * 1e6)):
        last_us = arrival.due_us
    load = {"duration_s": (last_us + 1_000) / 1e6}
    _fit_warmup(before, load)
    return profile.with_changes(load=load)


def _conflicts(profile: Profile, given: dict[str, Any], load: dict[str, Any]) -> Iterator[str]:
    closed = load.get("mode", profile.load.mode) == "closed"
    for name in ("--request-rate", "--burstiness", "--max-concurrency", "--num-prompts"):
        if closed and name in given:
            why = "--concurrency makes one" if "--concurrency" in given else f"{profile.source} is one"
            yield f"{name}: has no meaning in a closed load ({why}), remove one of the two"
    known = [each for target in profile.targets for each in (target.name, target.route)]
    for name in str(given.get("--target", "")).split(","):
        if name.strip() and name.strip() not in known:
            there = ", ".join(dict.fromkeys(known))
            yield f"--target: {name.strip()!r:.60} is neither name nor route of a target, there are {there}"
    if profile.load.arrivals == "trace":
        for name in ("--isl", "--osl", "--request-rate", "--burstiness", "--concurrency"):
            if name in given:
                instead = "use --speed, --trace-rate and --limit"
                yield f"{name}: {profile.source} replays a trace, which brings its own; {instead}"


def _fit_warmup(profile: Profile, load: dict[str, Any]) -> None:
    """A short run keeps three quarters of itself for measuring."""
    duration_s = load.get("duration_s")
    if duration_s is not None and profile.load.warmup_s > duration_s / 4:
        load["warmup_s"] = duration_s / 4


# One flag each. ValueError says what is wrong; the flag's name is put before it.


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"must be a number > 0, got {text!r:.40}") from None
    if not 0 < value < math.inf:
        raise ValueError(f"must be a number > 0, got {text}")
    return value


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000):
        raise ValueError(f"must be a whole number from 1 to 1000000, got {text!r:.40}")
    return int(text)


def _request_rate(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["load"]["rate_per_s"] = _number(text)


def _burstiness(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["load"] |= {"arrivals": "gamma", "burstiness": _number(text)}


def _concurrency(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["load"] |= {"mode": "closed", "members": _whole(text)}


def _max_concurrency(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["load"]["in_flight_max"] = _whole(text)


def _num_prompts(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["load"]["conversations_max"] = _whole(text)


def _duration(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["load"]["duration_s"] = _number(text)


def _isl(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["persona"]["prompt_tokens"] = one_number(text)


def _osl(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["persona"]["output_tokens"] = one_number(text)


def _target(text: str, changes: dict[str, dict[str, Any]]) -> None:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"write NAME or NAME,NAME, got {text!r:.40}")
    changes["persona"]["targets"] = names


def _model(text: str, changes: dict[str, dict[str, Any]]) -> None:
    changes["target"]["model"] = text


def _header(texts: list[str], changes: dict[str, dict[str, Any]]) -> None:
    headers = {}
    for text in texts:
        place = min((text.index(sign) for sign in "=:" if sign in text), default=-1)
        if place < 0:
            raise ValueError("write NAME=VALUE")
        name, value = text[:place].strip(), text[place + 1 :].strip()
        if mistake := header_mistake(name, value):
            raise ValueError(mistake)
        headers[name] = value
    changes["target"]["headers"] = headers


def _extra_body(text: str, changes: dict[str, dict[str, Any]]) -> None:
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(body, dict):
        raise ValueError('must be a JSON object such as {"top_k": 5}')
    changes["target"]["extra_body"] = body


def _goodput(texts: list[str], changes: dict[str, dict[str, Any]]) -> None:
    for text in texts:
        name, colon, limit = text.partition(":")
        if not colon or name not in GOODPUT:
            raise ValueError(
                f"write limits in ms such as {' '.join(f'{each}:500' for each in GOODPUT)}, got {text!r:.40}"
            )
        changes["goodput"][GOODPUT[name]] = _number(limit)


_CHANGE: dict[str, Callable[[Any, dict[str, dict[str, Any]]], None]] = {
    "--request-rate": _request_rate,
    "--burstiness": _burstiness,
    "--concurrency": _concurrency,
    "--max-concurrency": _max_concurrency,
    "--num-prompts": _num_prompts,
    "--duration": _duration,
    "--isl": _isl,
    "--osl": _osl,
    "--target": _target,
    "--model": _model,
    "--header": _header,
    "--extra-body": _extra_body,
    "--goodput": _goodput,
}
