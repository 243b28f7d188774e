"""`loadtest gate` on made run folders: verdict, exit code, JUnit and Markdown, and what becomes of the baseline."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_runs import LEVELS, UNFIT, made_night, made_run

from loadtest.cli import main


class Gate:
    """The command in one folder, with what it left behind."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.baseline = folder / "baseline"
        self.out = self.error = ""

    def __call__(self, runs: list[Path], *options: str) -> int:
        junit, markdown = self.folder / "gate.xml", self.folder / "gate.md"
        files = ["--junit", str(junit), "--markdown", str(markdown)]
        code = main(["gate", *map(str, runs), *options, *files])
        self.out, self.error = self._capsys.readouterr()
        return code

    def against(self, runs: list[Path], *options: str) -> int:
        return self(runs, "--baseline", str(self.baseline), *options)

    @property
    def markdown(self) -> str:
        return (self.folder / "gate.md").read_text()

    @property
    def cases(self) -> dict[str, str]:
        root = ElementTree.parse(self.folder / "gate.xml").getroot()
        named = {}
        for case in root.iter("testcase"):
            inside = [child.tag for child in case if child.tag != "system-out"]
            named[f"{case.get('classname', '').removeprefix('loadtest.')}: {case.get('name')}"] = (inside or ["pass"])[
                0
            ]
        return named

    def limits(self, text: str) -> tuple[str, str]:
        (self.folder / "limits.toml").write_text(text)
        return "--slo", str(self.folder / "limits.toml")


@pytest.fixture
def gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Gate:
    return Gate(tmp_path, capsys)


@pytest.fixture
def begun(gate: Gate) -> Gate:
    """A gate whose baseline has one night of six runs and of six control runs."""
    control = made_night(gate.folder, "control-", 6, sd=0.02, seed=2)
    code = gate.against(
        made_night(gate.folder, "first-", 6, seed=1), "--control", *map(str, control), "--update-baseline"
    )
    assert code == 0 and "NOTHING JUDGED: the baseline is being filled" in gate.out
    assert len(list(gate.baseline.glob("*.json"))) == len(list(gate.baseline.glob("control/*.json"))) == 6
    return gate


def test_a_night_like_the_last_passes(begun: Gate) -> None:
    assert begun.against(made_night(begun.folder, "n", 6, seed=3, night=1)) == 0
    assert "GATE PASS (exit code 0)" in begun.out and begun.markdown.startswith("## ✅ Gate PASS")
    assert begun.cases["gate.baseline: ttft_ms_p50 is no worse"] == "pass"
    assert "Without --control a slower machine here looks like a slower network." in begun.out


def test_twenty_percent_more_ttft_fails_and_all_three_say_so(begun: Gate) -> None:
    runs = made_night(begun.folder, "n", 6, sd=0.03, seed=4, night=1, ttft_ms_p50=1.2)
    assert begun.against(runs, "--slo", "chat") == 3
    assert begun.cases["gate.baseline: ttft_ms_p50 is no worse"] == "failure"
    assert begun.cases["gate.baseline: tpot_ms_p50 is no worse"] == "pass"
    assert begun.cases["gate: verdict"] == "failure"
    for text in (begun.out, begun.markdown):
        assert "TTFT p50: worse, +" in text.replace("\\", "")
    assert begun.markdown.startswith("## ❌ Gate FAIL")


def test_a_figure_that_was_dropped_fails(begun: Gate) -> None:
    runs = made_night(begun.folder, "n", 5, seed=5, night=1)
    runs.append(made_run(begun.folder / "n5", attainment=None))
    assert begun.against(runs) == 3
    assert begun.cases["gate.baseline: attainment is no worse"] == "failure"
    assert "SLO attainment: missing, 1 of 6 runs have no SLO attainment (n5), the baseline has one." in begun.out


def test_a_limit_on_a_figure_that_no_run_has_fails(gate: Gate) -> None:
    runs = [made_run(gate.folder / "a", attainment=None)]
    assert gate(runs, *gate.limits("[attainment]\nmin = 0.9")) == 3
    assert "SLO attainment at least 90.00 %: missed, no such figure in a." in gate.out


