"""The steps of .github/workflows/nightly.yml, and how GitHub runs them: in order, by bash, some of them always."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

REPO = Path(__file__).resolve().parents[1]
WORKFLOW = REPO / ".github" / "workflows" / "nightly.yml"


class Step(NamedTuple):
    """One step; `run` is "" for an action of others."""

    name: str
    run: str
    env: dict[str, str]
    always: bool


class Done(NamedTuple):
    """A step that was run: its exit code and what it said."""

    name: str
    code: int
    said: str


def read_workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(WORKFLOW.read_text())
    return loaded


def read_steps() -> list[Step]:
    steps = read_workflow()["jobs"]["night"]["steps"]
    return [
        Step(
            step.get("name") or step["uses"].partition("@")[0],
            step.get("run", ""),
            {name: str(value) for name, value in step.get("env", {}).items()},
            step.get("if") == "always()",
        )
        for step in steps
    ]


def run_steps(settings: Mapping[str, str], seconds: float) -> list[Done]:
    """Run every `run:` step in the repository as GitHub would; after one that fails only those with `always()`.

    The environment is the workflow's own, with `settings` in place of its expressions; a missing one is an error.
    """
    own = {name: str(value) for name, value in read_workflow()["env"].items()}
    environment = {**os.environ, **own, **settings}
    done: list[Done] = []
    for step in read_steps():
        if not step.run or (any(each.code for each in done) and not step.always):
            continue
        here = {**environment, **{name: settings[name] for name in step.env}}
        unset = [name for name in {**own, **step.env} if "${{" in here[name]]
        assert not unset, f"settings that the test must give: {unset}"
        ended = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step.run],
            cwd=REPO,
            env=here,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        done.append(Done(step.name, ended.returncode, ended.stdout))
    return done
