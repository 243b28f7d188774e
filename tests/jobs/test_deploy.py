"""The examples in deploy/ pass the checkers of those who read them. None of them was started: see deploy/README.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.swarm.weblogin import PASSWORD_ENV, USER_ENV

REPO = Path(__file__).resolve().parents[2]
DEPLOY = REPO / "deploy"
CHECK_S = 60


def check(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=CHECK_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tool(name: str) -> str:
    """A checker of the system: where it must be (CI=true) its absence is a failure."""
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    return str(found)


def test_systemd_units() -> None:
    said = check(
        tool("systemd-analyze"),
        "verify",
        *sorted(p for p in (DEPLOY / "systemd").iterdir() if p.suffix in (".service", ".timer")),
    )
    assert "loadtest" not in said, "systemd warns about what it does not know and goes on"


def test_kubernetes() -> None:
    validator = Path(sys.executable).parent / "kubernetes-validate"
    said = check(validator, "--strict", DEPLOY / "kubernetes" / "loadtest.yaml")
    assert said.count("passed") == 4


def test_compose() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    check(checker, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose" / "compose.yaml")


def test_the_shell_script() -> None:
    check("sh", "-n", DEPLOY / "ssh" / "workers.sh")


def test_every_option_of_the_examples_exists() -> None:
    """The checkers know nothing of what we start: each option is one of Locust's or ours."""
    listed = check(sys.executable, "-m", "locust", "-f", REPO / "locustfile.py", "--help")
    parsers = ("swarm/options.py", "cli.py", "jobs/nightly.py", "jobs/prune.py")
    ours = "".join((REPO / "loadtest" / path).read_text() for path in parsers)
    known = set(re.findall(r"--[a-z][a-z-]+", listed)) | set(re.findall(r'"(--[a-z-]+)"', ours))
    used: set[str] = set()
    for path in [*DEPLOY.glob("systemd/*"), DEPLOY / "compose/compose.yaml", *DEPLOY.glob("kubernetes/*")]:
        lines = [line for line in path.read_text().splitlines() if not line.strip().startswith("#")]
        used |= set(re.findall(r"(?<=[\s\[,])--[a-z][a-z-]+", "\n".join(lines)))
    assert len(used) > 8 and used <= known, used - known


def test_no_example_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert not re.search(rf"({PASSWORD_ENV}|{USER_ENV}|API_KEY)\s*[=:]\s*\S", path.read_text()), path
