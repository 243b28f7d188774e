"""A gate's baseline: a folder with one plain JSON file per run, so that a person or a repository can keep it.

    DIR/RUN_ID.json            figures of one run: the fields of `RunFigures`, and "baseline_version"
    DIR/control/RUN_ID.json    the same of the control endpoint

Runs of one profile hash and one version of the definitions are a series; only these can be compared. Files appear
whole or not at all. Deleting one forgets that run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.analysis.run_figures import RunFigures, figures_from_json
from loadtest.runfolder import RunFolderError, write_text

BASELINE_VERSION = 1
CONTROL = "control"
KEEP = 30  # runs of a series: five nights of six
_FILE_NAME = re.compile(r"[\w][\w.-]{0,120}")


def read_baseline(folder: Path) -> list[RunFigures]:
    """All runs of a baseline in the order of time; none when there is no folder. RunFolderError: a damaged file."""
    if not folder.is_dir():
        return []
    return in_order([_read(path) for path in sorted(folder.glob("[!.]*.json"))])


def same_series(run: RunFigures, other: RunFigures) -> bool:
    return (run.profile_hash, run.definitions_version) == (other.profile_hash, other.definitions_version)


def in_order(runs: Sequence[RunFigures]) -> list[RunFigures]:
    """By their start, and by their names within one second."""
    return sorted(runs, key=lambda run: (run.started_utc, run.run))


def add_runs(folder: Path, runs: Sequence[RunFigures], keep: int = KEEP) -> list[str]:
    """Store these runs and keep the newest `keep` of their series; the names of those that were forgotten.

    RunFolderError when the folder cannot be written.
    """
    try:
        for run in runs:
            content = {"baseline_version": BASELINE_VERSION, **run.as_json()}
            write_text(folder / _file_name(run), json.dumps(content, indent=1, allow_nan=False) + "\n")
        series = [run for run in read_baseline(folder) if runs and same_series(run, runs[0])]
        forgotten = series[: max(0, len(series) - keep)]
        for run in forgotten:
            (folder / _file_name(run)).unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written ({error.strerror}); name another --baseline") from None
    return [run.run for run in forgotten]


def _read(path: Path) -> RunFigures:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        version = stored.pop("baseline_version", None) if isinstance(stored, dict) else None
        if version != BASELINE_VERSION:
            raise RunFolderError(
                f"{path}: baseline version {version}, this version reads {BASELINE_VERSION}; delete the file"
            )
        run = figures_from_json(stored)
    except (ValueError, OSError, msgspec.ValidationError) as error:
        raise RunFolderError(f"{path}: not a run of a baseline ({error}); delete the file or restore it") from None
    if path.name != _file_name(run):
        raise RunFolderError(f"{path}: holds the run {run.run!r}; a run counts once, so name the file after it")
    return run


def _file_name(run: RunFigures) -> str:
    if not _FILE_NAME.fullmatch(run.run):
        raise RunFolderError(f"{run.folder}: the run's name {run.run!r} cannot be the name of a file")
    return f"{run.run}.json"
