"""What tests of the import share: rows as others store them, and an import whose account is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loadtest.observe.importing import Import
from loadtest.runfolder import read_table

AT_S = 1_750_000_000
END = 999_999_999  # of the second in which it was observed: it may have been its end
SECOND = 10**9


def board_row(miner: str, at: int = 0, **changes: Any) -> dict[str, Any]:
    """As `/leaderboard` writes it, `at` quarters of an hour after the first."""
    row = {
        "miner": miner,
        "node_id": "n-1",
        "last_active": AT_S + 900 * at - 60,
        "ping_counter": 3 + at,
        "precommitPoint": 8 + at,
        "precommitCounter": 10 + at,
        "commitPoint": 0,
        "commitCounter": 0,
    }
    return {**row, **changes}


def imported(
    run: Path, *files: Path, at_ns: int | None = None, series: str | None = None, now_s: int = AT_S + 10**7
) -> dict[str, Any]:
    run.mkdir(exist_ok=True)
    work = Import(run, now_s * SECOND + len([*run.glob("imports/*")]))  # parts are named by the instant
    for path in files:
        work.add(path, at_ns, series)
    account = work.finish()
    taken = account["stored"] + account["already_there"] + account["described_only"]
    assert account["read"] == taken + account["mistaken"]
    assert json.loads(Path(account["account"]).read_text())["mistakes"] == account["mistakes"]
    return account


def rows_of(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(run, "snapshots").to_pylist()
    return found


def short(account: dict[str, Any], folder: Path) -> list[str]:
    return [line.replace(f"{folder}/", "") for line in account["mistakes"]]


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path
