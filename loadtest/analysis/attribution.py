"""Which node served which request: with a source, a confidence, or a reason why nobody can say.

The answer of a router does not name its node. Sources, best first:
- `lookup_text`: the task was looked up and exactly one miner's result has the text the client got; confidence high
  when every assigned miner's result was there to compare, else medium: small models repeat each other, and the
  miner that answered may be one that never committed;
- `lookup_single`: only one miner was assigned, so it served, though no text proves it, as after a timeout (medium);
- `lookup_rest`: every other assigned miner gave another text than the client got (medium). Without it the miners
  that answer and never commit, the ones with a bad reputation, would be missing from every table;
- `node_hint`: a header or body field of the answer named a node (medium: the router says so, nothing proves it).
Everything else is unattributed, and the reason is a row of the report, not a hole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis import metrics
from loadtest.analysis.frames import Mask, to_frame
from loadtest.records import Outcome

NOT_SENT = "not sent"
LOST = "lost with its worker"
FAILED_EARLY = "failed before a task existed"
NO_TASK_ID = "no task id"
NO_LOOKUPS = "no task was looked up"
OUTSIDE_SHARE = "not looked up (outside the look-up share)"
INCOMPLETE = "task incomplete"
SAME_TEXT = "several miners gave the same text"
OTHER_TEXT = "no miner's text matches"
_ERROR_CHARS = 80
_BY_ID = ["target", "session", "task_id"]
_BY_REFERENCE = ["target", "client_reference"]


class Attribution(NamedTuple):
    """`rows`: node, node_source, node_confidence, unattributed_reason, looked_up, one per request, same order.

    `miners`: one row per (request position, node) with flags assigned, gave_result, returned.
    """

    rows: pd.DataFrame
    miners: pd.DataFrame


class Lookups(NamedTuple):
    """A run's look-ups, ready for any number of batches of requests; see `lookups_of`.

    `tasks`: one row per look-up with its number `task`; `results` and `assigned`: one row per (task, node);
    `by_id` and `by_reference`: the look-up that counts of each task, by either of its names.
    """

    tasks: pd.DataFrame
    results: pd.DataFrame
    assigned: pd.DataFrame
    by_id: pd.DataFrame
    by_reference: pd.DataFrame


def attribute(requests: pd.DataFrame, lookups: Lookups) -> Attribution:
    """Name the node of every request from the look-ups and the hints of the answers.

    Each request is decided by itself: batches of a run give the rows of the whole.
    """
    matched = _match(requests, lookups)
    results = matched.merge(lookups.results, on="task")
    assigned = matched.merge(lookups.assigned, on="task")[["request", "node"]].drop_duplicates()
    texts = requests["text_sha256"].to_numpy(dtype=object)
    results["equal"] = _equal(results["sha"].to_numpy(dtype=object), texts[results["request"].to_numpy(dtype=np.intp)])
    given = results.groupby(["request", "node"])["equal"].any().reset_index()
    rows = _decide(requests, matched, lookups.tasks, given, assigned)
    return Attribution(rows, _miners(rows, given, assigned))


def lookups_of(tasks: pa.Table) -> Lookups:
    """The tasks table taken apart. Of several look-ups of one task the last complete one counts."""
    frame = to_frame(tasks.drop_columns(["assigned", "miners", "result_sha256"]))
    frame["task"] = np.arange(len(frame))
    results = _exploded(tasks["miners"], "node").merge(
        _exploded(tasks["result_sha256"], "sha"), on=["task", "position"], how="left"
    )
    assigned = _exploded(tasks["assigned"], "node")
    for nodes in (results, assigned):
        nodes["node"] = nodes["node"].str.lower()
    best = frame.assign(usable=frame["error"] == "").sort_values(["usable", "complete", "looked_up_wall_ns"])
    by_id = best.drop_duplicates(_BY_ID, keep="last")[[*_BY_ID, "task"]]
    named = best[best["client_reference"] != ""]
    by_reference = named.drop_duplicates(_BY_REFERENCE, keep="last")[[*_BY_REFERENCE, "task"]]
    return Lookups(frame, results[["task", "node", "sha"]], assigned[["task", "node"]], by_id, by_reference)


def _exploded(lists: pa.ChunkedArray, name: str) -> pd.DataFrame:
    """A list column as one row per element: task (row number), position in its list, value."""
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return pd.DataFrame(
        {
            "task": np.repeat(np.arange(len(sizes)), sizes),
            "position": np.arange(sizes.sum()) - starts,
            name: pd.Series(pc.list_flatten(lists).to_pylist(), dtype="str"),
        }
    )


def _match(requests: pd.DataFrame, lookups: Lookups) -> pd.DataFrame:
    """(request position, task number): by target, session and task id, else by target and client_reference."""
    columns = ["target", "session", "task_id", "client_reference"]
    left = requests[columns].assign(request=np.arange(len(requests)))[metrics.tried(requests)]
    by_id = _match_on(left, lookups.by_id, _BY_ID)
    rest = left[~left["request"].isin(by_id["request"])]
    by_reference = _match_on(rest, lookups.by_reference, _BY_REFERENCE)
    return pd.concat([by_id, by_reference], ignore_index=True)


def _match_on(left: pd.DataFrame, tasks: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Many requests to one task."""
    left = left.dropna(subset=keys)
    if left.empty or tasks.empty:  # pandas 3.1 fails inside Arrow when both sides are empty text columns
        return pd.DataFrame({"request": [], "task": []}, dtype=np.intp)
    return left.merge(tasks, on=keys, validate="m:1")[["request", "task"]]


