"""The curl lines of the README, run as they stand there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[2] / "README.md"
LINES = [line for line in README.read_text().splitlines() if line.startswith("curl ")]


def test_there_are_examples() -> None:
    assert len(LINES) == 7


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("line", LINES)
def test_an_example_does_what_it_shows(simulator: Any, line: str) -> None:
    assert "http://127.0.0.1:5010/" in line
    command = line.replace(":5010", f":{simulator.port}").replace("curl ", "curl --fail --max-time 20 ", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    if '"stream": true' in line:
        assert done.stdout.startswith("data: {")
        assert done.stdout.endswith("data: [DONE]\n\n")
    else:
        assert json.loads(done.stdout)
