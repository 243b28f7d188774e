"""Redundancy: does a task get as many nodes as promised, who gave a result, do they agree, what does it cost.

A router may pass over a node that is full, so a burst of our own on few slow nodes can leave a task with fewer nodes
than its session promises. Two questions, then. While every node had room, the promise is an account: one task that
breaks it is a finding. Else tasks with fewer nodes are counted, against the null model that at most PASSED_MAX of all
tasks have fewer: more is a network that does not keep its promise at this load. Such tasks come in clumps, so the unit
is the minute, not the task.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from loadtest.analysis.chance import binomial_tails, rate_bound
from loadtest.analysis.eligibility import BUSY, Choices, busy_until
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.findings import ALPHA, Finding, evidence, no_source, percent, too_few
from loadtest.analysis.frames import Ints
from loadtest.analysis.series import running

REDUNDANCY = "redundancy"
PASSED_MAX = 0.01  # of the tasks: a network that gives more of them fewer nodes is too small for this load
MINUTE_NS = 60 * SECOND_NS
MINUTES_MIN = 5  # with fewer nobody can say how much such tasks come in clumps


def redundancy(source: Evidence, choices: Choices) -> list[Finding]:
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
    promised = ~np.isnan(least)
    n = int(promised.sum())
    if not n:
        text = "None of our tasks is of a session whose promise is known."
        return [Finding(REDUNDANCY, "cannot tell", text, missing="polls of our sessions", evidence=evidence(lines))]
    given = tasks["assigned"].map(len).to_numpy(dtype=np.float64)
    fewer, more = given < least, given > most
    roomy = _had_room(tasks, choices)
    broken, passed = int((fewer & roomy).sum()), int((fewer & ~roomy).sum())
    if broken or more.any():
        text = f"{broken + int(more.sum())} of {n} tasks went to another number of nodes than promised: {broken} to "
        text += f"fewer while all nodes had room, as far as can be seen, {int(more.sum())} to more."
        if passed:
            lines.insert(0, f"{passed} more tasks went to fewer nodes while a node may have been full")
        effect, unit = (broken + int(more.sum())) / n, "share of tasks"
        return [Finding(REDUNDANCY, "found", text, n=n, effect=effect, unit=unit, evidence=evidence(lines))]
    return [_of_passed(fewer[promised], tasks["sent_ns"].to_numpy(dtype=np.int64)[promised], lines)]


def _of_passed(fewer: npt.NDArray[np.bool_], sent_ns: Ints, lines: list[str]) -> Finding:
    """The finding where no task had fewer nodes than promised but while a node may have been full."""
    n, passed = len(fewer), int(fewer.sum())
    minutes = (sent_ns - sent_ns.min()) // MINUTE_NS
    if passed and len(np.unique(minutes)) < MINUTES_MIN:
        needed = f"{passed} of {n} tasks went to fewer nodes than promised while a node may have been full; whether "
        needed += f"bursts explain it can be said after {MINUTES_MIN} minutes"
        return too_few(REDUNDANCY, n, needed)
    p = too_often(fewer, minutes)
    if p < ALPHA:
        text = f"{passed} of {n} tasks ({percent(passed / n)}) went to fewer nodes than promised while a node may have "
        text += "been full: the network is too small for this load."
    elif passed:
        text = f"{passed} of {n} tasks went to fewer nodes than promised, each while a node may have been full; up to "
        text += f"{percent(PASSED_MAX)} is what bursts do. All others went to as many as promised."
    else:
        text = f"All {n} tasks went to as many nodes as their session promises."
    return Finding(
        REDUNDANCY,
        "found" if p < ALPHA else "consistent",
        text,
        n=n,
        p_value=p,
        effect=passed / n,
        smallest_effect=max(PASSED_MAX, rate_bound(0, n)) if passed else rate_bound(0, n),
        unit="share of tasks",
        evidence=evidence(lines),
    )


def too_often(fewer: npt.NDArray[np.bool_], minutes: Ints) -> float:
    """p of the null model that a task has fewer nodes with a probability of PASSED_MAX at most.

    Full nodes stay full for a while, so tasks are not independent: with d of n tasks short in each of B minutes, the
    excesses d - n * PASSED_MAX are what is (nearly) independent, and their mean over its standard error is Student's t
    with B - 1 degrees of freedom. Few clumps make the excesses skewed to the right, which makes the upper tail of t
    lighter: it errs by silence. Minutes that happen to be alike have no spread, so p is never below that of independent
    tasks, which is exact.
    """
    _, independent = binomial_tails(int(fewer.sum()), len(fewer), PASSED_MAX)
    _, minute = np.unique(minutes, return_inverse=True)
    excess = np.bincount(minute, weights=fewer - PASSED_MAX)
    spread = float(excess.std(ddof=1)) if len(excess) > 1 else 0.0
    if not spread:
        return independent
    t = float(excess.mean()) / spread * math.sqrt(len(excess))
    return max(independent, float(special.stdtr(len(excess) - 1, -t)))


def _had_room(tasks: pd.DataFrame, choices: Choices) -> npt.NDArray[np.bool_]:
    """Whether every node a task could go to had room: it held at most BUSY of our tasks.

    Known from the eligible nodes, or, whoever they were, because so few tasks of ours were under way at all.
    """
    known = {int(r) for r, nodes in zip(choices.tasks["request"], choices.eligible, strict=True) if nodes}
    sent_ns = tasks["sent_ns"].to_numpy(dtype=np.int64)
    under_way = running(sent_ns, busy_until(tasks), sent_ns - 1)
    room: npt.NDArray[np.bool_] = tasks["request"].isin(known).to_numpy(dtype=bool) | (under_way <= BUSY)
    return room


def _figures(tasks: pd.DataFrame) -> list[str]:
    """By number of nodes: results given, agreement, how long the last one kept the task open, and the cost of it.

    The cost is in results: all but one of a task are made for nothing but the others' being checked.
    """
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
        used = int((results > 0).sum())
        if used:
            line += f"; {int(results.sum()) / used:.1f} results were made for each that is used"
        took = ((each["finished_ns"] - each["sent_ns"]) / SECOND_NS).dropna()
        if len(took):
            line += f"; ended after {took.median():.1f} s (median), {took.quantile(0.95):.1f} s (p95)"
        lines.append(line)
    return lines
