"""The tables of a report, as data: page, Markdown and console draw the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from loadtest.report import wording
from loadtest.report.wording import ABSENT, PERCENTILES, Scale, Summary

SMALL_NOTE = "* too few requests to compare this with another."
FOLDED_FROM, ROWS_SHOWN = 14, 10
WHOLE = ("account", "limits", "offered", "latency", "findings")  # tables that are read as one

_BEGINNINGS = frozenset("0123456789-≥≤")
Kind = Literal["text", "number", "hostile", "pass", "fail", "quiet"]


class Cell(NamedTuple):
    """What is printed, and for a number the exact value behind it. `hostile` text came from outside.

    `small` stands below it, or after it where there are no lines: an interval.
    """

    text: str
    value: float | None = None
    kind: Kind = "text"
    small: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table. A row whose first cell is empty continues the row above it."""

    key: str
    title: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def unfolded(self) -> int:
        """How many rows a page shows before it is asked for the rest; paper has all."""
        return len(self.rows) if self.key in WHOLE or len(self.rows) <= FOLDED_FROM else ROWS_SHOWN


def number(value: Any, text: str) -> Cell:
    # What says why there is no number hides none: a reader could not tell which of them was meant.
    return Cell(text, wording.figure(value) if text[:1] in _BEGINNINGS else None, "number")


def quiet(text: str) -> Cell:
    """A number that is read only when looked for, such as an interval."""
    return Cell(text, None, "quiet")


def account(summary: Summary) -> Table:
    """Every planned turn by outcome, and their sum."""
    found = part_of(summary, "account")
    shares = wording.part(found, "shares")
    rows = [
        (Cell(name.replace("_", " ")), number(n, wording.count(n)), share(shares.get(name)))
        for name, n in wording.by_size(wording.part(found, "outcomes"))
    ]
    rows.append((Cell("sum"), number(found.get("rows"), wording.count(found.get("rows"))), Cell("")))
    return _table("account", "Outcome of every planned turn", ("outcome", "turns", "of planned"), 1, rows)


def share(value: Any) -> Cell:
    return number(value, wording.percent(value, 2))


def limits(summary: Summary) -> Table:
    """The SLO limits of the profile and what was observed."""
    rows = []
    for slo in objects(summary, "result", "slos"):
        metric, verdict = str(slo.get("metric")), str(slo.get("verdict"))
        sign = "≥" if slo.get("kind") == "min" else "≤"
        kind: Kind = "pass" if verdict == "pass" else "fail" if verdict == "fail" else "text"
        rows.append(
            (
                Cell(metric, None, "hostile"),
                number(slo.get("limit"), f"{sign} {wording.slo_figure(metric, slo.get('limit'))}"),
                number(slo.get("observed"), wording.slo_figure(metric, slo.get("observed"))),
                number(slo.get("n"), wording.count(slo.get("n"))),
                Cell(verdict, None, kind),
            )
        )
    columns = ("limit", "asked for", "observed", "n", "verdict")
    return Table("limits", "Limits of the profile", columns, (False, True, True, True, False), tuple(rows))


def offered(summary: Summary) -> Table:
    """Arrivals and lengths: what the process gives by formula, what the plan drew, what was sent and answered."""
    compared = wording.part(summary, "offered", "compared")
    rows = []
    for key, (label, _, places) in wording.OFFERED.items():
        sides = wording.part(compared, key)
        if sides:
            cells = (number(sides.get(s), wording.decimal(sides.get(s), places)) for s in ("intended", "realised"))
            stated = number(sides["process"], wording.decimal(sides["process"], places)) if "process" in sides else None
            rows.append((Cell(label), stated or quiet(""), *cells))
    columns = ("", "process", "intended", "realised")
    title = "Offered: intended against realised"
    return Table("offered", title, columns, (False, True, True, True), tuple(rows), wording.offered_note(summary))


