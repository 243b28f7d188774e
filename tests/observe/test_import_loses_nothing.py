"""What an import could lose without a word: rows after an array, near a bad byte, in a second list, of other values."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imported import AT_S, SECOND, board_row, imported, rows_of, short, written

from loadtest.jobs.import_snapshots import main
from loadtest.observe import bill, importing
from loadtest.observe.stored_files import StoredFileError
from loadtest.records import NodeSnapshot
from loadtest.runfolder import RunFolderError, read_table, write_part

AT_NS = AT_S * SECOND


def rows(first: int, count: int, at: int = 0) -> list[dict[str, Any]]:
    return [board_row(f"0x{n:03x}", at) for n in range(first, first + count)]


# JSON.


def test_every_array_of_a_file_is_read(tmp_path: Path) -> None:
    """A leaderboard a line, as a bot appends them; the last line holds an object."""
    lines = [json.dumps(rows(3 * n, 3)) for n in range(100)] + [json.dumps(board_row("0xfff"))]
    account = imported(tmp_path / "run", written(tmp_path / "x.jsonl", "\n".join(lines)), at_ns=AT_NS)
    assert (account["stored"], account["mistaken"]) == (301, 0)


@pytest.mark.parametrize(
    ("text", "stored", "told"),
    [
        ("[A]xx", 1, "x.json, line 1: not JSON (Expecting value); what follows was not read"),
        ("[A]\n[B, 7]", 2, "x.json, line 2, row 2: expected rows with a node, got a int"),
        ("[A, {]\n[B]\n", 2, "row 2: not JSON (Expecting property name enclosed in double quotes); reading goes on at"),
        (
            "[A, {, B]\n\n[B]\n",
            2,
            "x.json, row 2: not JSON (Expecting property name enclosed in double quotes); reading ",
        ),
        ("[A]\n}\n [B]\n[B]\n", 2, "x.json, line 2: not JSON (Expecting value); reading goes on at line 4"),
        ('[A]\n}\n{"miner": \n[B]', 2, "x.json, line 2: not JSON (Expecting value)"),
        ("[A, " + "7" * 5000 + "]\n[B]", 2, "x.json, row 2: not ours: a number of thousands of digits"),
        ("[]", 0, "x.json: no row in it"),
        ('{"observed_at": 1750000000, "leaderboard": []}', 0, "x.json: no row in it"),
        (
            '[A, {"miner": "0x\\ud800", "ping": 1}, B]',
            2,
            "x.json, row 2: a text with bytes that are not UTF-8, or with",
        ),
        ('[A, {"miner": "0xC", "ping": 1, "precommit": {"po\\udc00int": 1}}]', 1, "x.json, row 2: a text with bytes"),
        ('[A, {"miner": "0x\\n1", "ping": 1}]', 1, "x.json, row 2: a node's address with characters that cannot be"),
        ('[A, {"miner": "NaN", "ping": 1}]', 1, "x.json, row 2: no node in it (NaN)"),
        ('[A, {"miner": "0xC", "precommitPoint": 5, "precommit_points": 7}]', 1, "row 2: precommit_points: told twice"),
        ('[A, {"miner": "0xC", "node": "0xD", "ping": 1}]', 1, "row 2: node: told twice, as '0xC' and as '0xD'"),
        ('[A, {"miner": "0xC", "ping": "1e9999999"}]', 1, "row 2: ping_counter: must be a number, got '1e9999999'"),
        ('[A, {"miner": "0xC", "ping": 1, "time": "1e9999999"}]', 1, "row 2: observed: must be a number, got"),
        ('{"a": 1, "0x1": {"b": 1, "b": 2}, "0xC": {"ping": 1}}', 1, "line 1, key 0x1: 'b' is there twice"),
        ('[A, {"miner": "0xC", "precommitPoint": 500, "precommitCounter": 100}]', 1, "precommit_points: 500 of 100"),
        ('[A, {"miner": "0xC", "source": "reputation", "precommit_all": 5, "precommit_success": 9}]', 1, "9 of 5"),
        (
            '[A, {"miner": "0xC", "precommit_all": 5, "precommit_success": 4}]',
            1,
            "row 2: of which series? give --source",
        ),
        ('{"0x1": null, "0x2": 5, "0xC": {"ping": 1}}', 1, "key 0x1: expected what is known of it, got nothing"),
        ('[A, {"miner": "0xC", "precommitPoint": -5, "precommit": {"all_timestamps": []}}]', 1, "is negative (-5)"),
    ],
)
def test_what_cannot_be_taken_is_told_and_the_rest_is_kept(text: str, stored: int, told: str, tmp_path: Path) -> None:
    for name in "AB":
        text = text.replace(f"[{name}", f"[{json.dumps(board_row(f'0x{name}'))}").replace(
            f", {name}]", f", {json.dumps(board_row(f'0x{name}'))}]"
        )
    account = imported(tmp_path / "run", written(tmp_path / "x.json", text), at_ns=AT_NS)
    assert account["stored"] == stored, account["mistakes"]
    assert any(told in line for line in short(account, tmp_path)), account["mistakes"]
    assert all("\n" not in line and line.isprintable() for line in account["mistakes"])


def test_one_bad_byte_costs_its_own_row_in_a_long_file(tmp_path: Path) -> None:
    """Far from the beginning, so that blocks of text lie before it; in JSON lines, an array and CSV."""
    many = [json.dumps(row) for row in rows(0, 3000)]
    bad = json.dumps(board_row("0xBAD")).replace("n-1", "\udcff")
    for name, text, where in (
        ("x.jsonl", "\n".join([*many[:2500], bad, *many[2500:]]), "line 2501"),
        ("x.json", f"[{', '.join([*many[:2500], bad, *many[2500:]])}]", "row 2501"),
        (
            "x.csv",
            "miner,ping\n" + "".join(f"0x{n:03x}\udcff,1\n" if n == 2500 else f"0x{n:03x},1\n" for n in range(3001)),
            "row 2502",
        ),
    ):
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        account = imported(tmp_path / f"run-{name}", path, at_ns=AT_NS)
        assert (account["stored"], account["mistaken"]) == (3000, 1), name
        assert short(account, tmp_path)[0].startswith(f"{name}, {where}: a text with bytes"), account["mistakes"]


def test_every_list_of_an_object_is_read_or_named(tmp_path: Path) -> None:
    told = {
        **{"observed_at": AT_S, "leaderboard": rows(0, 2), "miners": rows(2, 2), "reputation": {"0x1": {}}},
        "total": 4,
    }
    account = imported(tmp_path / "run", written(tmp_path / "x.json", told))
    assert account["stored"] == 4 and account["mistaken"] == 0
    assert account["columns_not_read"] == {str(tmp_path / "x.json"): ["reputation", "total"]}


def test_a_row_with_an_empty_list_beside_its_counters_is_a_row(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", [{**board_row("0xA"), "nodes": [], "precommit": 5}])
    account = imported(tmp_path / "run", path, at_ns=AT_NS)
    assert account["stored"] == 1 and account["columns_not_read"] == {str(path): ["nodes", "precommit"]}


def test_of_two_names_that_differ_by_right_one_is_read_and_the_other_named(tmp_path: Path) -> None:
    """Also where the one preferred is empty; and an address in another case, or 8 and "8", is the same told twice."""
    row = board_row("0xAb", node="0xAB", address="", observed_at=AT_S, timestamp=AT_S - 900, precommit_points="8")
    path = written(tmp_path / "x.json", [row, {**board_row("0xC"), "observed_at": None, "timestamp": AT_S}])
    account = imported(tmp_path / "run", path)
    assert {row["observed_wall_ns"] // SECOND for row in rows_of(tmp_path / "run")} == {AT_S}
    assert account["columns_not_read"] == {str(path): ["timestamp"]}


def test_a_row_without_a_time_of_its_own_has_that_of_its_leaderboard(tmp_path: Path) -> None:
    told = {"observed_at": AT_S, "leaderboard": [board_row("0xA", timestamp=None)], "meta": {}}
    text = json.dumps(told).replace("{}", '{"a": 1, "a": 2}')  # not read, so it may be as it is
    imported(tmp_path / "run", written(tmp_path / "x.json", text), at_ns=AT_NS - 10**15)
    assert [row["observed_wall_ns"] // SECOND for row in rows_of(tmp_path / "run")] == [AT_S]


def test_a_list_of_something_else_is_a_column_and_the_row_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", [board_row("0xA", stats=[1, 2]), board_row("0xB", snapshots=[])])
    account = imported(tmp_path / "run", path, at_ns=AT_NS)
    assert (account["stored"], account["mistaken"]) == (2, 0)
    assert account["columns_not_read"] == {str(path): ["stats", "snapshots"]}


def test_more_unread_columns_than_are_listed_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", [board_row("0xA", **{f"c{n}": n for n in range(60)})])
    (names,) = imported(tmp_path / "run", path, at_ns=AT_NS)["columns_not_read"].values()
    assert len(names) == 51 and names[-1] == "and more"


def test_an_owner_s_own_counters_beside_its_nodes_are_named(tmp_path: Path) -> None:
    told = {"miner": "0xA", "ping_counter": 9, "nodes": [{"node_id": "1", "ping": 4}, {"node_id": "2", "ping": 5}]}
    account = imported(tmp_path / "run", written(tmp_path / "x.json", told), at_ns=AT_NS)
    assert [row["ping_counter"] for row in rows_of(tmp_path / "run")] == [4, 5]
    assert account["columns_not_read"] == {str(tmp_path / "x.json"): ["ping_counter"]}


# What is told from outside.


def test_the_source_asked_for_is_that_of_lists_only(tmp_path: Path) -> None:
    lists = {"miner": "0xB", "precommit": {"all_timestamps": [AT_S - 900], "success_timestamps": []}}
    account = imported(
        tmp_path / "run", written(tmp_path / "x.json", [board_row("0xA"), lists]), at_ns=AT_NS, series="reputation"
    )
    assert account["stored"] == 2
    assert {row["node"]: row["source"] for row in rows_of(tmp_path / "run")} == {
        "0xa": "leaderboard",
        "0xb": "reputation",
    }


def test_an_instant_asked_for_may_not_lie_in_the_future(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", [board_row("0xA", last_active=0)])
    account = imported(tmp_path / "run", path, at_ns=AT_NS, now_s=AT_S - 3600)
    assert short(account, tmp_path) == ["x.json, row 1: observed 3,600 s in the future"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("level", v) for v in ("abc", 3.7, True, 1e30, -5)),
        ("operator", 5.5),
        ("operator", ["x"]),
        ("hardware", {}),
    ],
)
def test_what_nodes_are_is_checked_too(name: str, value: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", [board_row("0xA", **{name: value}), board_row("0xB", operator="o", level=3)])
    account = imported(tmp_path / "run", path, at_ns=AT_NS)
    assert (account["stored"], account["mistaken"], account["descriptions"]) == (1, 1, 1)
    assert f"x.json, row 1: {name}: " in short(account, tmp_path)[0]


def test_what_is_missing_as_others_write_it_and_what_differs_by_right_is_no_mistake(tmp_path: Path) -> None:
    """A level of NaN is none; `ping` may be a latency beside a counter of pings, a number may stand as text."""
    rows = [
        board_row("0xA", level="NaN", operator="none", hardware=4090),
        board_row("0xB", ping=35, lastActiveTimestamp="2025-06-15T15:00:00Z", precommit_points="8"),
    ]
    account = imported(tmp_path / "run", written(tmp_path / "x.json", rows), at_ns=AT_NS)
    assert (account["stored"], account["mistaken"]) == (2, 0), account["mistakes"]
    (described,) = read_table(tmp_path / "run", "descriptions").to_pylist()
    assert (described["hardware"], described["level"], described["operator"]) == ("4090", None, None)


# Tables.


def test_one_bad_instant_of_a_parquet_file_costs_its_own_row(tmp_path: Path) -> None:
    instants = pa.array([AT_S * 10**6, 2**62, AT_S * 10**6], pa.timestamp("us", tz="UTC"))
    pq.write_table(
        pa.table({"miner": ["0xA", "0xB", "0xC"], "ping": [1, 2, 3], "time": instants}), tmp_path / "x.parquet"
    )
    account = imported(tmp_path / "run", tmp_path / "x.parquet")
    assert (account["stored"], account["mistaken"]) == (2, 1)
    assert short(account, tmp_path)[0].startswith("x.parquet, row 2: cannot be read (")


def test_names_that_are_not_utf_8_are_told(tmp_path: Path) -> None:
    """A traceback once: Python cannot even ask for such a table. The tables beside it are read."""
    path = database(tmp_path / "x.db", "miner, ping, time", ("0xA", 1, AT_S))
    for name, old, told, stored in (
        ("table.db", b"pets", "table ?ets: a text with bytes that are not UTF-8", 1),
        ("column.db", b"ping", "table history: a text with bytes that are not UTF-8", 0),
    ):
        (tmp_path / name).write_bytes(path.read_bytes().replace(old, b"\xff" + old[1:]))
        account = imported(tmp_path / f"run-{name}", tmp_path / name)
        assert (account["stored"], account["mistaken"]) == (stored, 1) and told in account["mistakes"][0]
    (tmp_path / "x.csv").write_bytes(b"miner,p\xefng\n0xA,1\n")
    told = short(imported(tmp_path / "run", tmp_path / "x.csv", at_ns=AT_NS), tmp_path)[0]
    assert told.startswith("x.csv, row 1: a text with bytes that are not UTF-8") and "names of the columns" in told


def test_parquet_texts_that_are_not_utf_8_cost_their_own_row(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 3, 6)))
    nodes = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"0x\xff0xB")])
    pq.write_table(pa.table({"node": nodes, "ping": [1, 2]}), tmp_path / "x.parquet")
    account = imported(tmp_path / "run", tmp_path / "x.parquet", at_ns=AT_NS)
    assert account["stored"] == 1 and "row 1: a text with bytes that are not UTF-8" in account["mistakes"][0]


def test_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["0xA"]), pa.array(["0xB"]), pa.array([1])], names=["node", "Node", "ping"])
    pq.write_table(table, tmp_path / "x.parquet")
    assert short(imported(tmp_path / "run", tmp_path / "x.parquet", at_ns=AT_NS), tmp_path) == [
        "x.parquet, row 1: the names of the columns must differ; nothing was read"
    ]


def database(path: Path, columns: str, *values: tuple[Any, ...]) -> Path:
    with sqlite3.connect(path) as base:
        base.execute(f"CREATE TABLE history ({columns})")
        base.execute("CREATE TABLE pets (name)")
        base.executemany(f"INSERT INTO history VALUES ({', '.join('?' * len(values[0]))})", values)
    base.close()
    return path


def test_sqlite_s_own_instants_are_utc_and_other_tables_are_named(tmp_path: Path) -> None:
    path = database(tmp_path / "x.db", "miner, ping, time DEFAULT CURRENT_TIMESTAMP", ("0xA", 1, "2025-06-15 12:00:00"))
    account = imported(tmp_path / "run", path)
    (row,) = rows_of(tmp_path / "run")
    assert row["observed_wall_ns"] // SECOND == datetime(2025, 6, 15, 12, tzinfo=UTC).timestamp()
    assert account["columns_not_read"] == {str(path): ["table pets"]}


def test_a_table_without_a_time_takes_the_one_asked_for(tmp_path: Path) -> None:
    path = database(tmp_path / "x.db", "miner, ping", ("0xA", 1))
    assert imported(tmp_path / "run", path, at_ns=AT_NS)["stored"] == 1
    assert short(imported(tmp_path / "other", path), tmp_path) == [
        "x.db, history row 1: no time in it, nor in the file: give --observed-at"
    ]


# Files.


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """The first 4,096 bytes of a pipe were looked at and lost; without a writer it was waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoredFileError, match="no regular file; store what it gives, and import that"):
        imported(tmp_path / "run", tmp_path / "pipe", at_ns=AT_NS)


