"""All network checks of a run, in one place and in the order in which a report shows them."""

from __future__ import annotations

from loadtest.analysis.billing import billing
from loadtest.analysis.counters import counters
from loadtest.analysis.dependence import dependence
from loadtest.analysis.eligibility import choices
from loadtest.analysis.evidence import Evidence
from loadtest.analysis.fairness import fairness
from loadtest.analysis.findings import Finding, holm
from loadtest.analysis.models import promised_model
from loadtest.analysis.pipeline import pipeline
from loadtest.analysis.presence import presence
from loadtest.analysis.redundancy import redundancy


def check_run(evidence: Evidence) -> list[Finding]:
    """The findings of a run, corrected for their number."""
    return holm(check(evidence))


def check(evidence: Evidence) -> list[Finding]:
    """Every check alone, before the correction."""
    chosen = choices(evidence)
    return [
        *fairness(chosen),
        *dependence(evidence, chosen),
        *pipeline(evidence),
        *counters(evidence),
        *redundancy(evidence, chosen),
        *promised_model(evidence),
        *billing(evidence),
        *presence(evidence),
    ]
