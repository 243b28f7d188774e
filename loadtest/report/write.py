"""From a joined run folder to the files a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtest import runfolder
from loadtest.analysis.compat import write_vllm
from loadtest.analysis.run_figures import read_summary
from loadtest.report import wording
from loadtest.report.html import render_html
from loadtest.report.junit import render_junit, run_suite
from loadtest.report.markdown import render_markdown

# Its exact gaps need every chunk list in memory; `loadtest report --compat vllm` asks for it all the same.
VLLM_ROWS_MAX = 500_000


def report_run(run: Path) -> Path:
    """Write report.html, summary.md and junit.xml from summary.json, mark the manifest "reported"; the page's path.

    Beside them vllm-bench.json, for a run with measured streams of at most VLLM_ROWS_MAX turns.
    """
    summary = read_summary(run)
    profile = runfolder.read_manifest(run).get("profile")
    text = str(profile.get("text") or "") if isinstance(profile, dict) else ""
    page = run / "report.html"
    runfolder.write_text(page, render_html(summary, text))
    runfolder.write_text(run / "summary.md", render_markdown(summary))
    runfolder.write_text(run / "junit.xml", render_junit([run_suite(summary)]))
    if _has_streams(run, summary):
        write_vllm(run)
    runfolder.update_manifest(run, state="reported")
    return page


def _has_streams(run: Path, summary: dict[str, Any]) -> bool:
    streamed = wording.part(summary, "latency", "ttft_ms", "service").get("n")
    rows = wording.figure(wording.part(summary, "account").get("rows")) or 0
    return bool(streamed) and rows <= VLLM_ROWS_MAX and bool(runfolder.part_paths(run, "requests"))
