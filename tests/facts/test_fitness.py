"""Fitness: each rule fires just above its bound and not at it, and says its figure and its bound."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from loadtest.fitness import Figures, Reason, unfit_reasons

FIT = Figures(
    planned_turns=5000,
    stored_turns=5000,
    lost_turns=0,
    dropped_turns=0,
    first_turns=2000,
    workers_expected=3,
    workers_lost=0,
    rows_overflowed=0,
    send_lag_ms_p99=0.4,
    ttft_ms_p50=300.0,
    receive_error_ms_p99=0.3,
    loop_overshoot_ms_p99=2.0,
    worker_cpu_share_max=0.4,
    clock_bound_ms_max=0.1,
    measured_requests=4000,
)


def reasons(**changes: Any) -> list[Reason]:
    return unfit_reasons(msgspec.structs.replace(FIT, **changes))


def test_a_good_run_is_fit() -> None:
    assert reasons() == []


# At the bound; just above it; the rule; what the text must say.
RULES: list[tuple[dict[str, Any], dict[str, Any], str, list[str]]] = [
    ({"stored_turns": 5000}, {"stored_turns": 4999}, "account", ["1 planned turns have no row"]),
    ({"stored_turns": 5000}, {"stored_turns": 5002}, "account", ["2 rows belong to no planned turn"]),
    ({"lost_turns": 0}, {"lost_turns": 1}, "lost", ["1 turns were lost"]),
    ({"workers_lost": 0}, {"workers_lost": 1}, "workers", ["1 of 3 workers"]),
    ({"rows_overflowed": 0}, {"rows_overflowed": 7}, "recorder", ["7 entries"]),
    ({}, {"ledger_mismatches": ((2, "worker 1: {9} turns"),)}, "ledger", ["does not add up: worker 1: {9} turns"]),
    ({"dropped_turns": 2}, {"dropped_turns": 3}, "dropped", ["0.15 %", "0.10 %"]),
    ({"measured_requests": 1}, {"measured_requests": 0}, "empty", ["no request was measured"]),
    ({"send_lag_ms_p99": 50.0}, {"send_lag_ms_p99": 50.1}, "send_lag", ["50.1 ms", "50.0 ms"]),
    # With slow answers 5 % of the median TTFT is allowed: 100 ms of 2 s.
    (
        {"send_lag_ms_p99": 100.0, "ttft_ms_p50": 2000.0},
        {"send_lag_ms_p99": 100.1, "ttft_ms_p50": 2000.0},
        "send_lag",
        ["100.1 ms", "100.0 ms"],
    ),
    # No TTFT at all (nothing was streamed) leaves the fixed bound.
    (
        {"send_lag_ms_p99": 50.0, "ttft_ms_p50": None},
        {"send_lag_ms_p99": 50.1, "ttft_ms_p50": None},
        "send_lag",
        ["50.1 ms"],
    ),
    ({"receive_error_ms_p99": 20.0}, {"receive_error_ms_p99": 20.1}, "receive_error", ["20.1 ms", "20.0 ms"]),
    ({"loop_overshoot_ms_p99": 20.0}, {"loop_overshoot_ms_p99": 20.1}, "loop", ["20.1 ms", "20.0 ms"]),
    ({"worker_cpu_share_max": 0.90}, {"worker_cpu_share_max": 0.902}, "cpu", ["90.2 %", "90.0 %"]),
    ({"clock_bound_ms_max": 50.0}, {"clock_bound_ms_max": 50.1}, "clock", ["50.1 ms", "50.0 ms"]),
]


@pytest.mark.parametrize(("at", "above", "rule", "words"), RULES)
def test_a_rule_fires_above_its_bound_and_not_at_it(
    at: dict[str, Any], above: dict[str, Any], rule: str, words: list[str]
) -> None:
    assert reasons(**at) == []
    (reason,) = reasons(**above)
    assert reason.rule == rule
    assert [word for word in words if word not in reason.text] == []
    assert "\n" not in reason.text
    assert reason.figure > reason.bound or rule == "empty"


def test_a_profile_may_allow_the_loss_of_workers_with_their_turns_and_no_other_loss() -> None:
    assert reasons(workers_lost=1, workers_lost_max=1, lost_turns=40) == []
    too_many = reasons(workers_lost=2, workers_lost_max=1, lost_turns=40)
    assert [reason.rule for reason in too_many] == ["lost", "workers"] and "2 of 3 workers" in too_many[1].text
    assert [reason.rule for reason in reasons(workers_lost=0, workers_lost_max=1, lost_turns=1)] == ["lost"]


@pytest.mark.parametrize(
    "timing",
    ["send_lag_ms_p99", "receive_error_ms_p99", "loop_overshoot_ms_p99", "worker_cpu_share_max", "clock_bound_ms_max"],
)
def test_a_figure_that_is_not_a_number_never_passes(timing: str) -> None:
    assert len(reasons(**{timing: math.nan})) == 1


def test_every_broken_rule_is_told_in_a_fixed_order() -> None:
    everything = {key: value for _, above, _, _ in RULES for key, value in above.items()}
    everything |= {"send_lag_ms_p99": 5000.0}
    told = [reason.rule for reason in reasons(**everything)]
    assert told == [
        *("account", "ledger", "lost", "workers", "recorder", "dropped", "empty"),
        *("send_lag", "receive_error", "loop", "cpu", "clock"),
    ]


def test_a_run_without_arrivals_is_empty_and_nothing_else() -> None:
    nothing = reasons(
        planned_turns=0,
        stored_turns=0,
        first_turns=0,
        measured_requests=0,
        send_lag_ms_p99=None,
        ttft_ms_p50=None,
        receive_error_ms_p99=None,
    )
    assert [reason.rule for reason in nothing] == ["empty"]


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("send_lag_ms_p99", "send_lag"),
        ("loop_overshoot_ms_p99", "loop"),
        ("worker_cpu_share_max", "cpu"),
        ("clock_bound_ms_max", "clock"),
    ],
)
def test_what_every_run_must_measure_is_a_reason_when_it_is_missing(field: str, rule: str) -> None:
    (reason,) = reasons(**{field: None})
    assert (reason.rule, reason.figure) == (rule, None) and "not measured" in reason.text
    assert [r.rule for r in reasons(**{field: None}, measured_requests=0)] == ["empty"], "nothing was sent"
