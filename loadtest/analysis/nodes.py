"""Tables: the measured turns cut by who served them, who asked, and what was asked.

Input everywhere: `Rows`, the joined frame of the measured cohort. What a cell holds is said in `cells`. A cell counts
the turns that were due (`requests`); `ok`, `failed` and `ok_share` leave out those that their member broke off as
planned. `n_too_small` marks a node with fewer than 20 requests (nodes are ranked by their medians), and any other
group with fewer than its p95 needs (300).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis.cells import Codes, Grouping, Placed, Rows, codes_of, medians_of
from loadtest.analysis.frames import Floats
from loadtest.analysis.percentiles import SMALLEST_SAMPLE, number

BANDS = ((0.0, 50.0), (50.0, 80.0), (80.0, 90.0), (90.0, 95.0), (95.0, 100.0))
PROMPT_BANDS = (64, 256, 1024, 4096)  # tokens: a line, a paragraph, a page, a paper
UNKNOWN = "unknown"
_ROUTES = "no documented route tells it, the router's /miners did not, and nothing was imported"
NO_SOURCE = {
    "operators": f"operators of nodes: {_ROUTES}",
    "hardware": f"hardware of nodes: {_ROUTES}",
    "levels": f"levels of nodes, before the requests: {_ROUTES}",
}
NODE_REQUESTS_MIN = 20  # method of the house: fewer say nothing of a node's median
OF_NODES = ("reputation", "reputation_session", "window_precommit_percent", "window_commit_percent")
Table = list[dict[str, Any]]


def tables(requests: pd.DataFrame, descriptions: pd.DataFrame) -> dict[str, Any]:
    """Every table of the measured cohort, by its key in summary.json.

    `descriptions` is `frames.descriptions_frame`. `no_source` says why a table is empty that would need to be told
    something of nodes.
    """
    rows = Rows(requests)
    operators, hardware = (_last_told(descriptions, name) for name in ("operator", "hardware"))
    with ThreadPoolExecutor(2) as pool:  # most of the work are sorts and selections, which let go of the interpreter
        made = {
            "nodes": pool.submit(by_node, rows),
            "bands": pool.submit(by_band, rows),
            "personas": pool.submit(by_column, rows, "persona"),
            "targets": pool.submit(by_column, rows, "target"),
            "sessions": pool.submit(by_column, rows, "session"),
            "prompts": pool.submit(by_prompt, rows),
            "turns": pool.submit(by_turn, rows),
            "operators": pool.submit(by_told, rows, operators),
            "hardware": pool.submit(by_told, rows, hardware),
            "levels": pool.submit(by_level, rows),
        }
    found = {name: table.result() for name, table in made.items()}
    return {**found, "no_source": {name: why for name, why in NO_SOURCE.items() if not found[name]}}


def _last_told(descriptions: pd.DataFrame, column: str) -> dict[str, str]:
    """The last word on each node; what a node is belongs to the node and not to an instant."""
    told = descriptions.dropna(subset=[column])
    return dict(zip(told["node"].tolist(), told[column].tolist(), strict=True))


def by_node(rows: Rows) -> Table:
    """One row per node that served a measured request, busiest first.

    The columns of OF_NODES are medians of what was known of the node when its requests were sent. Turns that name no
    node are in no row: the report prints them beside the table (attribution figures).
    """
    placed = Placed(rows.nodes)
    cells = rows.cells(placed, NODE_REQUESTS_MIN)
    for column in OF_NODES:
        medians = medians_of(placed.gathered(_floats(rows, column)))
        for cell, value in zip(cells, medians, strict=True):
            cell[column] = number(float(value))
    table = [{"node": name, **cell} for name, cell in zip(rows.nodes.names, cells, strict=True)]
    return sorted(table, key=lambda row: (-row["requests"], row["node"]))


def by_band(rows: Rows) -> Table:
    """One row per band of the reputation joined to each request, lowest first, empty bands left out.

    A band is [low, high), the last one [low, 100]. The last row holds the requests without a reputation.
    """
    reputation = _floats(rows, "reputation")
    codes = np.digitize(reputation, [low for low, _ in BANDS[1:]])
    codes = np.where(np.isnan(reputation), len(BANDS), codes)
    return _table(rows, codes, [*(f"{low:g}-{high:g} %" for low, high in BANDS), UNKNOWN], "band")


def by_prompt(rows: Rows) -> Table:
    """By planned length of the prompt, in content tokens of the run's encoding; a band is [low, high)."""
    codes = prompt_bands(_floats(rows, "prompt_tokens_planned"))
    names = [f"{low}-{high - 1}" for low, high in zip((0, *PROMPT_BANDS), PROMPT_BANDS, strict=False)]
    return _table(rows, codes, [*names, f"{PROMPT_BANDS[-1]} and more"])


def prompt_bands(tokens: Floats) -> Codes:
    """0 for the shortest band to len(PROMPT_BANDS) for the longest."""
    return np.digitize(tokens, PROMPT_BANDS).astype(np.int32)


def by_column(rows: Rows, column: str) -> Table:
    """One row per value of a text column (persona, target, session), in name order; a missing value is in none."""
    codes, names = codes_of(rows.frame[column])
    return _table(rows, codes, names)


def by_turn(rows: Rows) -> Table:
    """First turns, which follow the arrival plan, against later ones, which wait for an answer by nature."""
    return _table(rows, np.minimum(rows.frame["turn"].to_numpy(dtype=np.int64), 1), ["first", "later"])


def by_told(rows: Rows, told: Mapping[str, str]) -> Table:
    """By what is said of the serving node (its operator, its hardware); nodes of which nothing is said are "unknown".

    Empty when nothing is said of any node that served. Turns that name no node are in no row.
    """
    names = sorted({told[node] for node in rows.nodes.names if node in told})
    if not names:
        return []
    place = {name: i for i, name in enumerate(names)}
    of_node = np.array([place[told[node]] if node in told else len(names) for node in rows.nodes.names], dtype=np.int64)
    codes = np.where(rows.nodes.codes >= 0, of_node[rows.nodes.codes], -1)
    return _table(rows, codes, [*names, UNKNOWN])


def by_level(rows: Rows) -> Table:
    """By the serving node's level as last told before the request; empty when no level was told."""
    level = _floats(rows, "level")
    told = np.unique(level[~np.isnan(level)])
    if not len(told):
        return []
    codes = np.where(np.isnan(level), len(told), np.searchsorted(told, np.nan_to_num(level)))
    codes = np.where(rows.nodes.codes >= 0, codes, -1)
    return _table(rows, codes, [*(f"{each:g}" for each in told), UNKNOWN])


def _table(rows: Rows, codes: Any, names: Iterable[str], label: str = "name") -> Table:
    """Only turns that were due, and only cells that have any."""
    grouping = Grouping(np.where(rows.due, codes, -1).astype(np.int32), list(names))
    cells = zip(grouping.names, rows.cells(Placed(grouping), SMALLEST_SAMPLE["p95"]), strict=True)
    return [{label: name, **cell} for name, cell in cells if cell["requests"]]


def _floats(rows: Rows, name: str) -> Floats:
    values: Floats = rows.frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values
