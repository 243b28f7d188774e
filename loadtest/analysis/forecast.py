"""What a profile will offer, worked out from the schedule itself: nothing is sent, and no clock is read.

Arrivals are the schedule's own, every one. Shapes (turns, tokens, pauses) are those of the first `SHAPES_MAX`
conversations or of an even sample of them, which the forecast states. How long an answer takes is not known before a
run: it is an assumption, stated too, on which concurrency and the times of later turns hang.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from loadtest.analysis.frames import Floats
from loadtest.analysis.percentiles import LEVELS, SMALLEST_SAMPLE
from loadtest.analysis.series import running
from loadtest.analysis.slo import turns_needed
from loadtest.traffic.profile import Profile, profile_hash
from loadtest.traffic.replay import Trace
from loadtest.traffic.schedule import ConversationShape, Schedule

SHAPES_MAX = 20_000
BINS = 120
SOCKETS_OF_A_WORKER = 4  # counted in /proc of a worker of the smoke profile beside its requests, 2026-11-25
WORKER_MB = 133  # resident memory of a worker of the demo profile (40 conversations/s, two workers), 2026-11-25
ROW_KB = (
    0.87  # what the folder of that run (2,153 rows, 2,232 KB, joined and reported) has above a run of 26 rows, by row
)
FIRST_MB = 0.36  # the folder of a run of 26 rows: report, summary, manifest, a few snapshots


class Assumed(NamedTuple):
    """What a plan has to suppose."""

    service_s: float = 10.0  # one answer, end to end; profiles/community.toml expects the same
    workers: int = 2
    price_per_million_prompt_tokens: float = 0.0
    price_per_million_output_tokens: float = 0.0
    price_per_request: float = 0.0


class Requests(NamedTuple):
    """The requests of the walked conversations, one entry each; `weight` conversations stand behind every one."""

    due_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    streams: Floats
    first: Floats  # 1 for a first turn
    ends_s: Floats  # of its conversation
    weight: float


def forecast(profile: Profile, seed: int, trace: Trace | None, assumed: Assumed) -> dict[str, Any]:
    """Everything `loadtest plan` says, as JSON holds it. ValueError where the schedule cannot be made."""
    load = profile.load
    schedule = Schedule(profile, seed, trace)
    # Conversations of a trace have no instants of their own: they come when the profile says.
    offered_s = load.duration_s if trace is None or trace.end_us is None else trace.end_us / 1e6
    starts_s = (
        np.array([arrival.due_us for arrival in schedule.arrivals(int(offered_s * 1e6))]) / 1e6
        if load.mode == "open"
        else _members_starts(schedule, offered_s, assumed.service_s)
    )
    requests = _walk(schedule, starts_s, assumed.service_s)
    warmup_s = load.warmup_s if load.warmup_s < offered_s else 0.0
    due = requests.due_s < offered_s  # a turn due later is not reached (swarm/turns.py); the drain is for answers
    measured = due & (requests.due_s >= warmup_s)
    prompt, output = requests.prompt_tokens, requests.output_tokens
    found: dict[str, Any] = {
        "profile": profile.name,
        "profile_hash": profile_hash(profile),
        "mode": load.mode,
        "arrivals": load.arrivals,
        "seed": seed,
        "encoding": profile.writing.encoding,
        "offered_s": offered_s,
        "warmup_s": warmup_s,
        "conversations": len(starts_s),
        "conversations_walked": round(len(starts_s) / requests.weight),
        "requests": round(len(requests.due_s) * requests.weight),
        "requests_due": _total(due, requests),
        "requests_measured": _total(measured, requests),
        "requests_measured_streamed": _total(measured & (requests.streams > 0), requests),
        "prompt_tokens": round(float(prompt[due].sum()) * requests.weight),
        "output_tokens_max": round(float(output[due].sum()) * requests.weight),
        "prompt_tokens_p50_p95_max": _three(prompt),
        "output_tokens_p50_p95_max": _three(output),
        "assumed": assumed._asdict(),
    }
    found["series"] = _series(requests, starts_s, offered_s, assumed.service_s)
    found["concurrency"] = _concurrency(found, requests, load.in_flight_max or load.members, assumed)
    found["per_worker"] = _per_worker(found, assumed)
    found["run_folder_mb"] = round(FIRST_MB + found["requests_due"] * ROW_KB / 1024, 1)
    found["cost"] = _cost(found, assumed)
    found["percentiles"] = _percentiles(found)
    found["slos"] = [_slo(slo.metric, slo.limit, found) for slo in profile.slos]
    found["warnings"] = _warnings(found)
    return found


def _members_starts(schedule: Schedule, offered_s: float, service_s: float) -> Floats:
    """When the members of a closed load begin their conversations, if every answer takes `service_s`.

    Members take the next conversation in the order in which they come free, as the driver lets them.
    """
    free = [0.0] * schedule.profile.load.members
    starts: list[float] = []
    while free[0] < offered_s and len(starts) < 50 * SHAPES_MAX:
        shape = schedule.shape(len(starts))
        start = free[0] + shape.turns[0].think_us / 1e6
        starts.append(start)
        lasts = sum(turn.think_us for turn in shape.turns[1:]) / 1e6 + service_s * len(shape.turns)
        heapq.heapreplace(free, start + max(lasts, 1e-3))
    return np.array([start for start in starts if start < offered_s])


def _walk(schedule: Schedule, starts_s: Floats, service_s: float) -> Requests:
    step = max(1, math.ceil(len(starts_s) / SHAPES_MAX))
    rows: list[tuple[float, int, int, bool, bool, float]] = []
    for index in range(0, len(starts_s), step):
        shape: ConversationShape = schedule.shape(index)
        at_s = float(starts_s[index])
        begun = len(rows)
        for number, turn in enumerate(shape.turns):
            if number:
                at_s += service_s + turn.think_us / 1e6
            rows.append((at_s, turn.prompt_tokens, turn.output_tokens_max, shape.stream, number == 0, 0.0))
        rows[begun:] = [(*row[:5], at_s + service_s) for row in rows[begun:]]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 6).T
    walked = len(range(0, len(starts_s), step))
    due, prompt, output, streams, first, ends = columns
    return Requests(due, prompt, output, streams, first, ends, len(starts_s) / walked if walked else 1.0)


def _total(mask: Any, requests: Requests) -> int:
    return round(int(mask.sum()) * requests.weight)


def _three(values: Floats) -> list[int]:
    if not len(values):
        return [0, 0, 0]
    return [int(value) for value in np.quantile(values, [0.5, 0.95, 1.0], method="inverted_cdf")]


def _series(requests: Requests, starts_s: Floats, offered_s: float, service_s: float) -> list[dict[str, float]]:
    """Rates and numbers in flight over time, in BINS equal bins."""
    edges = np.linspace(0, offered_s, BINS + 1)
    width = edges[1] - edges[0]
    middles = edges[:-1] + width / 2
    begun = np.histogram(starts_s, edges)[0] / width
    sent = np.histogram(requests.due_s, edges)[0] * requests.weight / width
    flying = running(requests.due_s, requests.due_s + service_s, middles) * requests.weight
    first = requests.first > 0
    alive = running(requests.due_s[first], requests.ends_s[first], middles) * requests.weight
    return [
        {
            "t_s": round(float(t), 3),
            "conversations_per_s": round(float(a), 4),
            "requests_per_s": round(float(b), 4),
            "requests_in_flight": round(float(c), 2),
            "conversations_in_flight": round(float(d), 2),
        }
        for t, a, b, c, d in zip(middles, begun, sent, flying, alive, strict=True)
    ]


def _concurrency(found: dict[str, Any], requests: Requests, cap: int, assumed: Assumed) -> dict[str, Any]:
    """Little's law, mean in flight = rate x time, beside the peak of the schedule played through."""
    first = requests.first > 0
    lasts_s = requests.ends_s[first] - requests.due_s[first]
    rate = found["conversations"] / found["offered_s"]
    request_rate = found["requests_due"] / found["offered_s"]
    alive = rate * float(lasts_s.mean()) if len(lasts_s) else 0.0
    return {
        "requests_by_little": round(request_rate * assumed.service_s, 1),
        # Members are never more than they are, whatever the edges of a short run would make of it.
        "conversations_by_little": round(min(alive, cap) if found["mode"] == "closed" else alive, 1),
        "conversation_s_mean": round(float(lasts_s.mean()) if len(lasts_s) else 0.0, 1),
        "requests_peak": math.ceil(max(each["requests_in_flight"] for each in found["series"])),
        "conversations_peak": math.ceil(max(each["conversations_in_flight"] for each in found["series"])),
        "cap": cap,
    }


