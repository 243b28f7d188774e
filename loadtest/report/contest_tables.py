"""A contest's payouts as text, CSV, JSON and one HTML page that needs no network."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from loadtest.analysis.contest import Payouts, Row
from loadtest.report import page, wording

COLUMNS = (
    *("place", "node", "operator", "score", "precommit_score", "level", "stake_cor", "uptime", "roles", "takes_part"),
    *("base", "reward", "multi_node_percent", "role_percent", "bonus", "payout", "low", "high", "depends_on", "why"),
    "evidence",
)
ROWS_PRINTED = 20


def money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}"


def contest_csv(found: Payouts) -> str:
    """One line per node, amounts with two decimals, no line of sums: what adds up is each column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in found.rows:
        fields = _fields(row)
        lists = {name: "; ".join(fields[name]) for name in ("roles", "depends_on", "evidence")}
        told = {**fields, **lists, "takes_part": "yes" if row.takes_part else "no"}
        writer.writerow({name: _inert(value) for name, value in told.items()})
    return text.getvalue()


def _inert(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula, as a text: operators and addresses are written by strangers."""
    return (
        f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value
    )


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def contest_json(found: Payouts) -> dict[str, Any]:
    """The whole result. Amounts are texts with two decimals, so that no reader rounds them."""
    rules = found.rules
    return {
        "rules": {"name": rules.name, "title": rules.title, "source": rules.source, "currency": rules.currency},
        "paid_reading": rules.paid_reading,
        "readings": {key: list(choices) for key, choices in rules.readings.items()},
        "combinations": found.readings,
        "total": {"paid": _plain(found.total), **{name: _plain(cents) for name, cents in _parts(found).items()}},
        "low": {"total": _plain(found.low.total), "reading": dict(found.low.reading)},
        "high": {"total": _plain(found.high.total), "reading": dict(found.high.reading)},
        "influences": [
            {"key": each.key, "reading": each.reading, "total": _plain(each.total), "nodes_changed": each.nodes_changed}
            for each in found.influences
        ],
        "operators": [
            {"operator": name, "nodes": nodes, **{part: _plain(cents) for part, cents in parts.items()}}
            for name, nodes, parts in operators(found)
        ],
        "nodes": [_fields(row) for row in found.rows],
        "notes": list(found.notes),
    }


def contest_text(found: Payouts) -> str:
    """A screen: sums, what the readings are worth, the best nodes."""
    parts = _parts(found)
    rules = found.rules
    lines = [
        f"{rules.title}: {len(found.rows)} nodes, {sum(row.takes_part for row in found.rows)} take part",
        f"paid   {money(found.total):>12} {rules.currency} = base {money(parts['base'])} + reward "
        f"{money(parts['reward'])} + bonus {money(parts['bonus'])}",
        f"low    {money(found.low.total):>12}   over {found.readings:,} combinations of readings",
        f"high   {money(found.high.total):>12}",
        "",
        "what another reading alone would come to",
        *(
            f"  {each.key} = {each.reading}".ljust(40)
            + f"{money(each.total):>12}  {_signed(each.total - found.total):>11}"
            f"  {each.nodes_changed:4d} nodes"
            for each in found.influences
        ),
        "",
        " place  node          operator      score      base    reward     bonus    payout       low      high",
    ]
    for row in found.rows[:ROWS_PRINTED]:
        score = "-" if row.entrant.score is None else f"{float(row.entrant.score):.3f}"
        amounts = "".join(
            f"{money(cents):>10}" for cents in (row.base, row.reward, row.bonus, row.payout, row.low, row.high)
        )
        names = f"{_short(row.entrant.node)}  {_short(row.entrant.operator)}"
        lines.append(f"{row.place or '-':>6}  {names}  {score:>5}{amounts}")
    if len(found.rows) > ROWS_PRINTED:
        lines.append(f"   ... and {len(found.rows) - ROWS_PRINTED} more: --csv FILE, --html FILE or --json has all")
    return "\n".join([*lines, *(f"note: {text}" for text in found.notes)])


def contest_html(found: Payouts) -> str:
    """One page: what is paid, what each ambiguity is worth, who gets what and why."""
    environment = page.environment()
    environment.filters["money"] = money
    return environment.get_template("contest.html").render(
        css=page.css(),
        found=found,
        rules=found.rules,
        parts=_parts(found),
        take_part=sum(row.takes_part for row in found.rows),
        influences={(each.key, each.reading): each for each in found.influences},
        rows=[(row, _fields(row)) for row in found.rows],
        operators=operators(found),
        out=[row for row in found.rows if row.why or row.entrant.flags],
    )


def operators(found: Payouts) -> list[tuple[str, int, Mapping[str, int]]]:
    """(operator, nodes, cents) of each operator, the best paid first; a node without one is not listed."""
    sums: dict[str, dict[str, int]] = {}
    nodes: dict[str, int] = {}
    for row in found.rows:
        name = row.entrant.operator
        if name:
            parts = sums.setdefault(name, {"base": 0, "reward": 0, "bonus": 0, "payout": 0})
            for part in parts:
                parts[part] += getattr(row, part)
            nodes[name] = nodes.get(name, 0) + 1
    return sorted(
        ((name, nodes[name], parts) for name, parts in sums.items()), key=lambda one: (-one[2]["payout"], one[0])
    )


def _fields(row: Row) -> dict[str, Any]:
    one = row.entrant
    return {
        "place": row.place,
        "node": one.node,
        "operator": one.operator,
        "score": _decimal(one.score),
        "precommit_score": _decimal(one.precommit_score),
        "level": one.level,
        "stake_cor": one.stake_cor,
        "uptime": _decimal(one.uptime),
        "roles": list(one.roles),
        "takes_part": row.takes_part,
        "base": _plain(row.base),
        "reward": _plain(row.reward),
        "multi_node_percent": f"{row.multi_percent_100 / 100:g}",
        "role_percent": f"{row.role_percent_100 / 100:g}",
        "bonus": _plain(row.bonus),
        "payout": _plain(row.payout),
        "low": _plain(row.low),
        "high": _plain(row.high),
        "depends_on": list(row.depends_on),
        "why": row.why,
        "evidence": list(one.flags),
    }


def _parts(found: Payouts) -> dict[str, int]:
    return {part: sum(getattr(row, part) for row in found.rows) for part in ("base", "reward", "bonus")}


def _plain(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _decimal(value: Any) -> str | None:
    return None if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def _signed(cents: int) -> str:
    return f"{'-' if cents < 0 else '+'}{money(abs(cents))}"


def _short(name: str) -> str:
    return wording.short(name, 12).ljust(12)