def test_what_else_lies_in_a_folder_is_named_and_one_without_files_keeps_no_other_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, files = tmp_path / "run", tmp_path / "files"
    run.mkdir()
    (files / "sub").mkdir(parents=True)
    written(files / "bad\udcff\n.json", [board_row("0xA", colour=1)])
    written(files / ".hidden", "")
    assert main([str(run), str(files), "--observed-at", str(AT_S)]) == 0
    out = capsys.readouterr().out
    assert f"{files}: not read: .hidden, sub/\n" in out and f"{files}/bad??.json: not read: colour\n" in out
    with pytest.raises(RunFolderError, match="0 files in it"):
        main([str(run), str(files), str(files / "sub"), "--observed-at", str(AT_S + 900)])
    assert len(rows_of(run)) == 1 and len([*run.glob("imports/*")]) == 1


# Again.


def test_what_is_there_with_other_values_is_told(tmp_path: Path) -> None:
    run, first = tmp_path / "run", written(tmp_path / "a.json", [board_row("0xA"), board_row("0xB")])
    assert imported(run, first, at_ns=AT_NS)["stored"] == 2
    again = imported(run, first, at_ns=AT_NS)
    assert (again["stored"], again["already_there"], again["mistaken"]) == (0, 2, 0)
    other = written(tmp_path / "b.json", [board_row("0xA", ping_counter=4), board_row("0xC")])
    account = imported(run, other, at_ns=AT_NS)
    assert (account["stored"], account["already_there"]) == (1, 0)
    assert short(account, tmp_path) == ["b.json, row 1: 0xA is in the folder at this instant with other values"]


