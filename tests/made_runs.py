"""Run folders as a gate, a comparison and a history read them: manifest.json and summary.json, with stated figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.analysis.metrics import DEFINITIONS_VERSION
from loadtest.analysis.run_figures import RunFigures
from loadtest.records import SCHEMA_VERSION
from loadtest.runfolder import write_manifest, write_text

LEVELS = {
    "ttft_ms_p50": 400.0,
    "ttft_ms_p95": 1200.0,
    "tpot_ms_p50": 40.0,
    "e2e_ms_p50": 4000.0,
    "e2e_ms_p95": 12000.0,
    "attainment": 0.95,
    "goodput_per_s": 4.0,
    "error_share": 0.01,
}
UNFIT = {"verdict": "unfit", "reasons": [{"rule": "workers", "text": "1 of 2 workers were lost"}]}


def made_run(folder: Path, *, second: int = 0, digest: str = "0123456789abcdef", **changes: Any) -> Path:
    """A joined, fit run. `changes` are figures of LEVELS (None: absent), or `fit`, `result`, `definitions`, ..."""
    values = {**LEVELS, **{name: value for name, value in changes.items() if name in LEVELS}}
    run = {
        "id": folder.name,
        "mode": "open",
        "profile": "nightly",
        "profile_hash": digest,
        "seed": 1,
        "started_utc": f"2026-11-{10 + second // 86_400:02d}T02:{second // 60 % 60:02d}:{second % 60:02d}Z",
        "offered_s": 60.0,
        "warmup_s": 10.0,
        "users": 50,
        "workers": 2,
        "targets": [{"name": "main", "url": "http://127.0.0.1:5010", "route": "cortensor", "stream": True}],
    }
    failed = round(1000 * values["error_share"]) if values["error_share"] is not None else 0
    due = 1000 if values["error_share"] is not None else 0
    summary = {
        "schema_version": SCHEMA_VERSION,
        "definitions_version": changes.get("definitions", DEFINITIONS_VERSION),
        "run": run,
        "fit": changes.get("fit", {"verdict": "fit", "reasons": []}),
        "result": {"verdict": changes.get("result", "pass"), "slos": []},
        "account": {"planned": 1000, "outcomes": {"ok": 1000 - failed, "server_error": failed}, "balanced": True},
        "latency": {
            name: {"service": _cell(values, name)} for name in ("ttft_ms", "tpot_ms", "e2e_ms") if _cell(values, name)
        },
        "goodput": {"share": values["attainment"], "per_s": values["goodput_per_s"], "limits": {"ttft_ms": 2000}},
        "targets": [{"name": "main", "requests": due, "ok": due - failed, "failed": failed}],
        "series": changes.get("series", []),
        "distributions": changes.get("distributions", {}),
    }
    write_text(folder / "summary.json", json.dumps(summary))
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "state": "joined",
        "run": folder.name,
        "versions": {"loadtest": "0.1.0"},
    }
    write_manifest(folder, {**manifest, "targets": run["targets"]})
    return folder


def made_night(
    folder: Path, name: str, runs: int, *, sd: float = 0.05, seed: int = 0, night: int = 0, **factors: float
) -> list[Path]:
    """Runs of one night whose figures scatter with a relative sd; `factors` shift levels, as in ttft_ms_p50=1.2."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(runs):
        common = draw.normal()
        values = {metric: _scattered(metric, factors.get(metric, 1.0), common, draw, sd) for metric in LEVELS}
        made.append(made_run(folder / f"{name}{number}", second=86_400 * night + 60 * number, **values))
    return made


def figures(name: str, **changes: Any) -> RunFigures:
    """A fit run with the figures of LEVELS; `changes` are fields of RunFigures."""
    fields: dict[str, Any] = {
        "run": name,
        "folder": name,
        "started_utc": "2026-11-10T02:00:00Z",
        "profile": "nightly",
        "profile_hash": "0123456789abcdef",
        "seed": 1,
        "mode": "open",
        "schema_version": SCHEMA_VERSION,
        "definitions_version": DEFINITIONS_VERSION,
        "harness_version": "0.1.0",
        "target_versions": "",
        "fit": True,
        "unfit_reasons": "",
        "result": "pass",
        "balanced": True,
        "requests": 1000,
    }
    return RunFigures(**{**fields, **LEVELS, **changes})


def made_side(name: str, runs: int, draw: np.random.Generator, sd: float, **factors: float) -> list[RunFigures]:
    """Runs whose figures scatter with a relative sd, without folders: for simulations of many nights."""
    found = []
    for number in range(runs):
        common = draw.normal()
        values = {metric: _scattered(metric, factors.get(metric, 1.0), common, draw, sd) for metric in LEVELS}
        found.append(figures(f"{name}{number}", **values))
    return found


def _scattered(metric: str, factor: float, common: float, draw: np.random.Generator, sd: float) -> float:
    """Half of the variance of every figure is common to a run: a slow minute is slow in all of them."""
    noise = (common + draw.normal()) / np.sqrt(2)
    worse = noise if metric not in ("attainment", "goodput_per_s") else -noise
    if metric == "attainment":
        return float(np.clip(LEVELS[metric] * factor + 0.2 * sd * worse, 0, 1))
    if metric == "error_share":
        return float(max(0.0, LEVELS[metric] * factor * (1 + 2 * sd * worse)))
    return float(LEVELS[metric] * factor * np.exp(sd * worse))


def _cell(values: dict[str, Any], name: str) -> dict[str, Any]:
    levels: Sequence[str] = [level for level in ("p50", "p95") if values.get(f"{name}_{level}") is not None]
    if not levels:
        return {}
    return {"n": 1000, "censored": 0, **{level: values[f"{name}_{level}"] for level in levels}}
