"""The as-of join: what was known of the serving node when each request was sent.

Rule: the last snapshot of the node with observed < sent - clock bound; equal times are excluded, because at a
coarse resolution "equal" may be after. Backward only: reputation is computed from served requests, perhaps from
this one, so a later or nearest snapshot would be circular. Older than the tolerance is null with a reason, never
carried in silence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.attribution import Attribution, attribute
from loadtest.analysis.frames import (
    JOINED_MINERS,
    JOINED_REQUESTS,
    Clocks,
    Floats,
    requests_frame,
    snapshots_frame,
    write_joined,
)
from loadtest.analysis.percentiles import number, present_quantile
from loadtest.runfolder import (
    RunFolderError,
    read_manifest,
    read_table,
    require_finished,
    update_manifest,
    write_text,
)

FIGURES = "joined/join.json"
STALE = "stale"
NONE_BEFORE = "no snapshot before"
NO_COUNTS = "the snapshot has no counts"
UNATTRIBUTED = "unattributed"
_IDENTITY = ["run", "worker", "seq", "client_reference"]


def join_run(run: Path, *, partial: bool = False, tolerance_s: float | None = None) -> dict[str, Any]:
    """Attribute and join a recorded run; write joined/ and return its figures.

    `tolerance_s` is the greatest age of a snapshot that still counts; without it two poll periods plus the grace
    time. `partial` takes a run that did not end as it is. RunFolderError: half written, damaged, another version.
    `nothing_observed` in the figures: the run was to be observed and there is not one snapshot.
    """
    manifest = read_manifest(run) if partial else _require_complete(run)
    requests = requests_frame(run)
    clocks = Clocks.of(run, manifest, requests)
    snapshots = snapshots_frame(run)
    attribution = attribute(requests, read_table(run, "tasks"))
    tolerance_s = _tolerance_s(manifest) if tolerance_s is None else tolerance_s

    joined = with_metrics(requests, clocks).join(attribution.rows)
    joined = joined.join(reputation_before(joined, snapshots, clocks.bound_ns(requests), tolerance_s))
    if len(joined) != len(requests) or joined.duplicated(["worker", "seq"]).any():
        raise AssertionError("the join must keep requests one to one")
    write_joined(run / JOINED_REQUESTS, joined)
    write_joined(run / JOINED_MINERS, _with_miners(joined, attribution, snapshots, clocks, tolerance_s))

    figures = _figures(run, joined, snapshots, tolerance_s, partial)
    figures["nothing_observed"] = bool(manifest.get("observed")) and not len(snapshots)
    write_text(run / FIGURES, json.dumps(figures, indent=1) + "\n")
    if manifest.get("state") != "running":
        update_manifest(run, state="joined")
    return figures


def with_metrics(requests: pd.DataFrame, clocks: Clocks) -> pd.DataFrame:
    """The requests with their wall instant and their service metrics in ms (null where failed or absent)."""
    columns: dict[str, Any] = {"sent_wall_ns": clocks.wall_ns(requests, "sent_ns")}
    for metric in (metrics.ttft_ms, metrics.tpot_ms, metrics.e2e_ms, metrics.send_lag_ms):
        values = metric(requests)
        columns[metric.__name__] = np.where(np.isfinite(values), values, np.nan)
    return requests.assign(**columns)


def reputation_before(
    requests: pd.DataFrame, snapshots: pd.DataFrame, bound_ns: Any, tolerance_s: float
) -> pd.DataFrame:
    """Reputation of each row's `node` as of `sent_wall_ns - bound_ns`, from both series, in percent.

    Columns, one row per request in the same order: reputation (lifetime rates of the leaderboard),
    snapshot_observed_wall_ns, snapshot_age_s, reputation_reason, and the same of the session series (user tasks)
    with `session` in the name. A reason is null where there is a value.
    """
    left = pd.DataFrame({"node": requests["node"], "sent_wall_ns": requests["sent_wall_ns"]})
    left["before_ns"] = left["sent_wall_ns"] - bound_ns
    board = _as_of(left, _rates(snapshots, "leaderboard", ("points", "counter")), tolerance_s)
    session = _as_of(left, _rates(snapshots, "session-reputation", ("success", "all")), tolerance_s)
    board.columns = pd.Index(["reputation", "snapshot_observed_wall_ns", "snapshot_age_s", "reputation_reason"])
    session.columns = pd.Index(
        ["reputation_session", "session_observed_wall_ns", "session_snapshot_age_s", "reputation_session_reason"]
    )
    return board.join(session)


def _rates(snapshots: pd.DataFrame, source: str, names: tuple[str, str]) -> pd.DataFrame:
    """node, observed_wall_ns and value: the mean of the precommit and the commit success rate, percent.

    A zero counter means "no data": that rate is left out, and without both there is no value.
    """
    rows = snapshots[snapshots["source"] == source].reset_index(drop=True)
    rates = []
    for stage in ("precommit", "commit"):
        good, total = (rows[f"{stage}_{name}"].to_numpy(dtype=np.float64, na_value=np.nan) for name in names)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(np.where(total > 0, 100 * good / total, np.nan))
    known = np.sum(~np.isnan(rates), axis=0)
    value = np.where(known > 0, np.nansum(rates, axis=0) / np.maximum(known, 1), np.nan)
    observed = rows["observed_wall_ns"].to_numpy(dtype=np.int64)
    return pd.DataFrame({"node": rows["node"], "observed_wall_ns": observed, "value": value})


def _as_of(left: pd.DataFrame, rates: pd.DataFrame, tolerance_s: float) -> pd.DataFrame:
    """value, observed_wall_ns, age_s, reason: one row per row of `left`, in its order."""
    # Nodes by number: merge_asof is faster on them, and on empty text columns pandas 3.1 fails inside Arrow.
    codes, _ = pd.factorize(np.concatenate([left["node"].to_numpy(dtype=object), rates["node"].to_numpy(dtype=object)]))
    left_code, rate_code = codes[: len(left)], codes[len(left) :]
    asked = pd.DataFrame({"row": left.index, "code": left_code, "before_ns": left["before_ns"]})
    asked = asked[left["node"].notna() & left["before_ns"].notna()].astype({"before_ns": np.int64})
    asked = asked.sort_values("before_ns", kind="stable")
    rates = rates.assign(code=rate_code).sort_values("observed_wall_ns", kind="stable")
    # merge_asof does not check the order within a group in every version; unsorted input gives wrong rows in silence.
    if not (asked["before_ns"].is_monotonic_increasing and rates["observed_wall_ns"].is_monotonic_increasing):
        raise AssertionError("as-of join needs sorted times")
    hit = pd.merge_asof(
        asked,
        # Its place, not its time: where a row finds nothing pandas turns the column into floats, and an instant of
        # Unix nanoseconds loses its last digits in one.
        rates[["code", "observed_wall_ns"]].assign(place=np.arange(len(rates))),
        left_on="before_ns",
        right_on="observed_wall_ns",
        by="code",
        direction="backward",
        allow_exact_matches=False,
    ).set_index("row")
    if len(hit) != len(asked):
        raise AssertionError("the as-of join must keep rows one to one")
    place = hit["place"].reindex(left.index).astype("Int64")
    found = rates.astype({"observed_wall_ns": "Int64"}).reset_index(drop=True)
    found = found.reindex(place.fillna(-1).to_numpy(dtype=np.int64)).set_axis(left.index)
    observed = found["observed_wall_ns"]
    age_s = (left["sent_wall_ns"] - observed).to_numpy(dtype=np.float64, na_value=np.nan) / 1e9
    return _with_reason(left, found["value"].to_numpy(dtype=np.float64), observed, age_s, tolerance_s)


def _with_reason(
    left: pd.DataFrame, value: Floats, observed: pd.Series[int], age_s: Floats, tolerance_s: float
) -> pd.DataFrame:
    conditions = [left["node"].isna().to_numpy(dtype=bool), np.isnan(age_s), age_s > tolerance_s, np.isnan(value)]
    reason = np.select(conditions, [UNATTRIBUTED, NONE_BEFORE, STALE, NO_COUNTS], "")
    return pd.DataFrame(
        {
            "value": np.where(reason == "", value, np.nan),
            "observed": observed,
            "age_s": age_s,
            "reason": pd.Series(reason, index=left.index, dtype="str").where(reason != ""),
        },
        index=left.index,
    )


def _with_miners(
    joined: pd.DataFrame, attribution: Attribution, snapshots: pd.DataFrame, clocks: Clocks, tolerance_s: float
) -> pd.DataFrame:
    """One row per (request, miner) with the miner's own reputation at that time."""
    at = attribution.miners["request"].to_numpy(dtype=np.intp)
    requests = joined.iloc[at].reset_index(drop=True)
    miners = requests[[*_IDENTITY, "target", "session", "task_id", "outcome", "sent_wall_ns"]].join(
        attribution.miners[["node", "assigned", "gave_result", "returned"]]
    )
    return miners.join(reputation_before(miners, snapshots, clocks.bound_ns(requests), tolerance_s))


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


