"""junit.xml: what CI is told of a run. The documents are read back by a parser that is not ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.report.junit import Case, Suite, render_junit, run_suite

Make = Callable[..., dict[str, Any]]
FINDINGS = [
    {"check": "shuffling", "verdict": "consistent", "text": "Even.", "evidence": []},
    {
        "check": "redundancy",
        "verdict": "found",
        "text": "3 of 9 tasks.",
        "evidence": ["task 4: 2 of 3", "task 7: 1 of 3"],
    },
    {"check": "charges", "verdict": "cannot tell", "text": "No source: charges.", "evidence": []},
]


def cases(summary: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Of each case "group: name": its verdict and message, as a CI system reads them."""
    root = ElementTree.fromstring(render_junit([run_suite(summary)]))
    found = {}
    for case in root.iter("testcase"):
        inside = [child for child in case if child.tag != "system-out"]
        assert len(inside) <= 1
        verdict, message = (inside[0].tag, inside[0].get("message", "")) if inside else ("pass", "")
        found[f"{case.get('classname', '').removeprefix('loadtest.')}: {case.get('name')}"] = (verdict, message)
    return found


def test_one_case_per_limit_and_check_and_three_of_the_run(make_summary: Make) -> None:
    found = cases(make_summary(findings=FINDINGS))
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "fitness: the run could measure": "pass",
        "account: every planned turn has one row": "pass",
        "slo: ttft_ms_p95 at most 2.50 s": "pass",
        "slo: e2e_ms_p99 at most 30.00 s": "failure",
        "slo: ok_share at least 98.00 %": "pass",
        "slo: tpot_ms_p99 at most 200 ms": "skipped",
        "network: shuffling": "pass",
        "network: redundancy": "failure",
        "network: charges": "skipped",
        "result: the limits of the profile are met": "failure",
    }
    assert found["slo: e2e_ms_p99 at most 30.00 s"][1] == "missed: observed 41.88 s, 3,288 values"
    assert found["network: charges"][1] == "No source: charges."


def test_an_unfit_run_is_an_error_and_nothing_of_it_counts(make_summary: Make) -> None:
    reasons = [{"rule": "workers", "figure": 1, "bound": 0, "text": "1 of 2 workers were lost"}]
    summary = make_summary(findings=FINDINGS, fit={"verdict": "unfit", "reasons": reasons})
    document = render_junit([run_suite(summary)])
    found = cases(summary)
    assert found.pop("fitness: the run could measure") == ("error", "UNFIT: the run proves nothing")
    assert "1 of 2 workers were lost" in document
    assert found.pop("account: every planned turn has one row")[0] == "pass"
    assert {verdict for verdict, _ in found.values()} == {"skipped"}
    assert found["network: redundancy"][1] == "not counted, the run is unfit; it said failure: 3 of 9 tasks."


def test_an_account_that_does_not_add_up_is_an_error(make_summary: Make) -> None:
    account = {"planned": 10, "outcomes": {"ok": 9}, "balanced": False}
    assert cases(make_summary(account=account))["account: every planned turn has one row"] == (
        "error",
        "10 planned ≠ 9 ok",
    )


def test_a_run_that_a_ceiling_stopped_has_failed(make_summary: Make) -> None:
    result = {"verdict": "fail", "slos": [], "stopped_by": {"text": "errors above 50 %"}}
    verdict, message = cases(make_summary(result=result))["result: the limits of the profile are met"]
    assert verdict == "failure" and message.startswith("Stopped by a ceiling: errors above 50 %.")


def test_counts_and_properties(make_summary: Make) -> None:
    root = ElementTree.fromstring(render_junit([run_suite(make_summary(findings=FINDINGS))]))
    (suite,) = root
    expected = {"tests": "10", "failures": "3", "errors": "0", "skipped": "2"}
    assert {name: root.get(name) for name in expected} == expected
    assert {name: suite.get(name) for name in expected} == expected
    assert (suite.get("name"), suite.get("timestamp"), suite.get("time")) == (
        "loadtest community",
        "2026-11-22T10:45:00",
        "300.000",
    )
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["profile_hash"] == "9f2c61d04be7a318"
    assert properties["target router-a"] == "http://127.0.0.1:5010 (cortensor)"


def test_a_summary_that_lacks_everything_is_no_pass() -> None:
    assert {name: verdict for name, (verdict, _) in cases({}).items()} == {
        "fitness: the run could measure": "error",
        "account: every planned turn has one row": "skipped",
        "result: the limits of the profile are met": "skipped",
    }


HOSTILE = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(
    ["]]>", "<!-- <script>", "&lt;&#0;", "\x1b[31m\x00\ufffe\ud800", "\u202egnp.exe", "a\r\nb\tc", '"><x y="']
)


@given(HOSTILE, HOSTILE, HOSTILE, st.sampled_from(["pass", "failure", "error", "skipped"]))
def test_whatever_the_network_says_the_document_is_whole_and_says_it(
    name: str, message: str, text: str, verdict: Any
) -> None:
    suite = Suite(name, (Case("network", name, verdict, message, text),), ((name, message),))
    (read,) = ElementTree.fromstring(render_junit([suite]).encode())
    case = next(read.iter("testcase"))
    assert [child.tag for child in case] in ([], ["system-out"], [verdict])
    seen = "".join(read.itertext()) + "".join(value for each in read.iter() for value in each.attrib.values())
    assert all(c.isprintable() or c == "\n" for c in seen)
    if verdict != "pass" and message.isascii() and message.isprintable() and message.strip():
        assert next(iter(case)).get("message") == " ".join(message.split())


@pytest.mark.parametrize("letters", [4_000, 5_000])
def test_long_texts_are_cut(letters: int) -> None:
    document = render_junit([Suite("s", (Case("network", "c", "failure", "m", "z" * letters),))])
    assert document.count("z") == (4_000 if letters == 4_000 else 3_999)
