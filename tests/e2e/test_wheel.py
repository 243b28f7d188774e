"""The wheel is whole: from an environment of its own, away from the repository, it finds locustfile and profiles."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import Network, assert_complete, ended

from loadtest.jobs.swarm import free_port

pytestmark = pytest.mark.long
REPO = Path(__file__).resolve().parents[2]
BUILD_S = 120


def run(*command: str | Path, where: Path) -> str:
    # Neither the repository nor what points at it may be found by the way.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=where, env=clean, capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def installed(folder: Path) -> Path:
    """A fresh environment with the wheel; what it depends on is lent from ours, of which only this package is left out
    (a .pth file in a lent folder, such as that of an editable install, is not followed)."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist", where=REPO)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel, where=folder)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_a_run_from_the_wheel_alone(network: Network, tmp_path: Path) -> None:
    python = installed(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = python.parent / "loadtest"
    locustfile = Path(run(command, "workers", "--locustfile", where=elsewhere))
    assert locustfile.is_relative_to(tmp_path / "venv") and locustfile.is_file()
    assert "pip install router_loadtest-" in run(command, "workers", where=elsewhere)
    (elsewhere / "nodes.csv").write_text("node,score\n0xab,0.9\n")  # the rules of contests are in it too
    assert "1 nodes" in run(command, "contest", "nodes.csv", "--rules", "phase4-founding", where=elsewhere)
    os.chdir(elsewhere)
    port = str(free_port())
    options = ["--headless", "--processes", "2", "--master-bind-port", port, "--master-port", port]
    options += ["--profile", "smoke", "-t", "5s", "--host", network.url, "--runs-dir", str(tmp_path / "runs")]
    try:
        result = ended([str(python), "-m", "locust", "-f", str(locustfile), *options], tmp_path / "runs")
    finally:
        os.chdir(REPO)
    assert result.code in (0, 3, 4)
    assert_complete(result, workers=2)
