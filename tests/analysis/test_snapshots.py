"""Snapshots in arrays: against a loop over rows in any order, with repeated keys, spellings and columns left out."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.analysis.snapshots import Polled, Snapshots, read_snapshots
from loadtest.records import NodeSnapshot
from loadtest.runfolder import table_of, write_part

COUNTS, TIMES = ("precommit_points", "ping_counter"), ("effective_s", "last_active_s")
ADDRESSES = ("0xA", "0xa", "0xB", "0xb", "0xc")
told = st.none() | st.integers(0, 2**53 // 32)
rows = st.lists(
    st.builds(
        lambda source, seen, at, values: NodeSnapshot(
            source=source, node=seen.lower(), node_as_seen=seen, observed_wall_ns=at, **values
        ),
        st.sampled_from(("leaderboard", "session-reputation")),
        st.sampled_from(ADDRESSES),
        st.integers(0, 4),
        st.fixed_dictionaries(dict.fromkeys((*COUNTS, *TIMES), told)),
    ),
    max_size=24,
)


def plain(polled: Polled) -> list[tuple[Any, ...]]:
    """(node, instant, value of each column) of every row."""
    found = []
    for node, place in polled.rows():
        assert polled.rows_of(node) == place
        columns = [polled.column(name)[place].tolist() for name in (*COUNTS, *TIMES)]
        for at, *values in zip(polled.observed_ns[place].tolist(), *columns, strict=True):
            found.append((node, at, *(None if math.isnan(each) else each for each in values)))
    return found


def by_loop(given_rows: list[NodeSnapshot], source: str) -> list[tuple[Any, ...]]:
    mine = sorted((row for row in given_rows if row.source == source), key=lambda row: (row.node, row.observed_wall_ns))
    found = []
    for (node, at), same in groupby(mine, key=lambda row: (row.node, row.observed_wall_ns)):
        repeated, values = list(same), []
        for name in (*COUNTS, *TIMES):
            present = [getattr(row, name) for row in repeated if getattr(row, name) is not None]
            values.append((sum if name in COUNTS else max)(present) if present else None)
        found.append((node, at, *values))
    return found


@settings(max_examples=200, deadline=None)
@given(rows, st.lists(st.integers(0, 24), max_size=3))
def test_equals_a_loop_however_the_rows_are_cut_into_parts(given_rows: list[NodeSnapshot], cuts: list[int]) -> None:
    ends = sorted({0, len(given_rows), *(min(cut, len(given_rows)) for cut in cuts)})
    parts = [table_of(given_rows[a:b], NodeSnapshot) for a, b in pairwise(ends)]
    snapshots = Snapshots.of(parts)
    for source in ("leaderboard", "session-reputation", "reputation"):
        expected = by_loop(given_rows, source)
        polled = snapshots.of_source(source)
        assert plain(polled) == expected
        assert (source in snapshots.sources) == bool(expected)
        assert [(polled.observed_ns[i]) for i in polled.last()] == [
            max(at for node, at, *_ in expected if node == name) for name in polled.nodes
        ]
        keys = Counter((row.node, row.observed_wall_ns) for row in given_rows if row.source == source)
        assert polled.owned.tolist() == [keys[key] for key in sorted(keys)]
        places = [(node, i) for node, rows in polled.rows() for i in range(rows.start, rows.stop)]
        assert polled.changed().tolist() == [
            i > 0 and places[i - 1][0] == node and polled.owned[i] != polled.owned[i - 1] for node, i in places
        ]
        assert polled.rows_of("0xd") is None and polled.rows_of("") is None
    written = {(row.node, row.node_as_seen) for row in given_rows}
    assert snapshots.spellings == {
        node: sum(name == node for name, _ in written) for node in sorted(name for name, _ in written)
    }


def test_a_column_that_nobody_tells_takes_no_room(tmp_path: Path) -> None:
    board = NodeSnapshot(source="leaderboard", node="0xa", node_as_seen="0xA", observed_wall_ns=5, ping_counter=7)
    series = NodeSnapshot(source="reputation", node="0xa", node_as_seen="0xa", observed_wall_ns=4, commit_all=3)
    write_part(tmp_path / "snapshots" / "a.parquet", [board, series], NodeSnapshot)
    write_part(tmp_path / "snapshots" / "b.parquet", [series], NodeSnapshot)
    other = NodeSnapshot(source="leaderboard", node="0xb", node_as_seen="0xb", observed_wall_ns=5, ping_counter=8)
    write_part(tmp_path / "snapshots" / "c.parquet", [series, other], NodeSnapshot)
    snapshots = read_snapshots(tmp_path)
    assert {name: each.nodes for name, each in snapshots.sources.items()} == {
        "leaderboard": ("0xa", "0xb"),
        "reputation": ("0xa",),  # and not those that stand in the same file
    }
    assert {name: sorted(each.told) for name, each in snapshots.sources.items()} == {
        "leaderboard": ["ping_counter"],
        "reputation": ["commit_all"],
    }
    assert snapshots.spellings == {"0xa": 2, "0xb": 1}
    assert snapshots.of_source("reputation").column("commit_all").tolist() == [9.0]  # three rows of one instant


def test_a_run_without_snapshots(tmp_path: Path) -> None:
    empty = read_snapshots(tmp_path)
    assert not empty.sources and not empty.spellings
    assert empty.of_source("leaderboard").column("ping_counter").tolist() == []
    assert Snapshots.of([pa.Table.from_pylist([], schema=table_of([], NodeSnapshot).schema)]) == empty
