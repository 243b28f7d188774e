"""The bill, line by line: what was charged against our tasks, their usage and the fall of the balances, to the unit.

Three ledgers of one run: what we were told (usage), what the bill says, and what the balances lost. They are joined on
(session, task), else on our own reference. Each answered task that some node gave a result for is on the bill once, one
without any result is not, tokens and amounts agree exactly, and the lines between two polls add
up to what the balance lost. No price is published, so amounts are held against each other: equal tokens cost the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.findings import Finding, evidence, no_source
from loadtest.analysis.frames import Floats

CHARGES = "charges"
SETTLED_S = 120.0  # a task may be charged so long after its answer: slow transactions
POLL_S = 10.0  # by which a balance may lag behind the bill, or be ahead of it
_TOKENS = {
    "prompt_tokens": "usage_prompt_tokens",
    "completion_tokens": "usage_completion_tokens",
}


class _Wrong(NamedTuple):
    """One thing that does not agree: of which kind, and the line that says it."""

    kind: str
    line: str


def charges(source: Evidence) -> Finding:
    """The finding of a run's bill; cannot tell where none was imported."""
    bill = source.charges
    if not len(bill):
        return no_source(CHARGES, "a bill (`loadtest import RUN FILE --charges`)", "no route lists what was charged")
    tasks = _own(source)
    billed = _billed(bill, tasks)
    if not len(billed):
        told = f"None of the {len(bill):,} lines of the bill is of a task of ours."
        return Finding(CHARGES, "cannot tell", told, missing="the bill of our sessions and of this time")
    counts = billed["own"].value_counts(sort=False).sort_index()
    on_bill = {int(own) for own in counts.index}
    results = _results(source, tasks)
    once = billed[~billed["own"].duplicated(keep=False)]
    wrong = [
        *_twice(tasks, counts),
        *_missing(tasks, on_bill, results),
        *(_Wrong("charged without any result", _task(tasks, own)) for own in sorted(on_bill) if results[own] == 0),
        *_copies(source, bill),
        *_tokens(once),
        *_prices(once),
        *_balances(source, bill),
    ]
    n = len(on_bill)
    facts = [f"{len(bill):,} lines, {n:,} tasks of ours on them", *_account(tasks, on_bill)]
    if not wrong:
        polls = sum(1 for _ in _accounts(source, bill))
        text = f"All {n:,} tasks of ours on the bill are charged once, with the tokens told and at one price; "
        text += f"the lines add up to what {polls} balances lost." if polls else "no balance was there to compare."
        return Finding(
            CHARGES, "consistent", text, n=n, smallest_effect=1 / n, unit="share of tasks", evidence=evidence(facts)
        )
    kinds: dict[str, list[str]] = {}
    for kind, line in wrong:
        kinds.setdefault(kind, []).append(line)
    counted = ", ".join(f"{len(found):,} {kind}" for kind, found in kinds.items())
    examples = [line for found in kinds.values() for line in found[:2]]
    text = f"Of {n:,} tasks of ours on the bill: {counted}."
    effect = min(1.0, len(wrong) / n)
    return Finding(
        CHARGES, "found", text, n=n, effect=effect, unit="share of tasks", evidence=evidence([*examples, *facts])
    )


def _own(source: Evidence) -> pd.DataFrame:
    """Our tasks, a row each: what names them, their outcome, usage and instants, in the order sent."""
    rows = source.requests
    rows = rows[rows["sent_wall_ns"].notna() & rows["session"].notna()]
    frame = pd.DataFrame(
        {
            "session": rows["session"].astype(str),
            "task_id": rows["task_id"],
            "client_reference": rows["client_reference"],
            "outcome": rows["outcome"].astype(str),
            "ok": metrics.ok(rows),
            "sent_ns": rows["sent_wall_ns"].astype(np.int64),
            "done_ns": rows["done_wall_ns"],
            **{usage: rows[usage] for usage in _TOKENS.values()},
        }
    )
    # An answer that was asked for again is one task: it is charged once.
    named = frame["task_id"].isna() | ~frame.duplicated(["session", "task_id"])
    return frame[named].sort_values("sent_ns", kind="stable", ignore_index=True)


