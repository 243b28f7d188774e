"""What the page's form asks for, checked before a run starts: one line, and nothing has changed."""

from __future__ import annotations

import json
from argparse import Namespace
from types import SimpleNamespace

import pytest
from flask import Flask

from loadtest.swarm.form import asked_for, check_form
from loadtest.swarm.preflight import SetupError

OPTIONS = {
    "profile": "smoke", "seed": 1, "limit": 0, "speed": 1.0, "trace_rate": 1.0, "request_rate": None, "target": None,
    "no_report": False, "save_text": True, "host": "http://127.0.0.1:1", "num_users": 3, "runs_dir": "runs",
}  # fmt: skip


def test_fields_have_the_types_of_the_options() -> None:
    form = {"seed": "7", "speed": "2.5", "no_report": "true", "save_text": "false", "request_rate": "5", "other": "x"}
    asked = asked_for(Namespace(**OPTIONS), form)
    assert (asked.seed, asked.speed, asked.no_report, asked.save_text) == (7, 2.5, True, False)
    assert asked.request_rate == "5" and not hasattr(asked, "other")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"seed": "<script>"}, "seed: must be a whole number, got '<script>'"),
        ({"seed": "1.5"}, "seed: must be a whole number, got '1.5'"),
        ({"limit": ""}, "limit: must be a whole number, got ''"),
        ({"speed": "fast"}, "speed: must be a number, got 'fast'"),
        ({"profile": "x" * 5000}, "profile: 5000 letters are too many, 2000 at most"),
    ],
)
def test_a_mistake_is_one_line(form: dict[str, str], said: str) -> None:
    with pytest.raises(SetupError) as mistake:
        asked_for(Namespace(**OPTIONS), form)
    assert str(mistake.value) == said


def test_a_form_that_cannot_run_never_reaches_locust() -> None:
    web_ui, parsed, started = SimpleNamespace(app=Flask("page")), Namespace(**OPTIONS), []

    @web_ui.app.post("/base/swarm")
    def swarm() -> dict[str, bool]:
        started.append(1)
        return {"success": True}

    def plan(asked: Namespace) -> None:
        if asked.profile != "smoke":
            raise SetupError("no such profile\nchoose another", 2)

    check_form(web_ui, parsed, plan)  # type: ignore[arg-type]
    page = web_ui.app.test_client()
    refused = page.post("/base/swarm", data={"profile": "<script>", "user_count": "1"})
    assert refused.is_json
    assert json.loads(refused.data) == {"success": False, "message": "no such profile; choose another"}
    assert started == [] and vars(parsed) == OPTIONS
    assert json.loads(page.post("/base/swarm", data={"profile": "smoke"}).data)["success"] and started == [1]
