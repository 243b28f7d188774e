"""Every recipe of docs/cookbook.md is run as it stands; its two engines agree, and agree with the report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from analysis.run_factory import NODE_A, NODE_B, board, failed, task, turn, unsent, wall, write_run

from loadtest.analysis import metrics
from loadtest.analysis.cells import Rows
from loadtest.analysis.frames import JOINED_REQUESTS, read_joined
from loadtest.analysis.join import join_run
from loadtest.analysis.nodes import by_node
from loadtest.records import NodeDescription
from loadtest.runfolder import write_part

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "cookbook.md").read_text()
FIRST, *RECIPES = re.split(r"^## ", TEXT, flags=re.MULTILINE)
PAIRS = {recipe.splitlines()[0]: recipe for recipe in RECIPES if "```" in recipe}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cookbook")

    rows = [turn(i, 6 + i / 4, e2e_ms=300.0 + 37 * (i * 7 % 40), chunks_ms=(10, 25 + i, 90)) for i in range(60)]
    rows += [failed(60 + i, "server_error", 8 + i, task_id=str(60 + i), error_kind="http_500") for i in range(5)]
    rows += [unsent(65, "dropped", 9), unsent(66, "not_reached", 9)]
    rows += [failed(67, "cancelled", 10, error_kind="after_s"), turn(68, 2, phase="warmup"), turn(69, 12, target="b")]
    tasks = [task(str(i), [(NODE_A, NODE_B)[i % 3 == 0]], [f"text{i}"]) for i in range(65)]
    seen = [
        board(node, t, 60 + t, ping_counter=t, precommit_points=60 + t * (2 + (t > 8)), precommit_counter=100 + 4 * t)
        for t in range(0, 20, 4)
        for node in (NODE_A, NODE_B)
    ]
    run = write_run(folder / "runs" / "demo", rows, tasks, seen)
    told = [(NODE_A, -9, "op 0", 1), (NODE_A, 0, "op 1", 2), (NODE_B, 12, "op 2", 3), (NODE_B, 13, None, 4)]
    said = [
        NodeDescription(source="import", node=node, observed_wall_ns=wall(at), operator=operator, level=level)
        for node, at, operator, level in told
    ]
    write_part(run / "descriptions" / "part-0.parquet", said, NodeDescription)
    join_run(run)
    return folder


def by_pandas(recipe: str) -> pd.DataFrame:
    names: dict[str, Any] = {}
    for block in blocks(FIRST, "python") + blocks(recipe, "python"):
        exec(compile(block, "docs/cookbook.md", "exec"), names)
    answer = names["answer"]
    assert isinstance(answer, pd.DataFrame)
    return answer


def by_duckdb(recipe: str) -> pd.DataFrame:
    with duckdb.connect() as connection:
        connection.execute(*blocks(FIRST, "sql"))
        return connection.execute(*blocks(recipe, "sql")).df()


def plain(frame: pd.DataFrame) -> list[list[Any]]:
    """Rows as plain Python: one missing value, numbers as floats."""
    return [
        [None if pd.isna(v) else round(float(v), 9) if isinstance(v, (int, float, np.number)) else v for v in row]
        for row in frame.astype(object).to_numpy().tolist()
    ]


@pytest.mark.parametrize("title", PAIRS)
def test_both_engines_give_the_same_answer(title: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    left, right = by_pandas(PAIRS[title]), by_duckdb(PAIRS[title])
    assert list(left.columns) == list(right.columns)
    assert len(left) and plain(left) == plain(right)


def test_the_nodes_are_those_of_the_report(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    answer = by_pandas(PAIRS["Per serving node, as in the report"])
    rows = metrics.measured(read_joined(place / "runs" / "demo" / JOINED_REQUESTS))
    expected = {row["node"]: row for row in by_node(Rows(rows))}
    assert len(expected) == 2 and any(row["failed"] for row in expected.values())
    for found in answer.to_dict("records"):
        for name in ("requests", "ok", "e2e_ms_p50", "e2e_ms_p95", "reputation"):
            of_report = expected[found["node"]][name]
            assert found[name] == (np.inf if of_report is None else pytest.approx(of_report, abs=5e-4)), name
