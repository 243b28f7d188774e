"""junit.xml: the verdicts of a run or a gate, in the form that CI systems show.

A case passes, fails (the network did not do what was asked of it), is an error (we could not measure, so nothing is
proved) or is skipped (cannot tell, with the reason). Texts from the network are escaped, and what XML cannot hold or a
terminal would obey is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple
from xml.etree import ElementTree

from loadtest.report import wording
from loadtest.report.wording import Summary

Verdict = Literal["pass", "failure", "error", "skipped"]
_OF_LIMITS: dict[str, Verdict] = {"pass": "pass", "fail": "failure"}  # anything else is skipped
_OF_FINDINGS: dict[str, Verdict] = {"consistent": "pass", "found": "failure"}
TEXT_LETTERS_MAX = 4_000  # of one message: a page of CI, not a log


class Case(NamedTuple):
    """One test case. `message` is one line; `text` is what more there is to say."""

    group: str
    name: str
    verdict: Verdict
    message: str = ""
    text: str = ""


class Suite(NamedTuple):
    """Cases that belong together. `started_utc` is ISO 8601 or ""; properties are shown beside the cases."""

    name: str
    cases: tuple[Case, ...]
    properties: tuple[tuple[str, str], ...] = ()
    started_utc: str = ""
    seconds: float = 0.0


def render_junit(suites: Sequence[Suite]) -> str:
    """The XML document, with the counts on every level."""
    root = ElementTree.Element("testsuites", _counts([case for suite in suites for case in suite.cases]))
    for suite in suites:
        root.append(_suite(suite))
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def run_suite(summary: Summary) -> Suite:
    """One run: fitness, account, one case per SLO and per network check, and the result.

    Of an unfit run nothing but its fitness and account is counted: the rest is skipped and says what it said.
    """
    run = wording.part(summary, "run")
    fit = wording.is_fit(summary)
    judged = [*_slos(summary), *_checks(summary), _result(summary)]
    cases = [_fitness(summary), _account(summary), *(judged if fit else [_uncounted(case) for case in judged])]
    names = ("id", "profile", "profile_hash", "seed", "mode", "workers", "started_utc", "ended_utc")
    properties = [(name, str(run[name])) for name in names if run.get(name) is not None]
    targets = [t for t in wording.listed(run, "targets") if isinstance(t, dict)]
    properties += [(f"target {t.get('name')}", f"{t.get('url')} ({t.get('route')})") for t in targets]
    return Suite(
        f"loadtest {run.get('profile') or 'run'}",
        tuple(cases),
        tuple(properties),
        str(run.get("started_utc") or ""),
        wording.figure(run.get("offered_s")) or 0.0,
    )


def harmless(text: str, letters: int = TEXT_LETTERS_MAX) -> str:
    """`text` without control characters, lone surrogates and invisible marks; lines are kept, length is not."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return clean if len(clean) <= letters else f"{clean[: letters - 1]}…"


def _fitness(summary: Summary) -> Case:
    if wording.is_fit(summary):
        return Case("fitness", "the run could measure", "pass")
    reasons = [str(r.get("text")) for r in wording.listed(summary, "fit", "reasons") if isinstance(r, dict)]
    message = f"{wording.fit_word(summary)}: the run proves nothing"
    return Case("fitness", "the run could measure", "error", message, "\n".join(reasons))


def _account(summary: Summary) -> Case:
    name, sentence = "every planned turn has one row", wording.account_sentence(summary)
    balanced = wording.part(summary, "account").get("balanced")
    if balanced is None:
        return Case("account", name, "skipped", "the summary has no account")
    return Case("account", name, "pass" if balanced else "error", "" if balanced else sentence, sentence)


def _slos(summary: Summary) -> list[Case]:
    return [_slo(slo) for slo in wording.listed(summary, "result", "slos") if isinstance(slo, dict)]


def _slo(slo: Summary) -> Case:
    metric = str(slo.get("metric"))
    limit, observed = (wording.slo_figure(metric, slo.get(name)) for name in ("limit", "observed"))
    name = f"{metric} {'at least' if slo.get('kind') == 'min' else 'at most'} {limit}"
    verdict = _OF_LIMITS.get(str(slo.get("verdict")), "skipped")
    word = {"pass": "kept", "failure": "missed"}.get(verdict, "cannot tell")
    message = f"{word}: observed {observed}, {wording.count(slo.get('n'))} values"
    return Case("slo", name, verdict, message, str(slo.get("text") or ""))


def _checks(summary: Summary) -> list[Case]:
    return [_check(each) for each in wording.listed(summary, "findings") if isinstance(each, dict)]


def _check(finding: Summary) -> Case:
    verdict = _OF_FINDINGS.get(str(finding.get("verdict")), "skipped")
    lines = [str(line) for line in finding.get("evidence") or []]
    return Case("network", str(finding.get("check")), verdict, str(finding.get("text") or ""), "\n".join(lines))


def _result(summary: Summary) -> Case:
    verdict = _OF_LIMITS.get(str(wording.part(summary, "result").get("verdict")), "skipped")
    return Case("result", "the limits of the profile are met", verdict, wording.result_sentence(summary))


def _uncounted(case: Case) -> Case:
    said = f"it said {case.verdict}" + (f": {case.message}" if case.message else "")
    return case._replace(verdict="skipped", message=f"not counted, the run is unfit; {said}")


def _suite(suite: Suite) -> ElementTree.Element:
    counts = _counts(suite.cases)
    attributes = {"name": _line(suite.name), **counts, "time": f"{suite.seconds:.3f}"}
    if suite.started_utc:
        attributes["timestamp"] = _line(suite.started_utc.removesuffix("Z"))
    element = ElementTree.Element("testsuite", attributes)
    if suite.properties:
        inside = ElementTree.SubElement(element, "properties")
        for name, value in suite.properties:
            ElementTree.SubElement(inside, "property", name=_line(name), value=_line(value))
    for case in suite.cases:
        element.append(_case(case))
    return element


def _case(case: Case) -> ElementTree.Element:
    element = ElementTree.Element(
        "testcase", classname=f"loadtest.{_line(case.group)}", name=_line(case.name), time="0"
    )
    if case.verdict == "pass":
        seen = "\n".join(filter(None, (case.message, case.text)))
        if seen:
            ElementTree.SubElement(element, "system-out").text = harmless(seen)
        return element
    inside = ElementTree.SubElement(element, case.verdict, message=_line(case.message or case.verdict))
    if case.verdict != "skipped":
        inside.set("type", case.group)
    if case.text:
        inside.text = harmless(case.text)
    return element


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    verdicts: list[str] = [case.verdict for case in cases]
    named = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    return {"tests": str(len(cases)), **{name: str(verdicts.count(word)) for name, word in named.items()}}


def _line(text: str) -> str:
    return harmless(" ".join(text.split()))