def _figures(
    run: Path, joined: pd.DataFrame, snapshots: pd.DataFrame, tolerance_s: float, partial: bool
) -> dict[str, Any]:
    warnings = []
    if not len(snapshots):
        warnings.append(f"{run}: no snapshots of any node: the join has no reputation (was the run observed?)")
    elif not (snapshots["source"] == "leaderboard").any():
        warnings.append(f"{run}: no leaderboard snapshots: only session reputation is joined")
    if partial:
        warnings.append(f"{run}: joined as it is, rows may be missing")
    sent = joined["sent_ns"].notna()
    ages = joined.loc[joined["reputation"].notna(), "snapshot_age_s"].to_numpy(dtype=np.float64, na_value=np.nan)
    return {
        "partial": partial,
        "warnings": warnings,
        "attribution": {
            "requests": len(joined),
            "attributed": int(joined["node"].notna().sum()),
            "unattributed": int(joined["node"].isna().sum()),
            "by_source": _counts(joined["node_source"]),
            "by_confidence": _counts(joined["node_confidence"]),
            "unattributed_reasons": _counts(joined["unattributed_reason"]),
            "lookup_share": round(float(joined.loc[sent, "looked_up"].mean()), 4) if sent.any() else 0.0,
        },
        "join": {
            "rows": len(joined),
            "with_snapshot": int(joined["reputation"].notna().sum()),
            "without": _counts(joined["reputation_reason"]),
            "with_session_snapshot": int(joined["reputation_session"].notna().sum()),
            "without_session": _counts(joined["reputation_session_reason"]),
            "snapshot_age_s": {
                "p50": present_quantile(ages, 0.50),
                "p95": present_quantile(ages, 0.95),
                "max": number(float(ages.max())) if len(ages) else None,
            },
            "tolerance_s": tolerance_s,
        },
    }


def _counts(values: pd.Series[str]) -> dict[str, int]:
    return {str(name): int(count) for name, count in values.value_counts().items()}
