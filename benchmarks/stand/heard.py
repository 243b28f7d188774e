"""What each client heard, read from the file it wrote and made alike: one Heard per request."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtest import spool
from loadtest.records import Outcome, RequestRecord
from stand.native import Instants, split_by_first_column
from stand.task import stream_of, unpack_rows


@dataclass(slots=True)
class Heard:
    """One request as a client tells it, monotonic ns."""

    reference: str
    stream: int
    sent_ns: int
    done_ns: int
    arrivals_ns: Instants
    bounds_ns: Instants | None = None  # only ours states them
    record: RequestRecord | None = None


def of_ours(path: Path) -> list[Heard]:
    """The finished rows of a spool. RuntimeError when a request failed: the stand's server answers them all."""
    heard = []
    for entry in spool.unpack(path.read_bytes()):
        if not isinstance(entry, spool.Finished):
            continue
        row = entry.record
        if row.outcome != Outcome.OK or row.sent_ns is None or row.done_ns is None:
            raise RuntimeError(f"{row.client_reference} ended as {row.outcome} {row.error_kind} {row.error_text}")
        arrivals = row.sent_ns + np.array(row.chunk_ns, dtype=np.int64)
        bounds = np.array(row.chunk_bound_ns, dtype=np.int64)
        name = row.client_reference
        heard.append(Heard(name, stream_of(name), row.sent_ns, row.done_ns, arrivals, bounds, row))
    return heard


def of_peer(path: Path) -> list[Heard]:
    return [
        Heard(row.reference, stream_of(row.reference), row.sent_ns, row.done_ns, np.array(row.arrivals_ns, np.int64))
        for row in unpack_rows(path.read_bytes())
    ]


def of_c(prefix: Path) -> list[Heard]:
    arrivals = split_by_first_column(np.fromfile(f"{prefix}.chunks", dtype=np.int64).reshape(-1, 2))
    with Path(f"{prefix}.csv").open() as rows:
        return [
            Heard(
                row["id"],
                int(row["conn"]),
                int(row["t0"]),
                int(row["t0"]) + int(row["e2e"]),
                arrivals.get(number, np.empty(0, np.int64)),  # an answer in one piece has no chunks
            )
            for number, row in enumerate(csv.DictReader(rows))
        ]
