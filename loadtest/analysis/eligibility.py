"""Who could have served each of our tasks: the node set of its session, where it is known not to have changed.

The set comes from polls of the sessions. A task counts when the polls before and after it told the same set. Left out,
and counted, are tasks around a change, and tasks sent while an eligible node held more than BUSY of our own: a router
may pass over a busy node, and what room a node has is not told by anybody.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadtest.analysis.chance import Stratum
from loadtest.analysis.evidence import SECOND_NS, Evidence
from loadtest.analysis.frames import Ints
from loadtest.analysis.series import running
from loadtest.records import Outcome

BUSY = 4
# Outcomes of requests that may have had a task although no answer told its id.
_SILENT = [o.value for o in (Outcome.CLIENT_TIMEOUT, Outcome.ROUTER_TIMEOUT, Outcome.PROXY_ERROR, Outcome.TRUNCATED)]
UNFINISHED_NS = 120 * SECOND_NS  # how long a task without an end is taken to keep its nodes busy


@dataclass(frozen=True, slots=True)
class Choices:
    """Looked-up tasks and, aligned with them, their eligible nodes: () where these are not known.

    `left_out` says why, by count. `is_told` is false when no poll named the nodes of any session. `pairs` are
    places (task before, task) of one session. Whether a pair counts must not depend on where the task before went,
    so that task is not counted when the second one's nodes are asked for room: else repeats would look rare.
    """

    tasks: pd.DataFrame
    eligible: list[tuple[str, ...]]
    pairs: list[tuple[int, int, tuple[str, ...]]]
    left_out: Counter[str]
    is_told: bool
    untold_share: float = 0.0  # of our requests: failed, and nobody can say which nodes had their task

    @property
    def known(self) -> int:
        return sum(bool(nodes) for nodes in self.eligible)

    def strata(self) -> list[Stratum]:
        """Counts by (eligible set, number of nodes taken), whatever session and time they are from."""
        assigned: list[tuple[str, ...]] = self.tasks["assigned"].tolist()
        groups: dict[tuple[tuple[str, ...], int], list[tuple[str, ...]]] = {}
        for nodes, taken in zip(self.eligible, assigned, strict=True):
            if nodes:
                groups.setdefault((nodes, len(taken)), []).append(taken)
        strata = []
        for (nodes, size), draws in sorted(groups.items()):
            counts = Counter(node for taken in draws for node in taken)
            strata.append(Stratum(nodes, size, len(draws), np.array([counts[node] for node in nodes], dtype=np.int64)))
        return strata


def choices(evidence: Evidence) -> Choices:
    """Match tasks with the polls of their sessions."""
    tasks = _drawn(evidence)
    polls = evidence.sessions[evidence.sessions["miners"].map(len) > 0] if len(evidence.sessions) else evidence.sessions
    polls = polls.assign(router=evidence.routers(polls["target"]))
    found = Choices(tasks, [()] * len(tasks), [], Counter(), len(polls) > 0, _untold_share(evidence))
    # Not dict(groupby): a groupby has `keys`, which dict() would take for those of a mapping.
    polled = {key: frame for key, frame in polls.groupby(["router", "session"])} if len(polls) else {}  # noqa: C416
    held = _held(tasks)
    for key, ours in tasks.groupby(["router", "session"]) if len(tasks) else ():
        frame = polled.get(key)
        if frame is None:
            found.left_out["their session was not polled"] += len(ours)
            continue
        frame = frame.drop_duplicates("observed_wall_ns").sort_values("observed_wall_ns")
        if ours["task_id"].notna().all():
            ours = ours.sort_values("task_id", kind="stable")
        _match(found, ours, _Sets.of(ours, frame), held)
    return found


def _untold_share(evidence: Evidence) -> float:
    requests = evidence.requests[evidence.requests["session"].notna() & evidence.requests["sent_ns"].notna()]
    silent = requests["outcome"].isin(_SILENT) & requests["task_id"].isna()
    seen = int((~evidence.strange_tasks["complete"].astype(bool)).sum())
    return max(0, int(silent.sum()) - seen) / len(requests) if len(requests) else 0.0


def _drawn(evidence: Evidence) -> pd.DataFrame:
    """Every task whose nodes are known, with `slack_ns`: how far its instant may be off.

    Ours, and those under ids between ours: a request that failed told no task id, and leaving its task out would leave
    out the nodes that fail. A copy of a task was no draw.
    """
    ours = evidence.own_tasks.assign(slack_ns=evidence.clock_bound_ns)
    strange = evidence.strange_tasks
    keys = zip(strange["router"], strange["session"], strange["task_id"], strange["created_s"], strict=True)
    drawn = [
        pd.notna(created) and (router, session, number) not in evidence.copied
        for router, session, number, created in keys
    ]
    strange = strange[np.array(drawn, dtype=bool)]
    if strange.empty:
        return ours
    created_ns = strange["created_s"].astype(np.int64) * SECOND_NS
    others = pd.DataFrame(
        {
            "router": strange["router"],
            "session": strange["session"],
            "task_id": pd.to_numeric(strange["task_id"], errors="coerce"),
            "sent_ns": created_ns,
            "done_ns": pd.NA,
            "known_ns": strange["finished_s"].to_numpy(dtype=np.float64, na_value=np.nan) * SECOND_NS,
            "assigned": [tuple(dict.fromkeys(nodes)) for nodes in strange["assigned"]],
            "slack_ns": SECOND_NS,  # it is told in whole seconds
            "request": -1,  # nobody's of ours that is known: what was asked is not known either
        }
    )
    both = pd.concat([ours[others.columns].astype({"done_ns": "object"}), others], ignore_index=True)
    return both.sort_values(["sent_ns", "task_id"], kind="stable", ignore_index=True)


@dataclass(frozen=True, slots=True)
class _Sets:
    """The eligible nodes when each task of one session was sent, () where they may have changed around it."""

    nodes: list[tuple[str, ...]]

    @classmethod
    def of(cls, ours: pd.DataFrame, polls: pd.DataFrame) -> _Sets:
        times = polls["observed_wall_ns"].to_numpy(dtype=np.int64)
        sets = [tuple(sorted(set(nodes))) for nodes in polls["miners"]]
        sent, slack = (ours[name].to_numpy(dtype=np.int64) for name in ("sent_ns", "slack_ns"))
        before = (np.searchsorted(times, sent - slack, side="left") - 1).tolist()
        after = np.searchsorted(times, sent + slack, side="right").tolist()
        nodes = [
            sets[b] if b >= 0 and a < len(sets) and sets[b] == sets[a] else ()
            for b, a in zip(before, after, strict=True)
        ]
        # A set that changed and changed back between two polls shows itself by a task of a node outside it.
        changed = {
            b
            for b, told, taken in zip(before, nodes, ours["assigned"], strict=True)
            if told and not set(taken) <= set(told)
        }
        return cls([() if b in changed else told for b, told in zip(before, nodes, strict=True)])


def _match(found: Choices, ours: pd.DataFrame, sets: _Sets, held: dict[str, tuple[Ints, Ints]]) -> None:
    """Fill in what is known of one session's tasks."""
    places, assigned = ours.index.to_list(), ours["assigned"].tolist()
    sent = ours["sent_ns"].to_numpy(dtype=np.int64)
    ends = busy_until(ours).tolist()
    task_ids = ours["task_id"].tolist()
    load = {node: running(*held[node], sent - 1) for node in {n for told in sets.nodes for n in told} & held.keys()}
    for i, (place, told, taken) in enumerate(zip(places, sets.nodes, assigned, strict=True)):
        if not taken:
            found.left_out["nobody was assigned"] += 1
            continue
        if not told:
            found.left_out["the eligible nodes changed around them"] += 1
            continue
        loads = {node: int(load[node][i]) if node in load else 0 for node in told}
        if max(loads.values()) <= BUSY:
            found.eligible[place] = told
        else:
            found.left_out[f"an eligible node held more than {BUSY} of our tasks"] += 1
        # Somebody else's task between the two says nothing of ours.
        if i and assigned[i - 1] and not task_ids[i] - task_ids[i - 1] > 1:
            before = set(assigned[i - 1]) if ends[i - 1] > sent[i] else set()
            if all(count - (node in before) <= BUSY for node, count in loads.items()):
                found.pairs.append((places[i - 1], place, told))


def busy_until(tasks: pd.DataFrame) -> Ints:
    """Until when each task may have kept its nodes busy."""
    done = pd.to_numeric(tasks["done_ns"]).to_numpy(dtype=np.float64, na_value=np.nan)
    ends = np.fmax(done, tasks["known_ns"].to_numpy(dtype=np.float64) + SECOND_NS)  # told in whole seconds
    unfinished = tasks["sent_ns"].to_numpy(dtype=np.int64) + UNFINISHED_NS
    return np.where(np.isnan(ends), unfinished, np.nan_to_num(ends)).astype(np.int64)


def _held(tasks: pd.DataFrame) -> dict[str, tuple[Ints, Ints]]:
    """From when to when each node held our tasks: starts and ends."""
    if not len(tasks):
        return {}
    sent, ends = tasks["sent_ns"].to_numpy(dtype=np.int64), busy_until(tasks)
    at: dict[str, list[int]] = {}
    for i, taken in enumerate(tasks["assigned"]):
        for node in taken:
            at.setdefault(node, []).append(i)
    return {node: (sent[places], ends[places]) for node, places in at.items()}
