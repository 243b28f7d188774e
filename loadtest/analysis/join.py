"""`loadtest join`: each request of a run with its node and with what was known of that node when it was sent.

A run is read, attributed, joined and written a batch at a time, so it may be larger than memory. Held whole are the
look-ups, the snapshots (two sorted histories) and, a few bytes each, which rows were there and how old what they
found was. What the columns mean is said in `attribution` and `reputation`.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from loadtest.analysis import metrics
from loadtest.analysis.attribution import Attribution, attribute
from loadtest.analysis.batches import BATCH_ROWS, JoinedFile, one_ahead, request_batches, to_table
from loadtest.analysis.columns import frame_of
from loadtest.analysis.frames import (
    JOINED_MINERS,
    JOINED_REQUESTS,
    Clocks,
    Floats,
    Ints,
    descriptions_frame,
    to_frame,
    use_system_memory,
)
from loadtest.analysis.looked import lookups_of
from loadtest.analysis.percentiles import number, present_quantile
from loadtest.analysis.reputation import Reputation, impossible
from loadtest.analysis.snapshots import LEADERBOARD, Snapshots, read_snapshots
from loadtest.runfolder import (
    RunFolderError,
    read_manifest,
    read_table,
    require_finished,
    require_rows,
    update_manifest,
    write_text,
)

FIGURES = "joined/join.json"
_IDENTITY = ["run", "worker", "seq", "client_reference"]
_OF_A_TURN = [
    *("worker", "outcome", "error_kind", "stream", "connection_new", "clock_offset_ns", "scheduled_ns", "sent_ns"),
    *("connecting_ns", "first_content_ns", "last_content_ns", "done_ns"),
    *("usage_completion_tokens", "counted_tokens", "content_chunks"),
]


def join_run(
    run: Path, *, partial: bool = False, tolerance_s: float | None = None, batch_rows: int = BATCH_ROWS
) -> dict[str, Any]:
    """Attribute and join a recorded run; write joined/ and return its figures.

    `tolerance_s` is the greatest age of a snapshot that still counts; without it two poll periods plus the grace
    time. `partial` takes a run that did not end as it is. RunFolderError: half written, damaged, another version.
    `nothing_observed` in the figures: the run was to be observed and there is not one snapshot.
    `batch_rows` bounds memory and changes nothing in what is written.
    """
    use_system_memory()
    manifest = read_manifest(run) if partial else _require_complete(run)
    require_rows(run, manifest)
    clocks = Clocks.of(run, manifest, _instants(run, manifest))
    snapshots = read_snapshots(run)
    warnings, observed = _warnings(run, snapshots, partial), bool(snapshots.sources)
    reputation = Reputation.of(snapshots, descriptions_frame(run))
    del snapshots  # the histories are a part of it
    tolerance_s = _tolerance_s(manifest) if tolerance_s is None else tolerance_s

    tally = _Tally()
    with (
        ThreadPoolExecutor(1) as beside,
        JoinedFile(run / JOINED_REQUESTS) as requests_file,
        JoinedFile(run / JOINED_MINERS) as miners_file,
    ):
        lookups = beside.submit(lambda: lookups_of(read_table(run, "tasks")))
        for batch in one_ahead(request_batches(run, batch_rows)):
            turns = frame_of(batch.select(_OF_A_TURN))
            attribution = attribute(batch, lookups.result())
            added = pd.concat([service_metrics(turns, clocks), attribution.rows], axis=1)
            bound_ns = clocks.bound_ns(turns)
            added = pd.concat([added, reputation.before(added, bound_ns, tolerance_s)], axis=1)
            if len(added) != len(batch):
                raise AssertionError("the join must keep requests one to one")
            requests_file.write(_beside(batch, to_table(added)))
            miners_file.write(_with_miners(batch, added, attribution, reputation, bound_ns, tolerance_s))
            tally.add(added)
        requests_file.publish()
        miners_file.publish()

    pa.default_memory_pool().release_unused()  # a summary may follow in this process
    figures = {"partial": partial, "warnings": warnings, **tally.figures(tolerance_s)}
    figures["nothing_observed"] = bool(manifest.get("observed")) and not observed
    write_text(run / FIGURES, json.dumps(figures, indent=1) + "\n")
    if manifest.get("state") != "running":
        update_manifest(run, state="joined")
    return figures


def service_metrics(requests: pd.DataFrame, clocks: Clocks) -> pd.DataFrame:
    """The wall instant of each request and its service metrics in ms (null where failed or absent)."""
    columns: dict[str, Any] = {"sent_wall_ns": clocks.wall_ns(requests, "sent_ns")}
    for metric in (metrics.ttft_ms, metrics.tpot_ms, metrics.e2e_ms, metrics.send_lag_ms):
        values = metric(requests)
        columns[metric.__name__] = np.where(np.isfinite(values), values, np.nan)
    return pd.DataFrame(columns, index=requests.index)


def _beside(batch: pa.Table, added: pa.Table) -> pa.Table:
    """The stored columns as they are and the added ones; all may be null, as in every joined file."""
    return pa.table([*batch.columns, *added.columns], names=[*batch.column_names, *added.column_names])


def _instants(run: Path, manifest: dict[str, Any]) -> pd.DataFrame:
    """What `Clocks.of` needs of the rows: nothing, unless the run was cut off before t0 was written."""
    names = ["scheduled_ns", "clock_offset_ns"]
    if manifest.get("t0_ns") is not None:
        return pd.DataFrame({name: pd.Series(dtype="Int64") for name in names})
    return to_frame(read_table(run, "requests", names))


def _with_miners(
    batch: pa.Table,
    added: pd.DataFrame,
    attribution: Attribution,
    reputation: Reputation,
    bound_ns: Ints,
    tolerance_s: float,
) -> pa.Table:
    """One row per (request, miner) with the miner's own reputation at that time."""
    at = attribution.miners["request"].to_numpy(dtype=np.intp)
    sent = added[["sent_wall_ns"]].iloc[at].reset_index(drop=True)
    miners = pd.concat([sent, attribution.miners[["node", "assigned", "gave_result", "returned"]]], axis=1)
    miners = pd.concat([miners, reputation.before(miners, bound_ns[at], tolerance_s)], axis=1)
    return _beside(batch.select([*_IDENTITY, "target", "session", "task_id", "outcome"]).take(at), to_table(miners))


