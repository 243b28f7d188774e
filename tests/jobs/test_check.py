"""`loadtest check` against routers with one bad habit each: the habit shows in its row and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_router import Habits, fake_router

from loadtest.cli import main
from loadtest.jobs.check import Checked, check, check_target, exit_code
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.probe import REQUESTS_MAX
from loadtest.jobs.verdicts import Level, Row
from loadtest.processes import end
from loadtest.records import Target

KEY = "key-of-the-test-7d1f"
NOBODY = "http://127.0.0.1:9"  # the discard port


def checked(habits: Habits, **fields: Any) -> Checked:
    with fake_router(habits) as url:
        settings = {"name": "t", "route": "cortensor", "url": url, "sessions": ("11",), "timeout_s": 20.0} | fields
        return check_target(Target(**settings))


def row(one: Checked, name: str) -> Row:
    (found,) = [row for row in one.rows if row.check == name]
    return found


def test_a_good_router_passes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_KEY", KEY)
    one = checked(Habits(key=KEY, session={"id": "11", "active": True, "balance": 12.5}), key_env="CHECK_KEY")
    assert {row.check: row.level for row in one.rows} == dict.fromkeys(
        [
            "reach", "key", "wrong key", "info", "answer", "stream", "end marker", "cancel", "usage", "body limit",
            "no such session", "malformed", "balance", "keep-alive",
        ],
        Level.PASS,
    )  # fmt: skip
    assert exit_code([one]) == 0
    assert one.requests <= REQUESTS_MAX
    assert KEY not in str(one.rows)


@pytest.mark.parametrize(
    ("habits", "check", "level", "seen"),
    [
        (Habits(headers_first=False, block=1000), "stream", Level.FAIL, "a proxy holds the answer back"),
        (Habits(block=1000), "stream", Level.FAIL, "all text at the end"),
        (Habits(block=10, gap_s=0.005), "stream", Level.FAIL, "blocks of about"),
        (Habits(gap_s=0.03), "stream", Level.PASS, "40 pieces of text in "),
        (Habits(pieces=2), "stream", Level.WARN, "nearly whole"),
        (Habits(plain_json=True), "stream", Level.FAIL, "JSON in one piece"),
        (Habits(plain_json=True), "end marker", Level.CANNOT_TELL, "no stream"),
        (Habits(plain_json=True), "cancel", Level.CANNOT_TELL, "nothing left"),
        (Habits(key=None), "wrong key", Level.WARN, "taken"),
        (Habits(key=KEY), "key", Level.FAIL, "CHECK_KEY is not set"),
        (Habits(end="finish_reason"), "end marker", Level.WARN, "no [DONE]"),
        (Habits(end="nothing"), "answer", Level.FAIL, "truncated no_end_marker"),
        (Habits(end="nothing"), "end marker", Level.FAIL, "neither"),
        (Habits(usage=None), "usage", Level.WARN, "not told"),
        (Habits(usage=0), "usage", Level.WARN, "0 completion tokens"),
        (Habits(close=True), "keep-alive", Level.WARN, "0 of"),
        (Habits(dies_of_cancel=True), "cancel", Level.FAIL, "HTTP 500"),
        (Habits(after_cancel_s=1.5), "cancel", Level.WARN, "first text of the next request"),
        (Habits(body_max=1 << 20), "body limit", Level.PASS, "413"),
        (Habits(body_reset=True), "body limit", Level.WARN, "no answer: reset"),
        (Habits(session_404=False), "no such session", Level.WARN, "HTTP 200"),
        (Habits(mistakes="html"), "no such session", Level.WARN, "HTML"),
        (Habits(mistakes="500"), "malformed", Level.WARN, "HTTP 500"),
        (Habits(info_status=503), "info", Level.WARN, "HTTP 503"),
        (Habits(session={"id": "11"}), "balance", Level.CANNOT_TELL, "tells none"),
        (Habits(session={"balance": 0}), "balance", Level.WARN, "balance is 0"),
        (Habits(session={"active": False}), "balance", Level.WARN, "not active"),
        (Habits(silent=True), "answer", Level.FAIL, "no answer: eof"),
    ],
)
def test_a_bad_habit_shows_in_its_row(habits: Habits, check: str, level: Level, seen: str) -> None:
    one = checked(habits, key_env="CHECK_KEY")
    found = row(one, check)
    assert (found.level, seen in found.seen) == (level, True), found
    assert exit_code([one]) == (3 if any(row.level is Level.FAIL for row in one.rows) else 0)
    if level is not Level.PASS and check not in ("end marker", "cancel", "balance"):
        assert found.cost, "what is not as it should be costs something"


def test_a_refused_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_KEY", "wrong-" + KEY)
    one = checked(Habits(key=KEY), key_env="CHECK_KEY")
    assert row(one, "key").level is Level.FAIL
    assert KEY not in str(one.rows), "the router repeats what it was given"
    assert one.requests == 2


def test_an_openai_target_lists_models_and_asks_for_a_model_that_is_not_there() -> None:
    one = checked(Habits(), route="openai-chat", model="m2", sessions=())
    assert "1 models, m1; 'm2' is not among them" in row(one, "info").seen
    assert row(one, "balance").level is Level.CANNOT_TELL
    assert row(one, "no such model").level is Level.WARN


def test_a_target_that_does_not_stream() -> None:
    one = checked(Habits(), stream=False)
    assert row(one, "stream").level is Level.CANNOT_TELL
    assert row(one, "keep-alive").level is Level.PASS


def test_the_budget_of_requests_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.jobs.probe.REQUESTS_MAX", 3)
    one = checked(Habits())
    assert one.requests == 3
    assert row(one, "the rest").level is Level.CANNOT_TELL


def test_the_budget_of_time_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.jobs.probe.TARGET_S_MAX", 0.5)
    one = checked(Habits(gap_s=0.05))
    assert one.rows[-1].check == "the rest"


def test_exit_codes_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    profile = Path(__file__).parents[2] / "profiles" / "smoke.toml"
    one_target = tmp_path / "one.toml"
    head, first, *rest = profile.read_text().split("[[target]]")
    one_target.write_text("[[target]]".join([head, first]) + "[[persona]]" + rest[-1].partition("[[persona]]")[2])
    with fake_router(Habits(end="finish_reason")) as url:
        assert check(url, str(one_target), [], as_json=True) == 0
        told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 0 and [target["target"] for target in told["targets"]] == ["cortensor-stream"]
    levels = {each["check"]: each["level"] for each in told["targets"][0]["checks"]}
    assert levels["end marker"] == "warn"

    assert check(NOBODY, str(one_target), [], as_json=False) == 1
    assert "nothing can be measured" in capsys.readouterr().out
    with fake_router(Habits(plain_json=True)) as url:
        assert check(url, str(one_target), [], as_json=False) == 3
    out = capsys.readouterr().out
    assert "FAIL" in out and "→ there is no TTFT" in out
    assert max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize(
    ("host", "profile", "told"),
    [
        ("http://router.example:5010", "smoke", "--allow-host router.example"),
        ("http://127.0.0.1:9/path", "smoke", "scheme, host and port only"),
        (NOBODY, "nosuch", "nosuch"),
    ],
)
def test_usage_is_one_line(host: str, profile: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(host, profile, [], as_json=False) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("loadtest: ") and told in line
    assert not captured.out


def test_the_command_against_the_simulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulator, url = start_simulator(tmp_path / "port", tmp_path / "truth", ["--speed", "4"])
    try:
        assert main(["check", "--host", url, "--json"]) == 0
    finally:
        end(simulator, SIMULATOR_END_S)
    told = json.loads(capsys.readouterr().out)
    assert [target["target"] for target in told["targets"]] == ["cortensor-stream", "cortensor-whole", "openai-chat"]
    levels = [{row["check"]: row["level"] for row in target["checks"]} for target in told["targets"]]
    assert [each["stream"] for each in levels] == ["pass", "cannot tell", "pass"]
    assert [each["usage"] for each in levels] == ["warn", "pass", "pass"], "its router's streams tell no usage"
    assert all(each["wrong key"] == "warn" for each in levels), "it asks for no key"
    assert all(target["requests"] <= REQUESTS_MAX for target in told["targets"])


def test_it_works_without_locust_and_tables() -> None:
    code = "import sys, loadtest.jobs.check; print({'locust', 'pandas', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
