"""Snapshots that others stored: every shape is read, every bad row is named by file and row, none is lost quietly."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from imported import AT_S, END, SECOND, board_row, imported, rows_of, short, written

from loadtest.clock import wall_ns
from loadtest.observe import importing, stored_files, stored_json
from loadtest.observe.importing import Import
from loadtest.observe.stored_files import StoredFileError
from loadtest.observe.stored_json import json_values
from loadtest.observe.stored_values import instant
from loadtest.records import NodeSnapshot
from loadtest.runfolder import RunFolderError, read_table, write_part

# Shapes.


def test_a_leaderboard_is_read_as_a_live_one_is(tmp_path: Path) -> None:
    path = written(tmp_path / "board.json", [board_row("0xAb"), board_row("0xCD", commitCounter=5)])
    account = imported(tmp_path / "run", path, at_ns=AT_S * SECOND)
    one, two = rows_of(tmp_path / "run")
    assert (one["source"], one["node"], one["node_as_seen"]) == ("leaderboard", "0xab", "0xAb")
    assert (one["observed_wall_ns"], one["effective_s"], one["last_active_s"]) == (AT_S * SECOND, None, AT_S - 60)
    assert (one["precommit_points"], one["precommit_counter"], one["ping_counter"]) == (8, 10, 3)
    assert (one["commit_points"], one["commit_counter"]) == (0, None)  # a zero counter is "no data"
    assert two["commit_counter"] == 5 and two["prepare_points"] is None
    assert account["stored"] == 2 and account["mistaken"] == 0


SHAPES: dict[str, Any] = {
    "by address": [{"miner": "0xAb", "nodes": [board_row("0xAb"), board_row("0xAb", node_id="n-2")]}],
    "envelope": {"timestamp": AT_S, "leaderboard": [board_row("0xAb"), board_row("0xCd")]},
    "keyed by address": {
        "timestamp": AT_S,
        "0xAb": {"ping": 5, "precommit": {"point": 8, "counter": 10}, "last_active_timestamp": AT_S - 5, "staked": 1},
        "0xCd": {"ping": 5, "precommit": {"point": 8, "counter": 10}, "last_active_timestamp": AT_S - 5, "staked": 1},
    },
    "keyed by time": {str(AT_S): {"0xAb": {"precommit_points": 8}, "0xCd": {"precommit_points": 8}}},
    "history rows": [
        {"timestamp": AT_S, "miner_address": "0xAb", "precommit_points": 8, "precommit_counters": 10},
        {"timestamp": AT_S, "miner_address": "0xCd", "precommit_points": 8, "precommit_counters": 10},
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_its_two_rows(shape: str, tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", SHAPES[shape])
    account = imported(tmp_path / "run", path, at_ns=AT_S * SECOND + END)
    rows = rows_of(tmp_path / "run")
    assert account["mistakes"] == [] and len(rows) == 2
    assert {row["observed_wall_ns"] for row in rows} == {AT_S * SECOND + END}
    assert {row["precommit_points"] for row in rows} == {8}
    assert {row["node"] for row in rows} == ({"0xab"} if shape == "by address" else {"0xab", "0xcd"})


def test_json_lines_csv_parquet_and_sqlite_tell_the_same(tmp_path: Path) -> None:
    rows = [
        {
            "timestamp": AT_S + 900 * at,
            "miner_address": f"0x{node:02X}",
            "precommit_points": at,
            "precommit_counters": 9,
        }
        for at in range(5)
        for node in range(3)
    ]
    lines = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with sqlite3.connect(tmp_path / "a.db") as base:
        base.execute("CREATE TABLE other (x)")
        base.execute(
            "CREATE TABLE leaderboard_history (timestamp INTEGER NOT NULL, miner_address TEXT NOT NULL, "
            "precommit_points INTEGER, precommit_counters INTEGER, PRIMARY KEY (timestamp, miner_address))"
        )
        base.executemany("INSERT INTO leaderboard_history VALUES (?, ?, ?, ?)", [tuple(row.values()) for row in rows])
    base.close()
    found = []
    for path in (lines, tmp_path / "a.csv", tmp_path / "a.parquet", tmp_path / "a.db"):
        account = imported(tmp_path / path.suffix, path)
        assert (account["stored"], account["mistaken"], account["leaderboards"]) == (15, 0, 5)
        found.append(rows_of(tmp_path / path.suffix))
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][3]["observed_wall_ns"] == (AT_S + 900) * SECOND + END
    # The same rows a second time, from another file, are nothing new and no mistake.
    again = imported(tmp_path / ".db", tmp_path / "a.csv")
    assert (again["stored"], again["already_there"], again["mistaken"]) == (0, 15, 0)
    assert len(rows_of(tmp_path / ".db")) == 15


def test_our_own_snapshots_come_back_unchanged(tmp_path: Path) -> None:
    rows = [
        NodeSnapshot(
            source="session-reputation",
            node="0xab",
            node_as_seen="0xAb",
            observed_wall_ns=AT_S * SECOND + 7,
            effective_s=AT_S - 9,
            precommit_all=4,
            precommit_success=3,
            precommit_pending=1,
        ),
        NodeSnapshot(
            source="leaderboard", node="0xab", node_as_seen="0xab", observed_wall_ns=AT_S * SECOND, ping_counter=2
        ),
    ]
    write_part(tmp_path / "part.parquet", rows, NodeSnapshot)
    account = imported(tmp_path / "run", tmp_path / "part.parquet")
    (one, two) = rows_of(tmp_path / "run")
    assert account["mistaken"] == 0 and two["ping_counter"] == 2
    assert (one["observed_wall_ns"], one["effective_s"]) == (AT_S * SECOND + 7, AT_S - 9)
    assert (one["precommit_all"], one["precommit_success"], one["precommit_pending"]) == (4, 3, 1)


def test_reputation_counts_entries_younger_than_180_s_as_pending(tmp_path: Path) -> None:
    entries = [AT_S - 500, AT_S - 400, AT_S - 181, AT_S - 179, AT_S - 1]
    body = {"precommit": {"all_timestamps": entries, "success_timestamps": [AT_S - 500, AT_S - 179]}}
    path = written(tmp_path / "reputation.json", {"0xAb": body})
    account = imported(tmp_path / "run", path, at_ns=AT_S * SECOND)
    assert "give --source reputation or session-reputation" in account["mistakes"][0]
    imported(tmp_path / "run", path, at_ns=AT_S * SECOND, series="session-reputation")
    (row,) = rows_of(tmp_path / "run")
    # Old enough: 500, 400, 181 s; the success 179 s ago counts as well; 1 s ago may still become one.
    assert (row["precommit_all"], row["precommit_success"], row["precommit_pending"]) == (4, 2, 1)
    assert (row["source"], row["effective_s"], row["commit_all"]) == ("session-reputation", AT_S - 1, None)


# Bad rows.


def test_bad_rows_are_named_and_good_ones_kept(tmp_path: Path) -> None:
    text = "timestamp,miner,precommitPoint,precommitCounter,last_active,colour\n"
    for fields in (
        "1750000000,0xA1,1,2,1749999990,red",
        "1750000000123,0xA2,1,2,1749999990,red",  # ms in a file of s
        "1750000000,0xA3,nan,2,1749999990,red",
        "1750000000,0xA4,1,-2,1749999990,red",
        "1790000000,0xA5,1,2,1749999990,red",  # the future
        "1750000000,0xa1,5,6,1749999990,red",  # twice, in another case
        "1750000000,,1,2,1749999990,red",
        "1750000000,0xA6,1.5,2,1749999990,red",
        "17500,0xA7,1,2,1749999990,red",
        "2025-06-15T14:26:40,0xA8,1,2,1749999990,red",
        "1750000000,0xA9,1,2,1750000400,red",  # active after it was seen
        "1750000000,0xB1,1,2,1749999990000,red",  # ms in another column
        "1750000000,0xB2,1,inf,1749999990,red",
        "1750000000,0xB3,,,1749999990,red",
        "1750000000,0xB4,1",
        ",0xB5,1,2,1749999990,red",
        "1750000000,0xB6,1,99999999999999999999,1749999990,red",
        "1750000900,0xA1,2,3,1750000890,red",
    ):
        text += fields + "\n"
    account = imported(tmp_path / "run", written(tmp_path / "bad.csv", text), now_s=AT_S + 86_400)
    assert [(row["node"], row["precommit_counter"]) for row in rows_of(tmp_path / "run")] == [("0xa1", 2), ("0xa1", 3)]
    assert short(account, tmp_path) == [
        "bad.csv, row 3: observed: 1750000000123 is in ms, the file began in s",
        "bad.csv, row 4: precommit_points: is NaN",
        "bad.csv, row 5: precommit_counter: is negative (-2)",
        "bad.csv, row 6: observed 39,913,601 s in the future",
        "bad.csv, row 7: 0xa1 is there twice at one instant; the first is kept",
        "bad.csv, row 8: expected a node's address, got a str",
        "bad.csv, row 9: precommit_points: must be a whole number, got 1.5",
        "bad.csv, row 10: observed: 17500 is no instant of 2001 to 2099 in s, ms, us or ns",
        "bad.csv, row 11: observed: 2025-06-15T14:26:40 has no time zone; write it with one, Z for UTC",
        "bad.csv, row 12: last_active: 400 s after the snapshot that tells it",
        "bad.csv, row 13: last_active: 1749999990000 is in ms, the file began in s",
        "bad.csv, row 14: precommit_counter: must be a number, got 'inf'",
        "bad.csv, row 15: no counter in it: nothing is said of the node",
        "bad.csv, row 16: 3 fields, the header has 6",
        "bad.csv, row 17: no time in it, nor in the file: give --observed-at",
        "bad.csv, row 18: precommit_counter: 99999999999999999999 is more than 64 bits hold",
    ]
    assert account["columns_not_read"] == {str(tmp_path / "bad.csv"): ["colour"]}
    assert account["mistaken"] == 16 and account["read"] == 18


def test_bad_json_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    good = json.dumps(board_row("0xA1"))
    path.write_text(
        f'[{good}, 7, {{"miner": "0xA2", "precommitPoint": NaN}}, {{"miner": "0xA2", "precommitPoint": -1}}, '
        f'{{"miner": ["0xA2"]}}, {{"miner": "0xA3", "miner": "0xA4", "precommitPoint": 1}}, {{"colour": 1}}, '
        f'{{"miner": "0xA5", "precommitPoint": true}}, {good}]'
    )
    account = imported(tmp_path / "run", path, at_ns=AT_S * SECOND)
    assert short(account, tmp_path) == [
        "bad.json, row 2: expected rows with a node, got a int",
        "bad.json, row 3: precommit_points: is NaN",
        "bad.json, row 4: precommit_points: is negative (-1)",
        "bad.json, row 5: expected a node's address, got a list of 1",
        "bad.json, row 6: 'miner' is there twice; which one holds?",
        "bad.json, row 7: no node in it: a field named node, miner or a key",
        "bad.json, row 8: precommit_points: must be a number, got 'True'",
        "bad.json, row 9: 0xA1 is there twice at one instant; the first is kept",
    ]
    assert account["stored"] == 1


@pytest.mark.parametrize(
    ("text", "stored", "told"),
    [
        ("", 0, "row 1: a header and at least one row are expected"),
        ("[", 0, "row 1: the array is cut off"),
        ("[GOOD", 1, "row 2: the array is cut off; what follows was not read"),
        ("[GOOD GOOD]", 1, "row 2: not JSON (expected a comma, got '{')"),
        ("[GOOD, {]", 1, "row 2: not JSON"),
        ("GOOD\n{\n", 1, "line 2: not JSON"),
        ('GOOD\n{"miner": tru}\nGOOD2\n', 2, "line 2: not JSON (Expecting value)"),
        ("[" * 100_000, 0, "row 1: not ours: nested too deeply; what follows was not read"),
        ("a,a\n1,2\n", 0, "row 1: the names of the columns must differ"),
        ('miner,ping\n"0xA1,3\n', 0, "row 2: not CSV (unexpected end of data); what follows was not read"),
        ("miner,ping\n0xA1,\udcff3\n0xA2,3\n", 1, "row 2: a text with bytes that are not UTF-8"),
        ('[{"miner": "\udcff"}, GOOD]', 1, "row 1: a text with bytes that are not UTF-8"),
    ],
)
def test_files_that_break_off_keep_their_good_rows(text: str, stored: int, told: str, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    for word, node in (("GOOD2", "0xA2"), ("GOOD", "0xA1")):
        text = text.replace(word, json.dumps(board_row(node)))
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    account = imported(tmp_path / "run", path, at_ns=AT_S * SECOND)
    assert account["stored"] == stored
    assert any(told in line and line.startswith(str(path)) for line in account["mistakes"]), account["mistakes"]


def test_files_of_which_nothing_can_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Import(tmp_path, AT_S * SECOND)
    (tmp_path / "binary").write_bytes(b"\x1f\x8b\0\0")
    with sqlite3.connect(tmp_path / "other.db") as base:
        base.execute("CREATE TABLE users (name)")
    base.close()
    pq.write_table(pa.table({"miner": ["0xA1"], "ping": [1]}), tmp_path / "x.parquet")
    monkeypatch.setattr(stored_files, "ROW_GROUP_BYTES_MAX", 10)
    for name, told in (
        ("nowhere", "No such file"),
        ("binary", "neither JSON, CSV, Parquet nor SQLite"),
        ("other.db", "no table has a column for the node; tables: users"),
        ("x.parquet", "write it with smaller row groups"),
    ):
        with pytest.raises(StoredFileError, match=told):
            work.add(tmp_path / name, AT_S * SECOND, None)
    with pytest.raises(RunFolderError, match="no such folder"):
        Import(tmp_path / "nowhere", 0)


@pytest.mark.parametrize("kind", ["parquet", "sqlite"])
def test_damaged_binary_files_are_mistakes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    rows = [{"timestamp": AT_S + n, "miner": f"0x{n:040x}", "ping": n + 1} for n in range(5_000)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with sqlite3.connect(path) as base:
            base.execute("CREATE TABLE history (timestamp, miner, ping)")
            base.executemany("INSERT INTO history VALUES (?, ?, ?)", [tuple(row.values()) for row in rows])
        base.close()
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 8_192] = b"\xff" * 8_192
    path.write_bytes(raw)
    account = imported(tmp_path / "run", path)
    assert account["mistaken"] >= 1 and "what follows was not read" in account["mistakes"][-1]


# Bounds.


def test_an_element_without_end_is_refused_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_json, "ELEMENT_CHARS_MAX", 1 << 16)
    monkeypatch.setattr(stored_json, "PIECE_CHARS", 1 << 10)
    monkeypatch.setattr(stored_files, "LINE_CHARS_MAX", 1 << 10)
    held = []

    class Watched:
        """A file that never ends, and notes how much is asked of it at once."""

        def __init__(self, head: str) -> None:
            self.rest, self.given = head, 0

        def read(self, size: int) -> str:
            held.append(size)
            self.given += size
            assert self.given < 1 << 20, "it reads on and on"
            piece, self.rest = (self.rest + "x" * size)[:size], ""
            return piece

    for head in ('[{"a": "', '{"miner": "', '{"a": 1}\n{"b": "'):
        *good, last = json_values(Watched(head))  # type: ignore[arg-type]
        assert "an element of more than" in last.mistake and len(good) == head.count("\n")
    assert max(held) <= 1 << 16
    account = imported(tmp_path / "run", written(tmp_path / "long.csv", "miner,ping\n" + "x" * 5_000))
    assert "a line of more than" in account["mistakes"][0]


def test_a_folder_takes_no_more_rows_than_it_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "FOLDER_ROWS_MAX", 3)
    path = written(tmp_path / "x.json", [board_row(f"0x{n}") for n in range(5)])
    (tmp_path / "run").mkdir()
    with pytest.raises(RunFolderError, match=r"row 4: 3 snapshots are the most of one folder"):
        Import(tmp_path / "run", (AT_S + 9) * SECOND).add(path, AT_S * SECOND, None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, max_size=6), st.integers(1, 40), st.booleans())
@example([0.0, -1.5e-300, 10**30], 1, True)
@example([0.0, -1.5e-300, 10**30], 3, False)
def test_json_is_read_as_the_library_reads_it_however_it_is_cut(values: list[Any], piece: int, array: bool) -> None:
    class Pieces:
        def __init__(self, text: str) -> None:
            self.rest = text

        def read(self, size: int) -> str:
            head, self.rest = self.rest[:piece], self.rest[piece:]
            return head

    kept = values if array else [{"v": value} for value in values]
    text = json.dumps(kept, indent=1) if array else "".join(json.dumps(value) + "\n" for value in kept)
    found = list(json_values(Pieces(text)))  # type: ignore[arg-type]
    if kept or array:
        assert [each.mistake for each in found] == [""] * len(kept)
        assert [each.value for each in found] == kept
        assert array or [each.where for each in found] == [f"line {n}" for n in range(1, len(kept) + 1)]


@given(st.integers(10**9, 4_102_444_799), st.sampled_from(["s", "ms", "us", "ns"]), st.booleans())
def test_an_instant_is_of_its_unit_and_never_too_early(at_s: int, unit: str, as_text: bool) -> None:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    found, at_ns = instant(str(at_s * scale) if as_text else at_s * scale, "x")
    assert found == unit and at_s * SECOND <= at_ns < at_s * SECOND + SECOND // scale


def test_instants_as_text() -> None:
    assert instant("2025-06-15T15:06:40Z", "x") == ("text", AT_S * SECOND + END)
    assert instant("2025-06-15T17:06:40.25+02:00", "x") == ("text", AT_S * SECOND + 250_000_999)
    assert instant(AT_S + 0.5, "x") == ("s", AT_S * SECOND + 500_000_000)


# What a history shows of itself.


def test_holes_missing_nodes_and_resets_are_found(tmp_path: Path) -> None:
    boards = []
    for at in (0, 1, 2, 3, 13, 14):  # two and a half hours are missing
        rows = [board_row("0xA1", at), board_row("0xA2", at), board_row("0xA2", at, node_id="n-2")]
        if at in (1, 3):
            rows = rows[:1]  # 0xA2 is not in these two
        if at >= 13:
            rows[0] = board_row("0xA1", at, precommitCounter=at - 12, precommitPoint=0)  # began again
        boards.append({"timestamp": AT_S + 900 * at, "leaderboard": rows})
    path = written(tmp_path / "boards.jsonl", "".join(json.dumps(board) + "\n" for board in boards))
    account = imported(tmp_path / "run", path)
    assert (account["stored"], account["leaderboards"], account["nodes"]) == (14, 6, 2)
    assert (account["holes"], account["nodes_missing_listed"]) == (1, {"0xa2": 2})
    assert account["counter_resets_listed"] == ["0xa1 at 2025-06-15T18:21:40Z: precommit_counter"]
    (gap,) = read_table(tmp_path / "run", "router").to_pylist()
    assert (gap["source"], gap["observed_wall_ns"]) == ("leaderboard", (AT_S + 900 * 4) * SECOND + END)
    assert gap["error"] == "no leaderboard for 9,000 s, usual are 900 s"


def test_now_is_soon_enough_for_what_was_just_stored(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", [board_row("0xA1")])
    now_ns = wall_ns()
    assert imported(tmp_path / "run", path, at_ns=now_ns, now_s=now_ns // SECOND)["mistaken"] == 0


# What nodes are.


def test_files_may_say_what_nodes_are(tmp_path: Path) -> None:
    text = "node,time,precommit_points,precommit_counter,operator,hardware,level\n"
    text += f"0xA1,{AT_S},8,10,op 1,gpu,3\n0xa1,{AT_S + 60},9,11,op 1,gpu,3\n0xa1,{AT_S + 120},9,11,op 1,gpu,4\n"
    text += f"0xB2,{AT_S},,,op 2,,\n0xC3,{AT_S},1,2,,,\n"
    account = imported(tmp_path / "run", written(tmp_path / "nodes.csv", text), now_s=AT_S + 86_400)
    assert (account["stored"], account["mistaken"], account["described_only"]) == (4, 0, 1)
    found = read_table(tmp_path / "run", "descriptions").to_pylist()
    assert [(r["node"], r["operator"], r["hardware"], r["level"], r["source"]) for r in found] == [
        ("0xa1", "op 1", "gpu", 3, "import"),
        ("0xa1", "op 1", "gpu", 4, "import"),
        ("0xb2", "op 2", None, None, "import"),
    ]