def _per_worker(found: dict[str, Any], assumed: Assumed) -> dict[str, Any]:
    peak = min(found["concurrency"]["requests_peak"], found["concurrency"]["cap"] or math.inf)
    return {
        "workers": assumed.workers,
        "sockets": SOCKETS_OF_A_WORKER + math.ceil(peak / assumed.workers),
        "memory_mb": WORKER_MB,
        "requests_per_s_peak": round(max(e["requests_per_s"] for e in found["series"]) / assumed.workers, 2),
    }


def _cost(found: dict[str, Any], assumed: Assumed) -> float | None:
    """At the stated prices, every answer as long as its cap; None where no price is stated."""
    prices: tuple[float, ...] = assumed[2:]
    if not any(prices):
        return None
    amounts = (found["prompt_tokens"] / 1e6, found["output_tokens_max"] / 1e6, found["requests_due"])
    return round(float(np.dot(prices, amounts)), 6)


def _percentiles(found: dict[str, Any]) -> list[dict[str, Any]]:
    """How many requests lie beyond each percentile, and whether the sample supports it."""
    rows = []
    for metrics, n in (
        ("E2E", found["requests_measured"]),
        ("TTFT, TPOT", found["requests_measured_streamed"]),
    ):
        for name, q in LEVELS:
            needed = SMALLEST_SAMPLE[name]
            beyond = math.floor(n * (1 - q) + 1e-9)
            rows.append({"metrics": metrics, "percentile": name, "n": n, "beyond": beyond, "needed": needed})
    return rows


