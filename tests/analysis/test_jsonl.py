"""requests.jsonl: a line for each turn, the joined columns by their names, each of them documented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from loadtest.analysis import jsonl
from loadtest.analysis.join import join_run
from loadtest.runfolder import RunFolderError

from .run_factory import NODE_A, failed, task, turn, unsent, write_run

DOCS = Path(__file__).resolve().parents[2] / "docs" / "requests-jsonl.md"


def joined(folder: Path) -> Path:
    rows = [turn(0, error_text='"\n\u2028'), failed(1, "server_error"), unsent(2, "dropped"), turn(3, stream=False)]
    run = write_run(folder, rows, [task("0", [NODE_A], ["text0"])])
    join_run(run)
    return run


def test_each_turn_is_a_line_with_the_joined_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BATCH_ROWS", 3)
    run = joined(tmp_path)
    text = jsonl.write_jsonl(run).read_bytes().decode()
    assert text.count("\n") == 4 and text.endswith("}\n")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    table = pq.read_table(run / "joined/requests.parquet")
    assert [list(row) for row in found] == [table.column_names] * 4
    assert [(r["seq"], r["outcome"], r["node"], r["sent_ns"] is None) for r in found] == [
        (0, "ok", NODE_A, False),
        (1, "server_error", None, False),
        (2, "dropped", None, True),
        (3, "ok", None, False),
    ]
    assert found[0]["ttft_ms"] == 100 and found[1]["ttft_ms"] is None and found[0]["error_text"] == '"\n\u2028'
    assert found[0]["scheduled_ns"] == table["scheduled_ns"][0].as_py()


def test_every_field_is_documented_and_nothing_else(tmp_path: Path) -> None:
    run = joined(tmp_path)
    rows = [line.split("|")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(pq.read_schema(run / "joined/requests.parquet").names)


def test_a_folder_that_is_not_joined_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path, [turn(0)])
    with pytest.raises(RunFolderError, match="not joined yet"):
        jsonl.write_jsonl(run)
    assert [path.name for path in run.iterdir() if "jsonl" in path.name] == []
