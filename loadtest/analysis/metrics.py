"""The metrics: one function each over the requests frame, one value per row, in the order of the frame.

Shared rules (method: Tene for response, Le Boudec for censoring):
- A latency is a float in milliseconds. NaN means *absent*: the metric does not apply to this row and the row
  is in no denominator. +inf means *censored*: the turn was offered and did not end well, so its value is
  larger than anything seen; percentiles that fall among them are printed as "> N s".
- *service* counts from `sent` and is censored for every failed turn that was tried.
- *response* counts from `scheduled`, the plan, and is censored also for turns that were dropped.
- `not_reached` turns are absent everywhere: they were never due.
- A turn that its member broke off as planned (`broken_off`) is no failure. Its TTFT is what was seen; one broken off
  after a time, before any content, is censored there. It has no E2E and no TPOT, and is in no share of good turns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from loadtest.analysis.batches import one_ahead
from loadtest.analysis.frames import Floats, Mask
from loadtest.analysis.gaps import GapsByTime
from loadtest.quantiles import LogHistogram
from loadtest.records import CANCELLED_BY_MEMBER, NOT_SENT, Outcome, Phase, RequestRecord
from loadtest.runfolder import part_paths, read_part

# Raised whenever a metric comes to mean something else (CHANGELOG, Definitions): what a run of the version before says
# must not be compared with what this one says, and a gate's baseline begins anew.
DEFINITIONS_VERSION = 1

_WAITED = (Outcome.CLIENT_TIMEOUT, Outcome.ROUTER_TIMEOUT, Outcome.CANCELLED)


def measured(requests: pd.DataFrame) -> pd.DataFrame:
    """The measured cohort: turns scheduled in the measure phase, whenever they ended."""
    return requests[is_measured(requests)].reset_index(drop=True)


def is_measured(requests: pd.DataFrame) -> Mask:
    """Which turns are of the measured cohort."""
    return (requests["phase"] == Phase.MEASURE.value).to_numpy(dtype=bool)


def ok(requests: pd.DataFrame) -> Mask:
    """Turns that ended well."""
    return (requests["outcome"] == Outcome.OK.value).to_numpy(dtype=bool)


def tried(requests: pd.DataFrame) -> Mask:
    """Turns for which a request left the harness or was about to: neither dropped nor not reached."""
    return ~requests["outcome"].isin([o.value for o in NOT_SENT]).to_numpy(dtype=bool)


def broken_off(requests: pd.DataFrame) -> Mask:
    """Turns that ended as their persona had planned: broken off by the member. See `records.CANCELLED_BY_MEMBER`."""
    cancelled = (requests["outcome"] == Outcome.CANCELLED.value).to_numpy(dtype=bool)
    return cancelled & requests["error_kind"].isin(CANCELLED_BY_MEMBER).to_numpy(dtype=bool)


def offered(requests: pd.DataFrame) -> Mask:
    """Turns that were due: all but those not reached. The denominator of offered load."""
    return (requests["outcome"] != Outcome.NOT_REACHED.value).to_numpy(dtype=bool)


def ttft_ms(requests: pd.DataFrame) -> Floats:
    """Time to first token, service: first_content - sent, ms. First non-empty text, reasoning included.

    Absent for turns that did not ask for a stream, and for good answers in which no content was timed.
    """
    return _first_content_ms(requests, "sent_ns", tried(requests))


def ttft_response_ms(requests: pd.DataFrame) -> Floats:
    """Time to first token, response: first_content - scheduled, ms. Absent as in `ttft_ms`; dropped is censored."""
    return _first_content_ms(requests, "scheduled_ns", offered(requests))


def e2e_ms(requests: pd.DataFrame) -> Floats:
    """End to end, service: done - sent, ms, to the end of the stream and not to its last content."""
    return _latency(requests, "done_ns", "sent_ns", np.ones(len(requests), dtype=bool), tried(requests))


def e2e_response_ms(requests: pd.DataFrame) -> Floats:
    """End to end, response: done - scheduled, ms; dropped is censored."""
    return _latency(requests, "done_ns", "scheduled_ns", np.ones(len(requests), dtype=bool), offered(requests))


def tpot_ms(requests: pd.DataFrame) -> Floats:
    """Time per output token: (last_content - first_content) / (n_out - 1), ms, one value per request.

    Absent for turns that did not ask for a stream and for answers of fewer than two tokens. A failed stream is
    censored, not absent: giving up on slow answers must not make the rest look fast.
    """
    tokens = output_tokens(requests)
    spread = _elapsed_ms(requests, "last_content_ns", "first_content_ns")
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(tokens >= 2, spread / (tokens - 1), np.nan)
    return _censored(requests, value, _streamed(requests), tried(requests))


def send_lag_ms(requests: pd.DataFrame) -> Floats:
    """Our own lateness: (connecting, else sent) - scheduled, ms. Absent where nothing was sent.

    A request that opens its connection is on its way from the first packet: connecting and the TLS handshake wait for
    the target, not for us, and a far one would make every run unfit. They count in the response figures.
    """
    opened = requests["connection_new"] & requests["sent_ns"].notna() & requests["connecting_ns"].notna()
    began = requests["connecting_ns"].where(opened, requests["sent_ns"])
    return _elapsed_ms(requests.assign(began_ns=began), "began_ns", "scheduled_ns")


def tokens_per_s(requests: pd.DataFrame) -> Floats:
    """Output rate as the member sees it: n_out / (done - sent), tokens per second. Absent unless ok."""
    seconds = _elapsed_ms(requests, "done_ns", "sent_ns") / 1e3
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = output_tokens(requests) / seconds
    return np.where(ok(requests) & (seconds > 0), rate, np.nan)


def output_tokens(requests: pd.DataFrame) -> Floats:
    """n_out: the server's usage when it says more than 0, else our count, else the number of content chunks.

    Clients of the router report usage objects full of zeros, so a zero is "not told".
    """
    usage = _numbers(requests, "usage_completion_tokens")
    counted = _numbers(requests, "counted_tokens")
    chunks = _numbers(requests, "content_chunks")
    return np.where(usage > 0, usage, np.where(counted > 0, counted, np.where(chunks > 0, chunks, np.nan)))


def waited_ms(requests: pd.DataFrame, since: str) -> Floats:
    """How long a timed-out or cancelled turn is known to have taken at least: done - since, ms; else NaN."""
    waited = requests["outcome"].isin([o.value for o in _WAITED]).to_numpy(dtype=bool)
    return np.where(waited, _elapsed_ms(requests, "done_ns", since), np.nan)


def itl_histogram(
    run: Path, phase: Phase = Phase.MEASURE, from_ns: int = 0, by_time: GapsByTime | None = None
) -> LogHistogram:
    """Inter-token latency: the gaps between content chunks of one phase, pooled over chunks, ns, within 1 %.

    `from_ns` leaves out turns that were due before it, on the master's monotonic clock.

    Summed from the histogram in every row, one part file at a time, so chunk lists are not needed. Gaps seen
    before a failure are real and stay in. `by_time` is given the rows of all phases: their lists are read once.
    """
    total = LogHistogram()
    columns = ["phase", "scheduled_ns", "sent_ns", "clock_offset_ns", "itl_keys", "itl_counts"]
    for part in one_ahead(read_part(path, RequestRecord, columns) for path in part_paths(run, "requests")):
        if by_time is not None:
            by_time.add(part)
        due_ns = pc.add(part["scheduled_ns"], part["clock_offset_ns"])
        part = part.filter(pc.and_(pc.equal(part["phase"], phase.value), pc.greater_equal(due_ns, from_ns)))
        keys = pc.list_flatten(part["itl_keys"]).to_numpy()
        if len(keys):
            least = keys.min()  # keys are logarithms: from -1 to some 2,000
            counts = np.bincount(keys - least, weights=pc.list_flatten(part["itl_counts"]).to_numpy())
            seen = np.flatnonzero(counts)
            total.merge((seen + least).tolist(), counts[seen].astype(np.int64).tolist())
    return total


def _streamed(requests: pd.DataFrame) -> Mask:
    return requests["stream"].to_numpy(dtype=bool)


def _numbers(requests: pd.DataFrame, name: str) -> Floats:
    values: Floats = requests[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _elapsed_ms(requests: pd.DataFrame, later: str, earlier: str) -> Floats:
    """Subtracted as integers, then turned into ms: exact to the nanosecond however long the machine is up."""
    values: Floats = (requests[later] - requests[earlier]).to_numpy(dtype=np.float64, na_value=np.nan)
    values /= 1e6  # in its place: of ten million turns every array more is 80 MB that the system has to find
    return values


def _first_content_ms(requests: pd.DataFrame, since: str, population: Mask) -> Floats:
    """Time to the first content. What was seen before the member broke off counts; who saw nothing waited in vain."""
    value = _latency(requests, "first_content_ns", since, _streamed(requests), population)
    left = broken_off(requests) & _streamed(requests)
    if left.any():
        seen = _elapsed_ms(requests, "first_content_ns", since)
        timed = (requests["error_kind"] == "after_s").to_numpy(dtype=bool)
        waited_in_vain = np.where(timed, np.inf, np.nan)
        value[left] = np.where(np.isnan(seen), waited_in_vain, seen)[left]
    return value


def _latency(requests: pd.DataFrame, later: str, earlier: str, applies: Mask, population: Mask) -> Floats:
    return _censored(requests, _elapsed_ms(requests, later, earlier), applies, population)


def _censored(requests: pd.DataFrame, value: Floats, applies: Mask, population: Mask) -> Floats:
    """`value` changed in its place: +inf where a turn of the population failed, NaN outside it and where broken off."""
    inside = applies & population & ~broken_off(requests)
    value[inside & ~ok(requests)] = np.inf
    value[~inside] = np.nan
    return value
