"""One live terminal screen for headless runs: the standing, redrawn once a second below the log.

It is drawn on standard error, where the log goes too: log lines are printed above the picture, so that neither tears
the other. What is not a terminal gets `lines` instead.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.records import Outcome
from loadtest.swarm.lines import Lines, ms_text, number_text, share_text, when_text
from loadtest.swarm.standing import Standing, offered_turns

BAR_CELLS = 40
TARGETS_SHOWN = 6
WORKERS_SHOWN = 8
_PHASES = {"warmup": "warm-up so far", "measure": "measured so far"}
COLUMNS = (
    *(("TTFT", "ttft", level) for level in ("p50", "p95", "p99")),
    ("TPOT", "tpot", "p50"),
    *(("E2E", "e2e", level) for level in ("p50", "p95", "p99")),
    ("sent late", "send_lag", "p99"),
)


def view_for(logger: logging.Logger, *, wanted: bool) -> Screen | Lines:
    """A screen when it is wanted and standard error is a terminal that can be redrawn, else lines in the log."""
    if not wanted or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return Lines(logger.info)
    return Screen(Console(stderr=True))


class Screen:
    """The picture, from the first standing to `close`, which takes it away."""

    def __init__(self, console: Console) -> None:
        # rich would refresh from a thread of its own; under gevent the watching greenlet does.
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._console = console
        self._handlers: list[logging.StreamHandler[Any]] = []
        atexit.register(self.close)

    def show(self, standing: Standing) -> None:
        if not self._live.is_started:
            original = sys.stderr
            self._live.start()
            # Handlers keep the stream that they began with; through rich's they print above the picture.
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is original:
                    handler.setStream(sys.stderr)
                    self._handlers.append(handler)
        self._live.update(picture(standing), refresh=True)

    def close(self) -> None:
        """Give the terminal back. Calling it again does nothing."""
        if self._live.is_started:
            self._live.stop()
        for handler in self._handlers:
            handler.setStream(sys.stderr)
        self._handlers = []


def picture(standing: Standing) -> RenderableType:
    """Everything about the run as it stands, as one panel."""
    fit = Text(" FIT so far ", "black on green") if standing.fit else Text(" UNFIT ", "bold white on red")
    parts = [_progress(standing), Text(), _load(standing), Text(), _latency(standing), Text(), _workers(standing)]
    if standing.lowest_nodes:
        parts += [Text(), _nodes(standing)]
    parts += [Text(), fit, *(Text(f"  {reason.text}", "red") for reason in standing.reasons)]
    return Panel(Group(*parts), title=f"run {standing.run}", width=None, expand=True)


def _progress(standing: Standing) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(standing.planned_s, 0.001), completed=max(0.0, standing.elapsed_s), width=BAR_CELLS)
    grid.add_row(Text(when_text(standing), "bold"), bar)
    return grid


def _load(standing: Standing) -> RenderableType:
    totals = standing.totals
    grid = Table.grid(padding=(0, 2))
    grid.add_row("offered", f"{offered_turns(totals):,} turns, {standing.offered_per_s:.1f}/s now")
    grid.add_row("completed", f"{totals.ended:,} turns, {standing.completed_per_s:.1f}/s now")
    grid.add_row(
        "in flight",
        f"{totals.in_flight:,}: {totals.waiting:,} waiting, {totals.answering:,} answering, "
        f"oldest {totals.oldest_s:.1f} s",
    )
    grid.add_row("ended as", _outcomes(totals.outcomes))
    grid.add_row(
        "ledger",
        f"planned {totals.planned_turns:,}, started {totals.started_turns:,}, ended {sum(totals.outcomes.values()):,}, "
        f"spooled {totals.rows_spooled:,}, acknowledged {totals.rows_acknowledged:,}, stored {standing.stored:,}",
    )
    return grid


def _outcomes(outcomes: dict[str, int]) -> Text:
    text = Text()
    for outcome in Outcome:
        if outcomes.get(outcome):
            style = "green" if outcome == Outcome.OK else "yellow" if outcome == Outcome.NOT_REACHED else "red"
            text.append(f"{outcome} {outcomes[outcome]:,}", style).append("  ")
    return text or Text("nothing yet", "dim")


def _latency(standing: Standing) -> RenderableType:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    shown = standing.rows[: TARGETS_SHOWN + 1]
    table.add_column(f"{_PHASES[shown[0].phase]}, ms")
    table.add_column("turns", justify="right")
    for name, _, level in COLUMNS:
        table.add_column(f"{name}\n{level}", justify="right")
    for row in shown:
        cells = (number_text(row.latencies[metric].quantiles[level]) for _, metric, level in COLUMNS)
        style = "" if row.target == "all" else "dim"
        table.add_row(row.target, f"{row.latencies['e2e'].n:,}", *cells, style=style)
    if len(standing.rows) > len(shown):
        table.add_row(f"and {len(standing.rows) - len(shown)} more targets", style="dim")
    return table


def _workers(standing: Standing) -> RenderableType:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    here = standing.workers_expected - len(standing.workers_lost)
    table.add_column(f"workers: {here} of {standing.workers_expected}")
    for name in ("in flight", "ended", "CPU max", "loop late p99", "clock known to"):
        table.add_column(name, justify="right")
    # The busiest first: they are the ones that make a run unfit.
    busiest = sorted(standing.workers, key=lambda report: -report["cpu_share_max"])
    for report in busiest[:WORKERS_SHOWN]:
        table.add_row(*_worker(report, report["worker"] in standing.workers_lost))
    if len(busiest) > WORKERS_SHOWN:
        table.add_row(f"and {len(busiest) - WORKERS_SHOWN} less busy", style="dim")
    return table


def _worker(report: dict[str, object], lost: bool) -> Iterator[str]:
    ledger, clock_ns = report["ledger"], report["clock_bound_ns"]
    assert isinstance(ledger, dict)
    yield f"{report['worker']} {report['host']}" + (" LOST" if lost else "")
    yield f"{ledger['in_flight']:,}"
    yield f"{sum(ledger['outcomes'].values()):,}"
    yield f"{100 * float(str(report['cpu_share_max'])):.0f} %"
    yield ms_text(float(str(report["loop_overshoot_ms_p99"])))
    yield "–" if clock_ns is None else ms_text(int(str(clock_ns)) / 1e6)


def _nodes(standing: Standing) -> RenderableType:
    known = standing.observed.nodes_known if standing.observed is not None else 0
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column(f"lowest reputation of {known} nodes seen")
    for name in ("precommit", "commit", "heard"):
        table.add_column(name, justify="right")
    for node in standing.lowest_nodes:
        rates = (share_text(rate) for rate in (node.precommit_rate, node.commit_rate))
        age_s = (node.age_s or 0.0) + (standing.observed_age_s or 0.0)
        table.add_row(Text(node.node[:14]), *rates, f"{age_s:.0f} s ago")
    return table
