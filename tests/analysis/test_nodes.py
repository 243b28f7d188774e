"""Tables by node, reputation band, persona and turn, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loadtest.analysis.cells import Rows
from loadtest.analysis.frames import descriptions_frame
from loadtest.analysis.nodes import (
    OF_NODES,
    by_band,
    by_column,
    by_level,
    by_node,
    by_prompt,
    by_told,
    by_turn,
    tables,
)
from loadtest.records import RequestRecord

from .run_factory import NODE_A, NODE_B, NODE_C, failed, frame, turn, unsent


def joined(
    folder: Path, rows: Sequence[RequestRecord], nodes: Sequence[str | None], reputation: Sequence[float | None] = ()
) -> Rows:
    """Rows with the columns a join adds, given by hand."""
    percent = np.array([np.nan if each is None else each for each in reputation or [None] * len(rows)], dtype=float)
    nodes_column = pd.Series(list(nodes), dtype="str")
    added = {name: np.full(len(rows), np.nan) for name in (*OF_NODES, "level")}
    added |= {"reputation": percent, "reputation_session": percent / 2}
    return Rows(frame(folder, rows).assign(node=nodes_column, **added))


def test_a_node_by_hand(tmp_path: Path) -> None:
    rows = [
        turn(0, ttft_ms=100, e2e_ms=1000, counted_tokens=11),  # tpot 90, 11 tokens/s
        turn(1, ttft_ms=200, e2e_ms=2000, counted_tokens=11),  # tpot 180, 5.5 tokens/s
        turn(2, ttft_ms=300, e2e_ms=4000, counted_tokens=11),  # tpot 370, 2.75 tokens/s
        failed(3, "router_timeout"),
        turn(4, stream=False, ttft_ms=None, e2e_ms=500, counted_tokens=11),  # 22 tokens/s
    ]
    (row,) = by_node(joined(tmp_path, rows, [NODE_A] * 5, [80, 80, 90, None, 100]))
    for name in [name for name in row if name.endswith(("_interval", "_text"))]:
        del row[name]
    assert row == {
        **{"node": NODE_A, "nodes": 1, "requests": 5, "ok": 4, "failed": 1, "ok_share": 0.8, "ttft_n": 4, "e2e_n": 5},
        **{"ttft_ms_p99": None, "e2e_ms_p99": None},
        **{"window_precommit_percent": None, "window_commit_percent": None},
        **{"ttft_ms_p50": 200, "ttft_ms_p95": None, "tpot_ms_p50": 180, "e2e_ms_p50": 2000, "e2e_ms_p95": None},
        **{"tokens_per_s_p50": 5.5, "reputation": 80, "reputation_session": 40, "n_too_small": True},
    }


def test_nodes_are_listed_busiest_first_and_the_unattributed_are_not(tmp_path: Path) -> None:
    nodes = [NODE_C, NODE_B, NODE_B, NODE_A, None, None, None]
    rows = by_node(joined(tmp_path, [turn(i) for i in range(7)], nodes))
    assert [(row["node"], row["requests"]) for row in rows] == [(NODE_B, 2), (NODE_A, 1), (NODE_C, 1)]
    assert rows[0]["reputation"] is None


def test_bands_are_closed_below_and_the_last_above(tmp_path: Path) -> None:
    percents = [0, 49.9, 50, 80, 89.9, 90, 95, 100, None]
    rows = by_band(joined(tmp_path, [turn(i) for i in range(9)], [NODE_A, NODE_B, *[NODE_A] * 6, None], percents))
    assert [(row["band"], row["requests"], row["nodes"]) for row in rows] == [
        ("0-50 %", 2, 2),
        ("50-80 %", 1, 1),
        ("80-90 %", 2, 1),
        ("90-95 %", 1, 1),
        ("95-100 %", 2, 1),
        ("unknown", 1, 0),
    ]


def test_empty_bands_are_left_out(tmp_path: Path) -> None:
    assert [row["band"] for row in by_band(joined(tmp_path, [turn(0)], [NODE_A], [99]))] == ["95-100 %"]


def test_personas_count_what_was_due(tmp_path: Path) -> None:
    """A dropped turn was due and failed; a turn not reached was never due."""
    rows = [
        turn(0, persona="coder"),
        unsent(1, "dropped", persona="coder"),
        unsent(2, "not_reached", persona="coder"),
        turn(3, persona="agent"),
    ]
    agent, coder = by_column(joined(tmp_path, rows, [None] * 4), "persona")
    assert (agent["name"], agent["requests"], agent["ok_share"]) == ("agent", 1, 1)
    assert (coder["name"], coder["requests"], coder["ok_share"], coder["ttft_n"]) == ("coder", 2, 0.5, 1)


def test_first_turns_against_later_ones(tmp_path: Path) -> None:
    rows = [turn(0), turn(1, turn=1, ttft_ms=50), turn(2, turn=2, ttft_ms=50)]
    first, later = by_turn(joined(tmp_path, rows, [NODE_A] * 3))
    assert (first["name"], first["requests"], first["ttft_ms_p50"]) == ("first", 1, 100)
    assert (later["name"], later["requests"], later["ttft_ms_p50"]) == ("later", 2, 50)
    assert [row["name"] for row in by_turn(joined(tmp_path, rows[:1], [NODE_A]))] == ["first"]


@pytest.mark.parametrize(("count", "small"), [(299, True), (300, False)])
def test_a_cell_of_300_is_not_too_small(tmp_path: Path, count: int, small: bool) -> None:
    (row,) = by_turn(joined(tmp_path, [turn(i) for i in range(count)], [NODE_A] * count))
    assert row["n_too_small"] is small


@pytest.mark.parametrize(("count", "small"), [(19, True), (20, False)])
def test_a_node_with_20_requests_can_be_ranked(tmp_path: Path, count: int, small: bool) -> None:
    (row,) = by_node(joined(tmp_path, [turn(i) for i in range(count)], [NODE_A] * count))
    assert row["n_too_small"] is small


def test_no_rows(tmp_path: Path) -> None:
    nothing: list[dict[str, Any]] = []
    empty = joined(tmp_path, [], [])
    assert by_node(empty) == by_band(empty) == by_turn(empty) == by_column(empty, "target") == nothing


def test_prompts_by_their_planned_length(tmp_path: Path) -> None:
    lengths = [1, 63, 64, 255, 256, 4095, 4096, 20_000]
    rows = by_prompt(joined(tmp_path, [turn(i, prompt_tokens_planned=n) for i, n in enumerate(lengths)], [NODE_A] * 8))
    assert [(row["name"], row["requests"]) for row in rows] == [
        *(("0-63", 2), ("64-255", 2), ("256-1023", 1), ("1024-4095", 1), ("4096 and more", 2))
    ]


def test_what_is_said_of_nodes_groups_their_requests(tmp_path: Path) -> None:
    nodes = [NODE_A, NODE_A, NODE_B, NODE_C, None]
    found = by_told(joined(tmp_path, [turn(i) for i in range(5)], nodes), {NODE_A: "gpu", NODE_B: "cpu", "0xd": "tpu"})
    assert [(row["name"], row["requests"], row["nodes"]) for row in found] == [
        *(("cpu", 1, 1), ("gpu", 2, 1), ("unknown", 1, 1))
    ]
    assert by_told(joined(tmp_path, [turn(0)], [NODE_C]), {NODE_A: "gpu"}) == []


def test_levels_are_those_before_the_requests(tmp_path: Path) -> None:
    rows = joined(tmp_path, [turn(i) for i in range(4)], [NODE_A, NODE_A, NODE_B, None])
    assert by_level(rows) == []
    rows.frame["level"] = [3.0, 10.0, np.nan, np.nan]
    assert [(row["name"], row["requests"]) for row in by_level(rows)] == [("3", 1), ("10", 1), ("unknown", 1)]


def test_a_table_without_a_source_says_so(tmp_path: Path) -> None:
    rows = joined(tmp_path, [turn(0)], [NODE_A])
    found = tables(rows.frame, descriptions_frame(tmp_path))
    assert found["operators"] == found["hardware"] == found["levels"] == []
    assert set(found["no_source"]) == {"operators", "hardware", "levels"}
    assert "nothing was imported" in found["no_source"]["operators"]
    assert [row["name"] for row in found["sessions"]] == ["7"]
