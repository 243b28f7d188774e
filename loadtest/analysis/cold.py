"""Cold effects, apart and not deleted: a new connection, and the first request on a node, beside the others.

Of the whole run, warm-up included, for there most of them are. Latencies are service times in ms, failed turns counted
as longer than any answer; connecting and the TLS handshake come before a request is sent and are no part of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis import metrics, phases
from loadtest.analysis.columns import read_turns
from loadtest.analysis.frames import Floats, Mask
from loadtest.analysis.percentiles import SMALLEST_SAMPLE, present_quantiles

COLUMNS = ("target", "node", "connection_new", "connecting_ns", "connected_ns", "secured_ns")


def cold(run: Path, requests: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per kind of request that occurs: its number, TTFT, E2E, and what connecting took.

    `requests` is the joined frame of the whole run with the columns of `columns.OF_THE_RUN`.
    """
    told = read_turns(run, COLUMNS)
    sent = requests["sent_ns"].notna().to_numpy(dtype=bool)
    new = told["connection_new"].to_numpy(dtype=bool) & sent
    first = _first_on_node(told, requests, sent)
    on_node = told["node"].notna().to_numpy(dtype=bool) & sent
    kinds = {
        "new connection": new,
        "kept connection": sent & ~new,
        "first request on its node": first,
        "later request on its node": on_node & ~first,
    }
    values = {"ttft_ms": metrics.ttft_ms(requests), "e2e_ms": metrics.e2e_ms(requests)}
    values |= {"connecting_ms": phases.connecting_ms(told), "tls_ms": phases.tls_ms(told)}
    return [{"name": name, **_figures(mask, values)} for name, mask in kinds.items() if mask.any()]


def _figures(mask: Mask, values: dict[str, Floats]) -> dict[str, Any]:
    found: dict[str, Any] = {"requests": int(mask.sum())}
    for name, each in values.items():
        found[f"{name}_p50"], found[f"{name}_p95"] = present_quantiles(each[mask], (0.50, 0.95))
    return {**found, "n_too_small": found["requests"] < SMALLEST_SAMPLE["p50"]}


def _first_on_node(told: pd.DataFrame, requests: pd.DataFrame, sent: Mask) -> Mask:
    """The first request of the run that each node of a target served, by when it was sent."""
    nodes = told["node"].astype("category").cat.codes.to_numpy(dtype=np.int64)
    targets = told["target"].astype("category").cat.codes.to_numpy(dtype=np.int64)
    places = np.flatnonzero(sent & (nodes >= 0))
    instants = (requests["sent_ns"] + requests["clock_offset_ns"]).to_numpy(dtype=np.int64, na_value=0)[places]
    ordered = places[np.argsort(instants, kind="stable")]
    keys = targets[ordered] * (int(nodes.max(initial=0)) + 1) + nodes[ordered]
    first = np.zeros(len(told), dtype=np.bool_)
    first[ordered[np.unique(keys, return_index=True)[1]]] = True
    return first
