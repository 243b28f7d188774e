"""What people see of a run: the screen, the lines and the tables of the web page, on a run made by hand."""

from __future__ import annotations

import io

import pytest
from made_standing import made_standing, made_totals
from rich.console import Console

from loadtest.fitness import Reason
from loadtest.swarm.lines import Lines, line, ms_text
from loadtest.swarm.screen import Screen, picture, view_for
from loadtest.swarm.standing import Standing

UNFIT = Reason("send_lag", 101.0, 50.0, "requests left 101.0 ms late at p99 (at most 50.0 ms)")


def screen_text(standing: Standing, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(picture(standing))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(each) <= width for each in text.splitlines())
    return str(text)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_screen_says_how_the_run_stands(width: int) -> None:
    text = screen_text(made_standing(), width)
    for words in (
        "r-1",
        "62 of 600 s",
        "1,005 turns, 20.2/s now",
        "960 turns, 19.5/s now",
        "40: 30 waiting, 10 answering, oldest 14.2 s",
        "truncated 20",
        "stored 900",
        "84.2",
        "chat",
        "workers: 2 of 3",
        "1 box LOST",
        "0xabc",
        "71.0 %",
        "FIT so far",
    ):
        assert words in text.replace("\n", " "), words
    assert "failed" in text, "a quantile that falls among the failed turns has no number"


def test_an_unfit_run_says_why_with_figure_and_bound() -> None:
    standing = made_standing(reasons=[UNFIT])
    assert "UNFIT" in screen_text(standing) and UNFIT.text in screen_text(standing)
    assert f"UNFIT: {UNFIT.text}" in line(standing)


def test_many_targets_and_workers_do_not_fill_the_screen() -> None:
    standing = made_standing()
    many = made_standing(rows=standing.rows[:1] + standing.rows[1:] * 10, workers=standing.workers * 10)
    text = screen_text(many)
    assert "and 14 more targets" in text and "and 22 less busy" in text
    assert len(text.splitlines()) < 45


def test_the_line_for_logs() -> None:
    said = line(made_standing(state="warm-up"))
    assert said.startswith("62 of 600 s, warm-up: offered 20.2/s, completed 19.5/s; in flight 40 (30 waiting,")
    assert "TTFT p50 84.2 ms p99 failed" in said and "ok 940, dropped 5, truncated 20" in said
    assert line(made_standing(state="draining", elapsed_s=605.0)).startswith("draining, 5 s over: ")
    assert "nothing ended yet" in line(made_standing(totals=made_totals(outcomes={})))


def test_a_number_of_milliseconds_has_three_digits() -> None:
    told = [ms_text(value) for value in (None, 0.0312, 8.071, 84.25, 512.4, 9_999.0, 12_345.0, float("inf"))]
    assert told == ["–", "0.0312 ms", "8.07 ms", "84.2 ms", "512 ms", "9999 ms", "12.3 s", "failed"]


def test_without_a_terminal_there_are_lines() -> None:
    import logging

    assert isinstance(view_for(logging.getLogger("loadtest"), wanted=True), Lines), "pytest's stderr is no terminal"


def test_log_lines_go_above_the_picture_and_the_terminal_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import logging
    import sys

    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        screen = Screen(Console(file=terminal, force_terminal=True, width=100, height=50))
        screen.show(made_standing())
        assert handler.stream is not terminal
        logging.getLogger("loadtest").error("a worker is missing")
        screen.show(made_standing(elapsed_s=63.0))
        screen.close()
        screen.close()
        assert handler.stream is terminal and sys.stderr is terminal
    finally:
        root.removeHandler(handler)
    shown = terminal.getvalue()
    assert shown.index("62 of 600 s") < shown.index("a worker is missing") < shown.index("63 of 600 s")