def _billed(bill: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """The lines that are of tasks of ours, with `own`, the row of the task."""
    own = tasks.assign(own=np.arange(len(tasks)))
    left = bill.assign(line=np.arange(len(bill)), session=bill["session"].astype(str))
    found = []
    for keys in (["session", "task_id"], ["session", "client_reference"]):
        theirs, ours = left.dropna(subset=keys), own.dropna(subset=keys).drop_duplicates(keys)
        if len(theirs) and len(ours):
            values = ["own", "ok", *_TOKENS.values()]
            matched = theirs.merge(ours[[*keys, *values]], on=keys, validate="m:1")
            found.append(matched)
            left = left[~left["line"].isin(matched["line"])]
    return pd.concat(found, ignore_index=True) if found else left.iloc[:0].assign(own=0)


def _twice(tasks: pd.DataFrame, counts: pd.Series[int]) -> Iterator[_Wrong]:
    for own, count in counts[counts > 1].items():
        yield _Wrong("charged more than once", f"{_task(tasks, int(str(own)))}: {count} charges")


def _results(source: Evidence, tasks: pd.DataFrame) -> Floats:
    """How many nodes gave a result for each task, by its complete look-up; NaN where nobody can say."""
    looked = source.own_tasks
    looked = looked[looked["complete"].astype(bool)]
    known = {
        (str(session), str(number)): len(results)
        for session, number, results in zip(looked["session"], looked["task_id"], looked["results"], strict=True)
    }
    names = zip(tasks["session"], tasks["task_id"].astype(str), strict=True)
    return np.array([known.get(name, np.nan) for name in names], dtype=np.float64)


def _missing(tasks: pd.DataFrame, on_bill: set[int], results: Floats) -> Iterator[_Wrong]:
    """Answered tasks with a result that are not on the bill, and ended before one of their session that is was sent.

    An answer alone is no reason to charge: its node may never have committed.
    """
    latest = tasks.loc[sorted(on_bill)].groupby("session")["sent_ns"].max().to_dict()
    absent = tasks[tasks["ok"] & (results > 0) & ~tasks.index.isin(on_bill) & tasks["session"].isin(latest)]
    for own, session, done_ns in zip(absent.index, absent["session"], absent["done_ns"], strict=True):
        if done_ns + SETTLED_S * SECOND_NS < latest[session]:
            yield _Wrong("ended well and not charged", _task(tasks, int(own)))


def _copies(source: Evidence, bill: pd.DataFrame) -> Iterator[_Wrong]:
    copied = {(session, task_id) for _, session, task_id in source.copied}
    for session, task_id in zip(bill["session"], bill["task_id"].astype(str), strict=True):
        if (session, task_id) in copied:
            yield _Wrong("charged again as a copy", f"session {session} task {task_id}: one of our tasks again")


def _tokens(once: pd.DataFrame) -> Iterator[_Wrong]:
    answered = once[once["ok"]]
    for told, usage in _TOKENS.items():
        both = answered[answered[told].notna() & answered[usage].notna()]
        for row in both[both[told] != both[usage]].itertuples():
            line = f"{_line(row)}: {told} {getattr(row, told)} charged, {getattr(row, usage)} told in the answer"
            yield _Wrong(f"with other {told}", line)
    whole = answered.dropna(subset=["total_tokens", *_TOKENS.values()])
    for row in whole[whole["total_tokens"] != whole[list(_TOKENS.values())].sum(axis=1)].itertuples():
        yield _Wrong("with another total", f"{_line(row)}: total_tokens {row.total_tokens} is not the sum of the usage")


def _prices(once: pd.DataFrame) -> Iterator[_Wrong]:
    """Lines that cost something else than most of those of their session with the same tokens."""
    sizes = ["session", *(name for name in (*_TOKENS, "total_tokens") if once[name].notna().any())]
    if len(sizes) == 1:
        return
    for _, alike in once.dropna(subset=sizes).groupby(sizes):
        usual = str(alike["amount"].mode().iat[0])
        for row in alike[alike["amount"] != usual].itertuples():
            yield _Wrong("at another price", f"{_line(row)}: {row.amount}, others of this size {usual}")


def _balances(source: Evidence, bill: pd.DataFrame) -> Iterator[_Wrong]:
    for session, fall, least, most in _accounts(source, bill):
        if not least <= fall <= most:
            least_text = f"{least}" if least == most else f"{least} to {most}"
            line = f"session {session}: its balance lost {fall}, the lines between two polls add up to {least_text}"
            yield _Wrong("balances that lost another sum", line)


def _accounts(source: Evidence, bill: pd.DataFrame) -> Iterator[tuple[str, int, int, int]]:
    """Of each session with balances: what it lost from its first poll, and what the bill says, at least and at most.

    The longest stretch that agrees is yielded, or the first one that does not. A session whose balance ever rose has
    no account: what was spent is not what is gone.
    """
    polled = source.sessions.dropna(subset=["balance"])
    timed = bill.dropna(subset=["charged_wall_ns"])
    for session, lines in timed.groupby(timed["session"].astype(str)):
        polls = polled[polled["session"] == session].drop_duplicates("observed_wall_ns")
        polls = polls.sort_values("observed_wall_ns")
        balances = [int(balance) for balance in polls["balance"]]
        if len(balances) < 2 or any(later > earlier for earlier, later in pairwise(balances)):
            continue
        lines = lines.sort_values("charged_wall_ns")
        at = [int(instant) for instant in lines["charged_wall_ns"]]
        sums = [0, *accumulate(int(amount) for amount in lines["amount"])]
        slack, polled_ns = round(POLL_S * SECOND_NS), [int(instant) for instant in polls["observed_wall_ns"]]
        fall = least = most = 0
        for balance, instant in zip(balances[1:], polled_ns[1:], strict=True):
            inner = sums[bisect_left(at, instant - slack)] - sums[bisect_right(at, polled_ns[0] + slack)]
            fall, least = balances[0] - balance, max(0, inner)
            most = sums[bisect_right(at, instant + slack)] - sums[bisect_left(at, polled_ns[0] - slack)]
            if not least <= fall <= most:
                break
        yield str(session), fall, least, most


def _account(tasks: pd.DataFrame, billed: set[int]) -> list[str]:
    """How many tasks of each outcome are on the bill: a broken-off answer may be billed, and the reader decides."""
    on = tasks.assign(billed=tasks.index.isin(billed)).groupby("outcome")["billed"]
    return [f"{outcome}: {int(each.sum()):,} of {len(each):,} on the bill" for outcome, each in on]


def _task(tasks: pd.DataFrame, own: int) -> str:
    row = tasks.iloc[own]
    name = row["client_reference"] if pd.isna(row["task_id"]) else f"task {row['task_id']}"
    return f"session {row['session']} {name}"


def _line(row: object) -> str:
    session, task_id, reference = (getattr(row, name) for name in ("session", "task_id", "client_reference"))
    return f"session {session} {reference if pd.isna(task_id) else f'task {task_id}'}"
