"""The short form of `benchmarks/soak.py`: a minute of load, nearly, leaves no descriptors open and no memory behind."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOAK = Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py"
SECONDS = 50
ENDS_S = 240


@pytest.mark.long
def test_a_minute_of_load(tmp_path: Path) -> None:
    command = [sys.executable, str(SOAK), "--minutes", str(SECONDS / 60), "--workers", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS_S, stdin=subprocess.DEVNULL)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told["processes"]) == {"master", "collector", "observer", "simulator", "worker 0", "worker 1"}
    assert told["grown"] == [] and told["account"]["balanced"]
    # Ten requests and more a second: one descriptor left open in thirty of them would be 15 more.
    assert told["account"]["outcomes"]["ok"] > 10 * SECONDS
    for one in told["processes"].values():
        assert one["last_descriptors"] <= one["first_descriptors"] + 8


@pytest.mark.parametrize(
    ("mb_a_minute", "descriptors_a_minute", "grown"),
    [(0.0, 0.0, False), (3.0, 0.0, False), (30.0, 0.0, True), (0.0, 20.0, True)],
)
def test_what_counts_as_growth(mb_a_minute: float, descriptors_a_minute: float, grown: bool) -> None:
    """One minute, looked at twice a second; the judged part is what follows the first 12 s."""
    soak: dict[str, Any] = runpy.run_path(str(SOAK))
    series = [
        soak["Look"](i * 500_000_000, 0.01 * i, 100 + mb_a_minute * i / 120, 20 + int(descriptors_a_minute * i / 120))
        for i in range(121)
    ]
    found = soak["growth"](series, 0, 60.0)
    assert found["grown"] is grown
    assert found["slope_mb_per_minute"] == pytest.approx(mb_a_minute, abs=1e-6)
