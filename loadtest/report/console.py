"""The short plain-text table at the end of a run: what happened, and whether to believe it."""

from __future__ import annotations

import re
import textwrap
from unicodedata import east_asian_width

from loadtest.report import tables, wording
from loadtest.report.wording import METRICS, PERCENTILES, Summary

WIDTH = 100
_NAMED = 3  # nodes at each end
_COLUMN = 13


def console_table(summary: Summary) -> str:
    """The run as plain text, at most 100 columns wide; the full report is in the run folder."""
    run = wording.part(summary, "run")
    head = [
        wording.first_line(summary),
        f"profile {run.get('profile')} ({run.get('profile_hash')}), seed {run.get('seed')}, "
        f"{wording.plural(run.get('workers'), 'worker')}, {wording.window_text(run)}",
        f"prompts and caps in tokens of {run.get('encoding')}; a node's own encoding may differ",
        *(f"target {t.get('name')}: {t.get('url')} ({t.get('route')})" for t in wording.listed(run, "targets")),
    ]
    measured = [_account(summary), _offered(summary), _latency(summary), _nodes(summary), _findings(summary)]
    blocks = [head, *measured, _harness(summary), _verdict(summary)]
    lines = ["\n".join(fitted for line in block for fitted in _fit(line)) for block in blocks if block]
    rule = "-" * WIDTH
    return "\n".join([rule, f"\n{rule}\n".join(lines), rule]) + "\n"


def _account(summary: Summary) -> list[str]:
    outcomes = wording.part(summary, "account", "outcomes")
    lines = [wording.account_sentence(summary)]
    if wording.part(summary, "account").get("balanced") is False:
        lines.append("THE ACCOUNT DOES NOT ADD UP: do not use these figures")
    measured = wording.part(summary, "account").get("measured")
    lines.append(f"{wording.count(measured)} in the measured window, {wording.count(outcomes.get('ok', 0))} ok in all")
    return lines


def _offered(summary: Summary) -> list[str]:
    """The offered table on its side: eleven figures of eight columns each."""
    table = tables.offered(summary)
    heads = {label: short for label, short, _ in wording.OFFERED.values()}
    lines = ["offered".ljust(10) + "".join(heads[row[0].text].rjust(8) for row in table.rows)]
    for place, side in enumerate(table.columns[1:], start=1):
        lines.append(side.ljust(10) + "".join(row[place].text.rjust(8) for row in table.rows))
    encoding = wording.part(summary, "run").get("encoding")
    return [*lines, f"prompt tokens are counted in {encoding}; a node's own may differ"] if table.rows else []


def _latency(summary: Summary) -> list[str]:
    lines = ["latency".ljust(10) + "service".center(3 * _COLUMN) + "   " + "response".center(3 * _COLUMN)]
    heads = "".join(p.rjust(_COLUMN) for p in PERCENTILES)
    lines.append(" " * 10 + heads + "   " + heads + "n".rjust(9))
    for metric, (name, _) in METRICS.items():
        cells = wording.part(summary, "latency", metric)
        service, response = wording.part(cells, "service"), wording.part(cells, "response")
        if metric == "itl_ms" or not (service or response):
            continue
        scale = wording.scale_of(cell.get(p) for cell in (service, response) for p in PERCENTILES)
        line = f"{name} {scale.unit}".ljust(10)
        line += "".join(_quantile(service, p, scale).rjust(_COLUMN) for p in PERCENTILES) + "   "
        line += "".join((_quantile(response, p, scale) if response else "").rjust(_COLUMN) for p in PERCENTILES)
        lines.append(line + wording.count((service or response).get("n")).rjust(9))
    return [*lines, wording.steady_sentence(summary)] if len(lines) > 2 else ["latency: nothing was measured"]


def _quantile(cell: Summary, name: str, scale: wording.Scale) -> str:
    """What the page says, in a column: "n too small (17 < 59)" is "n < 59" beside the column of n."""
    text = re.sub(r"n too small \(\d+ < (\d+)\)", r"n < \1", wording.quantile(cell, name, scale))
    return text.partition(":")[0]  # "withheld: why" is said once, below the table


