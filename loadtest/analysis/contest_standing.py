"""Who takes part in a contest, and in how much of its rewards; for one reading of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from loadtest.analysis.contest_places import operator_of
from loadtest.analysis.contest_rules import Reading, Rules
from loadtest.analysis.entrants import Entrant


class Verdict(NamedTuple):
    """Shares (0 to 1) of the base and of the reward for rank or scores; `why` is "" for all of both."""

    takes_part: bool
    base_share: Fraction
    reward_share: Fraction
    why: str


ALL, NONE = Fraction(1), Fraction(0)


def verdicts(entrants: Sequence[Entrant], rules: Rules, reading: Reading) -> tuple[Verdict, ...]:
    """One per entrant, in their order."""
    own = [_disqualified(one, reading) for one in entrants]
    fallen: dict[str, str] = {}
    if reading["disqualified"] == "operator":
        for one, why in zip(entrants, own, strict=True):
            if why:
                fallen.setdefault(operator_of(one), f"operator out with {one.node}: {why}")
    return tuple(
        _out(why) if (why := mine or fallen.get(operator_of(one), "")) else _verdict(one, rules, reading)
        for one, mine in zip(entrants, own, strict=True)
    )


def _out(why: str) -> Verdict:
    return Verdict(False, NONE, NONE, why)


def _disqualified(one: Entrant, reading: Reading) -> str:
    if one.disqualified:
        return f"disqualified: {one.disqualified}"
    if one.flags and reading["flagged"] == "out":
        return f"flagged: {'; '.join(one.flags)}"
    if one.reporting is False and reading["not_reporting"] == "out":
        return "took no part in bug reports"
    return ""


def _verdict(one: Entrant, rules: Rules, reading: Reading) -> Verdict:
    counts = reading["unknown"] == "in"  # what was not told counts as fulfilled
    if not (rules.stake_waived and one.earlier_phase):
        if one.stake_cor is None and not counts:
            return _out("stake not told")
        if one.stake_cor is not None and one.stake_cor < rules.stake_cor_min:
            return _out(f"stake {one.stake_cor} of {rules.stake_cor_min} COR")
    least = Decimal(reading["uptime_percent_min"]) / 100
    short = one.observed_days is not None and one.observed_days < reading["window_days"]
    if one.uptime is None or short:
        seen = "not told" if one.uptime is None else f"seen for {float(one.observed_days or 0):.3g} days only"
        return Verdict(True, ALL, ALL, "") if counts else _out(f"uptime {seen}")
    if one.uptime >= least:
        return Verdict(True, ALL, ALL, "")
    why = f"uptime {100 * float(one.uptime):.4g} % of {reading['uptime_percent_min']} %"
    if reading["short_uptime"] == "no-base":
        return Verdict(True, NONE, ALL, why)
    if reading["short_uptime"] == "in-proportion":
        share = Fraction(one.uptime) / Fraction(least)
        return Verdict(True, share, share, why)
    return _out(why)
