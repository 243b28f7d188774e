"""Tasks that were queued twice: another id, the same nodes, and the same texts."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd


class Given(NamedTuple):
    """Who was given a task, and what each of those that answered said (hash by node)."""

    router: str
    session: str
    task_id: str
    nodes: frozenset[str]
    texts: dict[str, str]


def find_copies(ours: pd.DataFrame, strange: pd.DataFrame) -> list[Given]:
    """Those of `strange` (look-ups of ids between ours) that are one of `ours` again.

    Every node that answered both gave the same text, and there is one that did.
    """
    if strange.empty:
        return []
    known: dict[tuple[str, str, frozenset[str]], list[dict[str, str]]] = {}
    for own in _givens(ours, "results"):
        known.setdefault((own.router, own.session, own.nodes), []).append(own.texts)
    return [
        task
        for task in _givens(strange, "result_sha256")
        if any(_agree(task.texts, own) for own in known.get((task.router, task.session, task.nodes), ()))
    ]


def _agree(one: dict[str, str], other: dict[str, str]) -> bool:
    both = one.keys() & other.keys()
    return bool(both) and all(one[node] == other[node] for node in both)


def _givens(tasks: pd.DataFrame, texts: str) -> list[Given]:
    columns = (tasks[name].tolist() for name in ("router", "session", "task_id", "assigned", "miners", texts))
    return [
        Given(router, session, str(task_id), frozenset(assigned), dict(zip(miners, said, strict=False)))
        for router, session, task_id, assigned, miners, said in zip(*columns, strict=True)
    ]