def _decide(
    requests: pd.DataFrame, matched: pd.DataFrame, tasks: pd.DataFrame, results: pd.DataFrame, assigned: pd.DataFrame
) -> pd.DataFrame:
    n = len(requests)
    task = np.full(n, -1)
    task[matched["request"].to_numpy(dtype=np.intp)] = matched["task"].to_numpy(dtype=np.intp)
    found = task >= 0
    complete = _taken(tasks["complete"].to_numpy(dtype=bool), task, False)
    error = _taken(tasks["error"].to_numpy(dtype=object), task, "")
    equal = results[results["equal"]]
    gave, agreed, given = (_count(frame, n) for frame in (results, equal, assigned))
    # One result of several assigned miners proves nothing when its text differs: the miner that answered the client
    # may have failed to commit. Measured on a simulated network, that guess was wrong four times in five.
    gave_pairs = results[["request", "node"]]
    involved = pd.concat([assigned, gave_pairs]).drop_duplicates()
    silent = pd.concat([involved, gave_pairs]).drop_duplicates(keep=False)
    candidates = _count(involved, n)
    single = (candidates == 1) & (complete | (given == 1))
    whole = metrics.ok(requests) & requests["text_sha256"].notna().to_numpy(dtype=bool)  # a cut text equals nobody's
    rest = whole & (agreed == 0) & (given > 1) & (candidates - gave == 1)
    hint = requests["node_hint"].str.strip().str.lower().replace("", None)
    hint_given = hint.notna().to_numpy(dtype=bool)
    choices = [agreed == 1, single, rest, hint_given]
    source = np.select(choices, ["lookup_text", "lookup_single", "lookup_rest", "node_hint"], "")
    hinted = hint.to_numpy(dtype=object)
    nodes = np.select(choices, [_first(equal, n), _first(involved, n), _first(silent, n), hinted], hinted)
    reasons = _reasons(requests, len(tasks) > 0, found, error, complete, agreed, gave)
    attributed = source != ""
    return pd.DataFrame(
        {
            "node": _text(nodes, attributed),
            "node_source": _text(source, attributed),
            "node_confidence": _text(np.where((agreed == 1) & (gave == candidates), "high", "medium"), attributed),
            "unattributed_reason": _text(reasons, ~attributed),
            "looked_up": found,
        }
    )


def _reasons(
    requests: pd.DataFrame,
    any_task: bool,
    found: Mask,
    error: npt.NDArray[np.object_],
    complete: Mask,
    agreed: npt.NDArray[np.intp],
    gave: npt.NDArray[np.intp],
) -> npt.NDArray[np.object_]:
    """Why a request has no node; meaningful only where nothing else named one. First true condition wins."""
    outcome = requests["outcome"].to_numpy(dtype=object)
    no_id = requests["task_id"].isna().to_numpy(dtype=bool)
    conditions = [
        outcome == Outcome.LOST.value,
        requests["sent_ns"].isna().to_numpy(dtype=bool),
        found & (error != ""),
        found & (agreed > 1),
        found & ~complete,
        found & (gave >= 0),
        no_id & (outcome != Outcome.OK.value),
        no_id,
    ]
    failed = np.array([f"look-up failed: {text[:_ERROR_CHARS]}" for text in error], dtype=object)
    texts = [LOST, NOT_SENT, failed, SAME_TEXT, INCOMPLETE, OTHER_TEXT, FAILED_EARLY, NO_TASK_ID]
    chosen = np.full(len(requests), OUTSIDE_SHARE if any_task else NO_LOOKUPS, dtype=object)
    for condition, text in reversed(list(zip(conditions, texts, strict=True))):
        chosen[condition] = text[condition] if isinstance(text, np.ndarray) else text
    return chosen


def _miners(rows: pd.DataFrame, results: pd.DataFrame, assigned: pd.DataFrame) -> pd.DataFrame:
    """Everyone who took part in a request, and whose text came back."""
    both = assigned.assign(assigned=True).merge(
        results[["request", "node"]].assign(gave_result=True), on=["request", "node"], how="outer"
    )
    for flag in ("assigned", "gave_result"):
        both[flag] = both[flag].eq(True).fillna(False).astype(bool)
    node = rows["node"].to_numpy(dtype=object)[both["request"].to_numpy(dtype=np.intp)]
    both["returned"] = _equal(both["node"].to_numpy(dtype=object), node)
    return both.sort_values(["request", "node"], ignore_index=True)


def _equal(left: npt.NDArray[np.object_], right: npt.NDArray[np.object_]) -> Mask:
    """Element-wise equality of texts in which a missing one equals nothing."""
    return np.asarray((left == right) & ~pd.isna(left), dtype=bool)


def _count(frame: pd.DataFrame, n: int) -> npt.NDArray[np.intp]:
    return np.bincount(frame["request"].to_numpy(dtype=np.intp), minlength=n)


def _first(frame: pd.DataFrame, n: int) -> npt.NDArray[np.object_]:
    """The first node of each request, None where there is none."""
    first = np.full(n, None, dtype=object)
    once = frame.drop_duplicates("request")
    first[once["request"].to_numpy(dtype=np.intp)] = once["node"].to_numpy(dtype=object)
    return first


def _taken(values: npt.NDArray[Any], rows: npt.NDArray[np.intp], missing: object) -> npt.NDArray[Any]:
    """values[rows], or `missing` where the row number is negative; copes with no values at all."""
    taken = np.full(len(rows), missing, dtype=values.dtype)
    taken[rows >= 0] = values[rows[rows >= 0]]
    return taken


def _text(values: npt.NDArray[Any], keep: Mask) -> pd.Series[str]:
    return pd.Series(values.astype(object), dtype="str").where(keep)
