"""Load intended against realised: rate and spread of the arrivals, lengths of prompts and answers.

Arrivals are first turns of the measured cohort, whatever became of them. *Process* is what the profile's arrival
process gives in the long run, by formula; *intended* is what the plan drew (for a trace, its rows); *realised* is what
was sent and answered, on the master's clock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis import metrics
from loadtest.analysis.frames import Clocks, Floats
from loadtest.analysis.percentiles import LEVELS, number, present_quantiles
from loadtest.traffic import closed_forms
from loadtest.traffic.load import Load
from loadtest.traffic.profile import ProfileError, parse_profile

WINDOWS_MIN = {1: 2, 10: 20, 60: 20}  # seconds of a window: so many must fit, or its dispersion is left out

Compared = dict[str, dict[str, float | None]]


def offered(cohort: pd.DataFrame, clocks: Clocks, manifest: dict[str, Any], begin_s: float) -> dict[str, Any]:
    """The `offered` block of the summary; `compared` maps each figure to its process, intended and realised value.

    `cohort` are the measured turns; their window begins `begin_s` after t0.

    A closed run intends no arrivals: its members wait for answers. `prompts_told` and `answers_told` count the turns
    whose realised tokens are the server's usage.
    """
    first = (cohort["turn"] == 0).to_numpy(dtype=bool)
    window_s = end_s(manifest) - begin_s
    due_s, sent_s = (_happened(clocks.run_s(cohort, name)[first]) for name in ("scheduled_ns", "sent_ns"))
    is_open = manifest.get("mode") != "closed"
    compared = {
        **_arrivals({"intended": due_s if is_open else None, "realised": sent_s}, begin_s, window_s),
        **_lengths(cohort, manifest),
    }
    for name, value in _stated(manifest, compared).items():
        compared[name]["process"] = number(value)
    requests_sent = int(cohort["sent_ns"].notna().sum())
    return {
        "rate_per_s_planned": compared["rate_per_s"]["intended"],
        "rate_per_s_realised": compared["rate_per_s"]["realised"],
        "requests_per_s_realised": _rate(requests_sent, window_s),
        "cv_realised": compared["gap_cv"]["realised"],
        "arrivals": int(first.sum()),
        "requests_sent": requests_sent,
        "trace": (manifest.get("trace") or {}).get("file"),
        "prompts_told": int((_column(cohort, "usage_prompt_tokens") > 0).sum()),
        "answers_told": int((_column(cohort, "usage_completion_tokens")[metrics.ok(cohort)] > 0).sum()),
        "compared": compared,
    }


def _arrivals(instants_s: dict[str, Floats | None], begin_s: float, window_s: float) -> Compared:
    """Rate, CV of the gaps and dispersion of counts of the instants of each side."""
    compared: Compared = {"rate_per_s": {}, "gap_cv": {}}
    for side, each in instants_s.items():
        compared["rate_per_s"][side] = None if each is None else _rate(len(each), window_s)
        compared["gap_cv"][side] = None if each is None else _cv(np.diff(each))
    for size_s, least in WINDOWS_MIN.items():
        windows = int(window_s / size_s + 1e-9)
        if windows >= least:
            compared[f"dispersion_{size_s}s"] = {
                side: None if each is None else _dispersion(each, begin_s, size_s, windows)
                for side, each in instants_s.items()
            }
    return compared


def _lengths(cohort: pd.DataFrame, manifest: dict[str, Any]) -> Compared:
    """Quantiles of tokens. Intended: of every planned turn; realised: of prompts sent, and of good answers."""
    asked, told = _column(cohort, "prompt_tokens_planned"), _column(cohort, "usage_prompt_tokens")
    # Texts have exactly their planned tokens, except that received answers are resent as they came.
    as_planned = (manifest.get("history") != "received") | (_column(cohort, "turn") == 0)
    prompts = np.where(told > 0, told, np.where(as_planned & cohort["sent_ns"].notna(), asked, np.nan))
    answers = np.where(metrics.ok(cohort), metrics.output_tokens(cohort), np.nan)
    sides = {"prompt_tokens": (asked, prompts), "output_tokens": (_column(cohort, "output_tokens_max"), answers)}
    levels = [q for _, q in LEVELS]
    return {
        f"{name}_{level}": {"intended": wanted, "realised": got}
        for name, (intended, realised) in sides.items()
        for (level, _), wanted, got in zip(
            LEVELS, present_quantiles(intended, levels), present_quantiles(realised, levels), strict=True
        )
    }


def _stated(manifest: dict[str, Any], compared: Compared) -> dict[str, float | None]:
    """What the arrival process gives by formula; nothing for a trace, and where the profile cannot be read."""
    load = None if manifest.get("trace") else load_of(manifest.get("profile") or {})
    if load is None:
        return {}
    found = {"rate_per_s": closed_forms.rate_per_s(load), "gap_cv": closed_forms.gap_cv(load)}
    sizes = [size_s for size_s in WINDOWS_MIN if f"dispersion_{size_s}s" in compared]
    return {**found, **{f"dispersion_{size_s}s": closed_forms.dispersion(load, size_s) for size_s in sizes}}


def load_of(profile: dict[str, Any]) -> Load | None:
    """The [load] section of the run. A report of a run by another version, whose profile is not ours, does without."""
    try:
        return parse_profile(str(profile.get("text")), str(profile.get("source"))).load
    except ProfileError:
        return None


def end_s(manifest: dict[str, Any]) -> float:
    """Seconds for which load was offered: the plan, or less when the run was stopped."""
    planned = float(manifest.get("offered_s") or 0.0)
    stopped = manifest.get("stopped_early_s")
    return planned if stopped is None else min(planned, float(stopped))


def _rate(count: int, window_s: float) -> float | None:
    return number(count / window_s) if window_s > 0 else None


def _cv(gaps: Floats) -> float | None:
    return number(float(gaps.std() / gaps.mean())) if len(gaps) >= 2 and gaps.mean() > 0 else None


def _dispersion(instants_s: Floats, begin_s: float, size_s: int, windows: int) -> float | None:
    """Variance (over windows - 1) by mean of the counts in whole windows from `begin_s` on.

    In whole ms: an arrival due on the edge of a window must not fall before it by an error of its worker's clock.
    """
    ms = np.rint((instants_s - begin_s) * 1e3).astype(np.int64)
    bins = ms // (size_s * 1000)
    counts = np.bincount(bins[(bins >= 0) & (bins < windows)], minlength=windows)
    return number(float(counts.var(ddof=1) / counts.mean())) if counts.any() else None


def _happened(instants_s: Floats) -> Floats:
    return np.sort(instants_s[~np.isnan(instants_s)])


def _column(cohort: pd.DataFrame, name: str) -> Floats:
    values: Floats = cohort[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values