def latency(summary: Summary) -> Table:
    """Percentiles with their intervals and n; service and response stand side by side."""
    rows: list[tuple[Cell, ...]] = []
    for metric, (name, _) in wording.metrics_of(summary).items():
        cells = wording.part(summary, "latency", metric)
        service, response = wording.part(cells, "service"), wording.part(cells, "response")
        if service or response:
            rows.extend(_metric_rows(name, service, response))
    columns = ("metric", "", "service", "95 % interval", "n", "response", "95 % interval", "n")
    note = "Service counts from the instant the request was sent, response from the instant it was due. "
    note += "A request that failed counts as slower than every answer, so a percentile among failures has no value. "
    note += "TPOT and ITL lie between two instants of one answer: for them there is no response form. "
    note += "Gaps of one answer are not independent, so ITL has no interval. Intervals count turns of one conversation "
    note += "and of one minute as alike: "
    e2e = wording.part(summary, "latency", "e2e_ms", "service")
    effective = wording.count(e2e.get("p95_n_effective"))
    note = wording.say(note, "of E2E's ", wording.count(e2e.get("n")), " turns, its p95 stands on ", effective, ".")
    return Table("latency", "Latency", columns, (False, False, *[True] * 6), tuple(rows), note)


def _metric_rows(name: str, service: Summary, response: Summary) -> list[tuple[Cell, ...]]:
    scale = wording.scale_of(cell.get(p) for cell in (service, response) for p in PERCENTILES)
    rows: list[tuple[Cell, ...]] = []
    for place, percentile in enumerate((*PERCENTILES, "max")):
        label = Cell(f"{name}, {scale.unit}" if place == 0 else "")
        rows.append(
            (
                label,
                Cell(percentile),
                *_quantile_cells(service, percentile, scale),
                *_quantile_cells(response, percentile, scale),
            )
        )
    return rows


def _quantile_cells(cell: Summary, percentile: str, scale: Scale) -> tuple[Cell, Cell, Cell]:
    if not cell:
        return Cell(""), Cell(""), Cell("")
    value = number(cell.get(percentile), wording.quantile(cell, percentile, scale))
    if percentile == "max":  # the largest of n has no interval without assuming a distribution
        censored = cell.get("censored")
        return value, quiet(""), quiet(wording.say(wording.count(censored), " failed") if censored else "")
    return value, quiet(wording.interval(cell, percentile, scale)), number(cell.get("n"), wording.count(cell.get("n")))


_VERDICT_KINDS: dict[str, Kind] = {"consistent": "pass", "found": "fail"}


def findings(summary: Summary) -> Table:
    """What each network check found, what was found first."""
    order = {"found": 0, "consistent": 1, "cannot tell": 2}
    found = sorted(objects(summary, "findings"), key=lambda f: order.get(str(f.get("verdict")), 3))
    rows = []
    for finding in found:
        verdict = str(finding.get("verdict"))
        evidence = [str(line) for line in wording.listed(finding, "evidence")]
        p_value = wording.figure(finding.get("p_value"))
        rows.append(
            (
                Cell(str(finding.get("check"))),
                Cell(verdict, None, _VERDICT_KINDS.get(verdict, "text")),
                Cell(str(finding.get("text"))),
                number(p_value, ABSENT if p_value is None else f"{p_value:.2g}"),
                Cell("; ".join(evidence)),
            )
        )
    columns = ("check", "finding", "what", "p", "evidence")
    note = (
        "Each check has its null model; p is of the check alone. Found means p below 1 % after Holm's correction for "
    )
    note += "all checks, or an account that does not add up, which has no p. What each check looks at and how small a "
    note += "fault it finds: docs/detection.md."
    return Table("findings", "Network checks", columns, (False, False, False, True, False), tuple(rows), note)


