"""Does what is known of a node now go with how it does in the next hour, in both directions?

The run is cut into whole hours of wall time since its start. Of each (hour, node) with enough turns: the reputation
known at its beginning, the median latency residual and the mean failure residual in it, and the success of network
tasks in the hour after it (the window feature as of its end). All are ranked within their hour, so that what changes
for everybody counts for nothing, and the ranks of all hours are correlated together; the interval draws whole nodes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from loadtest.analysis.correlation import clustered, mid_ranks
from loadtest.analysis.frames import Clocks, Floats, Ints
from loadtest.analysis.percentiles import grouped_quantile, number
from loadtest.analysis.reputation import Reputation
from loadtest.analysis.residuals import HOUR_S, Served

HOURS_MIN = 2
NODES_MIN = 8  # of each hour that counts, and in all
TURNS_MIN = 10  # of a node in an hour
WINDOW_S_MIN = 1800.0  # a window feature that covers less says little of its hour
DIRECTIONS = (
    ("reputation", "latency", "reputation now, latency in the next hour"),
    ("reputation", "failure", "reputation now, failures in the next hour"),
    ("latency", "later", "latency now, success of network tasks in the hour after"),
    ("failure", "later", "failures now, success of network tasks in the hour after"),
)


class Hours(NamedTuple):
    """One entry per (hour, node) with enough turns."""

    hour: Ints
    node: Ints
    reputation: Floats
    latency: Floats
    failure: Floats
    later: Floats


def next_hour(found: Served, clocks: Clocks, reputation: Reputation, tolerance_s: float) -> list[dict[str, Any]]:
    """The four relations, as summary.json holds them."""
    hours = _hours(found, clocks, reputation, tolerance_s)
    return [_relation(hours, *direction) for direction in DIRECTIONS]


def _relation(hours: Hours, before: str, after: str, words: str) -> dict[str, Any]:
    x, y = getattr(hours, before), getattr(hours, after)
    use = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    sizes = np.bincount(hours.hour[use], minlength=1)
    use = use[sizes[hours.hour[use]] >= NODES_MIN]
    counted, nodes = len(np.unique(hours.hour[use])), len(np.unique(hours.node[use]))
    rho, interval = math.nan, None
    if counted >= HOURS_MIN and nodes >= NODES_MIN:
        ranked = [_ranked_within(hours.hour[use], each[use]) for each in (x, y)]
        units = np.unique(hours.node[use], return_inverse=True)[1].astype(np.int64)
        rho = _pearson(*ranked)
        interval = clustered(ranked[0], ranked[1], units) if math.isfinite(rho) else None
    told = interval is not None and (interval[0] > 0 or interval[1] < 0)
    if interval is None:
        text = f"Cannot tell: {counted} hours in which at least {NODES_MIN} nodes have both figures, and {HOURS_MIN} "
        text += "are needed." if counted < HOURS_MIN else "are there, but one side hardly differs between nodes."
    else:
        bounds = f"rho {rho:+.2f}, {interval[0]:+.2f} to {interval[1]:+.2f}, {nodes} nodes, {counted} hours"
        text = f"Association ({bounds})." if told else f"Cannot tell from none ({bounds})."
    return {
        "direction": words,
        "rho": number(rho),
        "interval": None if interval is None else [round(interval[0], 3), round(interval[1], 3)],
        "hours": counted,
        "nodes": nodes,
        "verdict": "associated" if told else "cannot tell",
        "text": text,
    }


def _hours(found: Served, clocks: Clocks, reputation: Reputation, tolerance_s: float) -> Hours:
    hour = np.floor(found.sent_s / HOUR_S).astype(np.int64)
    # A part of an hour at the end has no whole hour after it; it is nobody's next hour either.
    last = int(np.floor(found.sent_s.max() / HOUR_S)) if len(hour) else 0
    keep = np.flatnonzero((hour >= 0) & (hour < last)) if last else np.empty(0, np.intp)
    pairs, at = np.unique(hour[keep] * max(1, len(found.names)) + found.node[keep], return_inverse=True)
    count = len(pairs)
    enough = np.bincount(at, minlength=count) >= TURNS_MIN
    failure = found.failure[keep]
    told = ~np.isnan(failure)
    sizes = np.bincount(at[told], minlength=count)
    failed = np.bincount(at[told], failure[told], count) / np.maximum(1, sizes)
    latency = grouped_quantile(at.astype(np.intp), count, found.latency[keep], 0.5)
    hours, nodes = (each[enough] for each in np.divmod(pairs, max(1, len(found.names))))
    names = [found.names[i] for i in nodes]
    now = _known(names, hours * HOUR_S, clocks, reputation, tolerance_s)
    after = _known(names, (hours + 2) * HOUR_S, clocks, reputation, tolerance_s)
    later = after["window_precommit_percent"].where(after["window_s"] >= WINDOW_S_MIN)
    return Hours(
        hours,
        nodes,
        now["reputation"].to_numpy(dtype=np.float64),
        latency[enough],
        np.where(sizes > 0, failed, np.nan)[enough],
        later.to_numpy(dtype=np.float64),
    )


def _known(names: list[str], run_s: Floats, clocks: Clocks, reputation: Reputation, tolerance_s: float) -> pd.DataFrame:
    """What was known of each node at an instant of the run, as for a request sent then."""
    wall_ns = clocks.t0_ns + clocks.wall_minus_mono_ns + np.round(run_s * 1e9).astype(np.int64)
    asked = pd.DataFrame({"node": pd.Series(names, dtype="str"), "sent_wall_ns": pd.Series(wall_ns, dtype="Int64")})
    return reputation.before(asked, clocks.wall_bound_ns, tolerance_s)


def _ranked_within(hour: Ints, values: Floats) -> Floats:
    """Mid-ranks within each hour, centred and scaled so that hours of many and of few nodes count by their nodes."""
    ranked = np.empty(len(values))
    for each in np.unique(hour):
        inside = hour == each
        ranks = mid_ranks(values[inside])
        ranked[inside] = (ranks - ranks.mean()) / max(1, len(ranks))
    return ranked


def _pearson(x: Floats, y: Floats) -> float:
    spread = math.sqrt(float((x**2).sum()) * float((y**2).sum()))
    return float((x * y).sum()) / spread if spread > 1e-12 else math.nan