def _slo(metric: str, limit: float, found: dict[str, Any]) -> dict[str, Any]:
    """The turns an objective has, and how many it needs to pass without a single miss (analysis/slo.py)."""
    level = re.search(r"_p(\d+)$", metric)
    share = int(level[1]) / 100 if level else limit
    streamed = metric.startswith(("ttft", "tpot", "itl"))
    n = found["requests_measured_streamed" if streamed else "requests_measured"]
    needed = turns_needed(share)
    return {"metric": metric, "n": n, "needed": needed, "supported": n >= needed}


def _warnings(found: dict[str, Any]) -> list[str]:
    warnings = [
        f"{slo['metric']}: {slo['n']} measured requests cannot support it, {slo['needed']} without a miss would: "
        "offer longer or more"
        for slo in found["slos"]
        if not slo["supported"]
    ]
    named = Counter(level for slo in found["slos"] if (level := slo["metric"].rpartition("_")[2]) in SMALLEST_SAMPLE)
    warnings += [
        f"{row['percentile']} of {row['metrics']}: {row['n']} requests are too few to compare runs by it, "
        f"{row['needed']} would do"
        for row in found["percentiles"]
        if row["n"] and row["percentile"] in named and row["n"] < row["needed"]
    ]
    concurrency = found["concurrency"]
    if found["mode"] == "open" and concurrency["conversations_peak"] > concurrency["cap"]:
        warnings.append(
            f"{concurrency['conversations_peak']} conversations at once at answers of "
            f"{found['assumed']['service_s']:g} s are more than in_flight_max {concurrency['cap']}: some are dropped"
        )
    unreached = found["requests"] - found["requests_due"]
    if unreached > found["requests"] / 100:
        warnings.append(f"{unreached} requests of conversations that go on beyond the end will be not_reached")
    return warnings
