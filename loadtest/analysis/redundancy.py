"""Redundancy: does a task get as many nodes as promised, who gave a result, do they agree, what does it cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from loadtest.analysis.chance import rate_bound
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.findings import Finding, evidence, no_source, percent

REDUNDANCY = "redundancy"


def redundancy(source: Evidence) -> list[Finding]:
    """One finding. Without a promised number of nodes the figures are still told."""
    tasks = source.own_tasks
    if not len(tasks):
        return [no_source(REDUNDANCY, "task look-ups", "no task was looked up")]
    lines = _figures(tasks)
    polls = source.sessions.dropna(subset=["redundant"])
    if not len(polls):
        text = "No router told how many nodes a session's tasks are given to."
        missing = "redundant of each session (GET /api/v1/sessions)"
        return [Finding(REDUNDANCY, "cannot tell", text, n=len(tasks), missing=missing, evidence=evidence(lines))]
    polls = polls.assign(router=source.routers(polls["target"]))
    told = polls.groupby(["router", "session"])["redundant"].agg(["min", "max"])
    keys = pd.MultiIndex.from_frame(tasks[["router", "session"]])
    least, most = (told[name].reindex(keys).to_numpy(dtype=np.float64, na_value=np.nan) for name in ("min", "max"))
    given = tasks["assigned"].map(len).to_numpy(dtype=np.float64)
    fewer, more = int((given < least).sum()), int((given > most).sum())
    n = int((~np.isnan(least)).sum())
    if fewer or more:
        text = f"{fewer + more} of {n} tasks went to another number of nodes than promised: {fewer} to fewer, "
        text += f"{more} to more."
        effect, unit = (fewer + more) / n, "share of tasks"
        return [Finding(REDUNDANCY, "found", text, n=n, effect=effect, unit=unit, evidence=evidence(lines))]
    if not n:
        text = "None of our tasks is of a session whose promise is known."
        return [Finding(REDUNDANCY, "cannot tell", text, missing="polls of our sessions", evidence=evidence(lines))]
    text = f"All {n} tasks went to as many nodes as their session promises."
    bound, unit = rate_bound(0, n), "share of tasks"
    return [Finding(REDUNDANCY, "consistent", text, n=n, smallest_effect=bound, unit=unit, evidence=evidence(lines))]


def _figures(tasks: pd.DataFrame) -> list[str]:
    """By number of nodes: how many gave a result, agreement, and how long the last one kept the task open."""
    done = tasks[tasks["complete"].astype(bool)]
    lines = []
    for size, each in done.groupby(done["assigned"].map(len)):
        results = each["results"].map(len)
        share = percent(int(results.sum()) / max(1, int(each["assigned"].map(len).sum())))
        line = f"{size} nodes a task ({len(each)} tasks): {share} gave a result"
        several = each[results > 1]
        if len(several):
            agreed = several["results"].map(lambda texts: len(set(texts)) == 1)
            line += f", all texts equal in {percent(float(agreed.mean()))} of those with several"
        took = ((each["finished_ns"] - each["sent_ns"]) / SECOND_NS).dropna()
        if len(took):
            line += f"; ended after {took.median():.1f} s (median), {took.quantile(0.95):.1f} s (p95)"
        lines.append(line)
    return lines