def _nodes(summary: Summary) -> list[str]:
    nodes = wording.listed(summary, "nodes")
    if not nodes:
        return ["nodes: no request was attributed to a node"]
    ranked = wording.ranked_nodes(summary)
    groups = [("best", ranked[:_NAMED]), ("worst", ranked[_NAMED:][-_NAMED:])]
    title = f"nodes by E2E p50 ({len(nodes)})"
    if len(ranked) < 2:  # ranking by a handful of requests would name the unlucky
        busy = sorted((n for n in nodes if isinstance(n, dict)), key=lambda n: -(n.get("requests") or 0))
        groups, title = [("", busy[: 2 * _NAMED])], f"busiest of {len(nodes)} nodes"
    shown = [node for _, group in groups for node in group]
    ttft = wording.scale_of(n.get("ttft_ms_p50") for n in shown)
    e2e = wording.scale_of(n.get(k) for n in shown for k in ("e2e_ms_p50", "e2e_ms_p95"))
    heads = (
        "requests",
        "failed",
        f"TTFT p50 {ttft.unit}",
        f"E2E p50 {e2e.unit}",
        f"E2E p95 {e2e.unit}",
        "reputation %",
    )
    lines = [title.ljust(22) + "".join(h.rjust(_COLUMN) for h in heads)]
    for word, group in groups:
        for node in group:
            cells = [wording.count(node.get("requests")), wording.count(node.get("failed"))]
            cells += [
                ttft.text(node.get("ttft_ms_p50")),
                *(e2e.text(node.get(k)) for k in ("e2e_ms_p50", "e2e_ms_p95")),
            ]
            cells.append(wording.decimal(node.get("reputation"), 1))
            name = _plain(wording.short(node.get("node"), 15))
            lines.append(f"{word:<6}{name:<16}" + "".join(c.rjust(_COLUMN) for c in cells))
    if len(ranked) < 2:
        lines.append("  too few requests each to say which node is better")
    return lines


def _findings(summary: Summary) -> list[str]:
    """How many checks found what, and what was found in full."""
    findings = [each for each in wording.listed(summary, "findings") if isinstance(each, dict)]
    by_verdict = {
        verdict: [each for each in findings if each.get("verdict") == verdict]
        for verdict in ("found", "consistent", "cannot tell")
    }
    counts = ", ".join(f"{len(each)} {verdict}" for verdict, each in by_verdict.items())
    lines = [f"network checks: {counts}"]
    lines += [f"  {each.get('check')}: {each.get('text')}" for each in by_verdict["found"]]
    blind = ", ".join(str(each.get("check")) for each in by_verdict["cannot tell"])
    return [*lines, *([f"  cannot tell: {blind}"] if blind else [])] if findings else []


def _harness(summary: Summary) -> list[str]:
    cells = wording.part(summary, "harness")
    lag, bound = wording.part(cells, "send_lag_ms"), wording.part(cells, "first_content_bound_ms")
    return [
        f"own error at p99: sent {wording.duration(lag.get('p99'))} late, first content known within "
        f"{wording.duration(bound.get('p99'))}, loop {wording.duration(cells.get('loop_overshoot_ms_p99'))} late; "
        f"CPU {wording.percent(cells.get('cpu_share_max'), 0)}"
    ]


def _verdict(summary: Summary) -> list[str]:
    lines = [wording.fit_word(summary)]
    lines += [f"  {r.get('text')}" for r in wording.listed(summary, "fit", "reasons") if isinstance(r, dict)]
    if lines[0] == "UNFIT":
        lines[0] = "UNFIT: the run proves nothing"
    return [*lines, f"{wording.result_word(summary)}: {wording.result_sentence(summary)}"]


def _plain(text: str) -> str:
    """Without control and double-width characters: a name must neither drive the terminal nor shift a column."""
    return "".join(c if c.isprintable() and east_asian_width(c) not in "WF" else "?" for c in text)


def _fit(line: str) -> list[str]:
    plain = _plain(line)
    indent = " " * (len(plain) - len(plain.lstrip()) + 2)
    return [plain] if len(plain) <= WIDTH else textwrap.wrap(plain, WIDTH, subsequent_indent=indent)
