"""A night, piece by piece: whatever fails, night.md and junit.xml say which piece it was; the exit code says the rest.

What reaches for the network is played here; tests/e2e/test_nightly.py makes real nights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_runs import figures, made_side
from msgspec.structs import replace

from loadtest.analysis.gate_baseline import read_baseline
from loadtest.analysis.gate_limits import Limit
from loadtest.analysis.nights import HistoryRow, Kind, Night, NightRun, read_history
from loadtest.analysis.run_figures import METRIC, RunFigures
from loadtest.jobs import nightly
from loadtest.jobs.lock import hold
from loadtest.jobs.night import NightJob
from loadtest.jobs.night_runs import Asked, Interrupted, PieceFailed
from loadtest.report.trend_page import trend_html
from loadtest.traffic.profile import load_profile

Attempt = Callable[[Asked, Path, Kind, int], NightRun]
RUNS = 6


def asked(top: Path, **changes: Any) -> Asked:
    fields: dict[str, Any] = {
        "host": "http://127.0.0.1:9",
        "profile": load_profile("nightly"),
        "control_profile": load_profile("control"),
        "profile_name": "nightly",
        "control_name": "control",
        "top": top,
        "runs": RUNS,
        "spare": 0,
        "workers": 1,
        "limits": (),
        "permission": (),
        "check_permission": (),
        "command": "loadtest nightly",
    }
    return Asked(**{**fields, **changes})


class Played:
    """Attempts that give stated figures, in order; an exception or an exit code stands for a run that gives none."""

    def __init__(self, night: str, version: str = "main=1.0", **factors: float) -> None:
        draw = np.random.default_rng(len(night) + sum(map(ord, night)))
        self.night = night
        self.target: list[RunFigures | int | BaseException] = [
            replace(each, target_versions=version) for each in made_side(f"{night}r", RUNS, draw, 0.02, **factors)
        ]
        control = made_side(f"{night}c", RUNS, draw, 0.01)
        self.control: list[RunFigures | int | BaseException] = [
            figures(each.run, profile="control", profile_hash="c" * 16, ttft_ms_p50=each.ttft_ms_p50)
            for each in control
        ]
        self.order: list[str] = []

    def __call__(self, _: Asked, __: Path, kind: Kind, number: int) -> NightRun:
        self.order.append(f"{kind} {number}")
        one = (self.target if kind == "target" else self.control).pop(0)
        if isinstance(one, BaseException):
            raise one
        known = isinstance(one, RunFigures)
        name = one.run if isinstance(one, RunFigures) else f"{kind}-failed-{number}"
        code = one if isinstance(one, int) else 4 if not one.fit else 3 if one.result == "fail" else 0
        return NightRun(
            kind=kind,
            number=number,
            seed=number,
            run=name,
            folder=f"runs/{name}",
            exit_code=code,
            used=False,
            text="",
            figures=one if known else None,
        )


def well(_: Asked, __: Path) -> str:
    return "12 checks"


def rows_only(rows: Sequence[HistoryRow]) -> str:
    """Drawing takes a second, and a night has its page drawn once here."""
    return f"{len(rows)} rows"


def make(top: Path, name: str, attempt: Attempt, check: Any = well, draw: Any = rows_only, **changes: Any) -> Night:
    return NightJob(asked(top, **changes), top / "nights" / name, check, attempt, draw).make()


def said(top: Path, name: str) -> tuple[str, dict[str, str]]:
    """night.md, and each JUnit case with its verdict; the counts of the document are those of its cases."""
    folder = top / "nights" / name
    root = ElementTree.fromstring((folder / "junit.xml").read_text())
    cases = {
        case.get("name", ""): next((each.tag for each in case if each.tag != "system-out"), "pass")
        for case in root.iter("testcase")
    }
    verdicts = list(cases.values())
    assert root.get("errors") == str(verdicts.count("error")) and root.get("failures") == str(verdicts.count("failure"))
    document = json.loads((folder / "night.json").read_text())
    assert document["night"] == name and document["ended_utc"]
    return (folder / "night.md").read_text(), cases


def begun(top: Path) -> Night:
    return make(top, "2026-11-01", Played("a"))


def test_the_first_night_collects_and_the_second_is_judged(tmp_path: Path) -> None:
    first = begun(tmp_path)
    assert (first.word, first.exit_code) == ("begun", 0)
    text, cases = said(tmp_path, "2026-11-01")
    assert "NO BASELINE YET: collecting" in text and "error" not in cases.values()
    assert "[runs/ar0](runs/ar0/report.html)" in text
    assert len(read_baseline(tmp_path / "baseline")) == len(read_baseline(tmp_path / "baseline" / "control")) == RUNS
    played = Played("b")
    second = make(tmp_path, "2026-11-02", played, draw=trend_html)
    assert (second.word, second.exit_code) == ("pass", 0)
    assert played.order[:4] == ["target 1", "control 1", "target 2", "control 2"]
    assert len(read_baseline(tmp_path / "baseline")) == 2 * RUNS
    assert len(read_history(tmp_path / "history.parquet")) == 4 * RUNS
    assert "<svg" in (tmp_path / "trend.html").read_text()
    told = (tmp_path / "nightly.prom").read_text()
    assert f'loadtest_nightly_fit_runs{{kind="target",profile="nightly"}} {RUNS}.0' in told
    assert "loadtest_nightly_exit_code 0.0" in told


def test_a_slower_target_fails_the_night_and_leaves_the_baseline(tmp_path: Path) -> None:
    begun(tmp_path)
    night = make(tmp_path, "2026-11-02", Played("b", ttft_ms_p50=1.2, ttft_ms_p95=1.2))
    assert (night.word, night.exit_code) == ("fail", 3)
    text, cases = said(tmp_path, "2026-11-02")
    assert "❌" in text and "TTFT p50" in text and "worse" in text
    assert [name for name, verdict in cases.items() if verdict == "failure"]
    assert cases["preflight"] == "pass" and cases["baseline"] == "skipped"
    assert len(read_baseline(tmp_path / "baseline")) == RUNS
    assert {row.word for row in read_history(tmp_path / "history.parquet")} == {"begun", "fail"}
    assert 0.01 < night.run_to_run_sd["ttft_ms_p50"] < 0.04


def test_an_unfit_run_is_made_again_while_there_is_a_spare_one(tmp_path: Path) -> None:
    played = Played("a")
    played.target.insert(2, figures("bad", fit=False, unfit_reasons="a worker was lost"))
    night = make(tmp_path, "2026-11-01", played, spare=1)
    assert night.exit_code == 0
    assert [run.used for run in night.runs if run.number == 3] == [False, True, True]
    text, _ = said(tmp_path, "2026-11-01")
    assert "a worker was lost" in text and "made again" in text
    assert "bad" not in [row.run for row in read_history(tmp_path / "history.parquet")]


@pytest.mark.parametrize("side", ["target", "control"])
def test_an_unfit_run_without_a_spare_one_makes_the_night_void(tmp_path: Path, side: str) -> None:
    played = Played("a")
    runs = getattr(played, side)
    runs[1] = figures("bad", fit=False, unfit_reasons="a worker was lost", profile_hash=runs[1].profile_hash)
    night = make(tmp_path, "2026-11-01", played)
    assert (night.word, night.exit_code) == ("void", 4)
    assert "VOID" in said(tmp_path, "2026-11-01")[0]
    assert not read_baseline(tmp_path / "baseline")


def test_a_control_that_moved_makes_the_night_void_however_slow_the_target(tmp_path: Path) -> None:
    begun(tmp_path)
    played = Played("b", ttft_ms_p50=1.5)
    played.control = [
        figures(f"c{i}", profile="control", profile_hash="c" * 16, ttft_ms_p50=500.0 + i) for i in range(RUNS)
    ]
    night = make(tmp_path, "2026-11-02", played)
    assert (night.word, night.exit_code) == ("void", 4)
    assert "control moved" in said(tmp_path, "2026-11-02")[0]


def test_a_target_that_cannot_be_measured_gets_no_run(tmp_path: Path) -> None:
    def nobody(_: Asked, __: Path) -> str:
        raise PieceFailed("main: reach: no answer: connect_error")

    played = Played("a")
    night = make(tmp_path, "2026-11-01", played, check=nobody)
    assert (night.word, night.exit_code, played.order) == ("failed", 1, [])
    text, cases = said(tmp_path, "2026-11-01")
    assert "preflight failed: main: reach: no answer: connect" in text.replace("\\", "")
    assert cases["preflight"] == "error" and cases["gate"] == "skipped"


def test_two_runs_that_cannot_be_made_end_the_trying(tmp_path: Path) -> None:
    played = Played("a")
    played.target[1:1] = [1, 1]
    night = make(tmp_path, "2026-11-01", played)
    assert night.exit_code == 1
    assert played.order[-1] == "target 3"
    text, cases = said(tmp_path, "2026-11-01")
    assert cases["run 2"] == cases["run 3"] == "error" and cases["run 4"] == cases["control 6"] == "skipped"
    assert "could not be made" in text


def test_one_run_that_cannot_be_made_leaves_a_verdict_on_the_others(tmp_path: Path) -> None:
    begun(tmp_path)
    played = Played("b", ttft_ms_p50=1.2, ttft_ms_p95=1.2)
    played.target[3] = 1
    night = make(tmp_path, "2026-11-02", played)
    assert (night.word, night.exit_code) == ("failed", 1), "what could not be made outranks what was missed"
    _, cases = said(tmp_path, "2026-11-02")
    assert cases["run 4"] == "error" and "failure" in cases.values()


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_could_not_be_made_is_made_again_but_not_after_wrong_usage(tmp_path: Path, code: int) -> None:
    played = Played("a")
    played.target.insert(0, 1 if code == 0 else 2)
    night = make(tmp_path, "2026-11-01", played, spare=3)
    assert night.exit_code == (0 if code == 0 else 1)


def test_a_damaged_history_fails_its_pieces_and_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "history.parquet").write_text("not a table")
    night = begun(tmp_path)
    assert night.exit_code == 1 and [piece.name for piece in night.failed_pieces] == ["history", "trend page"]
    assert (tmp_path / "history.parquet").read_text() == "not a table"
    assert "history.parquet" in said(tmp_path, "2026-11-01")[0]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (Interrupted(), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError"),
        (OSError(28, "No space left on device", "/data/x"), "/data/x: No space left"),
    ],
)
def test_whatever_happens_in_a_run_the_night_says_where(tmp_path: Path, error: BaseException, shown: str) -> None:
    played = Played("a")
    played.target[2] = error
    night = make(tmp_path, "2026-11-01", played)
    assert night.exit_code == 1
    text, cases = said(tmp_path, "2026-11-01")
    assert "run 3 failed" in text and shown in text and cases["run 3"] == "error"
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    assert (len(played.order) == 5) == stopped, "an interruption ends the night, a failure does not"


def test_what_is_on_disk_while_a_night_goes_on_says_that_it_is_not_over(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    played = Played("a")

    def attempt(given: Asked, folder: Path, kind: Kind, number: int) -> NightRun:
        seen.append(((folder / "night.md").read_text(), (folder / "junit.xml").read_text()))
        return played(given, folder, kind, number)

    make(tmp_path, "2026-11-01", attempt)
    assert all("NOT OVER, or cut off" in text and "the night ended" in junit for text, junit in seen)


def test_fixed_limits_are_judged_from_the_first_night_on(tmp_path: Path) -> None:
    night = make(tmp_path, "2026-11-01", Played("a"), limits=(Limit(METRIC["ttft_ms_p50"], "max", 10.0),))
    assert (night.word, night.exit_code) == ("fail", 3)


def test_a_run_that_missed_its_own_slo_fails_the_first_night(tmp_path: Path) -> None:
    played = Played("a")
    played.target[0] = figures("slow", result="fail")
    night = make(tmp_path, "2026-11-01", played)
    assert (night.word, night.exit_code) == ("fail", 3)
    assert not read_baseline(tmp_path / "baseline")


def test_a_new_version_of_the_target_is_told(tmp_path: Path) -> None:
    begun(tmp_path)
    make(tmp_path, "2026-11-02", Played("b", "main=<b>2.0</b>"))
    text, _ = said(tmp_path, "2026-11-02")
    assert "version changed" in text and "main=1.0 before" in text and "<b>" not in text.replace("\\<b", "")


def test_a_night_without_a_run_knows_of_no_new_version(tmp_path: Path) -> None:
    begun(tmp_path)
    played = Played("b")
    played.target[:2] = [1, 1]
    make(tmp_path, "2026-11-02", played)
    assert "version changed" not in said(tmp_path, "2026-11-02")[0]


def test_a_run_that_was_told_no_version_has_that_of_its_night(tmp_path: Path) -> None:
    played = Played("a")
    played.target[2] = figures("deaf")
    night = make(tmp_path, "2026-11-01", played)
    assert night.target_versions == "main=1.0"
    told = {row.run: row.target_versions for row in read_history(tmp_path / "history.parquet") if row.kind == "target"}
    assert len(told) == RUNS and told["deaf"] == "main=1.0"


# The command.


def refused(top: Path, *arguments: str) -> int:
    try:
        return nightly.main(["--host", "http://127.0.0.1:9", "--dir", str(top), *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "nihgtly"],
        ["--control-profile", "/nowhere.toml"],
        ["--host", "http://router.example:5010"],
        ["--host", "http://router.example:5010", "--allow-host", "router.example"],
        ["--host", "http://router.example:5010", "--allow-host", "router.example", "--rate-ceiling", "1"],
        ["--host", "router"],
        ["--runs", "0"],
        ["--runs", "x"],
        ["--slo", "nothing-of-the-kind"],
    ],
)
def test_a_mistake_is_one_line_before_anything_is_started(
    tmp_path: Path, arguments: Iterable[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(tmp_path / "top", *arguments) == 2
    assert "loadtest nightly: " in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "top").exists()


def test_a_second_start_of_a_night_leaves_the_first_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(tmp_path / "night.lock"):
        assert refused(tmp_path) == 1
    assert "is at work here" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["night.lock"]


def test_nobody_there_is_a_night_that_says_so(tmp_path: Path) -> None:
    for expected in ("", ".02"):
        assert refused(tmp_path) == 1
        (folder,) = (tmp_path / "nights").glob(f"????-??-??{expected}")
        text = (folder / "night.md").read_text()
        assert "preflight failed" in text and "reach" in text
    assert not (tmp_path / "baseline").exists() and not read_history(tmp_path / "history.parquet")
