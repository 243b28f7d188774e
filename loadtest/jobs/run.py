"""`loadtest run`: one profile, one machine, one run folder, one table at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from loadtest import runfolder
from loadtest.jobs.swarm import run_swarm
from loadtest.report.console import console_table


def run(profile: str, host: str, workers: int, runs_dir: Path, options: Sequence[str]) -> int:
    """Run a profile and print its table; the exit code is the run's."""
    folder = new_run_folder(runs_dir)
    code = run_swarm(profile, host, workers, runs_dir, folder.name, options)
    print_result(folder)
    return code


def new_run_folder(runs_dir: Path) -> Path:
    """A path for a new run folder, named by UTC time; only `runs_dir` is made. RunFolderError: it cannot be."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise runfolder.RunFolderError(f"{runs_dir}: cannot be made ({error.strerror}); name another folder") from None
    return runs_dir / runfolder.new_run_id()


def print_result(folder: Path) -> None:
    """The short table and where the report is; nothing when the run never came so far."""
    summary = folder / "summary.json"
    if not summary.exists():
        return
    print(console_table(json.loads(summary.read_text(encoding="utf-8"))))
    print(f"report: {folder / 'report.html'}")