def test_files_that_overlap_are_no_mistake(tmp_path: Path) -> None:
    first = written(tmp_path / "a.json", [board_row("0xA"), board_row("0xB")])
    second = written(tmp_path / "b.json", [board_row("0xB"), board_row("0xC"), board_row("0xA", ping_counter=5)])
    account = imported(tmp_path / "run", first, second, at_ns=AT_NS)
    assert (account["stored"], account["already_there"]) == (3, 1)
    assert short(account, tmp_path) == ["b.json, row 3: 0xA is there twice at one instant; the first is kept"]


def test_an_owner_s_rows_are_all_there_again(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", [board_row("0xA"), board_row("0xA", node_id="n-2", ping_counter=7)])
    assert imported(tmp_path / "run", path, at_ns=AT_NS)["stored"] == 2
    again = imported(tmp_path / "run", path, at_ns=AT_NS)
    assert (again["already_there"], again["mistaken"]) == (2, 0)


def boards(*at: int, nodes: tuple[str, ...] = ("0xA",)) -> list[dict[str, Any]]:
    return [board_row(node, quarter, timestamp=AT_S + 900 * quarter) for quarter in at for node in nodes]


def test_holes_are_those_of_the_folder_and_not_of_one_import(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert imported(run, written(tmp_path / "a.json", boards(0, 1, 2, 3)))["holes"] == 0
    assert imported(run, written(tmp_path / "b.json", boards(30, 31, 32, 33)))["holes"] == 1
    assert len(read_table(run, "router")) == 1
    mended = imported(run, written(tmp_path / "c.json", boards(*range(4, 30), nodes=("0xA", "0xB"))))
    assert mended["holes"] == 0 and len(read_table(run, "router")) == 0
    assert mended["nodes_missing_in_between"] == 0 and mended["leaderboards"] == 34


def test_our_own_polls_make_no_holes_of_what_others_stored(tmp_path: Path) -> None:
    run = tmp_path / "run"
    polled = [
        NodeSnapshot(source="leaderboard", node="0xa", node_as_seen="0xA", observed_wall_ns=AT_NS + 15 * i * SECOND)
        for i in range(200)
    ]
    write_part(run / "snapshots" / "observe-1-00001.parquet", polled, NodeSnapshot)
    account = imported(run, written(tmp_path / "a.json", boards(4, 5, 6, 7)))
    assert (account["stored"], account["holes"], account["usual_period_s"]) == (4, 0, 900)


# Full.


@pytest.mark.parametrize("charges", [False, True])
def test_a_full_folder_keeps_what_it_took_and_its_account(
    charges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importing, "FOLDER_ROWS_MAX", 5)
    monkeypatch.setattr(bill, "LINES_MAX", 5)
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"session_id": 1, "task_id": n, "amount": 5} for n in range(9)]
    for first, told in ((0, 3), (3, 2)):
        path = written(tmp_path / f"{first}.json", lines[first:] if first else lines[:3])
        if not charges:
            path = written(path, rows(first, 6 if first else 3))
        more = [str(path), str(path)] if first else []
        code = main(
            [str(run), str(path), *more, "--observed-at", str(AT_S), *(["--charges"] if charges else []), "--json"]
        )
        out = capsys.readouterr()
        account = json.loads(out.out)
        assert account["stored"] == told and Path(account["account"]).exists()
        assert (code, "are the most of one folder" in out.err) == ((1, True) if first else (0, False))
        assert ("from here on nothing was read, nor in the 2 files behind it" in out.err.lower()) == (first > 0)
    assert len(read_table(run, "charges" if charges else "snapshots")) == 5


