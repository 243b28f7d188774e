"""The master's look at live.json: read when it was replaced, aged by its own instant, none where it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from made_standing import made_observed

from loadtest import observed, runfolder
from loadtest.clock import wall_ns
from loadtest.swarm.standing import LiveFile


def written(folder: Path, text: str) -> None:
    runfolder.write_text(folder / observed.FILE, text)


def test_it_is_read_once_and_ages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LiveFile(tmp_path)
    assert file.look() == (None, None)
    ten_s_ago = wall_ns() - 10_000_000_000
    written(tmp_path, msgspec.json.encode(made_observed(written_wall_ns=ten_s_ago)).decode())
    found, age_s = file.look()
    assert found == made_observed(written_wall_ns=ten_s_ago) and age_s is not None and 10 <= age_s < 60
    reads: list[Path] = []
    monkeypatch.setattr(observed, "read", lambda folder: reads.append(folder))
    assert file.look()[0] is found and reads == [], "an unchanged file is not read again"
    written(tmp_path, "{")
    assert file.look() == (None, None) and reads == [tmp_path]


def test_a_damaged_file_is_none_until_the_next_one(tmp_path: Path) -> None:
    file = LiveFile(tmp_path)
    written(tmp_path, "[1, 2")
    assert file.look() == (None, None)
    written(tmp_path, msgspec.json.encode(made_observed()).decode())
    os.utime(tmp_path / observed.FILE, ns=(1, 1))
    assert file.look()[0] == made_observed()