def test_a_limit_is_of_every_run(gate: Gate) -> None:
    runs = [made_run(gate.folder / "a"), made_run(gate.folder / "b", ttft_ms_p95=2100.0)]
    limits = gate.limits("[ttft_ms_p95]\nmax = 2000\n[goodput_per_s]\nmin = 3")
    assert gate(runs, *limits) == 3
    assert gate.cases["gate.limits: ttft_ms_p95 at most 2.00 s"] == "failure"
    assert gate.cases["gate.limits: goodput_per_s at least 3.00/s"] == "pass"
    assert "TTFT p95 at most 2.00 s: missed, 2.10 s in b." in gate.out
    assert gate(runs[:1], *limits) == 0


def test_a_lost_worker_makes_the_night_void_before_anything_else(begun: Gate) -> None:
    runs = made_night(begun.folder, "n", 5, seed=6, night=1, ttft_ms_p50=2.0)
    runs.append(made_run(begun.folder / "n5", fit=UNFIT))
    assert begun.against(runs, *begun.limits("[ttft_ms_p50]\nmax = 1"), "--update-baseline") == 4
    assert "run n5 is unfit: 1 of 2 workers were lost." in begun.out and begun.markdown.startswith("## ⚠️ Gate VOID")
    assert begun.cases["gate.runs: n5 could measure"] == "error" and begun.cases["gate: verdict"] == "error"
    assert begun.cases["gate.limits: ttft_ms_p50 at most 1.0 ms"] == "skipped"
    assert "The baseline was not updated" in begun.out and len(list(begun.baseline.glob("*.json"))) == 6


def test_an_unfit_control_makes_the_night_void(begun: Gate) -> None:
    control = [*made_night(begun.folder, "c", 5, sd=0.02, seed=7), made_run(begun.folder / "c5", fit=UNFIT)]
    runs = made_night(begun.folder, "n", 6, seed=8, night=1)
    assert begun.against(runs, "--control", *map(str, control)) == 4
    assert begun.cases["gate.control: the control is fit and has not moved"] == "error"
    assert "control run c5 is unfit" in begun.out


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_control_that_moved_makes_the_night_void_whichever_way(begun: Gate, factor: float) -> None:
    control = made_night(begun.folder, "c", 6, sd=0.02, seed=9, ttft_ms_p50=factor)
    runs = made_night(begun.folder, "n", 6, seed=10, night=1, ttft_ms_p50=factor)
    assert begun.against(runs, "--control", *map(str, control)) == 4
    assert "the control moved: TTFT p50" in begun.out


def test_a_control_that_stands_still_lets_the_night_count(begun: Gate) -> None:
    control = made_night(begun.folder, "c", 6, sd=0.02, seed=11)
    runs = made_night(begun.folder, "n", 6, seed=12, night=1, ttft_ms_p50=1.5)
    assert begun.against(runs, "--control", *map(str, control)) == 3
    assert begun.cases["gate.control: the control is fit and has not moved"] == "pass"
    assert begun.against(runs, "--control", *map(str, control[:3])) == 3
    assert "Whether the control moved cannot be told: 3 runs against 6, 5 a side are needed." in begun.out


def test_few_runs_are_judged_by_limits_alone_and_it_says_so(begun: Gate) -> None:
    runs = made_night(begun.folder, "n", 4, seed=13, night=1, ttft_ms_p50=3.0)
    assert begun.against(runs, *begun.limits("[error_share]\nmax = 0.5")) == 0
    told = "4 runs against 6 of the baseline, 5 a side are needed; the limits alone decide the exit code"
    assert told in begun.out and begun.cases["gate.baseline: ttft_ms_p50 is no worse"] == "skipped"
    assert begun.against(runs) == 4
    assert "GATE NOTHING JUDGED: no limits, and too few runs for the baseline (exit code 4)" in begun.out


def test_a_run_that_failed_by_its_own_profile_fails(gate: Gate) -> None:
    runs = [made_run(gate.folder / "a"), made_run(gate.folder / "b", result="fail")]
    assert gate(runs, "--slo", "chat") == 3
    assert gate.cases["gate.runs: b met the limits of its profile"] == "failure"


