"""The history of nights: what is written is what is read, twice is once, and no file is lost by a version."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import figures
from msgspec.structs import replace

from loadtest.analysis.nights import (
    HistoryRow,
    Night,
    NightRun,
    append_history,
    history_rows,
    read_history,
    run_to_run_sd,
)
from loadtest.analysis.run_figures import RunFigures, figures_from_json
from loadtest.runfolder import RunFolderError


def night_run(name: str, **changes: Any) -> NightRun:
    fields: dict[str, Any] = {
        "kind": "target",
        "number": 1,
        "seed": 1,
        "run": name,
        "folder": f"runs/{name}",
        "exit_code": 0,
        "used": True,
        "text": "",
        "figures": figures(name),
    }
    return NightRun(**{**fields, **changes})


def made(*runs: NightRun, **changes: Any) -> Night:
    fields: dict[str, Any] = {
        "night": "2026-11-25",
        "started_utc": "2026-11-25T02:00:00Z",
        "host": "http://127.0.0.1:1",
        "profile": "nightly",
        "control_profile": "control",
        "command": "loadtest nightly",
        "word": "pass",
        "exit_code": 0,
        "runs": list(runs),
    }
    return Night(**{**fields, **changes})


def rows(*names: str) -> list[HistoryRow]:
    return history_rows(made(*(night_run(name) for name in names)))


def test_a_night_adds_the_runs_it_is_judged_by() -> None:
    unfit = night_run("b", used=False, figures=figures("b", fit=False), text="unfit")
    judged_unfit = night_run("c", figures=figures("c", fit=False))
    night = made(
        night_run("a"),
        unfit,
        judged_unfit,
        night_run("d", exit_code=None, used=False, figures=None),
        night_run("e", kind="control"),
        target_versions="main=2.1",
    )
    found = history_rows(night)
    assert [(row.run, row.kind, row.target_versions) for row in found] == [
        ("a", "target", "main=2.1"),
        ("e", "control", ""),
    ]
    assert {(row.night, row.host, row.word) for row in found} == {("2026-11-25", "http://127.0.0.1:1", "pass")}
    assert found[0].folder == "nights/2026-11-25/runs/a"


def test_what_the_run_s_own_manifest_says_of_its_target_counts() -> None:
    (row,) = history_rows(
        made(night_run("a", figures=figures("a", target_versions="main=3")), target_versions="main=2")
    )
    assert row.target_versions == "main=3"


numbers = st.none() | st.floats(min_value=0, allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(texts, numbers, numbers, st.none() | st.integers(-(2**40), 2**40)), max_size=5))
def test_what_was_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[str, float | None, float | None, int | None]]
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.parquet"
    made_rows = [
        replace(rows(f"run{i}")[0], profile=text, ttft_ms_p50=one, attainment=two, seed=seed)
        for i, (text, one, two, seed) in enumerate(given_rows)
    ]
    assert append_history(path, made_rows) == made_rows
    assert read_history(path) == made_rows
    assert append_history(path, made_rows) == made_rows, "a night that is recorded twice is there once"


def test_nights_follow_each_other_in_one_file_without_debris(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    assert read_history(path) == []
    append_history(path, rows("a", "b"))
    append_history(path, [replace(row, night="2026-11-26") for row in rows("a", "c")])
    assert [(row.night[-2:], row.run) for row in read_history(path)] == [
        ("25", "a"),
        ("25", "b"),
        ("26", "a"),
        ("26", "c"),
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["history.parquet"]


@pytest.mark.parametrize("damage", ["other version", "no version", "cut", "text", "flipped"])
def test_a_file_that_cannot_be_read_is_one_line_and_stays(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "history.parquet"
    append_history(path, rows("a", "b"))
    data = path.read_bytes()
    if damage in ("other version", "no version"):
        table = pq.read_table(path)
        told = {b"loadtest_history": b"9"} if damage == "other version" else {}
        pq.write_table(table.replace_schema_metadata(told), path)
    else:
        middle = len(data) // 3
        flipped = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
        path.write_bytes({"cut": data[: len(data) // 2], "text": b"night,run\n", "flipped": flipped}[damage])
    before = path.read_bytes()
    with pytest.raises(RunFolderError) as told_error:
        append_history(path, rows("c"))
    assert str(path) in str(told_error.value) and "\n" not in str(told_error.value)
    assert path.read_bytes() == before


def test_a_figure_that_is_newer_than_the_file_is_absent_in_it(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    append_history(path, rows("a"))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["error_share"]), path)
    assert [row.error_share for row in append_history(path, rows("b"))] == [None, 0.01]
    pq.write_table(table.drop_columns(["profile_hash"]), path)
    with pytest.raises(RunFolderError, match="not the columns"):
        read_history(path)


def test_run_to_run_sd_by_hand() -> None:
    runs = [
        figures(f"{i}", ttft_ms_p50=100 * factor, attainment=0.9 + i / 100, tpot_ms_p50=None)
        for i, factor in enumerate((1, 2, 4))
    ]
    sd = run_to_run_sd(runs)
    assert sd["ttft_ms_p50"] == pytest.approx(math.log(2))  # logs are 0, ln 2, 2 ln 2 apart: their sd is ln 2
    assert sd["attainment"] == pytest.approx(0.01)
    assert sd["ttft_ms_p95"] == 0
    assert "tpot_ms_p50" not in sd
    assert run_to_run_sd(runs[:1]) == {}
    assert "ttft_ms_p50" not in run_to_run_sd([*runs, figures("x", ttft_ms_p50=math.inf)])


def test_a_night_is_json_also_where_a_figure_is_infinite() -> None:
    night = made(night_run("a", figures=figures("a", ttft_ms_p95=math.inf)), night_run("b", figures=None))
    document = json.loads(json.dumps(night.as_json(), allow_nan=False))
    assert document["night_version"] == 1 and document["runs"][1]["figures"] is None
    read: RunFigures = figures_from_json(document["runs"][0]["figures"])
    assert read == figures("a", ttft_ms_p95=math.inf)
