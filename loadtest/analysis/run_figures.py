"""The figures of one run: what a comparison, a gate, a history and a trend page look at. The unit is the run.

Read from summary.json and manifest.json alone, so a run can be compared long after its rows are gone. All are of the
measured cohort; latencies are service times in ms with failed turns censored, as the report prints them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from loadtest.records import SCHEMA_VERSION
from loadtest.runfolder import RunFolderError, read_manifest


class Metric(NamedTuple):
    """One figure of a run and how two of it are compared.

    `better` is "lower" or "higher". A shift of a "ratio" is relative (0.1 is 10 %), one of "points" is the difference
    of two shares (0.05 is 5 points).
    """

    name: str
    label: str
    unit: str
    better: str
    scale: str


METRICS = (
    Metric("ttft_ms_p50", "TTFT p50", "ms", "lower", "ratio"),
    Metric("ttft_ms_p95", "TTFT p95", "ms", "lower", "ratio"),
    Metric("tpot_ms_p50", "TPOT p50", "ms", "lower", "ratio"),
    Metric("e2e_ms_p50", "E2E p50", "ms", "lower", "ratio"),
    Metric("e2e_ms_p95", "E2E p95", "ms", "lower", "ratio"),
    Metric("attainment", "SLO attainment", "share", "higher", "points"),
    Metric("goodput_per_s", "goodput", "per s", "higher", "ratio"),
    Metric("error_share", "errors", "share", "lower", "points"),
)
METRIC = {metric.name: metric for metric in METRICS}


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run, flat. A latency is +inf when the percentile lies among the failed turns, None when it is absent.

    `attainment` is the share of the requests due that kept every limit of [goodput], None where the profile states
    none; `error_share` is the failed among the requests due, without those that their member broke off.
    """

    run: str
    folder: str
    started_utc: str  # ISO 8601, "" when the manifest has no start
    profile: str
    profile_hash: str
    seed: int | None
    mode: str
    schema_version: int
    definitions_version: int  # figures of different versions cannot be compared
    harness_version: str
    target_versions: str  # "name=version, ..." of the targets that told one
    fit: bool
    unfit_reasons: str  # "" when fit
    result: str  # pass, fail or none
    balanced: bool  # planned turns = sum over outcomes
    requests: int  # due in the measured window
    ttft_ms_p50: float | None
    ttft_ms_p95: float | None
    tpot_ms_p50: float | None
    e2e_ms_p50: float | None
    e2e_ms_p95: float | None
    attainment: float | None
    goodput_per_s: float | None
    error_share: float | None

    def value(self, metric: str) -> float | None:
        """The figure of that name. KeyError for a name that is not in METRICS."""
        found: float | None = getattr(self, METRIC[metric].name)
        return found

    def as_json(self) -> dict[str, Any]:
        """For JSON, which has no infinity: "inf" stands for a percentile that lies among the failed turns."""
        return {name: "inf" if value == math.inf else value for name, value in msgspec.to_builtins(self).items()}


def figures_from_json(stored: Mapping[str, Any]) -> RunFigures:
    """What `as_json` gave. msgspec.ValidationError says which field is wrong."""
    names = METRIC.keys()
    numbers = {name: math.inf if name in names and value == "inf" else value for name, value in stored.items()}
    return msgspec.convert(numbers, RunFigures)


def read_runs(runs: Iterable[Path]) -> list[RunFigures]:
    """The figures of several run folders, in the order given. RunFolderError for the first that cannot be read."""
    return [read_run(run) for run in runs]


def read_run(run: Path) -> RunFigures:
    """The figures of a joined run folder; RunFolderError when it is not one."""
    return run_figures(read_summary(run), read_manifest(run), run)


def read_summary(run: Path) -> dict[str, Any]:
    """RUN/summary.json; RunFolderError when it is missing, damaged or of another version."""
    path = run / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{run}: no summary.json; run `loadtest join {run}` first") from None
    except (ValueError, OSError) as error:
        raise RunFolderError(f"{path}: unreadable ({error}); run `loadtest join {run}` again") from None
    version = summary.get("schema_version") if isinstance(summary, dict) else None
    if version != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path}: schema version {version}, this version reads {SCHEMA_VERSION}; run `loadtest join {run}` again"
        )
    return dict(summary)


def run_figures(summary: Mapping[str, Any], manifest: Mapping[str, Any], folder: Path) -> RunFigures:
    """The figures of a summary and its manifest; what either lacks is absent."""
    run, latency, account = _part(summary, "run"), _part(summary, "latency"), _part(summary, "account")
    goodput, fit = _part(summary, "goodput"), _part(summary, "fit")
    service = {name: _part(_part(latency, name), "service") for name in ("ttft_ms", "tpot_ms", "e2e_ms")}
    ok, failed, due = (sum(int(t.get(name) or 0) for t in _rows(summary)) for name in ("ok", "failed", "requests"))
    reasons = [str(reason.get("text")) for reason in fit.get("reasons") or [] if isinstance(reason, dict)]
    return RunFigures(
        run=str(run.get("id") or folder.name),
        folder=str(folder),
        started_utc=str(run.get("started_utc") or ""),
        profile=str(run.get("profile") or ""),
        profile_hash=str(run.get("profile_hash") or ""),
        seed=run.get("seed"),
        mode=str(run.get("mode") or ""),
        schema_version=int(summary["schema_version"]),
        definitions_version=int(summary.get("definitions_version") or 0),
        harness_version=str(_part(manifest, "versions").get("loadtest") or ""),
        target_versions=_target_versions(manifest),
        fit=fit.get("verdict") == "fit",
        unfit_reasons="" if fit.get("verdict") == "fit" else "; ".join(reasons) or "its fitness is not stated",
        result=str(_part(summary, "result").get("verdict") or "none"),
        balanced=account.get("balanced") is True,
        requests=due,
        **{
            f"{name}_{level}": _percentile(service[name], level)
            for name, level in (("ttft_ms", "p50"), ("ttft_ms", "p95"), ("tpot_ms", "p50"))
        },
        e2e_ms_p50=_percentile(service["e2e_ms"], "p50"),
        e2e_ms_p95=_percentile(service["e2e_ms"], "p95"),
        attainment=_number(goodput.get("share")),
        goodput_per_s=_number(goodput.get("per_s")),
        error_share=failed / (ok + failed) if ok + failed else None,
    )


def _percentile(cell: Mapping[str, Any], level: str) -> float | None:
    """The figure; +inf where the report says "> 120 s"; None where there were too few or none.

    What the report withholds because the turns depend on each other is taken all the same: between runs, the spread
    of runs says how far to believe it.
    """
    withheld = f"{level}_withheld" in cell
    value = _number(cell.get(f"{level}_withheld" if withheld else level))
    beyond = withheld or str(cell.get(f"{level}_text", "")).startswith(("> ", "no answer"))
    return math.inf if value is None and beyond and cell.get("censored") else value


def _target_versions(manifest: Mapping[str, Any]) -> str:
    """What the targets said of themselves when the run began, if they were asked and told."""
    told = [
        (str(target.get("name")), _part(target, "info").get("version"))
        for target in manifest.get("targets") or []
        if isinstance(target, dict)
    ]
    return ", ".join(f"{name}={version}" for name, version in told if version)


def _rows(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in summary.get("targets") or [] if isinstance(row, dict)]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _part(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}
