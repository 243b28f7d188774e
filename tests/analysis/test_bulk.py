"""Parquet to Parquet: the same bytes for batches of any size, one clear line for tables that cannot be joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtest.analysis.asof import NO_COUNTS, NONE_BEFORE, STALE, UNATTRIBUTED
from loadtest.analysis.bulk import join_parquet, node_quantiles
from loadtest.analysis.percentiles import grouped_quantile
from loadtest.runfolder import RunFolderError

BASE_NS = 1_790_000_000_123_456_789
SECOND_NS = 10**9
ROWS = 400


def tables(folder: Path, **changes: Any) -> tuple[Path, Path, Path]:
    """Requests in two files, rows of three nodes mixed, one node without snapshots; and where to write."""
    random = np.random.default_rng(3)
    names = np.array(["0xa", "0xB", "0xc", None], dtype=object)
    columns: dict[str, Any] = {
        "worker": np.arange(ROWS) % 2,
        "seq": np.arange(ROWS) // 2,
        "node": pa.array(names[random.integers(0, 4, ROWS)], type=pa.string()),
        "sent_wall_ns": BASE_NS + random.integers(0, 100 * SECOND_NS, ROWS),
        "e2e_ms": np.where(random.random(ROWS) < 0.1, np.inf, random.lognormal(6, 1, ROWS)),
        "persona": pa.array(["quick"] * ROWS),
    }
    requests = pa.table({**columns, **changes})
    folder.mkdir()
    for name, part in (("a", requests.slice(0, 150)), ("b", requests.slice(150))):
        (folder / "requests").mkdir(exist_ok=True)
        pq.write_table(part, folder / "requests" / f"{name}.parquet", row_group_size=64)
    seen = pa.table(
        {
            "node": ["0xA", "0xb"] * 8,
            "observed_wall_ns": BASE_NS + np.repeat(np.arange(8), 2) * 10 * SECOND_NS,
            "reputation": pa.array([None if i == 5 else float(i) for i in range(16)]),
        }
    )
    pq.write_table(seen, folder / "snapshots.parquet")
    return folder / "requests", folder / "snapshots.parquet", folder / "out.parquet"


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 10**6])
def test_batches_of_any_size_write_the_same_bytes(tmp_path: Path, batch_rows: int) -> None:
    requests, snapshots, out = tables(tmp_path / "t")
    assert join_parquet(requests, snapshots, out, tolerance_s=15) == ROWS
    whole = out.read_bytes()
    join_parquet(requests, snapshots, out, tolerance_s=15, batch_rows=batch_rows)
    assert out.read_bytes() == whole
    first = node_quantiles(requests, "e2e_ms")
    assert node_quantiles(requests, "e2e_ms", batch_rows=batch_rows).equals(first)


def test_rows_are_kept_and_each_is_right_or_says_why(tmp_path: Path) -> None:
    requests, snapshots, out = tables(tmp_path / "t")
    join_parquet(requests, snapshots, out, tolerance_s=15, bound_ns=5)
    given, joined = pd.read_parquet(requests), pd.read_parquet(out)
    pd.testing.assert_frame_equal(joined[list(given.columns)], given)
    history = pd.read_parquet(snapshots).assign(node=lambda s: s["node"].str.lower())
    for row in joined.itertuples():
        same = history[
            (history["node"] == str(row.node).lower()) & (history["observed_wall_ns"] < row.sent_wall_ns - 5)
        ]
        if pd.isna(row.node) or same.empty:
            assert row.reputation_reason == (UNATTRIBUTED if pd.isna(row.node) else NONE_BEFORE)
            continue
        last = same.loc[same["observed_wall_ns"].idxmax()]
        age_s = (row.sent_wall_ns - last["observed_wall_ns"]) / 1e9
        assert row.snapshot_age_s == age_s
        if age_s > 15 or pd.isna(last["reputation"]):
            assert row.reputation_reason == (STALE if age_s > 15 else NO_COUNTS) and pd.isna(row.reputation)
        else:
            assert row.reputation == last["reputation"] and pd.isna(row.reputation_reason)
    assert set(joined["reputation_reason"].dropna()) == {UNATTRIBUTED, NONE_BEFORE, STALE, NO_COUNTS}


def test_a_joined_table_can_be_joined_again(tmp_path: Path) -> None:
    requests, snapshots, out = tables(tmp_path / "t")
    join_parquet(requests, snapshots, out, tolerance_s=15)
    once = out.read_bytes()
    join_parquet(out, snapshots, out, tolerance_s=15)
    assert out.read_bytes() == once


def test_quantiles_are_those_of_the_report(tmp_path: Path) -> None:
    requests, _, _ = tables(tmp_path / "t")
    found = node_quantiles(requests, "e2e_ms").to_pandas()
    given = pd.read_parquet(requests).dropna(subset="node")
    codes, names = pd.factorize(given["node"].str.lower(), sort=True)
    assert found["node"].tolist() == list(names)
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        expected = grouped_quantile(codes.astype(np.intp), len(names), given["e2e_ms"].to_numpy(), q)
        np.testing.assert_array_equal(found[f"e2e_ms_{name}"], expected)


def test_empty_tables_join_to_an_empty_one(tmp_path: Path) -> None:
    requests, snapshots, out = tables(tmp_path / "t")
    for path in (*requests.glob("*.parquet"), snapshots):
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert join_parquet(requests, snapshots, out, tolerance_s=15) == 0
    assert "reputation_reason" in pq.read_schema(out).names
    assert node_quantiles(requests, "e2e_ms").num_rows == 0


def refused(requests: Path, snapshots: Path, out: Path, *words: str) -> None:
    with pytest.raises(RunFolderError) as error:
        join_parquet(requests, snapshots, out, tolerance_s=15)
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text
    assert not out.exists() and not list(out.parent.glob(".*"))


def test_a_request_that_is_there_twice(tmp_path: Path) -> None:
    twice = np.arange(ROWS) // 2
    twice[[399, 397]] = 3
    refused(*tables(tmp_path / "t", seq=twice), "requests", "2 rows are stored twice")


def test_a_snapshot_that_is_there_twice(tmp_path: Path) -> None:
    requests, snapshots, out = tables(tmp_path / "t")
    table = pq.read_table(snapshots)
    pq.write_table(pa.concat_tables([table, table.slice(3, 1)]), snapshots)
    refused(requests, snapshots, out, str(snapshots), "1 snapshots repeat", "node 0xb")


def test_a_missing_column_a_missing_file_and_a_damaged_one(tmp_path: Path) -> None:
    requests, snapshots, out = tables(tmp_path / "t")
    refused(requests, tmp_path / "none.parquet", out, "none.parquet", "no such file")
    refused(tmp_path, snapshots, out, "no Parquet files")
    table = pq.read_table(snapshots)
    pq.write_table(table.drop_columns(["reputation"]), snapshots)
    refused(requests, snapshots, out, str(snapshots), "no column reputation")
    snapshots.write_bytes(b"PAR1 and then nothing")
    refused(requests, snapshots, out, str(snapshots), "damaged")
