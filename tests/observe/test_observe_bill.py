"""Bills that others wrote: exact amounts, every bad line named, double charges kept, repeated exports not."""

from __future__ import annotations

import json
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.cli import main
from loadtest.observe.bill import BillImport, smallest_units
from loadtest.runfolder import read_table

NOW_NS = 1_760_000_000 * 10**9
HEADER = "session_id,task_id,amount,timestamp,completion_tokens\n"


def imported(run: Path, *texts: str, decimals: int = 0) -> dict[str, Any]:
    run.mkdir(exist_ok=True)
    work = BillImport(run, NOW_NS, decimals)
    for number, text in enumerate(texts):
        path = run.parent / f"bill-{number}"
        path.write_text(text)
        work.add(path)
    account = work.finish()
    assert account["read"] == account["stored"] + account["already_there"] + account["mistaken"]
    return account


def lines_of(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(run, "charges").to_pylist()
    return found


def test_shapes_of_a_bill(tmp_path: Path) -> None:
    table = HEADER + "11,4,1000000000000000001,1750000000,40\n"
    rows = json.dumps([{"sessionId": 11, "taskId": 5, "cost": "7", "input_tokens": 3}])
    inside = json.dumps({"data": [{"session": "11", "request_id": "r1-0-6", "fee": 9, "txHash": "0xab", "gas": 1}]})
    account = imported(tmp_path / "run", table, rows, inside)
    assert account["stored"] == 3 and account["sessions"] == 1 and account["amount"] == str(10**18 + 1 + 7 + 9)
    assert list(account["columns_not_read"].values()) == [["gas"]]
    first, second, third = lines_of(tmp_path / "run")
    assert first["amount"] == "1000000000000000001" and first["charged_wall_ns"] // 10**9 == 1_750_000_000
    assert (second["task_id"], second["prompt_tokens"], second["charged_wall_ns"]) == ("5", 3, None)
    assert (third["task_id"], third["client_reference"], third["charge_id"]) == (None, "r1-0-6", "0xab")


def test_a_charge_twice_in_one_file_is_two_and_in_two_exports_one(tmp_path: Path) -> None:
    run, once = tmp_path / "run", "11,4,5,1750000000,40\n"
    account = imported(run, HEADER + once + once, HEADER + once)
    assert (account["stored"], account["already_there"]) == (2, 1)
    again = BillImport(run, NOW_NS + 1, 0)
    again.add(tmp_path / "bill-0")
    assert again.finish()["already_there"] == 2 and len(lines_of(run)) == 2


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        (",4,5,1750000000,40", "no session in it: a column named session_id"),
        ("11,,5,1750000000,40", "no task in it: a column named task_id or client_reference"),
        ("11,4,,1750000000,40", "no amount in it: a column named amount"),
        ("11,4,-5,1750000000,40", "amount: is negative (-5)"),
        ("11,4,nan,1750000000,40", "amount: must be a number, got 'nan'"),
        ("11,4,9e999990,1750000000,40", "amount: must be a number, got '9e999990'"),
        ("11,4,1e9999999999,1750000000,40", "amount: must be a number, got '1e9999999999'"),
        ("11,4,1e-2000000,1750000000,40", "amount: must be a number, got '1e-2000000'"),
        ("11,4,0.5,1750000000,40", "amount: 0.5 has more than 0 digits after the point; give --decimals"),
        ("11,4,5,1750000000000,40", "charged at: 1750000000000 is in ms, the file began in s"),
        ("11,4,5,1770000000,40", "charged 10,000,001 s in the future"),
        ("11,4,5,1750000000,-1", "completion_tokens: is negative (-1)"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, mistake: str) -> None:
    account = imported(tmp_path / "run", f"{HEADER}11,1,1,1750000000,4\n{line}\n11,2,1,1750000000,4\n")
    assert account["stored"] == 2
    assert account["mistakes"] == [f"{tmp_path}/bill-0, row 3: {mistake}"]


def test_floats_are_not_money(tmp_path: Path) -> None:
    account = imported(tmp_path / "run", json.dumps([{"session": 1, "task": 2, "amount": 0.1}, [3]]), decimals=18)
    assert account["stored"] == 0
    assert "amount: 0.1 is not exact; write amounts as whole numbers or as text" in account["mistakes"][0]
    assert account["mistakes"][1].endswith("expected a line of a bill, got a list of 1")


@given(st.integers(0, 10**30), st.integers(0, 18))
def test_amounts_are_exact(units: int, decimals: int) -> None:
    text = format(Decimal(units).scaleb(-decimals, Context(prec=60)), "f")
    assert smallest_units(text, decimals) == units


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, bill = tmp_path / "run", tmp_path / "bill.csv"
    run.mkdir()
    bill.write_text(HEADER + "11,4,0.25,1750000000,40\n")
    words = ["import", str(run), str(bill), "--charges"]
    assert main(words) == 3
    assert "give --decimals" in capsys.readouterr().err
    assert main([*words, "--decimals", "18"]) == 0
    out = capsys.readouterr().out
    assert "new charges of 1 sessions: 250000000000000000 of the smallest unit" in out
    with pytest.raises(SystemExit) as caught:
        main([*words, "--decimals", "99"])
    assert caught.value.code == 2
    assert main(["import", str(tmp_path / "nowhere"), str(bill), "--charges"]) == 1
    assert "no such folder" in capsys.readouterr().err
