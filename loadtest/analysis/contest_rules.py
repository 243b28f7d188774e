"""Rules of a contest: one TOML file says what is paid, and lists each reading of every word that can be read twice.

Amounts stand as whole cents, percentages as hundredths of a percent, so that all arithmetic is exact. The keys of
[readings] are closed: `READINGS` says what each may be. Of every list the first reading is the one that is paid; the
low and the high of a payout are over all combinations. A list of one reading decides it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.traffic.reading import PROFILE_FOLDERS, Mistakes, Table

READINGS_EACH_MAX = 10
COMBINATIONS_MAX = 4_096  # of one group: each is worked out
Reading = Mapping[str, Any]  # one choice for every key


class Span(NamedTuple):
    """A number from low to high, both included."""

    low: int
    high: int


# Who takes part, where nodes are placed, what is paid: three steps, each with the keys it needs.
STANDING: dict[str, Span | tuple[str, ...]] = {
    "window_days": Span(1, 366),
    "uptime_percent_min": Span(0, 100),
    "short_uptime": ("nothing", "no-base", "in-proportion"),
    "not_reporting": ("kept", "out"),
    "flagged": ("kept", "out"),
    "disqualified": ("node", "operator"),
    "unknown": ("out", "in"),
}
PLACES: dict[str, Span | tuple[str, ...]] = {
    "ties": ("share", "precommit", "best"),
    "over_limit": ("unpaid", "paid-lower", "moves-down", "out"),
    "limit_counts": ("tier", "up-to-tier"),
    "empty_places": ("move-up", "stay-empty"),
}
MONEY: dict[str, Span | tuple[str, ...]] = {
    "base_paid_for": ("month", "window"),
    "bonus_of": ("base", "all-rewards"),
    "bonus_cap_percent": Span(0, 1_000),
    "role_bonus_percent": Span(0, 1_000),
    "role_bonus_counts": ("once", "each-role"),
    "multi_node_counts": ("eligible", "entered"),
    "one_time": ("whole", "first-month", "one-node"),
    "one_time_covers": ("marked", "all"),
}


class RulesError(ValueError):
    """What is wrong with a rules file: one line per mistake, for the user."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Places first to last, both included; `operator_max` nodes of one operator are paid in it, None is any number."""

    first: int
    last: int
    cents: int
    operator_max: int | None


@dataclass(frozen=True, slots=True)
class ScoreReward:
    """Paid to every node at or above both scores (shares, 0 to 1)."""

    cents: int
    score_min: Decimal
    precommit_min: Decimal


@dataclass(frozen=True, slots=True)
class MultiNode:
    """An operator with so many nodes gets so much more; the largest number reached counts."""

    nodes: int
    percent_100: int
    one_time: bool


@dataclass(frozen=True, slots=True)
class UptimeRule:
    """How uptime is read from snapshots: pings made of those due, or leaderboards in which the node was alive."""

    measure: str  # "pings" or "seen"
    ping_s: float  # nodes ping this often
    alive_s_max: int  # a node last active longer ago is down


@dataclass(frozen=True, slots=True)
class Rules:
    """A checked rules file. There are tiers or a score reward, never both."""

    name: str
    title: str
    source: str
    currency: str
    stake_cor_min: int
    stake_waived: bool  # for participants of an earlier phase
    uptime: UptimeRule
    base_cents: int  # a month
    tiers: tuple[Tier, ...]
    score_reward: ScoreReward | None
    multi_nodes: tuple[MultiNode, ...]
    standing: dict[str, tuple[Any, ...]]
    places: dict[str, tuple[Any, ...]]
    money: dict[str, tuple[Any, ...]]

    @property
    def readings(self) -> dict[str, tuple[Any, ...]]:
        return {**self.standing, **self.places, **self.money}

    @property
    def paid_reading(self) -> dict[str, Any]:
        """The first reading of every key."""
        return {key: choices[0] for key, choices in self.readings.items()}


def rules_names() -> list[str]:
    return sorted({path.stem for folder in PROFILE_FOLDERS for path in (folder / "contest").glob("*.toml")})


