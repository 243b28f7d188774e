"""How wrong the harness is: its rows against the truth log of a simulator, request by request.

Each error is the difference of two durations, one taken by the client and one by the simulator, so the two need
not share a clock. What lies between them on the way (loopback: tens of microseconds) counts as our error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.analysis import metrics
from loadtest.analysis.frames import Floats, scalar_columns, to_frame
from loadtest.analysis.percentiles import number, present_quantile
from loadtest.fitness import CLOCK_BOUND_MS_MAX
from loadtest.records import RequestRecord, TruthRecord
from loadtest.runfolder import read_manifest, read_table, read_truth, require_rows

DELIVERY_MS = 1.0  # from "just before the write" to the client's kernel: allowed beside the stated bound
_Lists = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # values of all lists end to end, length of each


def accuracy(run: Path, truth_path: Path) -> dict[str, Any]:
    """Errors of a run against the truth log, joined by client_reference.

    `ttft_ms`, `e2e_ms`, `itl_ms`: n, p50, p99 and worst of the absolute error in ms, over good answers. ITL compares
    gap by gap where both sides have the same number of chunks. `bound` says how many gaps, and on one machine how many
    arrivals, lie inside the bound stated in the row (plus DELIVERY_MS). RunFolderError as the readers raise it.
    """
    require_rows(run, read_manifest(run))
    table = read_table(run, "requests", [*scalar_columns(RequestRecord), "chunk_ns", "chunk_bound_ns"])
    truth_table = read_truth(truth_path)
    requests = to_frame(table.select(scalar_columns(RequestRecord)))
    truth = to_frame(truth_table.select(scalar_columns(TruthRecord)))
    pairs, counts = _pairs(requests, truth)
    ours = requests.iloc[pairs["row"]].reset_index(drop=True)
    theirs = truth.iloc[pairs["truth"]].reset_index(drop=True)

    good = metrics.ok(ours)
    ttft = _error_ms(ours, ("first_content_ns", "sent_ns"), theirs, ("first_written_ns", "received_ns"))
    e2e = _error_ms(ours, ("done_ns", "sent_ns"), theirs, ("done_ns", "received_ns"))
    chunks = _chunks(table, truth_table, pairs[good], ours[good], theirs[good])
    return {
        **counts,
        "ttft_ms": _spread(ttft[good & ours["stream"].to_numpy(dtype=bool)]),
        "e2e_ms": _spread(e2e[good]),
        "itl_ms": _spread(chunks.gap_error_ms),
        "bound": {
            "answers_compared": chunks.answers,
            "answers_other_chunk_count": chunks.uneven,
            "delivery_ms": DELIVERY_MS,
            "gaps": len(chunks.gap_inside),
            "gaps_inside_share": _share(chunks.gap_inside),
            "arrivals": len(chunks.arrival_inside),
            "arrivals_inside_share": _share(chunks.arrival_inside),
        },
    }


def accuracy_text(found: dict[str, Any]) -> str:
    """The figures of `accuracy` as a small table for a terminal."""
    lines = [f"{'absolute error, ms':<20}{'n':>9}{'p50':>10}{'p99':>10}{'worst':>10}"]
    for name, title in (("ttft_ms", "TTFT"), ("e2e_ms", "E2E"), ("itl_ms", "ITL, gap by gap")):
        each = found[name]
        figures = "".join(f"{_cell(each[level]):>10}" for level in ("p50", "p99", "worst"))
        lines.append(f"{title:<20}{each['n']:>9}{figures}")
    bound = found["bound"]
    lines.append(
        f"matched {found['matched']} of {found['rows']} sent requests; {found['rows_without_truth']} have no truth, "
        f"{found['truth_without_row']} truths no row, {found['duplicates']} references occur twice"
    )
    for name in ("gaps", "arrivals"):
        if bound[name]:
            share = 100 * bound[f"{name}_inside_share"]
            lines.append(f"{share:.2f} % of {bound[name]} {name} inside the stated bound + {bound['delivery_ms']:g} ms")
    if bound["answers_other_chunk_count"]:
        lines.append(f"{bound['answers_other_chunk_count']} answers left out of ITL: another number of chunks")
    return "\n".join(lines)


def _pairs(requests: pd.DataFrame, truth: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Row numbers that belong together. A reference that occurs twice on either side proves nothing: left out."""
    sent = requests.loc[metrics.tried(requests), ["client_reference"]].reset_index(names="row")
    served = truth[["client_reference"]].reset_index(names="truth")
    twice = [side["client_reference"].duplicated(keep=False) for side in (sent, served)]
    both = sent.merge(served, on="client_reference", how="outer", indicator=True)
    pairs = sent[~twice[0]].merge(served[~twice[1]], on="client_reference", validate="1:1")
    return pairs[["row", "truth"]], {
        "rows": len(sent),
        "matched": len(pairs),
        "rows_without_truth": int((both["_merge"] == "left_only").sum()),
        "truth_without_row": int((both["_merge"] == "right_only").sum()),
        "duplicates": int(
            sum(side[dup]["client_reference"].nunique() for side, dup in zip((sent, served), twice, strict=True))
        ),
    }