def harness(summary: Summary) -> Table:
    """The harness's own error: how far the figures above can be believed."""
    cells = wording.part(summary, "harness")
    rows = []
    for label, key in wording.HARNESS:
        spread = wording.part(cells, key)
        scale = wording.scale_of(spread.get(k) for k in ("p50", "p99", "max"))
        values = (number(spread.get(k), scale.text(spread.get(k))) for k in ("p50", "p99", "max"))
        rows.append((Cell(f"{label}, {scale.unit}"), *values))
    columns = ("the harness's own error", "p50", "p99", "max")
    return Table("harness", "", columns, (False, True, True, True), tuple(rows))


def harness_facts(summary: Summary) -> Table:
    cells = wording.part(summary, "harness")
    rows = [
        ("A worker's loop ran late by, p99 of the worst", wording.duration(cells.get("loop_overshoot_ms_p99"))),
        ("Highest share of a core a worker used", wording.percent(cells.get("cpu_share_max"))),
        ("Clocks of the workers are known within", wording.duration(cells.get("clock_bound_ms_max"))),
        ("Reads stamped by the kernel", wording.percent(cells.get("kernel_share"))),
        ("Chunks that shared their read with an earlier one", wording.percent(cells.get("coalesced_share"))),
    ]
    return _facts("harness-facts", "", rows)


def attribution(summary: Summary) -> Table:
    """Whom the requests could be attributed to, and how."""
    cells = wording.part(summary, "attribution")
    rows = [
        ("Requests", wording.count(cells.get("requests"))),
        ("Tasks looked up", wording.percent(cells.get("lookup_share"))),
        ("Attributed to a node", _with_share(cells, "attributed")),
        *((f"  by {name}", wording.count(n)) for name, n in _sorted(cells, "by_source")),
        ("Unattributed", _with_share(cells, "unattributed")),
        *((f"  {name}", wording.count(n)) for name, n in _sorted(cells, "unattributed_reasons")),
    ]
    return _facts("attribution", "Attribution", rows)


def join(summary: Summary) -> Table:
    """How many rows met a snapshot, and how old it was."""
    cells = wording.part(summary, "join")
    age = wording.part(cells, "snapshot_age_s")
    rows = [
        ("Rows to join", wording.count(cells.get("rows"))),
        ("With a snapshot from before they were sent", _with_share(cells, "with_snapshot")),
        *((f"  without: {name}", wording.count(n)) for name, n in _sorted(cells, "without")),
        ("Age of the snapshot, s: p50", wording.decimal(age.get("p50"), 1)),
        ("  p95", wording.decimal(age.get("p95"), 1)),
        ("  max", wording.decimal(age.get("max"), 1)),
        ("Oldest snapshot that is used, s", wording.decimal(cells.get("tolerance_s"), 0)),
    ]
    return _facts("join", "Join with reputation", rows)


def part_of(summary: Summary, key: str) -> Summary:
    return wording.part(summary, key)


def _facts(key: str, title: str, rows: Iterable[tuple[str, str]]) -> Table:
    cells = tuple((Cell(label, None, "hostile"), Cell(text, None, "number")) for label, text in rows)
    return Table(key, title, ("", ""), (False, True), cells)


def _table(key: str, title: str, columns: tuple[str, ...], labels: int, rows: Sequence[tuple[Cell, ...]]) -> Table:
    numeric = tuple(place >= labels for place in range(len(columns)))
    return Table(key, title, columns, numeric, tuple(rows))


def _with_share(cells: Summary, name: str) -> str:
    n, of_all = wording.count(cells.get(name)), cells.get(f"{name}_share")
    return n if wording.figure(of_all) is None else wording.say(n, " (", wording.percent(of_all, 2), ")")


def _sorted(cells: Summary, key: str) -> list[tuple[str, Any]]:
    return sorted(wording.part(cells, key).items(), key=lambda item: (-item[1], item[0]))


def objects(summary: Summary, *path: str) -> list[Summary]:
    return [found for found in wording.listed(summary, *path) if isinstance(found, dict)]
