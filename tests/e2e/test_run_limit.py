"""A swarm whose time is over is ended whole: master, workers, collector and observer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest
from conftest import Network, wait_for

from loadtest.jobs.swarm import locustfile, run_swarm

pytestmark = pytest.mark.long


def test_nothing_of_a_run_outlives_its_limit(tmp_path: Path, network: Network) -> None:
    """A load of an hour stands for a swarm that hangs."""
    text = (locustfile().parent / "profiles" / "smoke.toml").read_text()
    profile = tmp_path / "endless.toml"
    profile.write_text(text.replace("duration_s = 10.0", "duration_s = 3600.0"))
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    with pytest.raises(subprocess.TimeoutExpired):
        run_swarm(str(profile), network.url, 1, tmp_path / "runs", "one", [], limit_s=8.0)

    def left() -> list[psutil.Process]:
        return [each for each in psutil.Process().children(recursive=True) if each.pid not in before]

    wait_for("the processes of the run to end", lambda: not left())
    assert (tmp_path / "runs" / "one" / "manifest.json").exists(), "it had begun"
