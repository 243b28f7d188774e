"""`loadtest import` from the command line: exit codes, what is printed, and bounded memory for a file of any size."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.cli import main
from loadtest.runfolder import read_table

AT_S = 1_750_000_000
GIGABYTE = 10**9
PEAK_KB_MAX = 500_000  # measured: 340 MB for 2.3 million rows, most of it their keys; pyarrow alone takes 120


def history(path: Path) -> Path:
    """As the community's monitoring bot stores it, three days of every quarter of an hour."""
    with sqlite3.connect(path) as base:
        base.execute(
            "CREATE TABLE leaderboard_history (timestamp INTEGER NOT NULL, miner_address TEXT NOT NULL, "
            "precommit_points INTEGER, precommit_counters INTEGER, PRIMARY KEY (timestamp, miner_address))"
        )
        base.executemany(
            "INSERT INTO leaderboard_history VALUES (?, ?, ?, ?)",
            [(AT_S + 900 * at, node, at, at + 1) for at in range(288) for node in ("0xaa", "0xbb")],
        )
    base.close()
    return path


def test_a_history_goes_into_a_folder_and_out_as_a_contest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert main(["import", str(run), str(history(tmp_path / "history.db"))]) == 0
    out = capsys.readouterr()
    assert "576 rows read = 576 stored + 0 in the folder already + 0 mistakes" in out.out and not out.err
    assert "288 leaderboards of 2 nodes, 2025-06-15T15:06:40Z to 2025-06-18T14:51:40Z" in out.out
    assert main(["contest", str(run), "--rules", "phase4-later", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    # The bot keeps no last_active: of uptime and score it says nothing, and nothing is made up.
    assert [(node["uptime"], node["score"], node["precommit_score"]) for node in told["nodes"]] == [
        (None, None, "0.996528")
    ] * 2
    assert any("2 of 2 nodes without a score" in note for note in told["notes"])


def test_exit_codes_and_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, files = tmp_path / "run", tmp_path / "files"
    run.mkdir()
    files.mkdir()
    (files / "a.csv").write_text("miner,ping\n0xA1,1\n0xA1,nan\n" + "0xA2,-1\n" * 30)
    (files / "b.json").write_text(json.dumps({"0xA3": {"ping": 1}}))
    words = ["import", str(run), str(files), "--observed-at", "2025-06-15T15:06:40Z"]
    assert main(words) == 3
    out = capsys.readouterr()
    lines = out.err.splitlines()
    assert lines[0] == f"loadtest: {files}/a.csv, row 3: ping_counter: is NaN"
    assert len(lines) == 21 and "31 mistakes in all, see " in lines[-1]
    account = json.loads(Path(lines[-1].rpartition(" ")[2]).read_text())
    assert len(account["mistakes"]) == 31 and account["stored"] == 2
    assert main([*words, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["already_there"] == 2
    assert main(["import", str(run), str(files / "b.json"), str(tmp_path / "nowhere"), "--observed-at", "mtime"]) == 1
    assert capsys.readouterr().err == f"loadtest: {tmp_path}/nowhere: No such file or directory; give a readable file\n"
    assert {row["node"] for row in read_table(run, "snapshots").to_pylist()} == {"0xa1", "0xa3"}
    assert main(["import", str(tmp_path / "nowhere"), str(files)]) == 1
    assert "no such folder" in capsys.readouterr().err
    for instant in ("yesterday", "17", "2025-06-15T15:06:40"):
        with pytest.raises(SystemExit) as caught:
            main(["import", str(run), str(files), "--observed-at", instant])
        assert caught.value.code == 2


# ru_maxrss of a child begins with what its parent held when it forked, which is more the longer the tests run; VmHWM
# begins anew with the program.
IMPORT_AND_TELL_PEAK = """
import sys
from loadtest.cli import main
code = main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1])
sys.exit(code)
"""


def import_peak_kb(run: Path, path: Path) -> tuple[int, str, int]:
    """Exit code, output and peak memory of an import in a process of its own."""
    words = ["import", str(run), str(path), "--observed-at", str(AT_S)]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_TELL_PEAK, *words], capture_output=True, text=True, timeout=600
    )
    *said, peak_kb = (done.stderr + done.stdout).splitlines()
    return done.returncode, "\n".join(said), int(peak_kb)


@pytest.mark.long
def test_a_gigabyte_of_json_is_read_in_bounded_memory(tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "big.json"
    run.mkdir()
    pad = "x" * 1_900
    with path.open("w") as file:
        mark, at = "[", 0
        while file.tell() < GIGABYTE:
            rows = [
                f'{{"timestamp": {AT_S + at}, "miner": "0x{node:040x}", "precommitPoint": {at}, "note": "{pad}"}}'
                for node in range(500)
            ]
            file.write(mark + ",\n".join(rows))
            mark, at = ",\n", at + 1
        file.write("]")
    code, out, peak_kb = import_peak_kb(run, path)
    assert code == 0 and f"{500 * at:,} rows read = {500 * at:,} stored" in out, out
    assert peak_kb < PEAK_KB_MAX


@pytest.mark.long
def test_a_gigabyte_in_one_element_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "big.json"
    run.mkdir()
    with path.open("w") as file:
        file.write('{"0xA1": {"note": "')
        while file.tell() < GIGABYTE:
            file.write("x" * 10**6)
        file.write('"}}')
    code, out, peak_kb = import_peak_kb(run, path)
    assert code == 3 and "line 1: an element of more than 32 MB" in out
    assert peak_kb < PEAK_KB_MAX
