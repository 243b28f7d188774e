"""Cold effects as a table: requests that opened a connection or met a node for the first time, beside the others."""

from __future__ import annotations

from loadtest.report import wording
from loadtest.report.tables import SMALL_NOTE, Cell, Table, number
from loadtest.report.wording import Summary

_HEADS = {"ttft_ms": "TTFT", "e2e_ms": "E2E", "connecting_ms": "connecting", "tls_ms": "TLS"}


def cold(summary: Summary) -> Table:
    """Of the whole run, warm-up included. A column that no row has a value in is left out."""
    found = [row for row in wording.listed(summary, "cold") if isinstance(row, dict)]
    columns = [f"{metric}_{level}" for metric in _HEADS for level in ("p50", "p95")]
    columns = [key for key in columns if any(wording.figure(row.get(key)) is not None for row in found)]
    scales = {m: wording.scale_of(row.get(f"{m}_{p}") for row in found for p in ("p50", "p95")) for m in _HEADS}
    heads = [f"{_HEADS[key[:-4]]} {key[-3:]},\N{NO-BREAK SPACE}{scales[key[:-4]].unit}" for key in columns]
    rows = [
        (
            Cell(str(row.get("name"))),
            number(row.get("requests"), wording.count(row.get("requests")) + (" *" if row.get("n_too_small") else "")),
            *(number(row.get(key), scales[key[:-4]].text(row.get(key))) for key in columns),
        )
        for row in found
    ]
    note = (
        "The whole run, warm-up included. Connecting and TLS come before a request is sent: no service time has them."
    )
    if any(row.get("n_too_small") for row in found):
        note += f" {SMALL_NOTE}"
    numeric = (False, *[True] * (len(columns) + 1))
    return Table("cold", "Cold effects", ("request", "requests", *heads), numeric, tuple(rows), note)
