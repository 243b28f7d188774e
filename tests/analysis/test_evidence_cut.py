"""What the checks see of a run that is too long to be looked at whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from loadtest.analysis.evidence import Evidence
from loadtest.analysis.frames import to_frame
from loadtest.runfolder import read_table

from .run_factory import NODE_A, NODE_B, task, turn, write_run


def test_of_a_long_run_only_look_ups_of_the_turns_looked_at_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look-up by its id, by our reference or of nobody's task; the checks see the same as with all of them."""
    rows = [turn(i, 6 + i, task_id=None if i % 3 == 0 else str(2 * i)) for i in range(40)]
    tasks = [task(str(2 * i), [NODE_A], [f"text{i}"], client_reference=f"r1-0-{i}") for i in range(40)]
    tasks += [task(str(number), [NODE_B], ["y"]) for number in range(1, 80, 2)]  # ids between ours
    run = write_run(tmp_path, rows, tasks)
    monkeypatch.setattr("loadtest.analysis.evidence.ROWS_MAX", 12)
    found = Evidence.of(run)
    assert found.is_cut and len(found.requests) == 12
    assert len(found.tasks) == 12 + 40
    whole = replace(found, tasks=to_frame(read_table(run, "tasks")))
    pd.testing.assert_frame_equal(found.own_tasks, whole.own_tasks)
    pd.testing.assert_frame_equal(found.strange_tasks, whole.strange_tasks)
    assert len(found.own_tasks) == 12 and len(found.strange_tasks) > 5
