"""What a capacity search is asked: the profile it offers, the objectives, the rules; read from the command line."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from loadtest.analysis.capacity import Rules
from loadtest.swarm import preflight
from loadtest.traffic.changes import CHANGES_MARK, toml_value
from loadtest.traffic.profile import Profile, ProfileError, load_profile, parse_profile, profile_hash
from loadtest.traffic.schedule import Schedule

_TURNS_LOOKED_AT = 400  # conversations, for the mean of their turns
_SLO = re.compile(r"(?P<metric>(ttft|tpot|itl|e2e)_ms_p(50|95|99)|ok_share):(?P<limit>\d+(\.\d+)?)")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the steps. Two searches with equal questions are one."""

    profile: str  # its name
    profile_hash: str
    host: str
    slos: tuple[dict[str, Any], ...]
    rules: Rules
    warmup_s: float
    targets: tuple[str, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(msgspec.to_builtins(self), sort_keys=True).encode()).hexdigest()[:8]


class Counted(NamedTuple):
    """A share `share` of the turns must have a `metric` of at most `limit`."""

    metric: str
    limit: float
    share: float


class QuestionError(ValueError):
    """It cannot be asked like this: one line for each mistake."""


def read_question(args: argparse.Namespace) -> tuple[Question, Profile]:
    """The question and the profile that every step runs. QuestionError or preflight.SetupError."""
    try:
        profile = _profile(args.profile, args.slo)
    except ProfileError as error:
        raise QuestionError(str(error)) from None
    rate_from = args.rate_from or profile.load.rate_per_s
    if args.rate_max is not None and args.rate_max < rate_from:
        raise QuestionError(
            f"--rate-max {args.rate_max:g}: is below the first rate, {rate_from:g}; give --rate-from too"
        )
    targets = preflight.resolve_targets(profile, args.host)
    preflight.check_permission(targets, profile, args.allow_host, args.rate_max)
    slos = tuple({"metric": slo.metric, "limit": slo.limit, "kind": slo.kind} for slo in profile.slos)
    rules = Rules(
        rate_from=rate_from,
        rate_max=args.rate_max or rate_from * 1000,
        step_s=args.step_s,
        seed=args.seed,
        shares=tuple(each.share for slo in slos if (each := counted(slo)) and each.share),
        turns_per_conversation=_turns(profile, args.seed),
    )
    question = Question(
        profile=profile.name,
        profile_hash=profile_hash(profile),
        host=args.host,
        slos=slos,
        rules=rules,
        warmup_s=profile.load.warmup_s,
        targets=tuple(f"{target.name}: {target.url}, {target.route}" for target in targets),
    )
    return question, profile


def counted(slo: dict[str, Any]) -> Counted | None:
    """An objective by turns; None for ITL, which is none. `ok_share` asks each turn to end at all."""
    if slo["kind"] == "min":
        return Counted("e2e_ms", math.inf, float(slo["limit"]))
    metric, _, level = str(slo["metric"]).rpartition("_p")
    return None if metric == "itl_ms" else Counted(metric, float(slo["limit"]), float(level) / 100)


def _turns(profile: Profile, seed: int) -> float:
    horizon_us = int(_TURNS_LOOKED_AT / profile.load.rate_per_s * 1e6)
    schedule = Schedule(profile, seed)
    turns = [schedule.turns_planned(arrival.index) for arrival in schedule.arrivals(horizon_us)]
    return round(sum(turns) / len(turns), 3) if turns else 1.0


def _profile(name: str, slos: Sequence[str]) -> Profile:
    """The profile at a flat rate, with the objectives that were asked for in place of its own."""
    profile = load_profile(name)
    if profile.load.mode != "open" or profile.load.arrivals == "trace":
        raise QuestionError(f"{profile.source}: has no arrival rate to search; use an open profile that is no trace")
    if slos:
        profile = parse_profile(_with_slos(profile.text, slos), profile.source)
    if not profile.slos:
        raise QuestionError(f"{profile.source}: states no SLO; give one, as in --slo ttft_ms_p95:2000")
    # Whatever its rate did over time, a step has one rate; the flags of the step say which.
    flat = {"shape": "steps", "factors": [1.0], "step_s": 60.0}
    return profile.with_changes(load={"curve": flat, "rate_scale": 1.0, "conversations_max": 0})


def _with_slos(text: str, slos: Sequence[str]) -> str:
    sections = []
    for slo in slos:
        found = _SLO.fullmatch(slo)
        if found is None:
            raise QuestionError(
                f"--slo {slo}: write METRIC:LIMIT, as in ttft_ms_p95:2000 or ok_share:0.99; metrics are ok_share and "
                "ttft, tpot, itl, e2e with _ms_p50, _ms_p95 or _ms_p99"
            )
        kind = "min" if found["metric"] == "ok_share" else "max"
        limit = toml_value(float(found["limit"]))
        sections.append(f'\n[[slo]]\nmetric = "{found["metric"]}"\n{kind} = {limit}\n')
    body, mark, changes = text.partition(CHANGES_MARK)
    # A section goes on to the next line that opens one; goodput limits are objectives too.
    body = re.sub(r"^\[(\[slo\]|goodput)\][^\n]*\n(?:(?!\[)[^\n]*\n?)*", "", body, flags=re.MULTILINE)
    return body.rstrip("\n") + "\n" + "".join(sections) + mark + changes
