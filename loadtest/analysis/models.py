"""Is the promised model the one that answers: names told by answers against the name asked for, or the session's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from loadtest.analysis.chance import rate_bound
from loadtest.analysis.evidence import Evidence
from loadtest.analysis.findings import Finding, evidence, no_source, percent

PROMISED_MODEL = "promised model"
PLACEHOLDERS = frozenset({"", "default"})  # what routers say instead of a name


class _Said(NamedTuple):
    target: str
    session: str
    asked: str
    told: str
    answers: int


def promised_model(source: Evidence) -> list[Finding]:
    """One finding. A route that names no model on either side says nothing, and most routers name none."""
    said = list(_said(source))
    if not said:
        return [no_source(PROMISED_MODEL, "the model's name in answers", "no answer named its model")]
    sessions = source.sessions.dropna(subset=["model"])
    routers = source.routers(sessions["target"])
    promised = dict(zip(zip(routers, sessions["session"], strict=True), sessions["model"], strict=True))
    named = [each for each in said if each.told not in PLACEHOLDERS]
    wrong, right, unknown = [], 0, 0
    for each in named:
        router = source.router_of.get(each.target, "")
        promise = promised.get((router, each.session)) if each.asked in PLACEHOLDERS else each.asked
        if promise is None:
            unknown += each.answers
        elif each.told == promise or each.told.startswith(f"{promise}-"):  # an alias that is answered with its version
            right += each.answers
        else:
            wrong.append((each, promise))
    n = sum(each.answers for each in said)
    lines = [
        f"{each.target}{f', session {each.session}' if each.session else ''}: {each.answers} answers of {each.told} "
        f"where {promise} is promised"
        for each, promise in sorted(wrong, key=lambda pair: -pair[0].answers)
    ]
    silent = n - sum(each.answers for each in named)
    lines.append(
        f"{n} answers: {silent} name no model, {unknown} name one where none is promised, {right} the promised one"
    )
    if wrong:
        bad = sum(each.answers for each, _ in wrong)
        text = f"{bad} of {n} answers name another model than was promised ({percent(bad / n)})."
        unit = "share of answers"
        return [Finding(PROMISED_MODEL, "found", text, n=n, effect=bad / n, unit=unit, evidence=evidence(lines))]
    if not right:
        text = "No answer names a model where one is promised. "
        text += "A router that says `default` for everything could use any."
        missing = "the model's name in answers"
        return [Finding(PROMISED_MODEL, "cannot tell", text, n=n, missing=missing, evidence=evidence(lines))]
    text = f"All {right} answers that name a model name the promised one. Whether it is true nobody can see."
    bound, unit = rate_bound(0, right), "share of answers"
    return [
        Finding(PROMISED_MODEL, "consistent", text, n=n, smallest_effect=bound, unit=unit, evidence=evidence(lines))
    ]


def _said(source: Evidence) -> Iterator[_Said]:
    """What all workers counted: one row for each target, session, model asked for and model told."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for worker in source.manifest.get("workers", []):
        for target, session, asked, told, n in worker.get("models") or []:
            counts[str(target), str(session), str(asked), str(told)] += int(n)
    return (_Said(*key, n) for key, n in counts.items())
