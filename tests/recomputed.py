"""summary.json again from the raw rows of a run folder, in plain pandas: each definition in its shortest words.

Shares no code with `loadtest.analysis`. Percentiles are the value of rank ceil(q n); failed turns are infinite.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

UNSENT = ("dropped", "not_reached")
LEVELS = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def differences(run: Path) -> list[str]:
    """Where RUN/summary.json is not what its rows say; empty when all is as it should be."""
    summary = json.loads((run / "summary.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    rows = pd.concat([pd.read_parquet(path) for path in sorted((run / "requests").glob("*.parquet"))])
    rows = rows.sort_values(["worker", "seq"], ignore_index=True)
    again = {**_account(rows, manifest), **_of_cohort(rows, manifest, summary), **_series(rows, manifest, summary)}
    found = []
    for path, value in again.items():
        told = _at(summary, path)
        if not _same(told, value, 0.0101 if "itl_ms" in path and not path.endswith(".n") else 0.0):
            found.append(f"{path}: summary.json says {told}, the rows {value}")
    return found


def _account(rows: pd.DataFrame, manifest: dict[str, Any]) -> dict[str, Any]:
    again: dict[str, Any] = {"account.rows": len(rows), "account.planned": manifest["ledger"]["planned_turns"]}
    for outcome, count in rows.outcome.value_counts().items():
        again[f"account.outcomes.{outcome}"] = count
        again[f"account.shares.{outcome}"] = round(count / manifest["ledger"]["planned_turns"], 6)
    again["account.first_turns"] = (rows.turn == 0).sum()
    return again


def cohort_of(rows: pd.DataFrame, manifest: dict[str, Any], summary: dict[str, Any]) -> pd.DataFrame:
    """Turns due after the warm-up, or after what MSER cut beyond it."""
    measured = rows[rows.phase == "measure"]
    if any(summary["steady"]["cut_s"].values()):
        measured = measured[_run_s(measured, "scheduled_ns", manifest) >= summary["steady"]["from_s"] - 1e-9]
    return measured


def _of_cohort(rows: pd.DataFrame, manifest: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    cohort = cohort_of(rows, manifest, summary)
    due = cohort[cohort.outcome != "not_reached"]
    sent = cohort[~cohort.outcome.isin(UNSENT)]
    again: dict[str, Any] = {
        "account.measured": len(cohort),
        "account.warmup": len(rows) - len(cohort),
        "offered.arrivals": (cohort.turn == 0).sum(),
        "offered.requests_sent": cohort.sent_ns.notna().sum(),
        "offered.peak_in_flight": _peak(rows),
    }
    window_s = min(manifest["offered_s"], manifest["stopped_early_s"] or math.inf) - summary["steady"]["from_s"]
    if manifest["mode"] == "open":
        again["offered.rate_per_s_planned"] = (cohort.turn == 0).sum() / window_s
        gaps = _run_s(cohort[cohort.turn == 0], "scheduled_ns", manifest).sort_values().diff().dropna()
        again["offered.compared.gap_cv.intended"] = gaps.std(ddof=0) / gaps.mean() if len(gaps) > 1 else None
    again["offered.requests_per_s_realised"] = cohort.sent_ns.notna().sum() / window_s
    for side, since, turns in (("service", "sent_ns", sent), ("response", "scheduled_ns", due)):
        again |= _percentiles(f"latency.ttft_ms.{side}", _ttft(turns, since), summary)
        again |= _percentiles(f"latency.e2e_ms.{side}", _e2e(turns, since), summary)
    again |= _percentiles("latency.tpot_ms.service", _tpot(sent), summary)
    again |= _itl(cohort, summary)
    lag = ((cohort.connecting_ns.where(cohort.connection_new).fillna(cohort.sent_ns)) - cohort.scheduled_ns) / 1e6
    lag = lag[cohort.sent_ns.notna()].dropna()
    for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        again[f"harness.send_lag_ms.{name}"] = rank(lag, q)
    again |= _slos(due, manifest)
    again |= _goodput(due, manifest, window_s)
    for column in ("target", "persona"):
        for place, (name, group) in enumerate(due.groupby(column)):
            own = f"{column}s.{place}"
            again |= {f"{own}.name": name, f"{own}.requests": len(group), f"{own}.ok": (group.outcome == "ok").sum()}
            again[f"{own}.e2e_ms_p50"] = _finite(rank(_e2e(group[~group.outcome.isin(UNSENT)], "sent_ns"), 0.5))
    return again


def _percentiles(path: str, values: Any, summary: dict[str, Any]) -> dict[str, Any]:
    finite = values[values < math.inf]
    again = {f"{path}.n": len(values), f"{path}.censored": len(values) - len(finite)}
    again[f"{path}.max"] = finite.max() if len(finite) else None
    for name, q in LEVELS.items():
        text = str(_at(summary, f"{path}.{name}_text") or "")
        if text.startswith(("n too small", "withheld", "no values")):
            again[f"{path}.{name}"] = None
        else:
            again[f"{path}.{name}"] = _finite(rank(values, q))
    return again


def _broken_off(turns: pd.DataFrame) -> Any:
    return (turns.outcome == "cancelled") & turns.error_kind.isin(["after_chunks", "after_s"])


def _ttft(turns: pd.DataFrame, since: str) -> Any:
    turns = turns[turns.stream]
    seen = (turns.first_content_ns - turns[since]) / 1e6
    failed, broken = (turns.outcome != "ok") & ~_broken_off(turns), _broken_off(turns)
    seen = seen.mask(failed, math.inf).mask(broken & seen.isna() & (turns.error_kind == "after_s"), math.inf)
    return seen.astype(float).dropna()


def _e2e(turns: pd.DataFrame, since: str) -> Any:
    turns = turns[~_broken_off(turns)]
    took = (turns.done_ns - turns[since]) / 1e6
    return took.mask(turns.outcome != "ok", math.inf).astype(float).dropna()


def _tokens(turns: pd.DataFrame) -> Any:
    usage = turns.usage_completion_tokens.where(turns.usage_completion_tokens > 0)
    counted = turns.counted_tokens.where(turns.counted_tokens > 0)
    return usage.fillna(counted).fillna(turns.content_chunks.where(turns.content_chunks > 0)).astype(float)


def _tpot(turns: pd.DataFrame) -> Any:
    turns = turns[turns.stream & ~_broken_off(turns)]
    tokens = _tokens(turns)
    each = (turns.last_content_ns - turns.first_content_ns) / 1e6 / (tokens - 1)
    return each.where(tokens >= 2).mask(turns.outcome != "ok", math.inf).astype(float).dropna()


def _itl(cohort: pd.DataFrame, summary: dict[str, Any]) -> dict[str, Any]:
    """From the chunk lists where every row has kept its own."""
    lists = [list(chunks) for chunks in cohort.chunk_ns if len(chunks) > 1]
    gaps = pd.Series([(b - a) / 1e6 for chunks in lists for a, b in pairwise(chunks)], dtype=float)
    again: dict[str, Any] = {"latency.itl_ms.service.n": len(gaps)}
    withheld = summary["steady"]["verdict"] == "not steady"
    for name, q in LEVELS.items():
        again[f"latency.itl_ms.service.{name}"] = None if withheld else _finite(rank(gaps, q))
    return again


def _slos(due: pd.DataFrame, manifest: dict[str, Any]) -> dict[str, Any]:
    again: dict[str, Any] = {}
    for place, slo in enumerate(manifest["slos"]):
        metric, _, level = slo["metric"].rpartition("_p")
        if slo["metric"] == "ok_share":
            judged = due[~_broken_off(due)]
            again[f"result.slos.{place}.observed"] = (judged.outcome == "ok").mean() if len(judged) else None
            again[f"result.slos.{place}.misses"] = (judged.outcome != "ok").sum()
        elif metric in ("ttft_ms", "e2e_ms"):
            value = {"ttft_ms": _ttft, "e2e_ms": _e2e}[metric](due, "sent_ns")
            dropped = (due.outcome == "dropped") & (due.stream if metric == "ttft_ms" else True)
            value = pd.concat([value[~value.index.isin(due.index[dropped])], pd.Series([math.inf] * dropped.sum())])
            again[f"result.slos.{place}.observed"] = _finite(rank(value, float(level) / 100))
            again[f"result.slos.{place}.misses"] = (value > slo["limit"]).sum()
    return again


def _goodput(due: pd.DataFrame, manifest: dict[str, Any], window_s: float) -> dict[str, Any]:
    limits = manifest.get("goodput") or {}
    if not limits:
        return {"goodput": None}
    due = due[~_broken_off(due)]
    good = due.outcome == "ok"
    for name, limit in limits.items():
        value = {"ttft_ms": _ttft, "tpot_ms": lambda turns, _: _tpot(turns), "e2e_ms": _e2e}[name](due, "sent_ns")
        good &= ~due.index.isin(value.index[value > limit])
    return {
        "goodput.n": len(due),
        "goodput.good": good.sum(),
        "goodput.share": round(good.mean(), 6) if len(due) else None,
        "goodput.per_s": round(good.sum() / window_s, 6),
    }


def _series(rows: pd.DataFrame, manifest: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    due = rows[rows.outcome != "not_reached"]
    sent, done = _run_s(due, "sent_ns", manifest), _run_s(due, "done_ns", manifest)
    planned = _run_s(due, "scheduled_ns", manifest)
    ttft = _ttft(due[~due.outcome.isin(UNSENT)], "sent_ns")
    again: dict[str, Any] = {"series": len(summary["series"])}
    for second in range(len(summary["series"])):
        own = f"series.{second}"
        again[f"{own}.planned"] = _in_second(planned, second).sum()
        again[f"{own}.sent"] = _in_second(sent, second).sum()
        again[f"{own}.completed"] = (_in_second(done, second) & (due.outcome == "ok")).sum()
        again[f"{own}.in_flight"] = ((sent < second + 1) & (done >= second + 1)).sum()
        again[f"{own}.ttft_ms_p50"] = _finite(rank(ttft[_in_second(sent, second).reindex(ttft.index)], 0.5))
    return again


def _in_second(instants: Any, second: int) -> Any:
    """What happened before the start, by a clock's error, happened in the first second."""
    return (instants >= (second or -math.inf)) & (instants < second + 1)


