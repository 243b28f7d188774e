"""Is a node's reputation associated with its latency and its failures, and does either tell the other an hour ahead?

The unit is the node: thousands of requests on forty nodes are forty points. A node's latency is the median of its
residuals (`residuals`) with failed turns as +infinity, its failure the mean of theirs, its reputation the median of
what was known before each of its requests: lagged, since an answer changes the reputation that follows it. Spearman's
rho stands with the interval of Bonett and Wright and with a bootstrap over nodes; the wider bounds decide. No more is
said than "association": reputed nodes may be slower because they get more work, slow answers may cost reputation, and
where only the reputed are chosen little is left to be seen (range restriction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from loadtest.analysis.bounds import bonett_wright
from loadtest.analysis.correlation import bootstrap, spearman
from loadtest.analysis.frames import Clocks, Floats, Mask
from loadtest.analysis.next_hour import next_hour
from loadtest.analysis.nodes import NODE_REQUESTS_MIN
from loadtest.analysis.percentiles import grouped_quantile, number
from loadtest.analysis.reputation import Reputation
from loadtest.analysis.residuals import CONTROLS, Served, served
from loadtest.analysis.snapshots import LEADERBOARD, SESSION_REPUTATION, Polled, Snapshots

NODES_MIN = 8  # with fewer no interval of 95 % is narrower than -0.7 to 0.7
RESTRICTED = 0.8  # of the network's standard deviation: below it a correlation shrinks by a fifth and more
POINTS_MAX = 400
SERIES = {
    "reputation": "lifetime reputation (network tasks)",
    "window_precommit_percent": "precommit success of the last hour (network tasks)",
    "reputation_session": "reputation of user tasks",
}
OUTCOMES = ("latency", "failure")


class _Node(NamedTuple):
    """Figures by node, in the order of the names."""

    turns: Floats
    latency: Floats
    failure: Floats


def association(cohort: pd.DataFrame, clocks: Clocks, snapshots: Snapshots, tolerance_s: float) -> dict[str, Any]:
    """All of it, as summary.json holds it."""
    found = served(cohort, clocks)
    nodes = _by_node(found)
    enough = nodes.turns >= NODE_REQUESTS_MIN
    relations: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    drawn = ""
    for series, words in SERIES.items():
        x = _medians(cohort, found, series)
        network = _network(snapshots, series)
        relations += [_relation(series, words, each, x, getattr(nodes, each), enough, network) for each in OUTCOMES]
        if not points:
            drawn, points = series, _points(found, x, nodes, enough)
    lag_s = cohort["snapshot_age_s"].to_numpy(dtype=np.float64)[found.at]
    return {
        "latency": found.metric,
        "controls": list(CONTROLS),
        "turns": len(found.at),
        "nodes": len(found.names),
        "nodes_few": int((~enough & (nodes.turns > 0)).sum()),
        "requests_min": NODE_REQUESTS_MIN,
        "lag_s_p50": number(float(np.nanmedian(lag_s))) if np.isfinite(lag_s).any() else None,
        "nodes_left": _left(snapshots.of_source(LEADERBOARD)),
        "relations": relations,
        "points_of": drawn if points else None,
        "points": points,
        "next_hour": next_hour(found, clocks, Reputation.of(snapshots), tolerance_s),
    }


def _by_node(found: Served) -> _Node:
    count = len(found.names)
    groups = found.node.astype(np.intp)
    turns = np.bincount(groups, minlength=count).astype(np.float64)
    told = ~np.isnan(found.failure)
    sums, sizes = (np.bincount(groups[told], each, count) for each in (found.failure[told], None))
    with np.errstate(divide="ignore", invalid="ignore"):
        failure = np.where(sizes > 0, sums / sizes, np.nan)
    return _Node(turns, grouped_quantile(groups, count, found.latency, 0.5), failure)


def _medians(cohort: pd.DataFrame, found: Served, series: str) -> Floats:
    values = cohort[series].to_numpy(dtype=np.float64, na_value=np.nan)[found.at]
    return grouped_quantile(found.node.astype(np.intp), len(found.names), values, 0.5)


def _relation(
    series: str, words: str, outcome: str, x: Floats, y: Floats, enough: Mask, network: Floats
) -> dict[str, Any]:
    use = enough & ~np.isnan(x) & ~np.isnan(y)
    n = int(use.sum())
    rho = spearman(x[use], y[use]) if n >= NODES_MIN else math.nan
    by_formula = bonett_wright(rho, n)
    by_nodes = bootstrap(x[use], y[use]) if math.isfinite(rho) else None
    interval = wider(by_formula, by_nodes)
    ratio = float(x[use].std() / network.std()) if n and len(network) > 1 and network.std() > 0 else None
    return {
        "series": series,
        "outcome": outcome,
        "rho": number(rho),
        "interval": rounded(interval),
        "interval_bonett_wright": rounded(by_formula),
        "interval_bootstrap": rounded(by_nodes),
        "nodes": n,
        "without_reputation": int((enough & np.isnan(x)).sum()),
        "without_figure": int((enough & ~np.isnan(x) & np.isnan(y)).sum()),
        "range_seen": _range(x[use]),
        "range_network": _range(network),
        "nodes_network": len(network),
        "spread_ratio": number(ratio),
        "restricted": ratio is not None and ratio < RESTRICTED,
        "verdict": verdict(interval),
        "text": _text(words, outcome, n, rho, interval, x[use]),
    }


def wider(*intervals: tuple[float, float] | None) -> tuple[float, float] | None:
    """From the lowest bound to the highest; None when one of them is missing."""
    if any(each is None for each in intervals):
        return None
    lows, highs = zip(*(each for each in intervals if each is not None), strict=True)
    return min(lows), max(highs)


def verdict(interval: tuple[float, float] | None) -> str:
    """ "associated" only where the interval leaves out 0."""
    return "associated" if interval is not None and (interval[0] > 0 or interval[1] < 0) else "cannot tell"


def rounded(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(interval[0], 3), round(interval[1], 3)]


def _text(words: str, outcome: str, n: int, rho: float, interval: tuple[float, float] | None, x: Floats) -> str:
    what = "slower" if outcome == "latency" else "more failing"
    if n < NODES_MIN:
        return f"Cannot tell: {n} nodes have enough turns and a {words}, and {NODES_MIN} are needed."
    if not math.isfinite(rho) or interval is None:
        side = words if len(np.unique(x)) < 2 else _SIDES[outcome]
        return f"Cannot tell: the {side} of all {n} nodes is nearly the same."
    bounds = f"rho {rho:+.2f}, {interval[0]:+.2f} to {interval[1]:+.2f}, {n} nodes"
    if verdict(interval) == "associated":
        return f"Association: nodes of a higher {words} are {what if rho > 0 else _LESS[outcome]} ({bounds})."
    return f"Cannot tell from none ({bounds})."


_SIDES = {"latency": "latency", "failure": "share of failed turns"}
_LESS = {"latency": "faster", "failure": "less failing"}


def _network(snapshots: Snapshots, series: str) -> Floats:
    """The last word on every node of the network, whether or not it served us."""
    source, good, total = {
        "reputation": (LEADERBOARD, "points", "counter"),
        "reputation_session": (SESSION_REPUTATION, "success", "all"),
    }.get(series, ("", "", ""))
    polled = snapshots.of_source(source)
    last = polled.last()
    rates: Sequence[Floats] = [
        100 * polled.column(f"{stage}_{good}")[last] / _positive(polled.column(f"{stage}_{total}")[last])
        for stage in ("precommit", "commit")
    ]
    known = np.sum(~np.isnan(rates), axis=0)
    values = np.nansum(rates, axis=0)[known > 0] / known[known > 0]
    return np.asarray(values, dtype=np.float64)


def _positive(values: Floats) -> Floats:
    return np.where(values > 0, values, np.nan)


def _left(board: Polled) -> int:
    """Nodes that were listed and are not in the last leaderboard: who failed for good may be among them."""
    last_ns = board.observed_ns[board.last()]
    return int((last_ns < last_ns.max()).sum()) if len(last_ns) else 0


def _range(values: Floats) -> list[float] | None:
    return [round(float(values.min()), 2), round(float(values.max()), 2)] if len(values) else None


def _points(found: Served, x: Floats, nodes: _Node, enough: Mask) -> list[dict[str, Any]]:
    """For the picture: nodes by reputation and by how many times as slow they are as the median one."""
    use = np.flatnonzero(enough & ~np.isnan(x) & np.isfinite(nodes.latency))
    if not len(use):
        return []
    middle = float(np.median(nodes.latency[use]))
    busiest = use[np.argsort(-nodes.turns[use], kind="stable")][:POINTS_MAX]
    return [
        {
            "node": found.names[i],
            "reputation": round(float(x[i]), 3),
            "times": round(math.exp(float(nodes.latency[i]) - middle), 4),
            "turns": int(nodes.turns[i]),
        }
        for i in busiest
    ]