@pytest.mark.parametrize("other", [{"digest": "ffff"}, {"definitions": 99}])
def test_another_profile_or_definition_is_refused_until_a_new_series_is_begun(
    begun: Gate, other: dict[str, object]
) -> None:
    runs = [made_run(begun.folder / f"n{i}", second=i, **other) for i in range(6)]  # type: ignore[arg-type]
    assert begun.against(runs) == 2
    assert begun.error.count("\n") == 1 and "--update-baseline begins a new series" in begun.error
    assert begun.against(runs, "--update-baseline") == 0
    assert "a new series" in begun.out and len(list(begun.baseline.glob("*.json"))) == 12
    later = [made_run(begun.folder / f"m{i}", second=90 + i, **other) for i in range(6)]  # type: ignore[arg-type]
    assert begun.against(later) == 0 and "6 v 6" in begun.out


def test_the_baseline_keeps_the_newest_and_does_not_compare_a_run_with_itself(begun: Gate) -> None:
    runs = made_night(begun.folder, "n", 6, seed=14, night=1)
    for _ in range(2):  # the second time as after a job that was started again
        assert begun.against(runs, "--update-baseline", "--keep", "8") == 0
        assert sorted(path.stem for path in begun.baseline.glob("*.json")) == [
            "first-4",
            "first-5",
            *(f"n{i}" for i in range(6)),
        ]
    stored = json.loads((begun.baseline / "n0.json").read_text())
    assert stored["baseline_version"] == 1 and stored["run"] == "n0" and not list(begun.baseline.glob(".*"))
    assert "2 of the baseline" in begun.out and set(LEVELS) <= set(stored)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "there is nothing to judge by"),
        (["--slo", "nosuch"], "limits 'nosuch': there are chat"),
        (["--slo", "chat", "--update-baseline"], "--update-baseline needs --baseline"),
        (["--baseline", "nowhere"], "no baseline is here"),
    ],
)
def test_mistakes_are_one_line(gate: Gate, options: list[str], words: str) -> None:
    assert gate([made_run(gate.folder / "a")], *options) == 2
    assert words in gate.error and gate.error.count("\n") == 1


def test_runs_that_do_not_belong_together_are_refused(gate: Gate) -> None:
    first, other = made_run(gate.folder / "a"), made_run(gate.folder / "b", digest="ffff")
    assert gate([first, first], "--slo", "chat") == 2 and "a was given more than once" in gate.error
    assert gate([first, other], "--slo", "chat") == 2 and "judge each profile by itself" in gate.error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ttft]\nmax = 1", "[ttft]: no such figure, choose one of ttft_ms_p50"),
        ("[error_share]\nmax = 2", "[error_share] max: is a share, 0 to 1, got 2"),
        ("[ttft_ms_p50]\nmost = 2", "[ttft_ms_p50] most: unknown"),
        ("[ttft_ms_p50]\nmax = nan", "must be a number of 0 or more"),
        ("ttft_ms_p50 = 3", "must be a table with max or min"),
        ("", "states no limits"),
        ("[", "not valid TOML"),
    ],
)
def test_mistakes_in_limits_say_where_and_what(gate: Gate, text: str, words: str) -> None:
    assert gate([made_run(gate.folder / "a")], *gate.limits(text)) == 2
    assert words in gate.error and "limits.toml" in gate.error and gate.error.count("\n") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"baseline_version": 7}', '{"baseline_version": 1, "run": 3}'])
def test_a_damaged_baseline_is_one_line_and_code_1(begun: Gate, text: str) -> None:
    (begun.baseline / "first-0.json").write_text(text)
    assert begun.against(made_night(begun.folder, "n", 6)) == 1
    assert "first-0.json" in begun.error and begun.error.count("\n") == 1


def test_a_run_that_is_not_joined_and_a_file_that_cannot_be_written(gate: Gate) -> None:
    assert gate([gate.folder], "--slo", "chat") == 1 and "run `loadtest join" in gate.error
    run = made_run(gate.folder / "a")
    assert main(["gate", str(run), "--slo", "chat", "--junit", str(run / "manifest.json" / "x.xml")]) == 1


def test_a_copy_of_a_run_in_the_baseline_does_not_count_twice(begun: Gate) -> None:
    text = (begun.baseline / "first-0.json").read_text()
    (begun.baseline / "copy.json").write_text(text)
    assert begun.against(made_night(begun.folder, "n", 6)) == 1 and "a run counts once" in begun.error