def _require_complete(run: Path) -> dict[str, Any]:
    manifest = require_finished(run)
    left = [path for path in (run / "spool").rglob("*") if path.is_file() and path.stat().st_size > 0]
    if left:
        raise RunFolderError(
            f"{run}: {len(left)} spool files hold rows the collector did not take; "
            f"`loadtest join --partial` stores and uses them"
        )
    return manifest


def _tolerance_s(manifest: dict[str, Any]) -> float:
    """Two poll periods, so that one missed poll costs nothing, plus the time one poll may take."""
    observe = manifest.get("observe") or {}
    periods = [float(observe.get(key) or observe.get("poll_s") or 0) for key in ("leaderboard_s", "reputation_s")]
    periods.append(float((manifest.get("imported") or {}).get("period_s") or 0))
    return 2 * max(periods) + float(observe.get("grace_s") or 0)


def _warnings(run: Path, snapshots: Snapshots, partial: bool) -> list[str]:
    warnings = []
    if not snapshots.sources:
        warnings.append(f"{run}: no snapshots of any node: the join has no reputation (was the run observed?)")
    elif LEADERBOARD not in snapshots.sources:
        warnings.append(f"{run}: no leaderboard snapshots: only session reputation is joined")
    if wrong := impossible(snapshots):
        warnings.append(f"{run}: {wrong} snapshots tell more successes than entries; no rate was made of those")
    if partial:
        warnings.append(f"{run}: joined as it is, rows may be missing")
    return warnings


class _Tally:
    """The figures of a join, summed over its batches. Ages are held, 8 bytes a request: their quantiles are exact."""

    def __init__(self) -> None:
        self._rows = self._attributed = self._sent = self._looked_up = self._with = self._with_session = 0
        names = ("node_source", "node_confidence", "unattributed_reason")
        reasons = ("reputation_reason", "reputation_session_reason")
        self._counts = {name: Counter[str]() for name in (*names, *reasons)}
        self._ages_s: list[Floats] = []

    def add(self, joined: pd.DataFrame) -> None:
        sent, found = joined["sent_wall_ns"].notna(), joined["reputation"].notna()
        self._rows += len(joined)
        self._attributed += int(joined["node"].notna().sum())
        self._sent += int(sent.sum())
        self._looked_up += int(joined.loc[sent, "looked_up"].sum())
        self._with += int(found.sum())
        self._with_session += int(joined["reputation_session"].notna().sum())
        for name, counts in self._counts.items():
            told = joined[name].value_counts()
            counts.update({str(text): int(count) for text, count in told[told > 0].items()})
        self._ages_s.append(joined.loc[found, "snapshot_age_s"].to_numpy(dtype=np.float64))

    def figures(self, tolerance_s: float) -> dict[str, Any]:
        ages_s = np.concatenate(self._ages_s)
        counts = {name: dict(each.most_common()) for name, each in self._counts.items()}
        return {
            "attribution": {
                "requests": self._rows,
                "attributed": self._attributed,
                "unattributed": self._rows - self._attributed,
                "by_source": counts["node_source"],
                "by_confidence": counts["node_confidence"],
                "unattributed_reasons": counts["unattributed_reason"],
                "lookup_share": round(self._looked_up / self._sent, 4) if self._sent else 0.0,
            },
            "join": {
                "rows": self._rows,
                "with_snapshot": self._with,
                "without": counts["reputation_reason"],
                "with_session_snapshot": self._with_session,
                "without_session": counts["reputation_session_reason"],
                "snapshot_age_s": {
                    "p50": present_quantile(ages_s, 0.50),
                    "p95": present_quantile(ages_s, 0.95),
                    "max": number(float(ages_s.max())) if len(ages_s) else None,
                },
                "tolerance_s": tolerance_s,
            },
        }
