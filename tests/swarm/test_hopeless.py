"""Runs that can only fail are stopped: too many misses of a limit, or a target that is saturated."""

from __future__ import annotations

from typing import Any

import pytest
from made_standing import made_standing, made_totals

from loadtest.records import Phase
from loadtest.swarm.guard import Stop
from loadtest.swarm.hopeless import Hopeless, MissesMax
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import Standing
from loadtest.swarm.tally import METRICS, Distribution


def measured(reports: Reports, metric: str, *values_ms: float, failed: int = 0) -> None:
    """Add ended turns of the measured cohort."""
    cell = reports.live.cells.setdefault(("chat", "", Phase.MEASURE), {name: Distribution() for name in METRICS})
    cell[metric].values.add_all(round(value * 1e6) for value in values_ms)
    cell[metric].censored += failed


def at(elapsed_s: float, *, dropped: int = 0, in_flight: int = 0, sent: int = 0, **more: Any) -> Standing:
    totals = made_totals(started_turns=sent, waiting=in_flight, answering=0, outcomes={"dropped": dropped})
    return made_standing(elapsed_s=elapsed_s, totals=totals, **more)


def watching(reports: Reports, *texts: str, saturated: bool = False) -> Hopeless:
    return Hopeless(saturated=saturated, misses=[MissesMax.read(text) for text in texts], reports=reports)


def test_misses_are_slow_failed_and_dropped_turns_of_the_measured_cohort() -> None:
    reports = Reports("r", [0])
    hopeless = watching(reports, "ttft_ms:2000:5")
    measured(reports, "ttft", *[100.0] * 50, 2500.0, 9000.0, failed=1)
    assert hopeless.look(at(10, dropped=40)) is None, "those of the warm-up do not count"
    assert hopeless.look(at(20, dropped=42)) is None, "5 are allowed"
    measured(reports, "ttft", 2001.0)
    assert hopeless.look(at(30, dropped=42)) is None, "within the 1 % of its bucket nobody knows"
    measured(reports, "ttft", 2100.0)
    stop = hopeless.look(at(40, dropped=42))
    assert stop == Stop(
        rule="misses",
        figure=6,
        limit=5,
        text="6 turns failed or took longer than 2000 ms (ttft_ms), more than 5 cannot be made up for",
    )


def test_failures_alone_by_an_endless_limit() -> None:
    reports = Reports("r", [0])
    hopeless = watching(reports, "e2e_ms:inf:2")
    measured(reports, "e2e", 1e9, 1e9, 1e9, failed=2)
    assert hopeless.look(at(10)) is None
    measured(reports, "e2e", failed=1)
    assert hopeless.look(at(20)) is not None


@pytest.mark.parametrize("state", ["starting", "warm-up", "draining"])
def test_only_what_is_measured_is_judged(state: str) -> None:
    reports = Reports("r", [0])
    measured(reports, "ttft", failed=100)
    assert watching(reports, "ttft_ms:2000:5").look(at(10, state=state)) is None


def saturate(metric: str, *, growing: bool = True, answering: bool = True) -> Stop | None:
    reports = Reports("r", [0])
    hopeless = watching(reports, saturated=True)
    for i in range(30):
        elapsed_s = 60.0 + 3 * i
        if answering:
            measured(reports, metric, *[300.0 + (90.0 * i if growing else i % 3)] * 9)
        in_flight = 20 + 30 * i if growing else 20 + i % 4
        stop = hopeless.look(
            at(
                elapsed_s,
                in_flight=in_flight,
                sent=60 * i,
            )
        )
        assert hopeless.look(at(elapsed_s + 1, in_flight=5_000, sent=60 * i)) is None, "workers report every 3 s"
        if stop is not None:
            return stop
    return None


@pytest.mark.parametrize("metric", ["ttft", "e2e"])
def test_a_saturated_target_is_seen_by_ttft_or_without_streams_by_e2e(metric: str) -> None:
    stop = saturate(metric)
    assert stop is not None and stop.rule == "saturated" and "more than the target can serve" in stop.text
    assert saturate(metric, growing=False) is None


def test_nothing_asked_for_stops_nothing() -> None:
    reports = Reports("r", [0])
    measured(reports, "ttft", failed=1_000_000)
    assert watching(reports).look(at(10)) is None


@pytest.mark.parametrize(
    "text", ["", "ttft_ms", "ttft_ms:2000", "ttft:2000:5", "ttft_ms:0:5", "ttft_ms:nan:5", "e2e_ms:1:-1"]
)
def test_a_limit_that_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"--misses-max .*: write METRIC:MS:COUNT with ttft_ms, .*") as caught:
        MissesMax.read(text)
    assert "\n" not in str(caught.value)
