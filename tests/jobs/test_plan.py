"""`loadtest plan`: its figures are those of the schedule, and it says what the sample cannot support."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis.forecast import SHAPES_MAX, Assumed, forecast
from loadtest.cli import main
from loadtest.traffic.profile import load_profile, parse_profile
from loadtest.traffic.schedule import Schedule

SINGLE = """
[load]
mode = "open"
arrivals = "constant"
rate_per_s = 20
duration_s = 100
warmup_s = 20
in_flight_max = 70
[[target]]
name = "a"
route = "openai-chat"
[[persona]]
name = "p"
weight = 1
prompt_tokens = "fixed(300)"
output_tokens = "fixed(100)"
turns = "fixed(1)"
think_s = "fixed(0)"
system_prompt_tokens = 0
[[slo]]
metric = "ttft_ms_p99"
max = 500
"""


def plan_of(text: str, **assumed: float) -> dict[str, Any]:
    return forecast(parse_profile(text, "x.toml"), 1, None, Assumed(**assumed))  # type: ignore[arg-type]


def test_a_plan_that_can_be_worked_out_by_hand() -> None:
    found = plan_of(SINGLE, service_s=3.0, price_per_million_prompt_tokens=2.0, price_per_million_output_tokens=5.0)
    assert (found["conversations"], found["requests"], found["requests_due"]) == (2000, 2000, 2000)
    assert (found["requests_measured"], found["requests_measured_streamed"]) == (1600, 1600)
    assert (found["prompt_tokens"], found["output_tokens_max"]) == (600_000, 200_000)
    concurrency = found["concurrency"]
    assert concurrency["requests_by_little"] == concurrency["conversations_by_little"] == 60  # 20/s x 3 s
    assert concurrency["requests_peak"] == 60
    assert found["cost"] == pytest.approx(0.6 * 2 + 0.2 * 5)
    assert found["per_worker"]["sockets"] == 4 + 30
    beyond = {(row["metrics"], row["percentile"]): row["beyond"] for row in found["percentiles"]}
    assert beyond["E2E", "p50"] == 800 and beyond["E2E", "p99"] == 16 and beyond["TTFT, TPOT", "p95"] == 80
    assert found["slos"] == [{"metric": "ttft_ms_p99", "n": 1600, "needed": 459, "supported": True}]
    assert found["warnings"] == []


def test_it_warns_of_what_the_sample_cannot_support_and_of_the_cap() -> None:
    short = plan_of(SINGLE.replace("duration_s = 100", "duration_s = 40"), service_s=3.0)
    assert short["slos"][0] == {"metric": "ttft_ms_p99", "n": 400, "needed": 459, "supported": False}
    assert any(
        text.startswith("ttft_ms_p99: 400 measured requests cannot support it, 459") for text in short["warnings"]
    )
    crowded = plan_of(SINGLE, service_s=4.0)
    assert any("80 conversations at once" in text and "in_flight_max 70" in text for text in crowded["warnings"])


def test_its_figures_are_those_of_the_schedule() -> None:
    profile = load_profile("demo")
    found = forecast(profile, 3, None, Assumed(service_s=0.2))
    schedule = Schedule(profile, 3)
    horizon_us = int(profile.load.duration_s * 1e6)
    arrivals = list(schedule.arrivals(horizon_us))
    assert found["conversations"] == len(arrivals)
    assert found["requests"] == schedule.planned_turns(horizon_us)
    due = [a.due_us for a in arrivals]
    width_us = horizon_us / len(found["series"])
    for place, each in enumerate(found["series"]):
        begun = sum(place * width_us <= at < (place + 1) * width_us for at in due)
        assert each["conversations_per_s"] * width_us / 1e6 == pytest.approx(begun, abs=0.02)


def test_a_long_plan_is_sampled_and_says_so() -> None:
    found = plan_of(SINGLE.replace("rate_per_s = 20", "rate_per_s = 600"), service_s=0.1)
    assert found["conversations"] == 60_000 and found["conversations_walked"] <= SHAPES_MAX
    assert found["requests"] == 60_000 and found["prompt_tokens"] == 18_000_000


def test_members_wait_for_their_answers() -> None:
    text = SINGLE.replace('mode = "open"', 'mode = "closed"').replace('arrivals = "constant"', "members = 8")
    text = text.replace("rate_per_s = 20\n", "").replace("in_flight_max = 70\n", "").replace("fixed(0)", "fixed(1)")
    found = plan_of(text, service_s=3.0)
    # 8 members, each a second of thought and three of waiting: the interactive response time law says 8 / 4 s = 2/s.
    assert found["requests_due"] == pytest.approx(200, abs=8)
    assert found["concurrency"]["requests_by_little"] == pytest.approx(6, abs=0.3)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.svg"
    assert main(["plan", "smoke", "--request-rate", "9", "--json", "--picture", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["conversations"] == 90
    drawn = picture.read_text(encoding="utf-8")
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "var(--" not in drawn
    assert "new conversations" in drawn and "in flight, if an answer takes 10 s" in drawn
    assert main(["plan", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "WARNING: ok_share: " in said and "cl100k_base" in said and "by Little's law" in said


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, line in (
        (["nosuch"], "loadtest: nosuch: no such profile"),
        (["smoke", "--request-rate", "-1"], "loadtest: --request-rate: must be a number > 0, got -1"),
        (["replay-azure"], "needs a trace file, give --trace FILE"),
    ):
        assert main(["plan", *words]) == 2
        err = capsys.readouterr().err
        assert line in err and len(err.splitlines()) == 1
    assert main(["plan", "smoke", "--picture", str(tmp_path / "no" / "x.svg")]) == 1
    assert "cannot be written (No such file or directory)" in capsys.readouterr().err
