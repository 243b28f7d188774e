"""From a joined run folder to the files a person reads."""

from __future__ import annotations

from pathlib import Path

from loadtest import runfolder
from loadtest.analysis.run_figures import read_summary
from loadtest.report.html import render_html
from loadtest.report.junit import render_junit, run_suite
from loadtest.report.markdown import render_markdown


def report_run(run: Path) -> Path:
    """Write report.html, summary.md and junit.xml from summary.json, mark the manifest "reported"; the page's path."""
    summary = read_summary(run)
    profile = runfolder.read_manifest(run).get("profile")
    text = str(profile.get("text") or "") if isinstance(profile, dict) else ""
    page = run / "report.html"
    runfolder.write_text(page, render_html(summary, text))
    runfolder.write_text(run / "summary.md", render_markdown(summary))
    runfolder.write_text(run / "junit.xml", render_junit([run_suite(summary)]))
    runfolder.update_manifest(run, state="reported")
    return page
