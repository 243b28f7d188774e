"""A traffic profile: one TOML file that says how much load, by whom, against what, and how good is good enough."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtest.records import Target
from loadtest.traffic.ceilings import Ceilings, read_ceilings
from loadtest.traffic.changes import change_members, changed_text, read_changes
from loadtest.traffic.load import Load, read_load
from loadtest.traffic.personas import TOKENS_MAX, Persona, check_targets, read_persona
from loadtest.traffic.reading import PROFILE_FOLDERS, Mistake, Mistakes, Table
from loadtest.traffic.targets import read_target

_GOODPUT = ("ttft_ms", "tpot_ms", "e2e_ms")
_FOLDERS = PROFILE_FOLDERS


class ProfileError(ValueError):
    """What is wrong with a profile: one line per mistake, 'file: [section] field: what is wrong, what to do'.

    `found` has the same, with the places apart.
    """

    def __init__(self, text: str, found: Sequence[Mistake] = ()) -> None:
        super().__init__(text)
        self.found = tuple(found)


@dataclass(frozen=True, slots=True)
class Writing:
    """How texts are made and counted."""

    encoding: str
    history: str  # "scripted": seeded answers stand in for received ones; "received": the real ones are resent
    system_prompt_tokens: int
    history_tokens_max: int  # resent earlier turns (user and answer), without system prompt and new message
    trace_prompt_tokens_max: int  # a replayed row's prompt is cut to this


@dataclass(frozen=True, slots=True)
class Slo:
    """`metric` must stay at or below (`kind` "max") or at or above ("min") `limit`; ms for times, 0 to 1 for shares."""

    metric: str
    limit: float
    kind: str


@dataclass(frozen=True, slots=True)
class ObserveRules:
    """How the network is asked about itself while the load runs."""

    poll_s: float
    leaderboard_s: float  # this and the next three: periods of their own, poll_s where the profile says nothing
    reputation_s: float  # of each node, both series
    status_s: float
    sessions_s: float
    grace_s: float  # a finished task is looked up this long after its answer
    lookup_share_max: float  # of the request rate
    lookup_deadline_s: float  # after the run, look-ups still open are given up


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked profile. `text` is the TOML that says all of it: parsing it again gives an equal profile."""

    name: str
    text: str
    source: str
    load: Load
    personas: tuple[Persona, ...]
    targets: tuple[Target, ...]
    writing: Writing
    slos: tuple[Slo, ...]
    goodput: tuple[tuple[str, float], ...]  # limits of one request in ms: ttft_ms, tpot_ms, e2e_ms
    observe: ObserveRules
    ceilings: Ceilings

    def with_changes(
        self,
        *,
        load: Mapping[str, Any] | None = None,
        persona: Mapping[str, Any] | None = None,
        target: Mapping[str, Any] | None = None,
        goodput: Mapping[str, Any] | None = None,
    ) -> Profile:
        """The profile with other values, by section, as in load={"rate_per_s": 5}.

        The changes are written into `text` as [changes.*] sections, so that workers and the manifest, which get
        the text, and the hash all tell the run that was really made. Raises ProfileError, or ValueError for a value
        that TOML does not have.
        """
        sections = {"load": load, "persona": persona, "target": target, "goodput": goodput}
        given = {section: fields for section, fields in sections.items() if fields}
        return parse_profile(changed_text(self.text, given), self.source) if given else self


