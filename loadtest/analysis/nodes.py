"""Tables: the measured turns cut by serving node, reputation band, persona, target and turn.

Input everywhere: the joined frame of the measured cohort. A cell counts the turns that were due (`requests`); `ok`,
`failed` and `ok_share` leave out those that their member broke off as planned. Its latencies are service times in ms
with failed turns censored (None when the percentile falls among them), and `n_too_small` marks what is printed but
not to be compared: a node with fewer than 20 requests (nodes are ranked by their medians), any other group with fewer
than its p95 needs (300).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.frames import Floats
from loadtest.analysis.percentiles import SMALLEST_SAMPLE, grouped_quantile, number

BANDS = ((0.0, 50.0), (50.0, 80.0), (80.0, 90.0), (90.0, 95.0), (95.0, 100.0))
NO_REPUTATION = "unknown"
NODE_REQUESTS_MIN = 20  # method of the house: fewer say nothing of a node's median


def by_node(requests: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per node that served a measured request, busiest first.

    `reputation` and `reputation_session` are medians of what was known of the node when its requests were sent.
    Turns that name no node are in no row: the report prints them beside the table (attribution figures).
    """
    served = requests[requests["node"].notna()].reset_index(drop=True)
    codes, names = _codes(served["node"])
    cells = _cells(served, codes, len(names), NODE_REQUESTS_MIN)
    for column in ("reputation", "reputation_session"):
        values = grouped_quantile(codes, len(names), _floats(served, column), 0.5)
        for cell, value in zip(cells, values, strict=True):
            cell[column] = number(float(value))
    rows = [{"node": name, **cell} for name, cell in zip(names, cells, strict=True)]
    return sorted(rows, key=lambda row: (-row["requests"], row["node"]))


def by_band(requests: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per band of the reputation joined to each request, lowest first, empty bands left out.

    A band is [low, high), the last one [low, 100]. The last row holds the requests without a reputation.
    """
    due = requests[metrics.offered(requests)].reset_index(drop=True)
    reputation = _floats(due, "reputation")
    edges = [low for low, _ in BANDS[1:]]
    codes = np.where(np.isnan(reputation), len(BANDS), np.digitize(reputation, edges)).astype(np.intp)
    names = [f"{low:g}-{high:g} %" for low, high in BANDS] + [NO_REPUTATION]
    rows = zip(names, _cells(due, codes, len(names)), strict=True)
    return [{"band": name, **cell} for name, cell in rows if cell["requests"]]


def by_column(requests: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """One row per value of a text column (persona, target), in name order."""
    due = requests[metrics.offered(requests)].reset_index(drop=True)
    codes, names = _codes(due[column])
    return [{"name": name, **cell} for name, cell in zip(names, _cells(due, codes, len(names)), strict=True)]


def by_turn(requests: pd.DataFrame) -> list[dict[str, Any]]:
    """First turns, which follow the arrival plan, against later ones, which wait for an answer by nature."""
    due = requests[metrics.offered(requests)].reset_index(drop=True)
    codes = np.where(due["turn"].to_numpy(dtype=np.int64) == 0, 0, 1).astype(np.intp)
    rows = zip(("first", "later"), _cells(due, codes, 2), strict=True)
    return [{"name": name, **cell} for name, cell in rows if cell["requests"]]


def _cells(
    requests: pd.DataFrame, codes: npt.NDArray[np.intp], count: int, smallest: int = SMALLEST_SAMPLE["p95"]
) -> list[dict[str, Any]]:
    """The figures of every group at once; `codes` says which group each row is in."""
    ok, broken_off = metrics.ok(requests), metrics.broken_off(requests)
    total = np.bincount(codes, minlength=count)
    ended = total - np.bincount(codes[broken_off], minlength=count)
    good = np.bincount(codes[ok], minlength=count)
    ttft = metrics.ttft_ms(requests)
    timed = np.bincount(codes[~np.isnan(ttft)], minlength=count)
    pairs = pd.DataFrame({"code": codes, "node": requests["node"].to_numpy(dtype=object)}).dropna().drop_duplicates()
    nodes = np.bincount(pairs["code"].to_numpy(dtype=np.intp), minlength=count)
    e2e = metrics.e2e_ms(requests)
    latencies = {
        "ttft_ms_p50": grouped_quantile(codes, count, ttft, 0.50),
        "ttft_ms_p95": grouped_quantile(codes, count, ttft, 0.95),
        "tpot_ms_p50": grouped_quantile(codes, count, metrics.tpot_ms(requests), 0.50),
        "e2e_ms_p50": grouped_quantile(codes, count, e2e, 0.50),
        "e2e_ms_p95": grouped_quantile(codes, count, e2e, 0.95),
        "tokens_per_s_p50": grouped_quantile(codes, count, metrics.tokens_per_s(requests), 0.50),
    }
    return [
        {
            "nodes": int(nodes[i]),
            "requests": int(total[i]),
            "ok": int(good[i]),
            "failed": int(ended[i] - good[i]),
            "ok_share": number(good[i] / ended[i]) if ended[i] else None,
            "ttft_n": int(timed[i]),
            **{name: number(float(values[i])) for name, values in latencies.items()},
            "n_too_small": bool(total[i] < smallest),
        }
        for i in range(count)
    ]


def _codes(values: pd.Series[str]) -> tuple[npt.NDArray[np.intp], list[str]]:
    codes, names = pd.factorize(values, sort=True)
    return codes.astype(np.intp), [str(name) for name in names]


def _floats(requests: pd.DataFrame, name: str) -> Floats:
    values: Floats = requests[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values
