"""summary.md: the run on one screen, for a pull request or a step summary of CI.

The verdict, the figures it rests on, what was found, what could not be shown; the rest is folded, and all of it is in
report.html. Names of nodes and texts that came from outside stand in code spans: there Markdown knows no links,
mentions or HTML. A pull request takes 65,536 characters, so everything here has an end.
"""

from __future__ import annotations

import re

from loadtest.report import association, cell_tables, tables, wording
from loadtest.report.tables import Cell, Table
from loadtest.report.wording import Summary

LETTERS_MAX = 60_000
NODES_SHOWN = 12  # a reviewer's screen; the page has all
LIMITS_SHOWN = 6
LISTED_MAX = 20  # targets, reasons, findings
TEXT_MAX = 300


def render_markdown(summary: Summary) -> str:
    """GitHub-flavoured Markdown, at most LETTERS_MAX characters."""
    fit = wording.is_fit(summary)
    blocks = [*_verdict(summary, fit), *_figures(summary, fit), *_found(summary), *_unknown(summary)]
    folded = [
        *_section(tables.offered(summary), fit),
        *_section(_few(cell_tables.nodes(summary)), fit),
        *(block for table in cell_tables.groups(summary) for block in _section(_few(table), fit)),
        *_section(association.relations(summary), fit),
        *_section(association.next_hour(summary), fit),
    ]
    if folded:
        folded = ["<details><summary>Load, nodes, groups, association</summary>", *folded, "</details>"]
    whole = "\n\n".join(block for block in [*blocks, *folded] if block) + "\n"
    if len(whole) <= LETTERS_MAX:
        return whole
    short = "\n\n".join(block for block in blocks if block)
    return short[:LETTERS_MAX].rpartition("\n")[0] + "\n\nCut here; report.html has all of it.\n"


def _verdict(summary: Summary, fit: bool) -> list[str]:
    run = wording.part(summary, "run")
    name, digest, seed = (code(run.get(k, "")) for k in ("profile", "profile_hash", "seed"))
    targets = [t for t in wording.listed(run, "targets") if isinstance(t, dict)][:LISTED_MAX]
    words = f"{wording.fit_word(summary)}, {wording.result_word(summary)}"
    return [
        f"## {_sign(summary)} {words}: {code(run.get('id', 'run'))}",
        f"{wording.first_line(summary)} Profile {name} ({digest}), seed {seed}, "
        f"{wording.plural(run.get('workers'), 'worker')}, {wording.window_text(run)}. "
        f"Prompts and caps in tokens of {code(run.get('encoding', wording.ABSENT))}; a node's own encoding may differ.",
        "\n".join(
            f"- target {code(t.get('name'))}: {code(t.get('url'))}, route {code(t.get('route'))}" for t in targets
        ),
        _fitness(summary),
        f"**{wording.result_word(summary)}**: {plain(wording.result_sentence(summary))}"
        + ("" if fit else " Not counted: the run is unfit."),
        plain(wording.steady_sentence(summary)),
        draw(tables.limits(summary)),
    ]


def _figures(summary: Summary, fit: bool) -> list[str]:
    balanced = wording.part(summary, "account").get("balanced") is not False
    return [
        "### Account",
        plain(wording.account_sentence(summary)) + ("" if balanced else " **The account does not add up.**"),
        *_section(tables.latency(summary), fit),
    ]


def _found(summary: Summary) -> list[str]:
    """The findings that matter: what was found, and how many checks saw nothing or could not tell."""
    findings = [f for f in wording.listed(summary, "findings") if isinstance(f, dict)]
    if not findings:
        return []
    found = [f for f in findings if f.get("verdict") == "found"]
    counts = [f"{sum(f.get('verdict') == v for f in findings)} {v}" for v in ("found", "consistent", "cannot tell")]
    lines = [f"- **{plain(str(f.get('check')))}**: {plain(str(f.get('text')))}" for f in found[:LISTED_MAX]]
    return ["### Does the network keep its word?", f"Checks: {', '.join(counts)}.", "\n".join(lines)]


def _unknown(summary: Summary) -> list[str]:
    """What the run could not show, and the harness's own error."""
    limits = [plain(str(text)) for text in wording.listed(summary, "limits")]
    lines = [f"- {text}" for text in limits[:LIMITS_SHOWN]]
    if len(limits) > LIMITS_SHOWN:
        lines.append(f"- and {len(limits) - LIMITS_SHOWN} more in report.html")
    return [
        "### What this run could not show",
        "\n".join(lines) or "The analysis listed nothing.",
        "### The harness's own error",
        draw(tables.harness(summary)),
    ]


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
    flat = "".join(c if c.isprintable() else " " for c in str(text)[:TEXT_MAX]).strip()
    if not flat:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", flat)), default=0))
    inner = f" {flat} " if "`" in flat else flat
    return f"{fence}{inner}{fence}".replace("|", "\\|")


def plain(text: str) -> str:
    """Our own prose with whatever it quotes made harmless."""
    flat = "".join(c if c.isprintable() else " " for c in _cut(text))
    return re.sub(r"([\\`*_\[\]<>|#@!])", r"\\\1", flat).replace("\\@", "@\u200b")


def _cell(cell: Cell) -> str:
    if cell.kind == "hostile":
        return code(cell.text) or " "
    if cell.kind in ("pass", "fail"):
        return f"**{cell.text}**"
    return plain(" ".join(filter(None, (cell.text, cell.small)))) or " "


def _section(table: Table, fit: bool) -> list[str]:
    if not table.rows:
        return []
    return [f"### {table.title}{'' if fit else ' (from an unfit run)'}", draw(table), plain(table.note)]


def _cut(text: str) -> str:
    """Sentences have ends; what they quote may not."""
    return text if len(text) <= 4 * TEXT_MAX else f"{text[: 4 * TEXT_MAX]}…"


def _few(table: Table) -> Table:
    note = f"The first {NODES_SHOWN}; report.html has them all. " if len(table.rows) > NODES_SHOWN else ""
    note += "" if table.key == "nodes" else table.note
    return Table(table.key, table.title, table.columns, table.numeric, table.rows[:NODES_SHOWN], note)


def _fitness(summary: Summary) -> str:
    if wording.is_fit(summary):
        return "**FIT**: the run could measure; no rule was broken."
    reasons = [r.get("text") for r in wording.listed(summary, "fit", "reasons") if isinstance(r, dict)][:LISTED_MAX]
    lines = [f"**{wording.fit_word(summary)}**: the run proves nothing about the network; its headline is withheld."]
    return "\n".join([*lines, *(f"- {plain(str(reason))}" for reason in reasons)])


def _sign(summary: Summary) -> str:
    if not wording.is_fit(summary):
        return "⚠️"
    return {"PASS": "✅", "FAIL": "❌"}.get(wording.result_word(summary), "➖")
