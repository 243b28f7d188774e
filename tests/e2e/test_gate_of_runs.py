"""Two real runs, then what is decided from their folders: junit.xml, comparison, gate and baseline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Network, ended

from loadtest.cli import main


@pytest.mark.long
def test_two_runs_are_compared_and_judged(network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, fit, passed = [], True, True
    for seed in (1, 2):
        folder = tmp_path / f"runs{seed}"
        command = [sys.executable, "-m", "loadtest", "run", "smoke", "--host", network.url, "--workers", "1"]
        result = ended([*command, "--seed", str(seed), "--runs-dir", str(folder)], folder)
        summary = json.loads((result.run / "summary.json").read_text())
        fit &= summary["fit"]["verdict"] == "fit"  # a busy machine may say otherwise, and then so must the gate
        passed &= summary["result"]["verdict"] != "fail"
        suite = ElementTree.parse(result.run / "junit.xml").getroot()[0]
        checks = [case for case in suite.iter("testcase") if case.get("classname") == "loadtest.network"]
        assert len(checks) == len(summary["findings"]) and int(suite.get("tests", "0")) == len(
            list(suite.iter("testcase"))
        )
        assert bool(suite.findall("testcase/error")) is (summary["fit"]["verdict"] != "fit")
        runs.append(str(result.run))
    assert main(["compare", *runs, "--html", str(tmp_path / "compare.html")]) == (0 if fit else 4)
    assert (tmp_path / "compare.html").read_text().count("<svg") == 2
    (tmp_path / "limits.toml").write_text("[error_share]\nmax = 1\n[ttft_ms_p50]\nmax = 600000")
    gate = ["gate", *runs, "--slo", str(tmp_path / "limits.toml"), "--baseline", str(tmp_path / "baseline")]
    assert main([*gate, "--update-baseline"]) == (4 if not fit else 0 if passed else 3)
    stored = list((tmp_path / "baseline").glob("*.json"))
    assert len(stored) == (2 if fit and passed else 0)
    assert "Traceback" not in capsys.readouterr().err
