"""Told against true: the errors of TTFT, ITL and E2E per request, and what the client says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from loadtest import fitness
from loadtest.quantiles import nearest_rank
from loadtest.records import RequestRecord
from stand.heard import Heard
from stand.native import Served
from stand.task import Told

CHUNKS, TTFT_MS, ITL_MS = 100, 100, 20
BURST_NS = 2_000_000_000  # requests sent at least this long after the first one are after the burst
WRITE_NS = 100_000  # between the server's look at its clock and the arrival of what it wrote
CLOCK_NS = 20_000  # a kernel stamp may seem earlier than that look by the error of the wall clock's offset


class Spread(NamedTuple):
    """Absolute errors, ms."""

    p50: float
    p99: float
    worst: float


@dataclass(slots=True)
class Figures:
    """One cell. Shares are 0 to 1; what a client does not state is None."""

    client: str
    streams: int
    chunks: int
    cpu_us: float  # of the whole load phase
    rate_share: float  # of the rate at which streams without any wait between requests would run
    ttft: Spread
    ttft_after: Spread  # the burst
    itl: Spread
    e2e: Spread
    memory_mb: float  # peak above the idle process
    others: float  # of the busier core, taken by processes that are neither the client nor the server
    in_bound: float | None = None
    coalesced: float | None = None
    kernel: float | None = None
    unfit: tuple[str, ...] = ()


def figures_of(
    client: str, streams: int, told: Told, heard: list[Heard], served: dict[str, Served], others: float
) -> Figures:
    """RuntimeError when a client heard another number of chunks than was sent."""
    first_ns = min(each.sent_ns for each in heard)
    ttft, ttft_after, e2e, itl, inside = [], [], [], [], []
    for each in heard:
        true = served[each.reference]
        if len(each.arrivals_ns) != len(true.chunk_ns):
            raise RuntimeError(f"{client}: {each.reference} has {len(each.arrivals_ns)} of {len(true.chunk_ns)} chunks")
        told_ns, true_ns = int(each.arrivals_ns[0]) - each.sent_ns, true.first_ns - true.received_ns
        ttft.append(abs(told_ns - true_ns) / 1e6)
        if each.sent_ns - first_ns >= BURST_NS:
            ttft_after.append(ttft[-1])
        e2e.append(abs((each.done_ns - each.sent_ns) - (true.last_ns - true.received_ns)) / 1e6)
        itl.append(np.abs(np.diff(each.arrivals_ns) - np.diff(true.chunk_ns)))
        if each.bounds_ns is not None:
            late = each.arrivals_ns - each.bounds_ns > true.chunk_ns + WRITE_NS
            early = each.arrivals_ns + CLOCK_NS < true.chunk_ns
            inside.append(1 - np.mean(late | early))
    made = Figures(
        client=client,
        streams=streams,
        chunks=sum(len(each.arrivals_ns) for each in heard),
        cpu_us=told.cpu_ns / 1e3,
        rate_share=_rate_share(heard, served),
        ttft=_spread(ttft),
        ttft_after=_spread(ttft_after),
        itl=_spread(np.concatenate(itl) / 1e6),
        e2e=_spread(e2e),
        memory_mb=(told.peak_kb - told.idle_kb) / 1024,
        others=others,
    )
    if inside:
        _self_told(made, told, heard, float(np.mean(inside)))
    return made


def _self_told(made: Figures, told: Told, heard: list[Heard], inside: float) -> None:
    rows = [each.record for each in heard if each.record is not None]
    made.in_bound = inside
    made.coalesced = sum(row.chunks_coalesced for row in rows) / made.chunks
    made.kernel = sum(row.reads_kernel for row in rows) / sum(row.reads for row in rows)
    reasons = fitness.unfit_reasons(
        fitness.Figures(
            planned_turns=len(rows),
            stored_turns=len(rows),
            lost_turns=0,
            dropped_turns=0,
            first_turns=len(rows),
            workers_expected=1,
            workers_lost=0,
            rows_overflowed=told.figures["rows_overflowed"],
            send_lag_ms_p99=_spread([(_began_ns(row) - row.scheduled_ns) / 1e6 for row in rows]).p99,
            ttft_ms_p50=median(((row.first_content_ns or 0) - (row.sent_ns or 0)) / 1e6 for row in rows),
            receive_error_ms_p99=_spread([(row.first_content_bound_ns or 0) / 1e6 for row in rows]).p99,
            loop_overshoot_ms_p99=told.figures["overshoot_ns_p99"] / 1e6,
            worker_cpu_share_max=told.figures["cpu_share_max"],
            clock_bound_ms_max=0.0,  # one machine
            measured_requests=len(rows),
        )
    )
    made.unfit = tuple(f"{reason.rule}: {reason.text}" for reason in reasons)


def _began_ns(row: RequestRecord) -> int:
    """When the client began: to connect, where it did (CHANGELOG, send lag)."""
    began_ns = row.connecting_ns if row.connection_new else None
    return began_ns or row.sent_ns or 0


def _rate_share(heard: list[Heard], served: dict[str, Served]) -> float:
    """Over the streams: the time its answers take by plan, over the time it was at it."""
    by_stream: dict[int, list[Heard]] = {}
    for each in heard:
        by_stream.setdefault(each.stream, []).append(each)
    planned_ns = spent_ns = 0.0
    for requests in by_stream.values():
        spent_ns += max(each.done_ns for each in requests) - min(each.sent_ns for each in requests)
        planned_ns += sum(
            TTFT_MS * 1e6 + ITL_MS * 1e6 * (len(served[each.reference].chunk_ns) - 1) for each in requests
        )
    return planned_ns / spent_ns


def _spread(values: Iterable[float]) -> Spread:
    ordered = sorted(float(value) for value in values)
    if not ordered:
        return Spread(0.0, 0.0, 0.0)
    return Spread(nearest_rank(ordered, 0.5), nearest_rank(ordered, 0.99), ordered[-1])


def median_of(rounds: list[Figures]) -> Figures:
    """The rounds of one cell as one: medians of every figure, except the reasons, which are all kept."""
    middles = {
        name: _middle([getattr(each, name) for each in rounds])
        for name in Figures.__dataclass_fields__
        if name not in ("client", "streams", "unfit")
    }
    return replace(rounds[0], **middles, unfit=tuple(reason for each in rounds for reason in each.unfit))


def _middle(values: list[Any]) -> Any:
    if isinstance(values[0], Spread):
        return Spread(*(median(column) for column in zip(*values, strict=True)))
    return None if values[0] is None else median(values)
