"""A summary.json as analysis would write it: 24 nodes of uneven speed, 5 minutes, two targets, a few failures."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

Summary = dict[str, Any]
SECONDS, WARMUP = 300, 30


def example_summary(**parts: Any) -> Summary:
    """A fresh, complete summary; a keyword replaces that part of it."""
    summary: Summary = {
        "schema_version": 1,
        "run": _run(),
        "fit": {"verdict": "fit", "reasons": []},
        "steady": {
            **{"verdict": "steady", "why": "5 s beyond the warm-up were left out", "from_s": 35.0, "window_s": 270.0},
            **{"cut_s": {"latency": 5.0, "in_flight": 0.0}, "in_flight_change": 0.041, "in_flight_p": 0.318},
        },
        "goodput": {
            **{"limits": {"ttft_ms": 2000.0, "e2e_ms": 30000.0}, "good": 3012, "n": 3377, "share": 0.891916},
            "per_s": 11.155556,
        },
        "result": {
            "verdict": "fail",
            "met": 2,
            "slos": [
                _slo("ttft_ms_p95", "max", 2500.0, 2211.4, 3288, "pass"),
                _slo("e2e_ms_p99", "max", 30000.0, 41876.0, 3288, "fail"),
                _slo("ok_share", "min", 0.98, 0.98845, 3377, "pass"),
                _slo("tpot_ms_p99", "max", 200.0, None, 18, "cannot tell"),
            ],
        },
        "account": {
            "planned": 3702,
            "rows": 3702,
            "outcomes": {
                "ok": 3611,
                "not_reached": 39,
                "router_timeout": 21,
                "server_error": 14,
                "truncated": 9,
                "rate_limited": 5,
                "empty": 3,
            },
            "shares": {
                **{"ok": 0.975419, "not_reached": 0.010535, "router_timeout": 0.005673, "server_error": 0.003782},
                **{"truncated": 0.002431, "rate_limited": 0.001351, "empty": 0.00081},
            },
            "balanced": True,
            "warmup": 325,
            "measured": 3377,
            "first_turns": 1502,
            "second_turns": 2200,
        },
        "offered": {
            "rate_per_s_planned": 5.0,
            "rate_per_s_realised": 5.0067,
            "cv_realised": 1.013,
            "arrivals": 1502,
            "requests_sent": 3663,
            "requests_per_s_realised": 12.21,
            "peak_in_flight": 131,
            "trace": None,
            "prompts_told": 1187,
            "answers_told": 1173,
            "compared": {
                "rate_per_s": {"process": 5.0, "intended": 5.011, "realised": 5.0067},
                "gap_cv": {"process": 1.0, "intended": 1.017, "realised": 1.013},
                "dispersion_1s": {"process": 1.0, "intended": 1.092, "realised": 1.104},
                "dispersion_10s": {"process": None, "intended": 0.873, "realised": 0.866},
                **{
                    f"{name}_{level}": {"intended": intended, "realised": realised}
                    for name, level, intended, realised in (
                        *(("prompt_tokens", "p50", 341.0, 352.0), ("prompt_tokens", "p95", 2904.0, 2951.0)),
                        *(("prompt_tokens", "p99", 6120.0, 6204.0), ("output_tokens", "p50", 128.0, 117.0)),
                        *(("output_tokens", "p95", 512.0, 498.0), ("output_tokens", "p99", 1024.0, 1001.0)),
                    )
                },
            },
        },
        "latency": _latency(),
        "harness": {
            "send_lag_ms": {"p50": 0.31, "p99": 1.94, "max": 6.8},
            "first_content_bound_ms": {"p50": 0.06, "p99": 0.83, "max": 4.1},
            "arrival_bound_ms": {"p50": 0.05, "p99": 0.92, "max": 7.7},
            "coalesced_share": 0.0121,
            "kernel_share": 0.99996,
            "loop_overshoot_ms_p99": 1.21,
            "cpu_share_max": 0.37,
            "clock_bound_ms_max": 0.09,
        },
        "attribution": {
            "requests": 3663,
            "attributed": 3507,
            "attributed_share": 0.957412,
            "unattributed": 156,
            "unattributed_share": 0.042588,
            "by_source": {"task": 2310, "text": 1197},
            "unattributed_reasons": {"no task id": 92, "task look-up failed": 41, "no result matches the text": 23},
            "lookup_share": 0.9781,
        },
        "join": {
            "rows": 3507,
            "with_snapshot": 3488,
            "with_snapshot_share": 0.994582,
            "without": {"no snapshot before it was sent": 15, "snapshot too old": 4},
            "snapshot_age_s": {"p50": 2.6, "p95": 5.1, "max": 9.8},
            "tolerance_s": 900.0,
        },
        "nodes": _nodes(),
        "association": _association(),
        "bands": [
            _group("90-100 %", "band", 9, 1712, 0.9982, 402.1),
            _group("70-90 %", "band", 8, 1104, 0.9891, 688.0),
            _group("50-70 %", "band", 4, 521, 0.9655, 1290.5),
            _group("below 50 %", "band", 3, 170, 0.9118, 2604.9),
        ],
        "personas": [
            _group("quick question", "name", None, 1203, 0.9942, 401.0),
            _group("role play", "name", None, 1088, 0.9871, 655.5),
            _group("long context", "name", None, 512, 0.9648, 1720.2),
            _group("code help", "name", None, 574, 0.9895, 610.0),
        ],
        "targets": [
            _group("router-a", "name", None, 2190, 0.9904, 560.2),
            _group("openai", "name", None, 1187, 0.9848, 498.7),
        ],
        "turns": [
            _group("first", "name", None, 1352, 0.9911, 522.0),
            _group("later", "name", None, 2025, 0.9867, 571.3),
        ],
        "cold": [
            _cold("new connection", 188, 611.0, 3.1, 9.7),
            _cold("kept connection", 3475, 546.2, None, None),
            _cold("first request on its node", 24, 702.5, 3.3, 9.9),
            _cold("later request on its node", 3483, 547.0, 3.1, 9.8),
        ],
        "series": _series(),
        "distributions": _distributions(),
        "limits": [
            "21 router timeouts are censored: percentiles above p99.3 lie beyond 120 s.",
            "5 of 24 nodes served fewer than 30 requests and cannot be ranked.",
            "Later turns are due at previous done + think: their lag shows only the harness's own delay.",
            "Node prices are not published: billing cannot tell, no source.",
        ],
    }
    summary.update(copy.deepcopy(parts))
    return summary


@pytest.fixture
def make_summary() -> Callable[..., Summary]:
    return example_summary


def _run() -> Summary:
    return {
        "id": "20261122T104500Z-ab12",
        "mode": "open",
        "profile": "community",
        "profile_hash": "9f2c61d04be7a318",
        "seed": 7,
        "started_utc": "2026-11-22T10:45:00Z",
        "ended_utc": "2026-11-22T10:51:12Z",
        "offered_s": float(SECONDS),
        "warmup_s": float(WARMUP),
        "workers": 2,
        "encoding": "cl100k_base",
        "history": "scripted",
        "time_scale": 0.1,
        "command": "loadtest run --profile community --host http://127.0.0.1:5010 -u 200 -t 5m",
        "users": 200,
        "targets": [
            {"name": "router-a", "url": "http://127.0.0.1:5010", "route": "cortensor", "model": "", "stream": True},
            {"name": "openai", "url": "http://127.0.0.1:5010", "route": "openai-chat", "model": "sim", "stream": True},
        ],
        "versions": {"python": "3.11.7", "loadtest": "0.1.0", "locust": "2.47.1", "gevent": "26.9.0"},
    }


def _slo(metric: str, kind: str, limit: float, observed: float | None, n: int, verdict: str) -> Summary:
    return {"metric": metric, "kind": kind, "limit": limit, "observed": observed, "n": n, "verdict": verdict}


def quantile_cell(n: int, p50: float, p95: float, p99: float | None, largest: float, censored: int = 0) -> Summary:
    cell: Summary = {"n": n, "p50": p50, "p95": p95, "p99": p99, "max": largest, "censored": censored}
    cell |= {"p50_interval": [p50 * 0.97, p50 * 1.04], "p95_interval": [p95 * 0.93, p95 * 1.09]}
    cell["p99_interval"] = None if p99 is None else [p99 * 0.9, p99 * 1.2]
    cell |= {f"{name}_n_effective": round(n * 0.93) - place for place, name in enumerate(("p50", "p95", "p99"))}
    if p99 is None:
        cell["p99_text"] = "> 120 s"
    return cell


def _latency() -> Summary:
    return {
        "ttft_ms": {
            "service": quantile_cell(3377, 548.214, 2211.4, 4903.87, 19873.2, 39),
            "response": quantile_cell(3377, 549.02, 2213.9, 4911.03, 19875.0, 39),
        },
        "tpot_ms": {"service": quantile_cell(3288, 41.72, 118.4, 191.06, 402.2)},
        "itl_ms": {"service": quantile_cell(412876, 36.9, 131.7, 288.4, 2107.3)},
        "e2e_ms": {
            "service": quantile_cell(3377, 6180.4, 21904.1, None, 118004.6, 39),
            "response": quantile_cell(3377, 6182.8, 21911.7, None, 118007.1, 39),
        },
    }


def _nodes() -> list[Summary]:
    draw = random.Random(24)
    nodes = []
    for index in range(24):
        reputation = round(min(0.995, 0.35 + 0.65 * draw.betavariate(3, 1)), 4)
        requests = round(320 * draw.betavariate(1.3, 3.0)) + 6
        ttft = 280 * math.exp(2.6 * (1 - reputation) + draw.gauss(0, 0.25))
        failed = sum(draw.random() < 0.12 * (1 - reputation) for _ in range(requests))
        nodes.append(
            {
                "node": "0x" + "".join(draw.choice("0123456789abcdef") for _ in range(40)),
                "requests": requests,
                "ok": requests - failed,
                "failed": failed,
                "ttft_ms_p50": ttft,
                "ttft_ms_p95": ttft * 2.9,
                "tpot_ms_p50": 24 + ttft / 25,
                "e2e_ms_p50": ttft * 9.6,
                "e2e_ms_p95": ttft * 26,
                "tokens_per_s_p50": 1000 / (24 + ttft / 25),
                "reputation": 100 * reputation if index != 5 else None,
                "reputation_session": round(98 * reputation, 2),
                "n_too_small": requests < 30,
            }
        )
    return nodes


def _association() -> Summary:
    relation = {
        **{"series": "reputation", "outcome": "latency", "rho": -0.42, "interval": [-0.64, -0.14], "nodes": 47},
        **{"range_seen": [80.0, 100.0], "range_network": [60.5, 100.0], "restricted": True, "verdict": "associated"},
        "text": "Association: nodes of a higher lifetime reputation are faster.",
    }
    nothing = {**relation, "outcome": "failure", "rho": None, "interval": None, "text": "Cannot tell: too few."}
    hour = {"direction": "reputation now, latency in the next hour", "rho": None, "interval": None, "hours": 1}
    return {
        **{"latency": "ttft_ms", "controls": ["prompt length", "hour"], "nodes": 60, "nodes_few": 13},
        **{"requests_min": 20, "lag_s_p50": 7.7, "nodes_left": 2, "points_of": "reputation"},
        "relations": [relation, nothing],
        "next_hour": [{**hour, "nodes": 40, "verdict": "cannot tell", "text": "Cannot tell: 1 hours."}],
        "points": [{"node": f"0x{i}", "reputation": 80.0 + i, "times": 2.0 - i / 12, "turns": 30} for i in range(20)],
    }


def _group(name: str, label: str, nodes: int | None, requests: int, ok: float, ttft: float) -> Summary:
    group: Summary = {label: name, "requests": requests, "ok_share": ok, "ttft_ms_p50": ttft, "ttft_ms_p95": ttft * 3.6}
    group |= {"e2e_ms_p50": ttft * 10.4, "e2e_ms_p95": ttft * 33}
    return group if nodes is None else group | {"nodes": nodes}


def _cold(name: str, requests: int, ttft: float, connecting: float | None, tls: float | None) -> Summary:
    row: Summary = {"name": name, "requests": requests, "ttft_ms_p50": ttft, "ttft_ms_p95": ttft * 3.4}
    row |= {"e2e_ms_p50": ttft * 10.1, "e2e_ms_p95": ttft * 31, "n_too_small": requests < 100}
    for key, value in (("connecting_ms", connecting), ("tls_ms", tls)):
        row |= {f"{key}_p50": value, f"{key}_p95": None if value is None else value * 2.2}
    return row


def _series() -> list[Summary]:
    draw = random.Random(7)
    rows, flight = [], 0.0
    for second in range(SECONDS + 45):
        offered = second < SECONDS
        planned = sum(draw.random() < 0.24 for _ in range(50)) if offered else max(0, round(draw.gauss(1, 2)))
        stalled = 170 <= second < 182
        completed = 0 if stalled else max(0, min(round(flight), round(draw.gauss(12 + (flight - 80) / 6, 2))))
        flight = max(0.0, flight + planned - completed)
        ttft = 520 * math.exp(draw.gauss(0, 0.15)) * (4.5 if stalled or 182 <= second < 190 else 1)
        rows.append(
            {
                "t_s": float(second),
                "planned": planned,
                "sent": planned,
                "completed": completed,
                "failed": int(draw.random() < 0.12) + (2 if second == 183 else 0),
                "in_flight": round(flight),
                "ttft_ms_p50": ttft if completed else None,
                "ttft_ms_p95": ttft * 3.2 * math.exp(draw.gauss(0, 0.2)) if completed else None,
                "e2e_ms_p50": ttft * 11 if completed else None,
                "e2e_ms_p95": ttft * 11 * 3.4 * math.exp(draw.gauss(0, 0.15)) if completed else None,
                **{f"tpot_ms_{level}": ttft / by if completed else None for level, by in (("p50", 12), ("p95", 5))},
                **{f"itl_ms_{level}": ttft / by if completed else None for level, by in (("p50", 14), ("p95", 4))},
            }
        )
    return rows


def _distributions() -> Summary:
    return {
        "ttft_ms_service": _ecdf(548, 0.85, 0.988, 1),
        "ttft_ms_response": _ecdf(549, 0.85, 0.988, 2, added=180),
        "e2e_ms_service": _ecdf(6180, 0.78, 0.988, 3),
        "e2e_ms_response": _ecdf(6183, 0.78, 0.988, 4, added=900),
        "tpot_ms": _ecdf(41.7, 0.62, 1.0, 5),
        "itl_ms": _ecdf(36.9, 0.9, 1.0, 6),
    }


def _ecdf(median: float, spread: float, ceiling: float, seed: int, added: float = 0) -> list[list[float]]:
    draw = random.Random(seed)
    values = sorted(
        median * math.exp(draw.gauss(0, spread)) + (added if draw.random() < 0.2 else 0) for _ in range(200)
    )
    return [[value, ceiling * (rank + 1) / len(values)] for rank, value in enumerate(values)]
