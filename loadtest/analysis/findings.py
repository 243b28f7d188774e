"""What a network check found, in a form that a person, a page and a test can read.

A check looks at one promise of the network. Its finding is *consistent* (and says how small an effect it would have
seen), *found*, or *cannot tell* (and says which source was missing or how much more it would take). A check by chance
has a p-value; a check of an account has none, because there is nothing random in a sum that does not add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from loadtest.analysis.percentiles import number

ALPHA = 0.01  # of each check alone, and of all together after Holm's correction
EVIDENCE_MAX = 8  # lines; the counts say how many there were

Verdict = Literal["consistent", "found", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one run. `effect` and `smallest_effect` are in `unit`; the latter would have been found.

    `p_value` is of the check alone, `p_holm` after the correction for all checks of the run. `missing` names the
    source without which nothing can be said.
    """

    check: str
    verdict: Verdict
    text: str
    n: int = 0
    p_value: float | None = None
    p_holm: float | None = None
    effect: float | None = None
    smallest_effect: float | None = None
    unit: str = ""
    evidence: tuple[str, ...] = ()
    missing: str = ""

    def as_json(self) -> dict[str, Any]:
        rounded = {name: number(getattr(self, name)) for name in ("effect", "smallest_effect")}
        p_values = {name: _p(getattr(self, name)) for name in ("p_value", "p_holm")}
        plain = {name: getattr(self, name) for name in ("check", "verdict", "text", "n", "unit", "missing")}
        return {**plain, **p_values, **rounded, "evidence": list(self.evidence)}


def _p(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def no_source(check: str, missing: str, why: str = "") -> Finding:
    """The finding without the source that the check needs."""
    return Finding(check, "cannot tell", f"No source: {why or missing}.", missing=missing)


def too_few(check: str, n: int, needed: str) -> Finding:
    """The finding of a check that has its source and not enough of it."""
    return Finding(check, "cannot tell", f"Too few: {needed}.", n=n, missing="more tasks")


def evidence(lines: Sequence[str]) -> tuple[str, ...]:
    """The first of the lines, and how many more there were."""
    left = len(lines) - EVIDENCE_MAX
    return tuple(lines) if left <= 0 else (*lines[:EVIDENCE_MAX], f"and {left} more")


def holm(findings: Sequence[Finding], alpha: float = ALPHA) -> list[Finding]:
    """Correct all p-values of a run by Holm's method and let them decide between consistent and found.

    However many checks are made, a network without fault is called faulty with probability `alpha` at most. A check
    that alarms alone and not among all keeps its text and says so. Checks without a p-value are left as they are.
    """
    order = sorted((f.p_value, i) for i, f in enumerate(findings) if f.p_value is not None)
    corrected = list(findings)
    worst = 0.0
    for rank, (p_value, i) in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p_value))
        finding = replace(findings[i], p_holm=worst)
        if finding.verdict == "found" and worst > alpha:
            text = f"{finding.text} Alone this would be remarkable; among {len(order)} checks it is not."
            finding = replace(finding, verdict="consistent", text=text)
        corrected[i] = finding
    return corrected


def percent(share: float) -> str:
    """A share in words that fit its size."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def shorten(node: str) -> str:
    """An address as a person compares it: beginning and end."""
    return node if len(node) <= 15 else f"{node[:8]}…{node[-4:]}"
