"""summary.md: the run on one screen, for a pull request or a step summary of CI.

Names of nodes and texts that came from outside stand in code spans: there Markdown knows no links, mentions or HTML.
"""

from __future__ import annotations

import re

from loadtest.report import tables, wording
from loadtest.report.tables import Cell, Table
from loadtest.report.wording import Summary

NODES_SHOWN = 12  # a reviewer's screen; the page has all


def render_markdown(summary: Summary) -> str:
    """GitHub-flavoured Markdown: verdict first, then the account, latency, groups and what the run could not show."""
    run = wording.part(summary, "run")
    fit = wording.is_fit(summary)
    name, digest, seed = (code(run.get(k, "")) for k in ("profile", "profile_hash", "seed"))
    verdicts = f"{wording.fit_word(summary)}, {wording.result_word(summary)}"
    blocks = [
        f"## {_sign(summary)} {verdicts}: {code(run.get('id', 'run'))}",
        f"{wording.first_line(summary)} Profile {name} ({digest}), seed {seed}, "
        f"{wording.plural(run.get('workers'), 'worker')}, {wording.window_text(run)}. "
        f"Prompts and caps in tokens of {code(run.get('encoding', wording.ABSENT))}; a node's own encoding may differ.",
        "\n".join(
            f"- target {code(t.get('name'))}: {code(t.get('url'))}, route {code(t.get('route'))}"
            for t in wording.listed(run, "targets")
            if isinstance(t, dict)
        ),
        _fitness(summary),
        f"**{wording.result_word(summary)}**: {plain(wording.result_sentence(summary))}"
        + ("" if fit else " Not counted: the run is unfit."),
        draw(tables.limits(summary)),
        "### Account",
        plain(wording.account_sentence(summary)) + ("" if _balanced(summary) else " **The account does not add up.**"),
        *_section(tables.offered(summary), fit),
        *_section(tables.latency(summary), fit),
        *_section(_few(tables.nodes(summary)), fit),
        *_section(tables.groups(summary, "bands", "Reputation bands", "reputation", "band"), fit),
        *_section(tables.groups(summary, "targets", "Targets", "target"), fit),
        *_section(tables.findings(summary), fit),
        "### The harness's own error",
        draw(tables.harness(summary)),
        "### What this run could not show",
        "\n".join(f"- {plain(str(text))}" for text in wording.listed(summary, "limits"))
        or "The analysis listed nothing.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def draw(table: Table) -> str:
    """A table in pipes; "" when it has no rows."""
    if not table.rows:
        return ""
    heads = [plain(name) or " " for name in table.columns]
    lines = [heads, ["--:" if numeric else ":--" for numeric in table.numeric]]
    lines += [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: object) -> str:
    """`text` as a code span that ends where it should: fenced by more backticks than it contains in a row."""
    flat = "".join(c if c.isprintable() else " " for c in str(text)).strip()
    if not flat:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", flat)), default=0))
    inner = f" {flat} " if "`" in flat else flat
    return f"{fence}{inner}{fence}".replace("|", "\\|")


def plain(text: str) -> str:
    """Our own prose with whatever it quotes made harmless."""
    flat = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_\[\]<>|#@!])", r"\\\1", flat).replace("\\@", "@\u200b")


def _cell(cell: Cell) -> str:
    if cell.kind == "hostile":
        return code(cell.text) or " "
    if cell.kind in ("pass", "fail"):
        return f"**{cell.text}**"
    return plain(cell.text) or " "


def _section(table: Table, fit: bool) -> list[str]:
    if not table.rows:
        return []
    return [f"### {table.title}{'' if fit else ' (from an unfit run)'}", draw(table), plain(table.note)]


def _few(table: Table) -> Table:
    note = f"The {NODES_SHOWN} busiest of the nodes; report.html has them all." if len(table.rows) > NODES_SHOWN else ""
    return Table(table.key, table.title, table.columns, table.numeric, table.rows[:NODES_SHOWN], note)


def _fitness(summary: Summary) -> str:
    if wording.is_fit(summary):
        return "**FIT**: the run could measure; no rule was broken."
    reasons = [r.get("text") for r in wording.listed(summary, "fit", "reasons") if isinstance(r, dict)]
    lines = [f"**{wording.fit_word(summary)}**: the run proves nothing about the network; its headline is withheld."]
    return "\n".join([*lines, *(f"- {plain(str(reason))}" for reason in reasons)])


def _balanced(summary: Summary) -> bool:
    return wording.part(summary, "account").get("balanced") is not False


def _sign(summary: Summary) -> str:
    if not wording.is_fit(summary):
        return "⚠️"
    return {"PASS": "✅", "FAIL": "❌"}.get(wording.result_word(summary), "➖")
