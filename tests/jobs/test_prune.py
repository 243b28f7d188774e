"""`loadtest prune`: rows of old runs go, in order and in sight; nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import runfolder
from loadtest.analysis.join import join_run
from loadtest.clock import wall_ns
from loadtest.jobs.lock import Held, hold, holder_of
from loadtest.jobs.prune import HEAVY, Run, chosen, main
from loadtest.records import SCHEMA_VERSION

LIGHT = ("manifest.json", "summary.json", "summary.md", "report.html", "junit.xml")
ROWS_BYTES = 100_000


def make_run(path: Path, state: str = "reported", age_s: float = 0.0) -> Path:
    """A run folder whose rows weigh 200 kB."""
    for part in ("requests", "joined"):
        (path / part).mkdir(parents=True)
        (path / part / "part.parquet").write_bytes(b"r" * ROWS_BYTES)
    for name in LIGHT[1:]:
        (path / name).write_text("kept")
    runfolder.write_manifest(path, {"schema_version": SCHEMA_VERSION, "state": state, "started_wall_ns": wall_ns()})
    if age_s:
        then = time.time() - age_s
        for each in path.rglob("*"):
            os.utime(each, (then, then))
    return path


def make_nights(top: Path, *names: str) -> list[Path]:
    return [make_run(top / "nights" / name / "runs" / "one") for name in names]


def has_rows(run: Path) -> bool:
    return any((run / part).exists() for part in HEAVY)


def tree(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def test_old_nights_lose_their_rows_and_nothing_else(tmp_path: Path) -> None:
    old, middle, new = make_nights(tmp_path, "2026-11-01", "2026-11-02", "2026-11-03")
    (tmp_path / "history.parquet").write_bytes(b"h" * 50_000)
    (tmp_path / "trend.html").write_text("trend")
    before = tree(tmp_path)
    assert main([str(tmp_path), "--keep-nights", "2"]) == 0
    assert not has_rows(old) and has_rows(middle) and has_rows(new)
    gone = before.keys() - tree(tmp_path).keys()
    assert gone == {f"nights/2026-11-01/runs/one/{part}/part.parquet" for part in ("joined", "requests")}
    after = tree(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"nights/2026-11-01/runs/one/manifest.json"}
    assert runfolder.read_manifest(old)["pruned"]["parts"] == ["joined", "requests"]


def test_a_size_takes_the_oldest_first_and_no_more_than_it_must(tmp_path: Path) -> None:
    runs = make_nights(tmp_path, "2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04")
    assert main([str(tmp_path), "--max-gb", "0.0005"]) == 0  # of 0.8 MB and some: two must go
    assert [has_rows(run) for run in runs] == [False, False, True, True]


def test_a_dry_run_touches_nothing_and_says_what_the_real_one_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_nights(tmp_path, "2026-11-01", "2026-11-02", "2026-11-03")
    before = tree(tmp_path)
    arguments = [str(tmp_path), "--keep-nights", "1", "--max-gb", "0.0003"]
    code = main([*arguments, "--dry-run"])
    told = capsys.readouterr().out
    assert tree(tmp_path) == before
    assert main(arguments) == code == 0
    real = capsys.readouterr().out
    assert told.count("would remove") == 2
    assert told.replace("would remove", "removed").splitlines()[:2] == real.splitlines()[:2]


@pytest.mark.parametrize("state", ["running", "recorded", "joined", "spooled"])
def test_a_run_in_progress_is_left_alone(tmp_path: Path, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", state)
    assert main([str(tmp_path), "--max-gb", "0"]) == 3
    assert has_rows(run)
    said = capsys.readouterr()
    assert "left alone" in said.out and "still above --max-gb" in said.err


def test_a_run_that_died_long_ago_is_no_run_in_progress(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "running", age_s=2 * 86_400)
    waiting = make_run(tmp_path / "waiting", "spooled", age_s=2 * 86_400)
    main([str(tmp_path), "--keep-nights", "0"])
    assert not has_rows(run) and has_rows(waiting)


def test_what_is_not_ours_is_never_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = make_run(tmp_path / "outside" / "run")
    top = tmp_path / "top"
    make_run(top / "baseline" / "runs" / "one")
    for name, text in (("foreign", '{"schema_version": 99}'), ("broken", "{"), ("list", "[1]")):
        (top / name / "requests").mkdir(parents=True)
        (top / name / "requests" / "x.parquet").write_text("x")
        (top / name / "manifest.json").write_text(text)
    (top / "photos" / "joined").mkdir(parents=True)
    (top / "photos" / "joined" / "me.jpg").write_text("x")
    (top / "link").symlink_to(outside, target_is_directory=True)
    mine = make_run(top / "mine")
    (mine / "bodies").symlink_to(outside / "requests", target_is_directory=True)
    before = tree(tmp_path)
    assert main([str(top), "--keep-nights", "0"]) == 0
    gone = before.keys() - tree(tmp_path).keys()
    assert gone == {f"top/mine/{part}/part.parquet" for part in ("joined", "requests")}
    assert has_rows(outside)
    assert capsys.readouterr().out.count("not ours") == 3


def test_a_baseline_given_by_name_is_still_a_baseline(tmp_path: Path) -> None:
    run = make_run(tmp_path / "baseline" / "one")
    main([str(tmp_path / "baseline"), "--keep-nights", "0"])
    assert has_rows(run)


def test_the_night_that_is_under_way_keeps_its_rows(tmp_path: Path) -> None:
    old, tonight = make_nights(tmp_path, "2026-11-01", "2026-11-02")
    with hold(tmp_path / "night.lock"):
        main([str(tmp_path), "--keep-nights", "0"])
    assert not has_rows(old) and has_rows(tonight)
    main([str(tmp_path), "--keep-nights", "0"])
    assert not has_rows(tonight)


def test_a_run_without_rows_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    main([str(tmp_path), "--keep-nights", "0"])
    for partial in (False, True):
        with pytest.raises(runfolder.RunFolderError, match=r"removed by `loadtest prune`"):
            join_run(run, partial=partial)
    assert (run / "summary.json").read_text() == "kept"


def test_a_removal_that_was_cut_off_is_taken_up(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    runfolder.update_manifest(run, pruned={"wall_ns": 1, "parts": ["joined", "requests"]})
    assert main([str(tmp_path), "--keep-nights", "0"]) == 0
    assert not has_rows(run)
    assert runfolder.read_manifest(run)["pruned"] == {"wall_ns": 1, "parts": ["joined", "requests"]}


@pytest.mark.parametrize(
    "arguments", [[], ["--keep-nights", "-1"], ["--max-gb", "nan"], ["--max-gb", "x"], ["--keep-nights", "1.5"]]
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err.splitlines()[-1]


runs_of_any_kind = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", ""]), st.integers(0, 50), st.booleans()), max_size=12
)


@settings(deadline=None)
@given(runs_of_any_kind, st.none() | st.integers(0, 5), st.none() | st.integers(0, 400), st.integers(0, 100))
def test_what_goes_is_the_oldest_and_the_least_that_does(
    given_runs: list[tuple[str, int, bool]], keep: int | None, max_bytes: int | None, other: int
) -> None:
    runs = sorted(
        (
            Run(Path(str(i)), night, size, "kept" if kept or not night else "")
            for i, (night, size, kept) in enumerate(given_runs)
        ),
        key=lambda run: (run.night, run.path),
    )
    used = other + sum(run.heavy_bytes for run in runs)
    going = chosen(runs, keep, max_bytes, used)
    assert len({run.path for run in going}) == len(going)
    assert not any(run.kept_because for run in going)
    nights = sorted({run.night for run in runs if run.night})
    kept_nights = set(nights) if keep is None else set(nights[max(0, len(nights) - keep) :])
    able = [run for run in runs if run.heavy_bytes and not run.kept_because]
    assert {run for run in able if run.night not in kept_nights} <= set(going)
    extra = [run for run in going if run.night in kept_nights]
    if max_bytes is None:
        assert not extra
        return
    left = used - sum(run.heavy_bytes for run in going)
    assert left <= max_bytes or set(going) == set(able)
    assert extra == [run for run in able if run.night in kept_nights][: len(extra)], "the oldest of them"
    if extra:
        assert left + extra[-1].heavy_bytes > max_bytes, "the last one had to go"


# The lock.

HOLDER = """
import sys, time
from pathlib import Path
from loadtest.jobs.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_of_two_works_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "night.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert holder_of(path) == str(other.pid)
        with pytest.raises(Held, match=f"process {other.pid} is at work"), hold(path):
            pass
        other.kill()
        other.wait(timeout=30)
    assert holder_of(path) is None
    with hold(path) as left:
        assert f"left by process {other.pid}" in left
        assert holder_of(path) == str(os.getpid())
    with hold(path) as left:
        assert left == "", "a good end leaves nothing to tell"


def test_a_failure_under_the_lock_leaves_no_word_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "night.lock"
    with pytest.raises(ZeroDivisionError), hold(path):
        raise ZeroDivisionError
    with hold(path) as left:
        assert left == ""
