"""From the queue to the stats to the reputation: does every task of ours end, count once, and count truly?

These are accounts, not tests by chance: one entry that is missing is a finding. Other tenants only ever add entries,
so each account is an inequality that their tasks cannot break: *at least* what we saw must be there. It is drawn
between a node's first and last snapshot, over tasks that certainly fell between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from loadtest.analysis.chance import rate_bound
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.findings import Finding, evidence, no_source, percent, shorten
from loadtest.analysis.frames import Floats
from loadtest.analysis.snapshots import SESSION_REPUTATION, Polled

ENDING, ONCE, COUNTED, CLAIMS = "tasks end", "tasks count once", "tasks reach the reputation", "claims"
DEADLINE_S = 300.0  # two phases of 90 s, as clients ask for, the oracle's ticks and slow transactions
LAG_S = 60.0  # what a backend may take until it tells what happened
NO_LOOKUPS = "task look-ups"
NO_SERIES = "session reputation (/session-reputation/{address})"
_STATUS = {0: "queued", 1: "acked", 2: "precommitted", 3: "committed"}


def pipeline(evidence_: Evidence) -> list[Finding]:
    """Four findings: tasks end, tasks count once, tasks reach the reputation, claims."""
    books = _books(evidence_)
    return [_ending(evidence_), _once(evidence_), _counted(evidence_, books), _claims(evidence_, books)]


def _ending(source: Evidence) -> Finding:
    tasks, strange = source.own_tasks, source.strange_tasks
    if not len(tasks) and not len(strange):
        return no_source(ENDING, NO_LOOKUPS, "no task was looked up")
    age_s = (tasks["looked_up_ns"] - tasks["sent_ns"]).to_numpy(dtype=np.float64) / SECOND_NS
    complete = tasks["complete"].to_numpy(dtype=bool)
    overdue = tasks[~complete & (age_s > DEADLINE_S)]
    # Tasks between ours of which no answer told the id: a lost one is among them, and so may others' be.
    strange_age_s = strange["looked_up_wall_ns"] / SECOND_NS - strange["created_s"]
    lost = strange[
        ~strange["complete"].to_numpy(dtype=bool) & (strange_age_s > DEADLINE_S).fillna(False).to_numpy(dtype=bool)
    ]
    open_yet = int((~complete).sum()) - len(overdue)
    n = len(tasks) + len(strange)
    stuck = Counter(_STATUS.get(int(s), f"status {s:g}") if s == s else "no status" for s in overdue["status"])
    stuck += Counter(_STATUS.get(int(s), f"status {s}") if pd.notna(s) else "no status" for s in lost["status"])
    durations = (tasks["finished_ns"] - tasks["sent_ns"]).dropna() / SECOND_NS
    lines = [f"{name} for ever: {count} tasks" for name, count in stuck.most_common()]
    if len(durations):
        lines.append(f"tasks that ended took {durations.median():.0f} s (median), {durations.max():.0f} s at most")
    lines += _redraws(source)
    bad = len(overdue) + len(lost)
    if bad:
        text = f"{bad} of {n} tasks had not ended {DEADLINE_S:g} s after they were sent ({percent(bad / n)})."
        return Finding(ENDING, "found", text, n=n, effect=bad / n, unit="share of tasks", evidence=evidence(lines))
    if open_yet:
        text = f"{open_yet} of {n} tasks had not ended when they were last asked for, {age_s[~complete].max():.0f} s "
        text += f"after they were sent at the most; they may take {DEADLINE_S:g} s."
        return Finding(ENDING, "cannot tell", text, n=n, evidence=evidence(lines), missing="later look-ups")
    bound = rate_bound(0, n)
    text = f"All {n} tasks ended. A share of {percent(bound)} that does not would have been seen."
    return Finding(
        ENDING, "consistent", text, n=n, smallest_effect=bound, unit="share of tasks", evidence=evidence(lines)
    )


def _redraws(source: Evidence) -> list[str]:
    """How often the node set of a session was seen to change, which is no fault."""
    lines = []
    for session, polls in source.sessions.groupby("session") if len(source.sessions) else ():
        ordered = polls.drop_duplicates("observed_wall_ns").sort_values("observed_wall_ns")
        sets = [frozenset(nodes) for nodes in ordered["miners"]]
        changes = sum(a != b for a, b in pairwise(sets))
        if any(sets):
            lines.append(f"session {session}: other nodes at {changes} of {len(sets) - 1} polls")
    return lines


def _once(source: Evidence) -> Finding:
    tasks = source.own_tasks
    numbered = tasks[tasks["task_id"].notna()]
    if not len(numbered):
        return no_source(ONCE, "task ids", "no answer told a task id")
    missing = sum(ids.left_out for ids in source.told_ids.values())
    strange = source.strange_tasks
    doubled = source.copies
    n = len(numbered)
    if doubled:
        text = f"{len(doubled)} tasks were queued twice: same nodes and same texts under another id."
        lines = [f"session {task.session} task {task.task_id}" for task in doubled]
        return Finding(
            ONCE, "found", text, n=n, effect=len(doubled) / n, unit="share of tasks", evidence=evidence(lines)
        )
    if missing > len(strange):
        text = f"{missing - len(strange)} ids between those of our tasks were not looked up: others' tasks, or ours "
        return Finding(ONCE, "cannot tell", text + "again.", n=n, missing="look-ups of the ids between our tasks")
    text = f"{n} tasks, none queued twice ({missing} ids between them belong to others or to tasks never begun)."
    return Finding(ONCE, "consistent", text, n=n, smallest_effect=rate_bound(0, n), unit="share of tasks")


# The books of the nodes.


@dataclass(frozen=True, slots=True)
class Book:
    """One node between two snapshots of its session reputation: what we saw, and what it was told to have done.

    `told_missed` is the most that can be counted as missed: entries without a success, pending ones included, less
    those settled as missed before.
    """

    node: str
    served: int
    missed: int
    told: int | None = None
    told_missed: int | None = None


def _books(source: Evidence) -> list[Book]:
    """A book for every node that was assigned one of our complete tasks."""
    lists = _Lists.of(source.snapshots.of_source(SESSION_REPUTATION))
    tasks = source.own_tasks
    tasks = tasks[tasks["complete"].astype(bool)] if len(tasks) else tasks
    by_node: dict[str, list[tuple[int, int, bool]]] = {}
    for sent, known, assigned, miners in zip(
        tasks["sent_ns"], tasks["known_ns"], tasks["assigned"], tasks["miners"], strict=True
    ):
        for node in assigned:
            by_node.setdefault(node, []).append((sent, int(known), node not in miners))
    return [_book(node, rows, lists) for node, rows in sorted(by_node.items())]


class _Lists(NamedTuple):
    """The session series with what a book needs of every snapshot."""

    polled: Polled
    totals: Floats  # entries into the precommit stage, pending ones included
    failures: Floats  # of both stages
    pending: Floats
    newest_s: Floats

    @classmethod
    def of(cls, polled: Polled) -> _Lists:
        counts = {
            name: np.nan_to_num(polled.column(name))
            for stage in ("precommit", "commit")
            for name in (f"{stage}_all", f"{stage}_success", f"{stage}_pending")
        }
        failures = counts["precommit_all"] - counts["precommit_success"]
        return cls(
            polled,
            counts["precommit_all"] + counts["precommit_pending"],
            failures + counts["commit_all"] - counts["commit_success"],
            counts["precommit_pending"] + counts["commit_pending"],
            polled.column("effective_s"),
        )


def _book(node: str, rows: list[tuple[int, int, bool]], lists: _Lists) -> Book:
    place = lists.polled.rows_of(node)
    if place is None:
        return Book(node, len(rows), sum(missed for _, _, missed in rows))
    totals, failures, pending = lists.totals[place], lists.failures[place], lists.pending[place]
    last = last_growing(totals, lists.newest_s[place])
    times = lists.polled.observed_ns[place]
    begin, end = int(times[0]), int(times[last]) - round(LAG_S * SECOND_NS)
    inside = [missed for sent, finished, missed in rows if sent > begin and finished < end]
    return Book(
        node,
        len(inside),
        sum(inside),
        round(totals[last] - totals[0]),
        round(failures[last] + pending[last] - failures[0]),
    )


def last_growing(totals: Floats, newest_s: Floats) -> int:
    """The snapshot up to which entries can be counted.

    A window of timestamps that is full takes newer entries and has no more of them; when it was first seen that long,
    more may have come than it shows. So where the list has newer entries at the end, it counts up to the snapshot
    before. A list without newer entries is not full.
    """
    first = int(np.argmax(totals))
    return max(first - 1, 0) if newest_s[-1] > newest_s[first] else len(totals) - 1


def _counted(source: Evidence, books: Sequence[Book]) -> Finding:
    absent = _no_books(COUNTED, source, books)
    if absent is not None:
        return absent
    told = [book for book in books if book.told is not None and book.served]
    short = [book for book in told if (book.told or 0) < book.served]
    missing = [book for book in books if book.told is None]
    n = sum(book.served for book in told)
    lines = [f"{shorten(b.node)} served {b.served} of our tasks, {b.told} are recorded" for b in short]
    lines += [f"{shorten(b.node)} served {b.served} of our tasks and has no session reputation" for b in missing]
    if short or missing:
        gone = sum(book.served - (book.told or 0) for book in (*short, *missing))
        text = f"{gone} entries of {len(short) + len(missing)} of {len(books)} nodes are missing {LAG_S:g} s after "
        text += "the tasks ended."
        share = gone / max(1, sum(book.served for book in books))
        return Finding(COUNTED, "found", text, n=n, effect=share, unit="share of entries", evidence=evidence(lines))
    text = f"Every one of {n} entries of {len(told)} nodes is in their session reputation. One that is missing would "
    text += "have been seen, unless others' tasks of the same node hid it."
    return Finding(COUNTED, "consistent", text, n=n, smallest_effect=1 / max(n, 1), unit="share of entries")


def _claims(source: Evidence, books: Sequence[Book]) -> Finding:
    absent = _no_books(CLAIMS, source, books)
    if absent is not None:
        return absent
    # A node whose entries are not all there cannot be told to have claimed: what it missed may be what is absent.
    told = [book for book in books if book.told is not None and book.told >= book.served]
    false = [book for book in told if (book.told_missed or 0) < book.missed]
    n = sum(book.missed for book in told)
    served = sum(book.served for book in told)
    if not served:
        text = "Entries of every node that could be compared are missing, so none of them can be told to have claimed."
        return Finding(CLAIMS, "cannot tell", text, missing="nodes whose entries are all there")
    if false:
        claimed = sum(book.missed - (book.told_missed or 0) for book in false)
        lines = [f"{shorten(b.node)} missed {b.missed} of {b.served}, {b.told_missed} are recorded" for b in false]
        text = f"{claimed} precommits or commits of {len(false)} nodes are recorded as made and gave no result."
        return Finding(
            CLAIMS, "found", text, n=served, effect=claimed / served, unit="share of entries", evidence=evidence(lines)
        )
    if not n:
        text = f"No node missed anything in {served} entries: there was nothing to claim."
        return Finding(CLAIMS, "consistent", text, n=served)
    text = f"All {n} misses in {served} entries are recorded as misses. One claimed as made would have been seen, "
    text += "unless others' tasks of the same node hid it."
    return Finding(CLAIMS, "consistent", text, n=served, smallest_effect=1 / served, unit="share of entries")


def _no_books(check: str, source: Evidence, books: Sequence[Book]) -> Finding | None:
    if not len(source.own_tasks):
        return no_source(check, NO_LOOKUPS, "no task was looked up")
    if not any(book.told is not None for book in books):
        return no_source(check, NO_SERIES, "no node has a session reputation")
    if not any(book.served for book in books):
        text = f"No task of ours ended after the first snapshot of its nodes and {LAG_S:g} s before the last."
        return Finding(check, "cannot tell", text, missing="more snapshots")
    return None
