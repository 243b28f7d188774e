"""The README is part of the contract: what it names exists, and what exists is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import fitness
from loadtest.client.routes import ROUTES
from loadtest.traffic.profile import load_profile, profile_names

REPO = Path(__file__).resolve().parent.parent
README = (REPO / "README.md").read_text()
COMMANDS = (
    *("demo", "simulate", "run", "workers", "plan", "profile", "check", "observe", "collect"),
    *("import", "join", "report", "accuracy", "trace", "contest"),
    *("compare", "gate", "capacity", "nightly", "prune", "export"),
)


def test_every_profile_is_in_the_readme() -> None:
    table = re.findall(r"^\| `([\w-]+)` \|", README.partition("| profile |")[2].partition("\n\n")[0], re.MULTILINE)
    assert sorted(table) == sorted(profile_names())


def test_the_kinds_of_members_are_counted_right() -> None:
    words = {8: "eight", 9: "nine", 10: "ten"}
    assert f"{words[len(load_profile('community').personas)]} kinds of members" in README


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_in_the_readme(route: str) -> None:
    assert f'`"{route}"`' in README


@pytest.mark.parametrize(
    "bound",
    [
        f"{fitness.SEND_LAG_MS_P99_MAX:.0f} ms, or {100 * fitness.SEND_LAG_SHARE_OF_TTFT_MAX:.0f} % of the median TTFT",
        f"(p99 of the arrival bound) | {fitness.RECEIVE_ERROR_MS_P99_MAX:.0f} ms",
        f"ran late (p99) | {fitness.LOOP_OVERSHOOT_MS_P99_MAX:.0f} ms",
        f"CPU | {100 * fitness.WORKER_CPU_SHARE_MAX:.0f} % of its core",
        f"arrivals were dropped | {100 * fitness.DROPPED_SHARE_MAX:.1f} %",
        f"known only roughly | {fitness.CLOCK_BOUND_MS_MAX:.0f} ms",
    ],
)
def test_the_bounds_of_fitness_are_the_code_s(bound: str) -> None:
    assert bound in README


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", command, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr
    options = re.findall(r"^  (-\S+.*)$", done.stdout, re.MULTILINE)
    assert done.stdout.startswith("usage: loadtest"), done.stdout
    assert len(done.stdout.splitlines()) >= 5 and options


def test_the_list_of_commands_is_whole() -> None:
    done = subprocess.run([sys.executable, "-m", "loadtest", "--help"], capture_output=True, text=True, timeout=60)
    listed = re.findall(r"^    ([a-z]+)  ", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_paths_of_the_readme_exist() -> None:
    for path in re.findall(r"[`(]((?:docs|loadtest|profiles)/[\w./-]*)[`)]", README):
        assert (REPO / path).exists(), path


def test_each_record_of_a_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name.split("-")[0] for path in sorted((REPO / "docs" / "adr").glob("*.md"))]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
