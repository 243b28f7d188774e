"""Ceilings and the circuit breaker: when they stop a run, and that they say which figure met which limit."""

from __future__ import annotations

from typing import Any

import pytest
from made_standing import made_standing, made_totals

from loadtest.swarm.guard import Guard, Stop
from loadtest.swarm.standing import Standing
from loadtest.traffic.ceilings import CeilingError, Ceilings, with_ceilings


def at(elapsed_s: float, sent: int = 0, ok: int = 0, failed: int = 0, **more: Any) -> Standing:
    """A run so many seconds after its start."""
    outcomes = {"ok": ok, "server_error": failed, "dropped": 7, "cancelled": 9}
    totals = made_totals(started_turns=sent, outcomes=outcomes, prompt_tokens=6 * sent, output_tokens=4 * sent)
    return made_standing(elapsed_s=elapsed_s, totals=totals, **more)


def rule(stop: Stop | None) -> tuple[str, float, float] | None:
    return None if stop is None else (stop.rule, stop.figure, stop.limit)


@pytest.mark.parametrize(
    ("ceilings", "met"),
    [
        (Ceilings(requests=100), ("requests", 100, 100)),
        (Ceilings(tokens=1000), ("tokens", 1000, 1000)),
        (Ceilings(cost=2.0, price_per_request=0.02), ("cost", 2.0, 2.0)),
        # 600 prompt tokens and 400 output tokens
        (
            Ceilings(cost=0.0011, price_per_million_prompt_tokens=0.5, price_per_million_output_tokens=2),
            ("cost", pytest.approx(0.0011), 0.0011),
        ),
        (Ceilings(time_s=30), ("time_s", 30, 30)),
    ],
)
def test_what_is_used_up(ceilings: Ceilings, met: tuple[str, float, float]) -> None:
    guard = Guard(ceilings)
    assert guard.look(at(29.9, sent=99)) is None
    stop = guard.look(at(30.0, sent=100))
    assert rule(stop) == met
    assert stop is not None and stop.text.startswith(met[0])


def test_without_ceilings_nothing_stops_a_run() -> None:
    assert Guard(Ceilings()).look(at(1e6, sent=10**9, failed=10**9)) is None


@pytest.mark.parametrize("state", ["starting", "draining"])
def test_a_run_that_offers_nothing_is_not_stopped(state: str) -> None:
    assert Guard(Ceilings(requests=1)).look(at(30.0, sent=100, state=state)) is None


def test_the_rate_is_over_ten_seconds() -> None:
    guard = Guard(Ceilings(requests_per_s=20))
    for second in range(10):
        assert guard.look(at(second, sent=50 * second)) is None, "too early to tell"
    assert rule(guard.look(at(10, sent=500))) == ("requests_per_s", 50.0, 20.0)
    slower = Guard(Ceilings(requests_per_s=20))
    for second in range(60):
        assert slower.look(at(second, sent=20 * second)) is None


def test_the_breaker_looks_at_its_window_only() -> None:
    guard = Guard(Ceilings(error_share=0.5, error_window_s=10, error_requests_min=20))
    assert guard.look(at(0)) is None
    assert guard.look(at(5, sent=19, failed=19)) is None, "19 say nothing"
    for second in range(6, 30):
        assert guard.look(at(second, ok=100 * second, failed=19)) is None
    assert guard.look(at(30, ok=2900, failed=19 + 800)) is None
    stop = guard.look(at(31, ok=2900, failed=19 + 1800))
    assert stop is not None and stop.rule == "error_share" and stop.figure >= 0.5
    assert "the circuit breaker opens at 50 % in 10 s" in stop.text


def test_what_we_stopped_or_dropped_is_no_error() -> None:
    guard = Guard(Ceilings(error_share=0.01, error_requests_min=1))
    guard.look(at(0))
    assert guard.look(at(10, sent=20, ok=4)) is None


def test_a_command_line_replaces_what_the_profile_says() -> None:
    assert with_ceilings(Ceilings(requests=5, tokens=7), ["requests=9"]) == Ceilings(requests=9, tokens=7)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("request=9", "no such ceiling, choose one of requests,"),
        ("requests", "give requests a number above 0"),
        ("requests=-1", "give requests a number above 0"),
        ("requests=nan", "give requests a number above 0"),
        ("error_share=2", "give error_share a number above 0"),
        ("cost=5", "needs a price, state one of price_per_request,"),
    ],
)
def test_a_wrong_ceiling_is_one_line(setting: str, words: str) -> None:
    with pytest.raises(CeilingError) as raised:
        with_ceilings(Ceilings(), [setting])
    assert words in str(raised.value) and "\n" not in str(raised.value)