# Bills.


def test_a_bill_may_be_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No table of it names a node. Tables that SQLite keeps for itself are not named."""
    run, path = tmp_path / "run", tmp_path / "bill.db"
    run.mkdir()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE charges (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id, task_id, amount)")
        base.execute("CREATE TABLE sessions (session)")
        base.execute("INSERT INTO charges (session_id, task_id, amount) VALUES (1, 2, 5)")
    base.close()
    assert main([str(run), str(path), "--charges", "--json"]) == 0
    account = json.loads(capsys.readouterr().out)
    assert account["amount"] == "5" and account["columns_not_read"] == {str(path): ["table sessions"]}


def test_a_bill_is_read_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    line = {"session_id": 1, "amount": 5}
    text = json.dumps([{**line, "task_id": 1}]) + "\n" + json.dumps([{**line, "task_id": 2}]) + "\n"
    text += json.dumps({"charges": [{**line, "task_id": 3}], "rows": [{**line, "task_id": 4}], "page": 1}) + "\n"
    text += json.dumps({**line, "task_id": "\ud800"}) + "\n"
    text += json.dumps({**line, "task_id": 6, "amount": "1e999999"}) + "\n"
    text += json.dumps({**line, "task_id": 7, "items": [], "result": ["a text"], "fee": 9, "\x1b[31m": 1}) + "\n"
    code = main([str(run), str(written(tmp_path / "bill.json", text)), "--charges", "--json"])
    account = json.loads(capsys.readouterr().out)
    assert code == 3 and (account["stored"], account["mistaken"]) == (5, 2)
    assert account["columns_not_read"] == {str(tmp_path / "bill.json"): ["page", "items", "result", "?[31m", "fee"]}
    assert "line 4: a text with bytes" in account["mistakes"][0] and "must be a number" in account["mistakes"][1]
