"""The tables that cut the turns by who served them, who asked and what was asked: the same cells in each.

A percentile stands with its interval in brackets, or says why it has none: "n too small", "> 120 s".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from loadtest.report import wording
from loadtest.report.tables import Cell, Kind, Table, number, objects
from loadtest.report.wording import METRICS, PERCENTILES, TOO_SMALL, Scale, Summary

NODES_SHOWN_MAX = 150  # a page stays readable and below 2 MB; the rest is in summary.json
GROUPS_SHOWN_MAX = 50
NOTE = (
    "In brackets: 95 % intervals, as if turns were independent. n is that of requests where no other is told; for how "
)
NOTE += "many values n is too small, see the words at the end."
Column = tuple[str, Callable[[Summary], Cell]]


class Group(NamedTuple):
    """A table of summary.json: its key there, its title, what a row is, where a row has its name."""

    key: str
    title: str
    label: str
    name: str = "name"


GROUPS = (
    Group("operators", "Operators", "operator"),
    Group("hardware", "Hardware classes", "hardware"),
    Group("levels", "Levels of nodes", "level"),
    Group("bands", "Reputation bands", "reputation", "band"),
    Group("targets", "Targets", "target"),
    Group("sessions", "Sessions", "session"),
    Group("personas", "Personas", "persona"),
    Group("prompts", "Prompt lengths", "planned tokens"),
    Group("turns", "Turns", "turn"),
)
_OURS = frozenset({"bands", "turns", "levels", "prompts"})  # the words of these are ours, not a stranger's
_OF_NODES = (
    ("reputation, %", "reputation"),
    ("last hour: precommit, %", "window_precommit_percent"),
    ("commit, %", "window_commit_percent"),
    ("user-task reputation, %", "reputation_session"),
)


def nodes(summary: Summary) -> Table:
    """One row per node, most requests first."""
    found = sorted(objects(summary, "nodes"), key=lambda n: (-(n.get("requests") or 0), str(n.get("node"))))
    shown = found[:NODES_SHOWN_MAX]
    columns: list[Column] = [("node", lambda n: Cell(str(n.get("node")), None, "hostile")), *_counts(shown, node=True)]
    columns += _percentiles(shown)
    columns.append(("tokens/s p50", _percentile("tokens_per_s_p50", Scale("tokens/s", 1.0, 1))))
    columns += [(name, _decimal(key)) for name, key in _OF_NODES if any(key in n for n in shown)]
    note = "Only nodes a request was attributed to. Reputation is what was known before each request was sent. "
    if len(found) > len(shown):
        note += f"The {NODES_SHOWN_MAX} busiest of {wording.count(len(found))} nodes; all are in summary.json. "
    return _drawn("nodes", "Nodes", columns, shown, note + NOTE)


def group(summary: Summary, which: Group) -> Table:
    """One row per group; "no source" where that is why there is none."""
    found = objects(summary, which.key)
    missing = wording.part(summary, "no_source").get(which.key)
    if not found and isinstance(missing, str):
        row = ((Cell("no source"),),)
        return Table(which.key, which.title, (which.label,), (False,), row, f"No source for the {missing}.")
    kind: Kind = "text" if which.key in _OURS else "hostile"
    busiest = sorted(found, key=lambda g: -(g.get("requests") or 0))[:GROUPS_SHOWN_MAX]
    shown = [each for each in found if any(each is one for one in busiest)]
    first: list[Column] = [(which.label, lambda g: Cell(str(g.get(which.name)), None, kind))]
    if any("nodes" in each for each in shown):
        first.append(("nodes", lambda g: number(g.get("nodes"), wording.count(g.get("nodes")))))
    cut = len(found) > len(shown)
    note = f"The {GROUPS_SHOWN_MAX} busiest of {wording.count(len(found))}; all are in summary.json." if cut else ""
    return _drawn(which.key, which.title, [*first, *_counts(shown, node=False), *_percentiles(shown)], shown, note)


def groups(summary: Summary) -> list[Table]:
    """All of them, in the order of GROUPS; the last one says how to read them."""
    found = [group(summary, which) for which in GROUPS]
    last = max((i for i, table in enumerate(found) if len(table.columns) > 1), default=None)
    return [replace(t, note=f"{t.note} {NOTE}".strip()) if i == last else t for i, t in enumerate(found)]


def _counts(found: Sequence[Summary], *, node: bool) -> list[Column]:
    columns: list[Column] = [("requests", _count("requests"))]
    if node:
        columns += [("ok", _count("ok")), ("failed", _count("failed"))]
    if any("ok_share" in g for g in found):
        columns.append(("ok share" if node else "ok", _ok_share))
    return columns


def _percentiles(found: Sequence[Summary]) -> list[Column]:
    columns: list[Column] = []
    for metric, (name, _) in METRICS.items():
        keys = [f"{metric}_{p}" for p in PERCENTILES if any(_tells(g, f"{metric}_{p}", p) for g in found)]
        scale = wording.scale_of(g.get(key) for g in found for key in keys)
        n = f"{metric.removesuffix('_ms')}_n"
        if keys and any(n in g and g[n] != g.get("requests") for g in found):
            columns.append((f"{name} n", _count(n)))
        columns += [(f"{name} {key[-3:]},\N{NO-BREAK SPACE}{scale.unit}", _percentile(key, scale)) for key in keys]
    return columns


def _tells(cell: Summary, key: str, percentile: str) -> bool:
    """p99 has a column only where some cell has enough values for one; the others always."""
    return key in cell and (percentile != "p99" or not str(cell.get(f"{key}_text", "")).startswith(TOO_SMALL))


def _percentile(key: str, scale: Scale) -> Callable[[Summary], Cell]:
    def cell(found: Summary) -> Cell:
        why = str(found.get(f"{key}_text") or "")
        if why:
            return number(None, TOO_SMALL if why.startswith(TOO_SMALL) else why)
        interval = _interval(found.get(f"{key}_interval"), scale.text)
        return number(found.get(key), scale.text(found.get(key)))._replace(small=interval)

    return cell


def _ok_share(found: Summary) -> Cell:
    share = found.get("ok_share")
    interval = _interval(found.get("ok_share_interval"), wording.percent)
    return number(share, wording.percent(share))._replace(small=interval)


def _interval(bounds: object, text: Callable[[object], str]) -> str:
    if isinstance(bounds, list) and len(bounds) == 2:
        return wording.say("(", text(bounds[0]), " to ", text(bounds[1]), ")")
    return ""


def _count(key: str) -> Callable[[Summary], Cell]:
    return lambda found: number(found.get(key), wording.count(found.get(key)))


def _decimal(key: str) -> Callable[[Summary], Cell]:
    return lambda found: number(found.get(key), wording.decimal(found.get(key), 1))


def _drawn(key: str, title: str, columns: Sequence[Column], found: Sequence[Summary], note: str) -> Table:
    rows = tuple(tuple(cell(row) for _, cell in columns) for row in found)
    numeric = tuple(place >= 1 for place in range(len(columns)))
    return Table(key, title, tuple(name for name, _ in columns), numeric, rows, note)
