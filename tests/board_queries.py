"""The queries of dashboards/: of the JSON that Grafana gets, and what the description says of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DASHBOARDS = Path(__file__).resolve().parent.parent / "dashboards"
sys.path.append(str(DASHBOARDS))

from boards import BOARDS  # noqa: E402

RULES = DASHBOARDS / "rules.yml"


class Written(NamedTuple):
    """One query of one panel as it stands in the JSON."""

    where: str
    expr: str
    title: str
    description: str


def written() -> Iterator[Written]:
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                where = f"{path.name}: {panel['title']} {target['refId']}"
                yield Written(where, target["expr"], panel["title"], panel["description"])


def may_be_empty() -> dict[str, str]:
    """Expressions for which no data is right, and why."""
    queries = (query for board in BOARDS for panel in board.panels for query in panel.queries)
    return {query.expr: query.empty_is_right for query in queries if query.empty_is_right}


def filled_in(expr: str, run: str, interval: str = "10s") -> str:
    """As Grafana sends it when one run and all of everything else are chosen."""
    chosen = {"$__rate_interval": interval, "$run": run, "$target": ".*", "$phase": ".*", "$profile": ".*"}
    for variable, value in chosen.items():
        expr = expr.replace(variable, value)
    return expr


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