def profile_names() -> list[str]:
    """Names that `load_profile` knows, sorted."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.toml")})


def load_profile(name_or_file: str) -> Profile:
    """Read a named profile ("demo") or a file ("my/load.toml"). Raises ProfileError."""
    return parse_profile(*profile_text(name_or_file))


def profile_text(name_or_file: str) -> tuple[str, str]:
    """The text of a named profile or file, not parsed, and how errors name it. Raises ProfileError."""
    if name_or_file.endswith(".toml") or "/" in name_or_file:
        path = Path(name_or_file)
    else:
        places = [folder / f"{name_or_file}.toml" for folder in _FOLDERS]
        path = next((place for place in places if place.is_file()), places[0])
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        names = ", ".join(profile_names())
        raise ProfileError(f"{name_or_file}: no such profile, choose one of {names} or name a .toml file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ProfileError(f"{name_or_file}: cannot be read ({reason}), name a readable .toml file") from None
    return text, f"profiles/{path.name}" if path.parent in _FOLDERS else str(path)


def parse_profile(text: str, source: str) -> Profile:
    """Check TOML text; `source` names it in errors and its stem is the profile's name. Raises ProfileError."""
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{source}: not valid TOML, correct it: {error}") from None
    mistakes = Mistakes(source)
    top = Table(fields, "", mistakes)
    changes = read_changes(top)
    load = read_load(top.table("load"), changes["load"])
    writing = _read_writing(top.table("writing"))
    members = top.tables("persona", required=True)
    change_members(members, changes["persona"])
    personas = tuple(read_persona(table, writing.system_prompt_tokens) for table in members)
    asked = top.tables("target", required=True)
    change_members(asked, changes["target"])
    targets = tuple(read_target(table) for table in asked)
    for table, persona in zip(members, personas, strict=True):
        check_targets(table, persona, targets)
    slos = tuple(_read_slo(table) for table in top.tables("slo", required=False))
    goodput = _read_goodput(top.table("goodput"), changes["goodput"])
    slos = _with_goodput(slos, goodput, changes["goodput"])
    observe = _read_observe(top.table("observe"))
    ceilings = read_ceilings(top.table("ceilings"))
    top.close()
    for section, names in (("persona", [p.name for p in personas]), ("target", [t.name for t in targets])):
        for twin in sorted({name for name in names if name and names.count(name) > 1}):
            mistakes.add(f"[[{section}]] name", f"{twin} is there twice, give each its own name")
    if mistakes.lines:
        raise ProfileError("\n".join(mistakes.lines), mistakes.found)
    return Profile(Path(source).stem, text, source, load, personas, targets, writing, slos, goodput, observe, ceilings)


def profile_hash(profile: Profile) -> str:
    """16 hex digits that change when the traffic may: the text and the versions of what draws and counts."""
    versions = [f"{package} {version(package)}" for package in ("numpy", "Faker", "tiktoken")]
    return hashlib.sha256(json.dumps([profile.text, *versions]).encode()).hexdigest()[:16]


def _read_slo(table: Table) -> Slo:
    meaning = "ok_share or one of ttft, tpot, itl, e2e with _ms_p50, _ms_p95 or _ms_p99"
    metric = table.text("metric", meaning, pattern=r"(ttft|tpot|itl|e2e)_ms_p(50|95|99)|ok_share")
    kind, most = ("min", 1.0) if metric == "ok_share" else ("max", 1e9)
    limit = table.number(kind, 0, most)
    table.close()
    return Slo(metric, limit, kind)


def _read_goodput(table: Table, changes: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    table.fields = {**table.fields, **changes}
    limits = tuple((name, table.number(name, 0, 1e9, above=True)) for name in _GOODPUT if name in table.fields)
    table.asked = list(_GOODPUT)
    table.close()
    return limits


def _with_goodput(
    slos: tuple[Slo, ...], limits: tuple[tuple[str, float], ...], changed: Mapping[str, Any]
) -> tuple[Slo, ...]:
    """Each limit of a request is an objective of its p95 too; one that the file states stays unless it was changed."""
    named = {f"{name}_p95": Slo(f"{name}_p95", limit, "max") for name, limit in limits}
    kept = [slo for slo in slos if slo.metric not in named or slo.metric.removesuffix("_p95") not in changed]
    stated = {slo.metric for slo in kept}
    return (*kept, *(slo for metric, slo in named.items() if metric not in stated))


def _read_writing(table: Table) -> Writing:
    writing = Writing(
        encoding=table.text("encoding", "a tiktoken encoding such as cl100k_base", "cl100k_base", r"\w{1,60}"),
        history=table.choice("history", ("scripted", "received"), "scripted"),
        system_prompt_tokens=table.whole("system_prompt_tokens", 0, TOKENS_MAX, 200),
        history_tokens_max=table.whole("history_tokens_max", 0, TOKENS_MAX, 8_192),
        trace_prompt_tokens_max=table.whole("trace_prompt_tokens_max", 1, TOKENS_MAX, 16_384),
    )
    table.close()
    return writing


def _read_observe(table: Table) -> ObserveRules:
    poll_s = table.number("poll_s", 0.1, 3_600, 15.0)
    rules = ObserveRules(
        poll_s=poll_s,
        leaderboard_s=table.number("leaderboard_s", 0.1, 86_400, poll_s),
        reputation_s=table.number("reputation_s", 0.1, 86_400, poll_s),
        status_s=table.number("status_s", 0.1, 86_400, poll_s),
        sessions_s=table.number("sessions_s", 0.1, 86_400, poll_s),
        grace_s=table.number("grace_s", 0, 3_600, 10.0),
        lookup_share_max=table.number("lookup_share_max", 0, 1, 0.1),
        lookup_deadline_s=table.number("lookup_deadline_s", 0, 3_600, 120.0),
    )
    table.close()
    return rules