def _run_s(rows: pd.DataFrame, instant: str, manifest: dict[str, Any]) -> Any:
    exact = rows[instant].astype("Int64") + rows.clock_offset_ns - manifest["t0_ns"]
    return exact.astype("Float64").astype(float) / 1e9


def _peak(rows: pd.DataFrame) -> int:
    both = rows[rows.sent_ns.notna() & rows.done_ns.notna()]
    steps = [(int(r.done_ns + r.clock_offset_ns), -1) for r in both.itertuples()]
    steps += [(int(r.sent_ns + r.clock_offset_ns), 1) for r in both.itertuples()]
    steps.sort()
    return max(pd.Series([step for _, step in steps], dtype=int).cumsum().max(), 0) if steps else 0


def rank(values: Any, q: float) -> float | None:
    """The smallest value that at least a share q is not above."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(q * len(ordered) - 1e-9)) - 1] if ordered else None


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def _at(summary: Any, path: str) -> Any:
    found = summary
    for name in path.split("."):
        if isinstance(found, list):
            found = found[int(name)] if int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return len(found) if isinstance(found, list) else found


def _same(told: Any, value: Any, relative: float) -> bool:
    """To the three decimals that a summary has; gaps to the 1 % of their histogram."""
    if value is None or told is None or isinstance(value, str):
        return bool(told == value)
    return abs(float(told) - float(value)) <= 0.0005 + 1e-9 * abs(float(value)) + relative * abs(float(value))