def load_rules(name_or_path: str) -> Rules:
    """Rules by name, or from a path that ends in .toml. RulesError: every mistake of the file."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in rules_names():
            there = ", ".join(rules_names())
            raise RulesError(f"rules {name_or_path!r:.80}: there are {there}; or give a path to a .toml file")
        places = [folder / "contest" / f"{name_or_path}.toml" for folder in PROFILE_FOLDERS]
        path = next(place for place in places if place.is_file())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise RulesError(f"{path}: {reason}; give a name or a readable .toml file") from None
    return read_rules(text, str(path))


def read_rules(text: str, source: str) -> Rules:
    """Rules from the text of a file; `source` names it in mistakes."""
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{source}: not TOML ({error})") from None
    mistakes = Mistakes(source)
    top = Table(fields, "", mistakes)
    page, base = top.table("page"), top.table("base")
    stake, uptime = top.table("stake"), top.table("uptime")
    tiers = tuple(_tier(table) for table in top.tables("tier", required=False))
    _check_tiers(tiers, mistakes)
    reward = _score_reward(top.table("score_reward")) if "score_reward" in fields else None
    top.asked.append("score_reward")
    if bool(tiers) == (reward is not None):
        mistakes.add("[[tier]]", "give either [[tier]] sections or one [score_reward]")
    multi = tuple(
        sorted((_multi_node(t) for t in top.tables("multi_node", required=False)), key=lambda line: line.nodes)
    )
    given = top.table("readings")
    rules = Rules(
        name=Path(source).stem,
        title=page.text("title", "the contest's name"),
        source=page.text("source", "where and when the page was read"),
        currency=page.text("currency", "the currency of all amounts", "USD", r"[A-Z]{3}"),
        stake_cor_min=stake.whole("cor_min", 0, 10**9),
        stake_waived=stake.flag("waived_for_earlier_phases", False),
        uptime=UptimeRule(
            measure=uptime.choice("measure", ("pings", "seen")),
            ping_s=uptime.number("ping_s", 1, 86_400),
            alive_s_max=uptime.whole("alive_s_max", 1, 86_400),
        ),
        base_cents=_cents(base, "per_month"),
        tiers=tiers,
        score_reward=reward,
        multi_nodes=multi,
        standing=_readings(given, STANDING),
        places=_readings(given, PLACES if tiers else {}),
        money=_readings(given, MONEY),
    )
    for table in (page, base, stake, uptime, given, top):
        table.close()
    if mistakes.lines:
        raise RulesError("\n".join(mistakes.lines))
    return rules


def _cents(table: Table, name: str) -> int:
    value = _exact(table.number(name, 0, 1_000_000)) * 100
    if value != int(value):
        table.wrong(name, "must be whole cents")
    return int(value)


def _percent_100(table: Table, name: str, most: int = 1_000) -> int:
    value = _exact(table.number(name, 0, most)) * 100
    if value != int(value):
        table.wrong(name, "must be a percentage with at most two decimals")
    return int(value)


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))  # the digits that were written, not the binary number beside them


def _tier(table: Table) -> Tier:
    tier = Tier(
        first=table.whole("first", 1, 1_000_000),
        last=table.whole("last", 1, 1_000_000),
        cents=_cents(table, "each"),
        operator_max=table.whole("operator_max", 1, 1_000_000, 0) or None,
    )
    table.close()
    return tier


def _check_tiers(tiers: tuple[Tier, ...], mistakes: Mistakes) -> None:
    due = 1
    for tier in tiers:
        if tier.first != due or tier.last < tier.first:
            mistakes.add("[[tier]]", f"places {tier.first} to {tier.last}: must begin at {due}, without gap or overlap")
        due = tier.last + 1


def _score_reward(table: Table) -> ScoreReward:
    reward = ScoreReward(
        cents=_cents(table, "each"),
        score_min=Decimal(_percent_100(table, "total_percent_min", 100)) / 10_000,
        precommit_min=Decimal(_percent_100(table, "precommit_percent_min", 100)) / 10_000,
    )
    table.close()
    return reward


def _multi_node(table: Table) -> MultiNode:
    line = MultiNode(table.whole("nodes", 2, 10_000), _percent_100(table, "percent"), table.flag("one_time", False))
    table.close()
    return line


def _readings(table: Table, keys: dict[str, Span | tuple[str, ...]]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for key, allowed in keys.items():
        meaning = f"from {allowed[0]} to {allowed[1]}" if isinstance(allowed, Span) else f"out of {', '.join(allowed)}"
        value = table.raw(key)
        choices = value if isinstance(value, list) else [None]
        good = 0 < len(choices) <= READINGS_EACH_MAX and all(_allowed(choice, allowed) for choice in choices)
        if not good or len(set(choices)) < len(choices):
            table.wrong(key, f"must be a list of different readings, each {meaning}; the first is the one that is paid")
            continue
        found[key] = tuple(choices)
    if math.prod(len(choices) for choices in found.values()) > COMBINATIONS_MAX:
        table.wrong("", f"more than {COMBINATIONS_MAX} combinations of {', '.join(found)}; decide some of them")
    return found


def _allowed(choice: Any, allowed: Span | tuple[str, ...]) -> bool:
    if isinstance(allowed, Span):
        return isinstance(choice, int) and not isinstance(choice, bool) and allowed.low <= choice <= allowed.high
    return choice in allowed
