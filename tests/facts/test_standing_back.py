"""Processes that stand back: whatever priority their parent had, load runs before them."""

from __future__ import annotations

import os
import subprocess
import sys

STANDS_BACK = """
import os
from loadtest.processes import stand_back
stand_back()
print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))
"""


def standing(before: str) -> list[int]:
    """Policy and niceness of a child that stands back after `before`."""
    told = subprocess.run(
        [sys.executable, "-c", f"import os\n{before}\n{STANDS_BACK}"], capture_output=True, text=True, check=True
    )
    return [int(word) for word in told.stdout.split()]


def test_who_stands_back_leaves_a_real_time_priority_behind() -> None:
    real_time = "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))" if os.geteuid() == 0 else ""
    assert standing(real_time) == [os.SCHED_OTHER, 10]


def test_who_is_further_back_stays_there() -> None:
    assert standing("os.nice(15)")[1] == min(19, os.nice(0) + 15)
