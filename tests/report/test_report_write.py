"""From a joined folder to files: whole, and the manifest says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest import runfolder
from loadtest.report.write import report_run

Make = Callable[..., dict[str, Any]]


def folder(tmp_path: Path, summary: Any) -> Path:
    profile = {"name": "community", "text": "[load]\nmode = 'open'  # <b>evening</b>"}
    runfolder.write_manifest(tmp_path, {"schema_version": 1, "state": "joined", "profile": profile, "seed": 7})
    runfolder.write_text(tmp_path / "summary.json", json.dumps(summary))
    return tmp_path


def test_writes_page_and_markdown_and_marks_the_manifest(tmp_path: Path, make_summary: Make) -> None:
    run = folder(tmp_path, make_summary())
    page = report_run(run)
    assert page == run / "report.html"
    assert "# &lt;b&gt;evening&lt;/b&gt;" in page.read_text(encoding="utf-8")
    assert "### Account" in (run / "summary.md").read_text(encoding="utf-8")
    manifest = runfolder.read_manifest(run)
    assert (manifest["state"], manifest["seed"]) == ("reported", 7)
    names = ["junit.xml", "manifest.json", "report.html", "summary.json", "summary.md"]
    assert sorted(p.name for p in run.iterdir()) == names


def test_reporting_twice_gives_the_same_files(tmp_path: Path, make_summary: Make) -> None:
    run = folder(tmp_path, make_summary())
    first = report_run(run).read_bytes()
    assert report_run(run).read_bytes() == first


@pytest.mark.parametrize(
    ("summary", "words"),
    [({"schema_version": 99}, "schema version 99, this version reads 1"), ([1], "schema version None")],
)
def test_an_unknown_summary_is_one_clear_line(tmp_path: Path, summary: Any, words: str) -> None:
    with pytest.raises(runfolder.RunFolderError, match=re.escape(words)) as error:
        report_run(folder(tmp_path, summary))
    assert "\n" not in str(error.value)


def test_a_missing_or_damaged_summary_says_what_to_do(tmp_path: Path) -> None:
    runfolder.write_manifest(tmp_path, {"schema_version": 1, "state": "recorded"})
    with pytest.raises(runfolder.RunFolderError, match="run `loadtest join"):
        report_run(tmp_path)
    (tmp_path / "summary.json").write_text('{"schema_version": 1, ')
    with pytest.raises(runfolder.RunFolderError, match=r"unreadable .* again"):
        report_run(tmp_path)
    assert runfolder.read_manifest(tmp_path)["state"] == "recorded"
