"""Imported snapshots are joined as polled ones are, at the pace of whoever stored them, and never look ahead."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from loadtest.analysis.frames import JOINED_REQUESTS, read_joined
from loadtest.analysis.join import join_run
from loadtest.observe.importing import Import
from loadtest.runfolder import read_manifest

from .run_factory import NODE_A, task, turn, wall, write_run

SENT_S = 20.001
SECOND = 10**9


def history(folder: Path, seconds: list[int], unit: int = 1) -> Path:
    """A leaderboard a row: of 100 precommits, so many per cent as its second says in its last two digits."""
    path = folder / "history.json"
    rows = [
        {
            "timestamp": at * unit,
            "miner": NODE_A.upper().replace("X", "x"),
            "precommitPoint": at % 100,
            "precommitCounter": 100,
        }
        for at in seconds
    ]
    path.write_text(json.dumps(rows))
    return path


def test_an_imported_snapshot_of_the_same_second_is_not_known_yet(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [turn(1, 20)], [task("1", [NODE_A], ["text1"])], [])
    sent_s = wall(SENT_S) // SECOND
    work = Import(run, wall(100))
    work.add(history(tmp_path, [sent_s - 40, sent_s - 20, sent_s, sent_s + 20]), None, None)
    assert work.finish()["usual_period_s"] == 20
    figures = join_run(run)
    row = read_joined(run / JOINED_REQUESTS).iloc[0]
    # The logger cut the second off: its snapshot may have been taken after our request of the same second.
    assert row["reputation"] == (sent_s - 20) % 100
    assert row["snapshot_age_s"] == pytest.approx((wall(SENT_S) - (sent_s - 19) * SECOND) / SECOND, abs=1e-6)
    # Two periods of the history, not of our own polls (5 s), and the grace time.
    assert figures["join"]["tolerance_s"] == 2 * 20 + 2
    assert read_manifest(run)["imported"] == {"period_s": 20.0}


def test_without_the_history_nothing_is_joined(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [turn(1, 20)], [task("1", [NODE_A], ["text1"])], [])
    join_run(run)
    assert pd.isna(read_joined(run / JOINED_REQUESTS).iloc[0]["reputation"])
