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

A run has millions of rows and few of them were looked up, so all of it is in arrays of numbers: pairs of a matched
request and a node are one integer, and a text is touched only where two must be compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis import metrics
from loadtest.analysis.asof import encoded
from loadtest.analysis.columns import frame_of
from loadtest.analysis.frames import Ints, Mask
from loadtest.analysis.looked import Lookups
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
_REASONS = (*(LOST, NOT_SENT, SAME_TEXT, INCOMPLETE, OTHER_TEXT, FAILED_EARLY, NO_TASK_ID, OUTSIDE_SHARE, NO_LOOKUPS),)
_SOURCES = ("lookup_text", "lookup_single", "lookup_rest", "node_hint")
_CONFIDENCES = ("high", "medium")
_ERROR_CHARS = 80
COLUMNS = ["outcome", "error_kind", "sent_ns", "task_id"]  # of the frame; the texts stay in Arrow


class Attribution(NamedTuple):
    """`rows`: node, node_source, node_confidence, unattributed_reason, looked_up, one per request, same order.

    `miners`: one row per (request position, node) with flags assigned, gave_result, returned.
    """

    rows: pd.DataFrame
    miners: pd.DataFrame


class _Involved(NamedTuple):
    """Who took part in the matched requests: request positions and their look-ups, and pairs of a place in them and a
    node as one number, place times nodes plus node, sorted and distinct."""

    request: Ints
    task: Ints
    assigned: Ints
    gave: Ints  # a result
    equal: Ints  # the text that the client got

    def per_request(self, pairs: Ints, nodes: int) -> Ints:
        return np.bincount(pairs // nodes, minlength=len(self.request))

    def only(self, pairs: Ints, nodes: int) -> Ints:
        """The node of each place that has one pair; of one with several, one of them."""
        node = np.full(len(self.request), -1, dtype=np.int64)
        node[pairs // nodes] = pairs % nodes
        return node


def attribute(requests: pa.Table, lookups: Lookups) -> Attribution:
    """Name the node of every request from the look-ups and the hints of the answers.

    Each request is decided by itself: batches of a run give the rows of the whole.
    """
    turns = frame_of(requests.select(COLUMNS[:3]))
    task = lookups.match(requests, metrics.tried(turns))
    involved = _involved(requests, lookups, task)
    names, hint = _hints(requests["node_hint"], lookups.nodes)
    source, node, high = _served(requests, turns, lookups, involved, hint)
    reason, texts = _reasons(requests, turns, lookups, involved, task)
    reason[source >= 0] = -1
    rows = {
        "node": _category(np.where(source >= 0, node, -1), names.to_pylist()),
        "node_source": _category(source, _SOURCES),
        "node_confidence": _category(np.where(source < 0, -1, np.where(high, 0, 1)), _CONFIDENCES),
        "unattributed_reason": _category(reason, texts),
        "looked_up": task >= 0,
    }
    return Attribution(pd.DataFrame(rows, copy=False), _miners(involved, node, names, len(lookups.nodes)))


def _involved(requests: pa.Table, lookups: Lookups, task: Ints) -> _Involved:
    request = np.flatnonzero(task >= 0)
    tasks, nodes = task[request], len(lookups.nodes)
    owner, at = lookups.results.of(tasks)
    gave = owner * max(1, nodes) + lookups.results.node[at]
    got = requests["text_sha256"].take(pa.array(request[owner]))
    equal = _true(pc.equal(got, lookups.result_text.take(pa.array(at))))
    owner, at = lookups.assigned.of(tasks)
    assigned = owner * max(1, nodes) + lookups.assigned.node[at]
    return _Involved(request, tasks, *(_distinct(pairs) for pairs in (assigned, gave, gave[equal])))


def _served(
    requests: pa.Table, turns: pd.DataFrame, lookups: Lookups, involved: _Involved, hint: Ints
) -> tuple[npt.NDArray[np.int8], Ints, Mask]:
    """Of each request the source by which its node is known (-1: it is not), the node, and whether it is proved."""
    at, nodes = involved.request, max(1, len(lookups.nodes))
    everyone = _distinct(np.concatenate([involved.assigned, involved.gave]))
    silent = np.setdiff1d(everyone, involved.gave, assume_unique=True)
    pairs = (involved.gave, involved.equal, involved.assigned, everyone)
    gave, agreed, given, candidates = (involved.per_request(each, nodes) for each in pairs)
    # One result of several assigned miners proves nothing when its text differs: the miner that answered the client
    # may have failed to commit. Measured on a simulated network, that guess was wrong four times in five.
    single = (candidates == 1) & (lookups.complete[involved.task] | (given == 1))
    told = _true(requests["text_sha256"].take(pa.array(at)).is_valid())
    whole = metrics.ok(turns)[at] & told  # a cut text equals nobody's
    rest = whole & (agreed == 0) & (given > 1) & (candidates - gave == 1)
    source, node = np.where(hint >= 0, np.int8(3), np.int8(-1)), hint.copy()
    choices = [agreed == 1, single, rest]
    source[at] = np.select(choices, [0, 1, 2], source[at])
    chosen = [involved.only(each, nodes) for each in (involved.equal, everyone, silent)]
    node[at] = np.select(choices, chosen, node[at])
    high = np.zeros(len(node), dtype=np.bool_)
    high[at] = (agreed == 1) & (gave == candidates)
    return source, node, high


def _reasons(
    requests: pa.Table, turns: pd.DataFrame, lookups: Lookups, involved: _Involved, task: Ints
) -> tuple[Ints, list[str]]:
    """Why a request has no node, by number, and the texts; meaningful only where nothing else named one."""
    outcome = turns["outcome"]
    no_id = _true(requests["task_id"].is_null())
    failed = (outcome != Outcome.OK.value).to_numpy(dtype=bool)
    agreed = involved.per_request(involved.equal, max(1, len(lookups.nodes)))
    looked_up = np.select(
        [agreed > 1, ~lookups.complete[involved.task]],
        [_REASONS.index(SAME_TEXT), _REASONS.index(INCOMPLETE)],
        _REASONS.index(OTHER_TEXT),
    )
    errors, error = _errors(lookups.error.take(pa.array(involved.task)))
    reason = np.full(len(task), _REASONS.index(OUTSIDE_SHARE if len(lookups.complete) else NO_LOOKUPS))
    reason[no_id] = _REASONS.index(NO_TASK_ID)
    reason[no_id & failed] = _REASONS.index(FAILED_EARLY)
    reason[involved.request] = np.where(error >= 0, error + len(_REASONS), looked_up)
    reason[turns["sent_ns"].isna().to_numpy(dtype=bool)] = _REASONS.index(NOT_SENT)
    reason[(outcome == Outcome.LOST.value).to_numpy(dtype=bool)] = _REASONS.index(LOST)
    return reason, [*_REASONS, *errors]


def _errors(error: pa.Array) -> tuple[list[str], Ints]:
    """What to say of look-ups that failed: the texts, and which of them each look-up has; -1 for one that did not."""
    names = encoded(error)
    texts: dict[str, int] = {}
    codes = [texts.setdefault(_failed(text), len(texts)) if text else -1 for text in names.dictionary.to_pylist()]
    return list(texts), np.array([*codes, -1])[names.indices.to_numpy()]


def _failed(error: str) -> str:
    return f"look-up failed: {error[:_ERROR_CHARS]}"


def _hints(hints: pa.ChunkedArray, nodes: pa.Array) -> tuple[pa.Array, Ints]:
    """The names of all nodes, those of the look-ups first, and which of them each answer named; -1 for none."""
    given = encoded(hints)
    clean = pc.utf8_lower(pc.utf8_trim_whitespace(given.dictionary))
    clean = pc.if_else(pc.equal(clean, ""), pa.scalar(None, clean.type), clean)
    names = pa.concat_arrays([nodes, clean.cast(nodes.type)]).unique().drop_null()
    codes = pc.index_in(clean, value_set=names.cast(clean.type)).fill_null(-1).to_numpy().astype(np.int64)
    return names, np.append(codes, -1)[given.indices.fill_null(-1).to_numpy()]


def _miners(involved: _Involved, node: Ints, names: pa.Array, nodes: int) -> pd.DataFrame:
    """Everyone who took part in a request, and whose text came back."""
    pairs, nodes = _distinct(np.concatenate([involved.assigned, involved.gave])), max(1, nodes)
    request, of_pair = involved.request[pairs // nodes], pairs % nodes
    return pd.DataFrame(
        {
            "request": request,
            "node": _category(of_pair, names.to_pylist()),
            "assigned": np.isin(pairs, involved.assigned, assume_unique=True),
            "gave_result": np.isin(pairs, involved.gave, assume_unique=True),
            "returned": node[request] == of_pair,
        },
        copy=False,
    )


def _distinct(pairs: Ints) -> Ints:
    """In order and each once. `np.unique` makes a hash table, which takes longer than to sort what is nearly sorted."""
    ordered = np.sort(pairs, kind="stable")
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _category(codes: npt.NDArray[np.integer[Any]], texts: list[str] | tuple[str, ...]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes.astype(np.int32), categories=pd.Index(texts, dtype="str"), validate=False)


def _true(values: pa.Array | pa.ChunkedArray) -> Mask:
    """Truth values of Arrow; null is not true."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    mask: Mask = values.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
