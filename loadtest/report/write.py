"""From a joined run folder to the files a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loadtest import runfolder
from loadtest.records import SCHEMA_VERSION
from loadtest.report.html import render_html
from loadtest.report.markdown import render_markdown


def read_summary(run: Path) -> dict[str, Any]:
    """RUN/summary.json; RunFolderError when it is missing, damaged or of another version."""
    path = run / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise runfolder.RunFolderError(f"{run}: no summary.json; run `loadtest join {run}` first") from None
    except (ValueError, OSError) as error:
        raise runfolder.RunFolderError(f"{path}: unreadable ({error}); run `loadtest join {run}` again") from None
    version = summary.get("schema_version") if isinstance(summary, dict) else None
    if version != SCHEMA_VERSION:
        raise runfolder.RunFolderError(
            f"{path}: schema version {version}, this version reads {SCHEMA_VERSION}; run `loadtest join {run}` again"
        )
    return dict(summary)


def report_run(run: Path) -> Path:
    """Write report.html and summary.md from summary.json, mark the manifest "reported", return the page's path."""
    summary = read_summary(run)
    profile = runfolder.read_manifest(run).get("profile")
    text = str(profile.get("text") or "") if isinstance(profile, dict) else ""
    page = run / "report.html"
    runfolder.write_text(page, render_html(summary, text))
    runfolder.write_text(run / "summary.md", render_markdown(summary))
    runfolder.update_manifest(run, state="reported")
    return page
