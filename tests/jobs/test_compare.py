"""`loadtest compare` on made run folders: what is shown, what is refused, and what is said of single runs."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_runs import UNFIT, made_night, made_run

from loadtest.cli import main

SERIES = [{"t_s": float(t), "completed": 3 + t % 2, "ttft_ms_p50": 400.0 + t, "e2e_ms_p50": 4000.0} for t in range(30)]
CURVES = {
    "ttft_ms_service": [[100.0 * k, k / 20] for k in range(1, 20)],
    "e2e_ms_service": [],
    "tpot_ms": [[40.0, 1.0]],
}


class Compare:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.out = self.error = ""

    def __call__(self, *arguments: object) -> int:
        files = ["--markdown", str(self.folder / "c.md"), "--html", str(self.folder / "c.html")]
        code = main(["compare", *map(str, arguments), *files])
        self.out, self.error = self._capsys.readouterr()
        return code

    def run(self, name: str, **changes: Any) -> Path:
        return made_run(self.folder / name, series=SERIES, distributions=CURVES, **changes)

    @property
    def markdown(self) -> str:
        return (self.folder / "c.md").read_text()

    @property
    def html(self) -> str:
        return (self.folder / "c.html").read_text()

    def row(self, beginning: str) -> list[str]:
        """The first row of the Markdown that begins so, as cells."""
        line = next(line for line in self.markdown.splitlines() if line.startswith(f"| {beginning} |"))
        return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    return Compare(tmp_path, capsys)


def test_two_runs_side_by_side_with_differences_that_prove_nothing(compare: Compare) -> None:
    assert compare(compare.run("a"), compare.run("b", ttft_ms_p95=1500.0, attainment=0.90)) == 0
    assert "One run each: a difference proves nothing about run-to-run spread" in compare.out
    assert compare.row("SLO attainment") == ["SLO attainment", "95.00 %", "90.00 %", "-5.0 points"]
    assert "+25.0 %" in compare.out and "+25.0 %" in compare.html
    assert compare.markdown.startswith("## `a`, `b`") and "<h1>a and b</h1>" in compare.html


def test_two_groups_have_a_shift_with_an_interval(compare: Compare) -> None:
    old = made_night(compare.folder, "old", 6, seed=1)
    new = made_night(compare.folder, "new", 6, sd=0.03, seed=2, night=1, ttft_ms_p50=1.2)
    assert compare(*new, "--against", *old) == 0
    row = compare.row("TTFT p50")
    assert row[5:7] == ["6 v 6", "**worse**"] and " to +" in row[4] and row[3].startswith("+")
    assert "One run each" not in compare.out


def test_few_runs_a_side_say_that_they_prove_nothing(compare: Compare) -> None:
    old, new = made_night(compare.folder, "old", 3), made_night(compare.folder, "new", 2, seed=1)
    assert compare(*new, "--against", *old) == 0
    assert "2 runs against 3: 5 a side are the least that can prove a change." in compare.out
    assert compare.row("TTFT p50")[4] == "too few runs"
    assert compare(new[0], "--against", old[0]) == 0 and "One run each" in compare.out


def test_an_unfit_run_is_marked_and_in_no_shift(compare: Compare) -> None:
    old = made_night(compare.folder, "old", 5)
    new = [*made_night(compare.folder, "new", 5, seed=1), compare.run("bad", fit=UNFIT, ttft_ms_p50=9999.0)]
    assert compare(*new, "--against", *old) == 4
    assert "bad is UNFIT and in no shift: 1 of 2 workers were lost." in compare.out
    assert compare.row("TTFT p50")[5] == "5 v 5"


def test_another_profile_is_refused_unless_told(compare: Compare) -> None:
    runs = [compare.run("a"), compare.run("b", digest="ffff")]
    assert compare(*runs) == 2
    assert "--different-profiles" in compare.error and compare.error.count("\n") == 1
    assert compare(*runs, "--different-profiles") == 0
    assert compare.row("profile hash") == ["profile hash", "`0123456789abcdef`", "`ffff`"]
    assert "The profiles differ: a shift may come from what was sent." in compare.out


def test_other_definitions_are_refused_also_when_told(compare: Compare) -> None:
    runs = [compare.run("a"), compare.run("b", definitions=99)]
    assert compare(*runs, "--different-profiles") == 2 and "`loadtest join` each again" in compare.error


def test_one_run_and_the_same_run_twice_are_refused(compare: Compare) -> None:
    run = compare.run("a")
    assert compare(run) == 2 and "name two or more" in compare.error
    assert compare(run, run) == 2 and "more than once" in compare.error
    assert compare(run, compare.folder / "nowhere") == 1 and "no summary.json" in compare.error


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_page_draws_every_run_and_asks_for_nothing(compare: Compare) -> None:
    runs = [compare.run("a"), compare.run("b", attainment=None), compare.run("c<script>alert(1)")]
    assert compare(*runs) == 0
    tags = Tags(compare.html).seen
    assert [attributes["class"] for tag, attributes in tags if tag == "svg"] == ["compare-ecdf", "compare-time"]
    assert not [tag for tag, _ in tags if tag in ("script", "link", "img", "iframe")]
    assert not [each for _, each in tags if set(each) & {"src", "onload"} or str(each.get("href", "#"))[0] != "#"]
    assert "c&lt;script&gt;" in compare.html and "<script" not in compare.html
    assert sum(text in compare.html for text in ("var(--blue)", "var(--orange)", "var(--green)")) == 3
    assert compare(*runs) == 0


def test_runs_without_anything_to_draw_have_tables_all_the_same(compare: Compare) -> None:
    runs = [made_run(compare.folder / name, ttft_ms_p50=None, ttft_ms_p95=None, tpot_ms_p50=None) for name in "ab"]
    assert compare(*runs) == 0
    assert "<svg" not in compare.html and "E2E" in compare.out and "TTFT" not in compare.out


def test_a_group_of_many_runs_is_drawn_in_two_colours(compare: Compare) -> None:
    runs = [compare.run(f"r{i}") for i in range(9)]
    assert compare(*runs[:4], "--against", *runs[4:]) == 0
    assert "4 runs against 5" in compare.html and "var(--green)" not in compare.html.partition("<svg")[2]
    assert compare(*runs) == 0 and "differences prove" not in compare.out
