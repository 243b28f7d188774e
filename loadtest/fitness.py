"""The rules that make a run unfit: it could not measure, so its headline is withheld.

Pure: figures in, reasons out. The same rules serve the live view and the report. Bounds are those of the
method (Tene; MLPerf; Locust's own CPU alarm); each reason carries its figure and its bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

SEND_LAG_MS_P99_MAX = 50.0
SEND_LAG_SHARE_OF_TTFT_MAX = 0.05
DROPPED_SHARE_MAX = 0.001
WORKER_CPU_SHARE_MAX = 0.90
LOOP_OVERSHOOT_MS_P99_MAX = 20.0
RECEIVE_ERROR_MS_P99_MAX = 20.0
CLOCK_BOUND_MS_MAX = 50.0
RULES = (
    *("account", "ledger", "lost", "workers", "recorder", "dropped", "empty"),
    *("send_lag", "receive_error", "loop", "cpu", "clock"),
)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at. None means "not measured": a reason of its own for what every run must measure.

    TTFT and the receive error belong to streams, so a run without streams has none and may still be fit.
    """

    planned_turns: int
    stored_turns: int  # sum over outcomes
    lost_turns: int
    dropped_turns: int
    first_turns: int
    workers_expected: int
    workers_lost: int
    rows_overflowed: int  # entries that a worker's disk refused: rows, texts and bodies
    send_lag_ms_p99: float | None
    ttft_ms_p50: float | None
    receive_error_ms_p99: float | None
    loop_overshoot_ms_p99: float | None  # worst worker
    worker_cpu_share_max: float | None  # worst worker, highest 3 s average
    clock_bound_ms_max: float | None
    measured_requests: int
    workers_lost_max: int = 0  # a profile may allow the loss of so many, and of the turns they had
    ledger_mismatches: tuple[tuple[int, str], ...] = ()  # sums that do not hold: by how many, and in words


class Reason(msgspec.Struct, frozen=True):
    """One rule that was broken: `text` says it with figure and bound, ready to print."""

    rule: str
    figure: float | None  # None: not measured
    bound: float
    text: str


def unfit_reasons(figures: Figures) -> list[Reason]:
    """Every broken rule, in a fixed order; an empty list means the run is fit."""
    return [reason for reason in [*_account(figures), *_unmeasured(figures), *_timing(figures)] if reason is not None]


def exit_code(summary: Mapping[str, Any]) -> int:
    """What a judged run ends with: 4 unfit, the run proves nothing; 3 a limit was missed or a ceiling met; 0."""
    if summary["fit"]["verdict"] != "fit":
        return 4
    return 3 if summary["result"]["verdict"] == "fail" else 0


def _account(f: Figures) -> list[Reason | None]:
    dropped_share = f.dropped_turns / f.first_turns if f.first_turns else 0.0
    return [
        _above(f.planned_turns - f.stored_turns, 0, "account", "{} planned turns have no row")
        if f.planned_turns >= f.stored_turns
        else _above(f.stored_turns - f.planned_turns, 0, "account", "{} rows belong to no planned turn"),
        *(Reason("ledger", figure, 0, f"the ledger does not add up: {text}") for figure, text in f.ledger_mismatches),
        # Without a lost worker no loss is allowed: then the disk or the network took the rows.
        None
        if 0 < f.workers_lost <= f.workers_lost_max
        else _above(f.lost_turns, 0, "lost", "{} turns were lost with a worker"),
        _above(
            f.workers_lost, f.workers_lost_max, "workers", "{} of " + str(f.workers_expected) + " workers were lost"
        ),
        _above(f.rows_overflowed, 0, "recorder", "{} entries (rows, texts, bodies) could not be written to the spool"),
        _above(
            100 * dropped_share,
            100 * DROPPED_SHARE_MAX,
            "dropped",
            "{:.2f} % of arrivals were dropped (at most {:.2f} %)",
        ),
        Reason("empty", 0, 1, "no request was measured: nothing was offered after the warm-up")
        if f.measured_requests == 0
        else None,
    ]


def _unmeasured(f: Figures) -> list[Reason | None]:
    """A run that sent requests and does not know how late, on which clock or how busy it was proves nothing."""
    measured = {
        "send_lag": (f.send_lag_ms_p99, SEND_LAG_MS_P99_MAX, "how late requests left"),
        "loop": (f.loop_overshoot_ms_p99, LOOP_OVERSHOOT_MS_P99_MAX, "how late the workers' loops ran"),
        "cpu": (f.worker_cpu_share_max, 100 * WORKER_CPU_SHARE_MAX, "how busy the workers were"),
        "clock": (f.clock_bound_ms_max, CLOCK_BOUND_MS_MAX, "how well the workers' clocks are known"),
    }
    return [
        Reason(rule, None, bound, f"{what} was not measured")
        for rule, (figure, bound, what) in measured.items()
        if figure is None and f.measured_requests
    ]


def _timing(f: Figures) -> list[Reason | None]:
    lag_max = max(SEND_LAG_MS_P99_MAX, SEND_LAG_SHARE_OF_TTFT_MAX * (f.ttft_ms_p50 or 0.0))
    cpu = None if f.worker_cpu_share_max is None else 100 * f.worker_cpu_share_max
    return [
        _above(f.send_lag_ms_p99, lag_max, "send_lag", "requests left {:.1f} ms late at p99 (at most {:.1f} ms)"),
        _above(
            f.receive_error_ms_p99,
            RECEIVE_ERROR_MS_P99_MAX,
            "receive_error",
            "first content is known to {:.1f} ms at p99 (at most {:.1f} ms)",
        ),
        _above(
            f.loop_overshoot_ms_p99,
            LOOP_OVERSHOOT_MS_P99_MAX,
            "loop",
            "the busiest worker's loop ran {:.1f} ms late at p99 (at most {:.1f} ms)",
        ),
        _above(cpu, 100 * WORKER_CPU_SHARE_MAX, "cpu", "a worker used {:.1f} % of its core (at most {:.1f} %)"),
        _above(
            f.clock_bound_ms_max,
            CLOCK_BOUND_MS_MAX,
            "clock",
            "a worker's clock is known to {:.1f} ms only (at most {:.1f} ms)",
        ),
    ]


def _above(figure: float | None, bound: float, rule: str, text: str) -> Reason | None:
    if figure is None or figure <= bound:
        return None
    return Reason(rule, figure, bound, text.format(figure, bound))
