"""`loadtest capacity` with runs that are written instead of made: steps, resume, ends, and mistakes in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from analysis.run_factory import turn, unsent, write_run

from loadtest.jobs import capacity as job
from loadtest.report.capacity_report import headline
from loadtest.runfolder import read_manifest

LIMIT_PER_S = 9.0
HOST = "http://127.0.0.1:5010"


class Target:
    """Stands in for `run_swarm`: up to a rate every answer is fast, above it one in three is late."""

    def __init__(self, *, breaks_at: int = -1, unfit_above: float = 1e9, capped: bool = False) -> None:
        self.runs: list[dict[str, str]] = []
        self._breaks_at = breaks_at
        self._unfit_above = unfit_above
        self._capped = capped

    def __call__(
        self, profile: str, host: str, workers: int, runs_dir: Path, run_id: str, options: Sequence[str]
    ) -> int:
        told = {name: value for name, value in pairwise(options) if name.startswith("--")}
        self.runs.append(told)
        rate, seconds = float(told["--request-rate"]), float(told["--duration"])
        if len(self.runs) - 1 == self._breaks_at:
            raise KeyboardInterrupt
        n = min(3_000, round(rate * seconds * 0.75))
        late = rate > LIMIT_PER_S
        rows = [turn(i, 20 + i * 30 / n, ttft_ms=900.0 if late and i % 3 == 0 else 100.0) for i in range(n)]
        if self._capped:
            rows += [unsent(n + i, "dropped", 21, error_kind="cap") for i in range(n if late else 0)]
        reasons = [{"rule": "cpu", "text": "a worker used 99 % of its core"}] if rate > self._unfit_above else []
        if self._capped and late:
            reasons.append({"rule": "dropped", "text": "50 % of arrivals were dropped"})
        fit = {"verdict": "unfit" if reasons else "fit", "reasons": reasons}
        write_run(runs_dir / run_id, rows, state="reported", offered_s=60.0, warmup_s=15.0, fit=fit)
        (runs_dir / run_id / "summary.json").write_text("{}")
        return 4 if reasons else 0


def search(folder: Path, target: Target, *options: str) -> int:
    words = ["single-shot", "--host", HOST, "--slo", "ttft_ms_p95:500", "--rate-from", "4", "--step-s", "90"]
    return job.main([*words, "--rest-s", "0", "--dir", str(folder), *options], run=target)


def found(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "capacity.json").read_text())
    return read


def test_a_search_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = Target()
    assert search(tmp_path, target) == 0
    result = found(tmp_path)
    assert result["state"] == "found" and result["confirmed"]
    assert result["low_per_s"] <= LIMIT_PER_S < result["high_per_s"] <= 1.05 * result["low_per_s"]
    assert [float(run["--request-rate"]) for run in target.runs] == [step["rate_per_s"] for step in result["steps"]]
    assert [int(run["--seed"]) for run in target.runs] == list(range(1, len(target.runs) + 1))
    assert float(target.runs[-1]["--duration"]) == 3 * 90 + 10, "the profile's warm-up comes on top"
    metric, limit, misses = target.runs[0]["--misses-max"].split(":")
    assert (metric, limit) == ("ttft_ms", "500") and 0.05 * 360 < int(misses) < 0.25 * 360
    profile = (tmp_path / "single-shot.toml").read_text()
    assert profile.count("[[slo]]") == 1 and 'metric = "ttft_ms_p95"' in profile

    # Every report says the same, and names each run.
    out = capsys.readouterr().out
    for text in (out, (tmp_path / "capacity.md").read_text(), (tmp_path / "capacity.html").read_text()):
        assert headline(result) in text
        assert text.count("pass") >= sum(step["verdict"] == "pass" for step in result["steps"])
    for step in result["steps"]:
        assert (tmp_path / "runs" / step["run"] / "manifest.json").exists()
        assert step["run"] in (tmp_path / "capacity.html").read_text()
        late = step["rate_per_s"] > LIMIT_PER_S
        assert step["verdict"] == ("fail" if late else "pass")
        assert step["goodput_per_s"] == pytest.approx(step["offered_per_s"] * (2 / 3 if late else 1), rel=0.02)
    assert (tmp_path / "capacity.svg").read_text().startswith("<svg xmlns=")
    page = (tmp_path / "capacity.html").read_text()
    assert not re.search(r"https?://(?!127\.0\.0\.1|www\.w3\.org)", page), "it needs no network"


def test_interrupted_at_any_step_the_same_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Target()
    search(tmp_path / "whole", whole)
    for breaks_at in (0, 3, len(whole.runs) - 1):
        folder, first, second = tmp_path / str(breaks_at), Target(breaks_at=breaks_at), Target()
        assert search(folder, first) == 130
        assert "the same command goes on" in capsys.readouterr().err
        assert search(folder, second) == 0
        rates = [run["--request-rate"] for run in [*first.runs[:breaks_at], *second.runs]]
        assert rates == [run["--request-rate"] for run in whole.runs], "no step twice, none left out"
        assert second.runs[0]["--seed"] != first.runs[-1]["--seed"], "its texts are new to the target"
        assert found(folder)["low_per_s"] == found(tmp_path / "whole")["low_per_s"]
        third = Target()
        assert search(folder, third) == 0 and not third.runs, "what was found is told again"


def test_an_unfit_step_is_repeated_and_then_nothing_is_proven(tmp_path: Path) -> None:
    target = Target(unfit_above=5.0)
    assert search(tmp_path, target) == 4
    result = found(tmp_path)
    assert [step["verdict"] for step in result["steps"]] == ["pass", "unfit", "unfit"]
    assert "99 % of its core" in (tmp_path / "capacity.md").read_text()
    assert result["low_per_s"] == 4.0 and not result["confirmed"]


def test_arrivals_dropped_at_the_cap_are_misses_and_not_the_harness_s_fault(tmp_path: Path) -> None:
    assert search(tmp_path, Target(capped=True)) == 0
    step = max(found(tmp_path)["steps"], key=lambda each: float(each["rate_per_s"]))
    assert step["verdict"] == "fail" and step["ok_share"] == pytest.approx(0.5, abs=0.01)
    assert read_manifest(tmp_path / "runs" / step["run"])["fit"]["verdict"] == "unfit"


def test_no_rate_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(tmp_path, Target(), "--slo", "ok_share:1", "--slo", "e2e_ms_p95:1") == 3
    assert "No capacity: no rate passed" in capsys.readouterr().out


def test_the_ceiling_is_kept(tmp_path: Path) -> None:
    target = Target()
    assert search(tmp_path, target, "--rate-max", "6.5") == 0
    assert max(float(run["--request-rate"]) for run in target.runs) == 6.5
    assert all(run["--rate-ceiling"] == "6.5" for run in target.runs)
    assert found(tmp_path)["state"] == "ceiling" and "At least 6.5" in headline(found(tmp_path))


def test_another_question_needs_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(tmp_path, Target())
    assert search(tmp_path, Target(), "--seed", "5") == 2
    assert "holds a search with another question" in capsys.readouterr().err
    (tmp_path / job.STATE).write_text("{")
    assert search(tmp_path, Target()) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["single-shot", "--slo", "ttft:2000"], "--slo ttft:2000: write METRIC:LIMIT, as in ttft_ms_p95:2000"),
        (["members", "--slo", "ttft_ms_p95:2000"], "has no arrival rate to search"),
        (["replay-azure", "--slo", "ttft_ms_p95:2000"], "has no arrival rate to search"),
        (["no-such", "--slo", "ttft_ms_p95:2000"], "no such profile"),
        (["single-shot", "--rate-from", "5", "--rate-max", "2"], "--rate-max 2: is below the first rate"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    target = Target()
    assert job.main([*words, "--host", HOST, "--dir", str(tmp_path)], run=target) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1 and not target.runs


def test_a_host_that_is_not_this_machine_needs_leave_and_a_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["single-shot", "--host", "http://router.example:80", "--dir", str(tmp_path)]
    assert job.main(words, run=Target()) == 2
    assert "--allow-host router.example" in capsys.readouterr().err
    assert job.main([*words, "--allow-host", "router.example"], run=Target()) == 2
    assert "needs a ceiling" in capsys.readouterr().err
