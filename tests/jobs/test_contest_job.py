"""`loadtest contest` from the command line: every input, every output, and mistakes by file and row."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from loadtest.analysis.pipeline import CLAIMS
from loadtest.cli import main
from loadtest.records import NodeSnapshot
from loadtest.runfolder import write_part
from loadtest.simulator.__main__ import main as simulate

FIXTURE = Path(__file__).parents[1] / "data" / "contest160.csv"
DAY_S = 86_400
BEGIN_S = 1_750_000_000


def run(*words: object) -> int:
    return main(["contest", *map(str, words)])


def test_csv_html_and_json_hold_the_same_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, page = tmp_path / "out.csv", tmp_path / "out.html"
    assert run(FIXTURE, "--rules", "phase4-later", "--csv", table, "--html", page, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == len(told["nodes"]) == 160
    cents = [round(100 * float(row["payout"])) for row in rows]
    assert f"{sum(cents) / 100:.2f}" == told["total"]["paid"] == "3725.00"
    assert cents == [round(100 * float(node["payout"])) for node in told["nodes"]]
    assert sum(round(100 * float(each["payout"])) for each in told["operators"]) == sum(cents)
    html = page.read_text()
    assert "3,725.00" in html and html.count('<td class="n"><b>') == 160 + 1 + len(told["operators"])
    assert "claimed a stake that is not there" in html and "claimed 98 % of precommits, observed 61 %" in html
    assert not re.search(r"https?://|<script|src=", html)
    assert set(told["low"]["reading"]) == set(told["high"]["reading"]) == set(told["readings"])


def test_a_page_cannot_be_made_to_hold_markup(tmp_path: Path) -> None:
    source, page = tmp_path / "n.csv", tmp_path / "out.html"
    source.write_text("node,operator,flags\nn1,<b>x</b>,a: <script>\n")
    assert run(source, "--rules", "phase4-later", "--html", page) == 0
    assert "<script" not in page.read_text() and "<b>x" not in page.read_text()


def test_each_mistake_of_the_nodes_has_its_file_row_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "nodes.csv"
    source.write_text(
        "node,score,stake_cor,uptime,earlier_phase,hardware\n"
        "0xAB,0.5,4000,0.9,yes,gpu\n"
        "0xab,0.5,4000,0.9,yes,gpu\n"
        "0x02,97.5,4000,0.9,yes,gpu\n"
        "0x03,0.5,-1,nan,maybe,gpu\n"
        ",0.5,4000,0.9,yes,gpu\n"
        '"0x04\n",0.5,4e3,0.9,yes,gpu\n'
        "0x05,0.5\n"
    )
    assert run(source, "--rules", "phase4-founding") == 2
    assert capsys.readouterr().err.splitlines() == [f"loadtest: {source}, row 8: 2 fields, the header has 6"]
    source.write_text(source.read_text().replace("0x05,0.5\n", ""))
    assert run(source, "--rules", "phase4-founding") == 2
    assert capsys.readouterr().err.replace(f"loadtest: {source}, ", "").splitlines() == [
        "row 3: node: 0xab is there twice; keep one row per node",
        "row 4: score: must be a share from 0 to 1, got 97.5; divide percentages by 100",
        "row 5: stake_cor: must be a whole number of 0 or more, got '-1'",
        "row 5: uptime: must be a plain number such as 0.97, got 'nan'",
        "row 5: earlier_phase: must be yes or no, got 'maybe'",
        "row 6: node: is empty",
        "row 7: stake_cor: must be a whole number of 0 or more, got '4e3'",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "row 1: must be the names of the columns"),
        (b"node,node\n1,2\n", "row 1: must be the names of the columns, each once"),
        (b"score\n0.5\n", "row 1: must be the names of the columns"),
        (b"node\n", "no rows"),
        (b"node\n\xff\n", "not UTF-8 text"),
        (b"node\n" + b"".join(b"n%d\n" % n for n in range(2_001)), "2001 nodes: at most 2000"),
        (b'node,flags\nn1,"open\n', "row 2: not CSV"),
    ],
)
def test_files_that_are_no_tables_of_nodes(
    text: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "nodes.csv"
    source.write_bytes(text)
    assert run(source, "--rules", "phase4-founding") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and line.startswith("loadtest: ")


def test_what_cannot_be_read_or_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere.csv", "--rules", "phase4-founding") == 2
    assert run(FIXTURE, "--rules", "phase9") == 2
    assert run(tmp_path, "--rules", "phase4-founding") == 1  # a folder without snapshots
    (tmp_path / "file").write_text("")
    assert run(FIXTURE, "--rules", "phase4-later", "--csv", tmp_path / "file" / "out.csv") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and "no leaderboard snapshots" in lines[2] and "cannot be written" in lines[3]


def shipped(name: str) -> str:
    return (Path(__file__).parents[2] / "profiles" / "contest" / f"{name}.toml").read_text()


def leaderboards(folder: Path, days: int) -> None:
    """Two leaderboards a day. A answers always; B is idle for an hour in every fourth; C is missing in half of them.

    Pings: A makes each of the 143 that are due in half a day (43,200 / 301), B half of them and begins again in the
    middle, C none.
    """
    rows = []
    for at in range(2 * days):
        now_s = BEGIN_S + at * DAY_S // 2
        for node, idle_s, points in (("0xAA", 60, 10), ("0xBB", 3_600 if at % 4 == 0 else 60, 9), ("0xCC", 60, 8)):
            if node == "0xCC" and at % 2:
                continue
            rows.append(
                NodeSnapshot(
                    source="leaderboard",
                    node=node.lower(),
                    node_as_seen=node,
                    observed_wall_ns=now_s * 10**9,
                    last_active_s=now_s - idle_s,
                    ping_counter={"0xAA": 144 * at + 1, "0xBB": 72 * (at % days) + 1, "0xCC": 7}[node],
                    precommit_points=points * (at + 1),
                    precommit_counter=10 * (at + 1),
                )
            )
    write_part(folder / "snapshots" / "observe-1.parquet", rows, NodeSnapshot)


def test_a_run_folder_with_a_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaderboards(tmp_path, 40)
    registry = tmp_path / "nodes.csv"
    registry.write_text("node,operator,stake_cor\n0xAa,alice,4000\n0xbb,bob,4000\n0xdd,dora,4000\n")
    rules = tmp_path / "seen.toml"
    rules.write_text(shipped("phase4-founding").replace('measure = "pings"', 'measure = "seen"'))
    assert run(tmp_path, "--rules", rules, "--nodes", registry, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    nodes = {node["node"]: node for node in told["nodes"]}
    # 80 leaderboards over 40 days: A stood in all, B was idle in 20 of them, C is missing in 40.
    assert [nodes[name]["uptime"] for name in ("0xaa", "0xbb", "0xcc", "0xdd")] == ["1", "0.75", "0.5", None]
    assert [nodes[name]["precommit_score"] for name in ("0xaa", "0xbb", "0xcc")] == ["1", "0.9", "0.8"]
    assert nodes["0xaa"]["payout"] == "70.00" and nodes["0xaa"]["place"] == 1
    assert nodes["0xbb"]["why"] == "uptime 75 % of 90 %" and nodes["0xbb"]["payout"] == "0.00"
    assert nodes["0xcc"]["why"] == "stake not told" and nodes["0xdd"]["why"] == "uptime not told"
    # 40 days are enough for a window of 30 and not for one of 45: there the uptime is not known.
    assert "window_days" in nodes["0xaa"]["depends_on"] and nodes["0xaa"]["low"] == "0.00"
    assert any("activity in the last 900 s, out of 80 leaderboards over 40 days" in n for n in told["notes"])
    assert any("1 nodes are observed but not in" in note and "0xcc" in note for note in told["notes"])
    assert any("1 nodes are only in" in note and "0xdd" in note for note in told["notes"])


def test_what_the_run_s_own_check_found_is_a_flag_with_its_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaderboards(tmp_path, 40)
    source = tmp_path / "summary.json"

    def flags() -> tuple[dict[str, list[str]], list[str]]:
        assert run(tmp_path, "--rules", "phase4-later", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        return {node["node"]: node["evidence"] for node in told["nodes"]}, told["notes"]

    assert any("not joined, so that no check of claims could flag a node" in note for note in flags()[1])
    line = "0xbb missed 5 of 40, 1 are recorded"
    finding = {
        "check": CLAIMS,
        "verdict": "found",
        "evidence": [line, "0xee missed 2 of 9, 0 are recorded", "and 4 more"],
    }
    source.write_text(
        json.dumps({"findings": [{"check": "other", "verdict": "found", "evidence": ["0xaa x"]}, finding]})
    )
    found, notes = flags()
    assert found == {"0xaa": [], "0xbb": [f"misreporting: {line} ({source})"], "0xcc": []}
    assert sum("0 nodes of the contest have this name" in note for note in notes) == 2  # no line is lost
    source.write_text(json.dumps({"findings": [{**finding, "verdict": "consistent", "evidence": []}]}))
    assert not any(flags()[0].values())
    source.write_text("[]")
    assert any("no findings in it; run `loadtest join` again" in note for note in flags()[1])


def test_uptime_by_pings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaderboards(tmp_path, 40)
    assert run(tmp_path, "--rules", "phase4-founding", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    nodes = {node["node"]: node for node in told["nodes"]}
    # Due between the first and the last of 80 leaderboards: 79 x 43,200 s / 301 s = 11,338. B: 39 steps of 72, then 1
    # after it began again, then 39 more steps of 72: 5,617.
    assert nodes["0xaa"]["uptime"] == "1" and nodes["0xcc"]["uptime"] == "0"
    assert float(nodes["0xbb"]["uptime"]) == pytest.approx(5_617 / 11_338, abs=1e-6)


def test_a_run_of_minutes_says_that_it_cannot_tell_uptime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaderboards(tmp_path, 1)
    assert run(tmp_path, "--rules", "phase4-later", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"]["paid"] == told["low"]["total"] == "0.00" < told["high"]["total"]


def test_a_simulated_contest_can_be_paid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    standings = tmp_path / "standings.csv"
    words = ["--scenario", "small", "--nodes", "8", "--seed", "7", "--contest", "0.2", "--standings", str(standings)]
    assert simulate(words) == 0
    capsys.readouterr()
    assert run(standings, "--rules", "phase4-founding", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["nodes"]) == 8 and all(node["stake_cor"] >= 4000 for node in told["nodes"])
    assert any("columns that are not read: hardware, commit_score, network_tasks" in note for note in told["notes"])
    with pytest.raises(SystemExit) as caught:
        simulate(["--standings", str(standings)])
    assert caught.value.code == 2
    assert simulate([*words[:-1], str(standings / "x.csv")]) == 1


def test_a_row_of_an_owner_that_goes_is_no_uptime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows of many pings: one goes after half of the time, and the sum that is left is more than are due."""
    rows = [
        NodeSnapshot(
            source="leaderboard",
            node="0xaa",
            node_as_seen="0xaa",
            observed_wall_ns=(BEGIN_S + at * DAY_S // 2) * 10**9,
            ping_counter=first + 143 * at,
        )
        for first, boards in ((50_000, 80), (60_000, 40))
        for at in range(boards)
    ]
    write_part(tmp_path / "snapshots" / "observe-1.parquet", rows, NodeSnapshot)
    assert run(tmp_path, "--rules", "phase4-founding", "--json") == 0
    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    # Both made their pings in 39 of the 79 half days between two leaderboards, one of them in 39 more.
    assert float(node["uptime"]) == pytest.approx(3 * 39 * 143 / (2 * 79 * 43_200 / 301), abs=1e-4)


def test_names_of_strangers_are_texts_in_a_spreadsheet_and_inputs_are_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, table = tmp_path / "nodes.csv", tmp_path / "out.csv"
    source.write_text("node,operator,score\n0xaa,=cmd|' /C calc'!A0,0.9\n-5,@SUM(1),0.8\n0xcc,plain,0.7\n")
    before = source.read_text()
    assert run(source, "--rules", "phase4-founding", "--csv", tmp_path / "." / "nodes.csv") == 2
    assert "would be written over" in capsys.readouterr().err and source.read_text() == before
    assert run(source, "--rules", "phase4-founding", "--csv", table) == 0
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert {row["operator"] for row in rows} == {"'=cmd|' /C calc'!A0", "'@SUM(1)", "plain"}
    assert {row["node"] for row in rows} == {"0xaa", "-5", "0xcc"}  # a number is no formula