def _error_ms(ours: pd.DataFrame, mine: tuple[str, str], theirs: pd.DataFrame, true: tuple[str, str]) -> Floats:
    error = (ours[mine[0]] - ours[mine[1]]) - (theirs[true[0]] - theirs[true[1]])
    values: Floats = error.to_numpy(dtype=np.float64, na_value=np.nan)
    return values / 1e6


def _spread(errors_ms: Floats) -> dict[str, Any]:
    size = np.abs(errors_ms[~np.isnan(errors_ms)])
    return {
        "n": len(size),
        "p50": present_quantile(size, 0.50),
        "p99": present_quantile(size, 0.99),
        "worst": number(float(size.max())) if len(size) else None,
    }


class _Chunks(NamedTuple):
    answers: int
    uneven: int  # answers whose sides count chunks differently
    gap_error_ms: Floats
    gap_inside: npt.NDArray[np.bool_]
    arrival_inside: npt.NDArray[np.bool_]  # empty when the clocks are not shared


def _chunks(table: pa.Table, truth: pa.Table, pairs: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame) -> _Chunks:
    """Compare chunk lists of matched good answers. True arrivals lie in (arrival - bound, arrival]."""
    rows, truths = (pairs[side].to_numpy(dtype=np.int64) for side in ("row", "truth"))
    _, mine = _lists(table["chunk_ns"].take(pa.array(rows)))
    _, true = _lists(truth["chunk_ns"].take(pa.array(truths)))
    even = (mine == true) & (mine > 0)
    rows, truths = rows[even], truths[even]
    arrival, sizes = _lists(table["chunk_ns"].take(pa.array(rows)))
    bound, bound_sizes = _lists(table["chunk_bound_ns"].take(pa.array(rows)))
    written, _ = _lists(truth["chunk_ns"].take(pa.array(truths)))
    if not np.array_equal(sizes, bound_sizes):
        bound = np.zeros(len(arrival), dtype=np.int64)
    slack = int(DELIVERY_MS * 1e6)
    same = np.diff(np.repeat(np.arange(len(sizes)), sizes)) == 0  # the gap does not cross into the next answer
    error = (np.diff(arrival) - np.diff(written))[same]
    inside = (error >= -bound[:-1][same] - slack) & (error <= bound[1:][same] + slack)
    way = _way_ns(ours[even], theirs[even])
    late = arrival - written - np.repeat(way, sizes) if way is not None else np.empty(0, dtype=np.int64)
    arrived = (late >= 0) & (late <= bound + slack) if way is not None else np.empty(0, dtype=np.bool_)
    return _Chunks(int(even.sum()), int(((mine > 0) & ~even).sum()), error / 1e6, inside, arrived)


def _way_ns(ours: pd.DataFrame, theirs: pd.DataFrame) -> npt.NDArray[np.int64] | None:
    """received - sent of each answer when both sides read one monotonic clock, else None.

    One machine has one clock: its worker measures no offset to the master that a bound could not explain, and every
    request is received after it was sent and before its answer was done.
    """
    if (ours["clock_offset_ns"].abs() > CLOCK_BOUND_MS_MAX * 1e6).any():
        return None
    way: npt.NDArray[np.int64] = (theirs["received_ns"] - ours["sent_ns"]).to_numpy(dtype=np.int64)
    took = (ours["done_ns"] - ours["sent_ns"]).to_numpy(dtype=np.int64)
    return way if len(way) and bool(((way >= 0) & (way <= took)).all()) else None


def _lists(lists: pa.ChunkedArray) -> _Lists:
    values = pc.list_flatten(lists).to_numpy().astype(np.int64)
    return values, pc.list_value_length(lists).to_numpy().astype(np.int64)


def _share(inside: npt.NDArray[np.bool_]) -> float | None:
    return round(float(inside.mean()), 6) if len(inside) else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
