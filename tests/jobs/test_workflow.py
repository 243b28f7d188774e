"""The nightly workflow: valid by the vendored schema, pinned, and nothing in its commands is decided by others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nightly_workflow import WORKFLOW, Step, read_steps

from loadtest.jobs.nightly import main as nightly
from loadtest.jobs.prune import main as prune


def test_the_schema_of_workflows_accepts_it() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    command = [checker, "--builtin-schema", "vendor.github-workflows", WORKFLOW]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_is_pinned_to_a_commit() -> None:
    used = re.findall(r"uses: (\S+)", WORKFLOW.read_text())
    assert len(used) == 5
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+(/\w+)?@[0-9a-f]{40}", action), action


def test_settings_reach_the_commands_through_the_environment_only() -> None:
    """An expression in a command is pasted into it: whoever may set a variable could run anything."""
    steps = read_steps()
    assert [step.name for step in steps if step.run] == ["Install", "Night", "Summary", "Prune"]
    assert not [step.name for step in steps if "${{" in step.run]
    keyed = [step.name for step in steps if any("secrets." in value for value in step.env.values())]
    assert keyed == ["Night"], "no other step has the key"


def test_what_must_be_kept_is_kept_also_after_a_failed_night() -> None:
    always = {step.name for step in read_steps() if step.always}
    assert always == {"Summary", "Prune", "Save history and baseline", "Upload the night"}


@pytest.mark.parametrize(("command", "main"), [("nightly", nightly), ("prune", prune)])
def test_every_option_of_the_workflow_exists(command: str, main: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(main)
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    (step,) = [step for step in read_steps() if f"loadtest {command}" in step.run]
    used = set(re.findall(r"--[a-z][a-z-]+", step.run))
    assert used and used <= known


@pytest.mark.parametrize(
    ("nights", "shown"),
    [([], "did not begin"), (["2026-11-25"], "2026-11-25 "), (["2026-11-25", "2026-11-25.02"], "2026-11-25.02 ")],
)
def test_the_summary_is_that_of_the_newest_night(tmp_path: Path, nights: list[str], shown: str) -> None:
    for name in nights:
        (tmp_path / "nights" / name).mkdir(parents=True)
        (tmp_path / "nights" / name / "night.md").write_text(f"night {name} \n")
    (step,) = [step for step in read_steps() if step.name == "Summary"]
    environment = {**os.environ, "NIGHTLY_DIR": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    subprocess.run(["bash", "-eo", "pipefail", "-c", step.run], env=environment, timeout=60, check=True)
    assert shown in (tmp_path / "summary").read_text()


def test_a_step_reads_as_github_reads_it() -> None:
    assert read_steps()[0] == Step("actions/checkout", "", {}, False)
