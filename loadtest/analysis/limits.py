"""What a run could not show: one sentence each, printed with the results, never left to the reader's memory."""

from __future__ import annotations

from typing import Any

import pandas as pd

from loadtest.analysis.bins import SECONDS_MAX
from loadtest.analysis.percentiles import SMALLEST_INTERVAL, SMALLEST_SAMPLE
from loadtest.analysis.steady import CANNOT_TELL, NOT_STEADY, WARMUP_S_MIN

NODES_FOR_A_LINK = 50  # with fewer, a rank correlation of 0.3 cannot be told from none


def limits(manifest: dict[str, Any], requests: pd.DataFrame, summary: dict[str, Any]) -> list[str]:
    """Sentences for this run. `requests` is the joined measured cohort, `summary` what was computed so far."""
    said = [
        *_load(manifest),
        *_steady(manifest, summary["steady"]),
        *_percentiles(requests, summary),
        *_nodes(requests, summary),
    ]
    said += [*_checks(summary), *summary["warnings"]]
    if len(summary["series"]) * summary["series_bin_s"] >= SECONDS_MAX:
        said.append(f"The time series ends after {SECONDS_MAX // 86_400} days.")
    return said


def _load(manifest: dict[str, Any]) -> list[str]:
    said = []
    if manifest.get("mode") == "closed":
        said.append("Closed mode: members wait for answers, so a slow router is asked less and its queueing is hidden.")
    if manifest.get("history") == "scripted":
        said.append("History is scripted: later prompts hold planned answers, not the ones this router gave.")
    scale = manifest.get("time_scale", 1.0)
    if scale != 1.0:
        said.append(f"Think time was scaled by {scale:g}: what a router keeps between turns was tested for less time.")
    if len(manifest.get("targets", [])) == 1:
        said.append("One target only: nothing here compares routers.")
    if manifest.get("stopped_early_s") is not None:
        said.append(f"The run was stopped after {manifest['stopped_early_s']:g} s of {manifest['offered_s']:g} s.")
    return [*said, *_hole(manifest)]


def _steady(manifest: dict[str, Any], steady: dict[str, Any]) -> list[str]:
    said = []
    warmup_s = float(manifest.get("warmup_s") or 0.0)
    if warmup_s < WARMUP_S_MIN:
        said.append(
            f"The warm-up was {warmup_s:g} s: below {WARMUP_S_MIN:g} s, what is only cold may be in the figures."
        )
    if steady["verdict"] == NOT_STEADY:
        said.append(f"The run was not steady: {steady['why']}. It has no percentiles, and no limit is passed.")
    elif steady["verdict"] == CANNOT_TELL:
        said.append(f"Whether the run was steady cannot be told: {steady['why']}.")
    return said


def _hole(manifest: dict[str, Any]) -> list[str]:
    """Workers that were lost: from when on their share of the load is missing."""
    workers = manifest.get("workers", [])
    return [
        f"Worker {worker.get('worker')} of {len(workers)} was lost {worker['lost_from_s']:.1f} s after the start: its "
        "share of the load is missing from then on, and what it had in flight is lost."
        for worker in workers
        if worker.get("lost") and worker.get("lost_from_s") is not None
    ]


def _percentiles(requests: pd.DataFrame, summary: dict[str, Any]) -> list[str]:
    said = []
    e2e = summary["latency"]["e2e_ms"]["service"]
    n = e2e["n"]
    for level in ("p50", "p95", "p99"):
        if n < SMALLEST_INTERVAL[level]:
            said.append(f"{level} is withheld: {n} turns, and below {SMALLEST_INTERVAL[level]} it has no interval.")
        elif n < SMALLEST_SAMPLE[level]:
            said.append(f"{level} is rough: {n} turns, and comparing it takes {SMALLEST_SAMPLE[level]}.")
    if n and not summary["latency"]["ttft_ms"]["service"]["n"]:
        said.append("Nothing was streamed: there is no TTFT, TPOT or ITL, and E2E is the headline.")
    whole = int((requests["stream"] & (requests["outcome"] == "ok") & requests["first_content_ns"].isna()).sum())
    if whole:
        said.append(f"{whole} good answers came in one piece though a stream was asked for: they have no TTFT.")
    if e2e["censored"]:
        said.append(f"{e2e['censored']} of {n} turns failed: they count as slower than every answer.")
    return said


def _checks(summary: dict[str, Any]) -> list[str]:
    """The network checks that could not tell, by what they would need."""
    missing: dict[str, list[str]] = {}
    for finding in summary["findings"]:
        if finding["verdict"] == "cannot tell":
            missing.setdefault(finding["missing"], []).append(finding["check"])
    return [f"Nothing is known of {', '.join(checks)}: it takes {source}." for source, checks in missing.items()]


def _nodes(requests: pd.DataFrame, summary: dict[str, Any]) -> list[str]:
    said = []
    attribution, join = summary["attribution"], summary["join"]
    share = attribution["lookup_share"]
    if attribution["requests"] and share < 1:
        said.append(f"{100 * (1 - share):.0f} % of the sent requests have no task look-up: nodes are a sample.")
    unsure = attribution["by_confidence"].get("medium", 0)
    if unsure:
        said.append(f"{unsure} of {attribution['attributed']} attributions are likely, not proved (confidence medium).")
    failed = (requests["outcome"] != "ok") & requests["sent_ns"].notna()
    hidden = int((failed & requests["node"].isna()).sum())
    if hidden:
        said.append(f"{hidden} failed requests name no node: the ok shares of nodes are too high.")
    if summary["nodes"] and len(summary["nodes"]) < NODES_FOR_A_LINK:
        said.append(f"{len(summary['nodes'])} nodes: a link of reputation and latency needs about {NODES_FOR_A_LINK}.")
    if join["rows"] and not join["with_snapshot"]:
        said.append("No request has a reputation: nothing here relates latency to reputation.")
    elif join["rows"] and not join["with_session_snapshot"]:
        said.append("No user-task reputation was known before the requests: only network-task reputation is joined.")
    return said
