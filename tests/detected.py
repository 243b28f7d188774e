"""Which faults of the simulator each network check must find, at which sizes; and which nobody can see from outside."""

from __future__ import annotations

from dataclasses import dataclass, replace

from played import DEFAULT, Play

CLEAN_RUNS = 100
FAULT_RUNS = 10


@dataclass(frozen=True)
class Case:
    """A fault at one size. `checks`: any of them finds it."""

    fault: str
    size: str
    switches: tuple[str, ...]
    checks: tuple[str, ...]
    plan: Play = DEFAULT


def case(switch: str, size: str, *checks: str, plan: Play = DEFAULT) -> Case:
    return Case(switch.partition("=")[0], size, (switch,), checks, plan)


# Counters begin again every thirty minutes: a run must last longer to see it.
LONG = replace(DEFAULT, seconds=1600.0)

CASES = [
    case("biased-shuffle=0.1", "1 task in 10", "shuffling"),
    case("biased-shuffle=0.25", "1 task in 4", "shuffling"),
    case("biased-shuffle=1", "every task", "shuffling"),
    case("sticky-node=0.05", "about 1 node in 20", "shuffling"),
    case("starved-node=0.05", "about 1 node in 20", "starvation"),
    case("misreporting-node=0.05", "about 1 node in 20", "claims"),
    case("misreporting-node=0.2", "about 1 node in 5", "claims"),
    case("slow-but-reputed-node=0.05", "about 1 node in 20", "claims"),
    case("slow-but-reputed-node=0.2", "about 1 node in 5", "claims"),
    case("lost-task=0.002", "1 task in 500", "tasks end"),
    case("lost-task=0.02", "1 task in 50", "tasks end"),
    case("stuck-task=0.002", "1 task in 500", "tasks end"),
    case("stuck-task=0.02", "1 task in 50", "tasks end"),
    case("duplicate-task=0.002", "1 task in 500", "tasks count once"),
    case("duplicate-task=0.02", "1 task in 50", "tasks count once"),
    case("wrong-counters=0.1", "10 % too high, about 1 node in 10", "leaderboard counters"),
    case("wrong-counters=0.5", "10 % too high, every other node", "leaderboard counters"),
    case("late-counters=0.1", "10 minutes, about 1 node in 10", "tasks reach the reputation"),
    case("stale-snapshot=1", "never refreshed", "leaderboard counters"),
    case("missing-node=0.1", "about 1 node in 10", "nodes are listed"),
    case("address-case-change=0.1", "about 1 node in 10", "address spelling"),
    case("counter-reset=0.1", "once, about 1 node in 10", "counter resets", plan=LONG),
    case("clock-skew=0.1", "90 s ahead, about 1 node in 10", "node clocks"),
    case("double-billing=0.02", "1 task in 50", "balances"),
    case("double-billing=0.05", "1 task in 20", "balances"),
    case("unbilled-success=0.02", "1 task in 50", "balances"),
    case("unbilled-success=0.05", "1 task in 20", "balances"),
    case("billed-failure=1", "every task without a result", "balances"),
    case("token-over-count=0.002", "1 task in 500, half as many again", "usage"),
    case("token-over-count=0.05", "1 task in 20, half as many again", "usage"),
]

_OUTCOME = "its requests fail and have an outcome and an error kind of their own, which the account of the run counts"
_WIRE = "a form of the answer that the client reads; no fault of the network"

BLIND: dict[str, str] = {
    "wrong-model": "a router calls every model `default`, and the client does not keep the model that an answer names",
    "buffering-proxy": "seen by `loadtest check`, and in the report as TTFT close to E2E; no check of these",
    "slow-accept": "seen in the connect time of new connections; no check of these",
    **dict.fromkeys(
        (
            "connection-reset",
            "reset-before-headers",
            "bad-gateway",
            "429-storm",
            "cut-stream",
            "error-in-stream",
            "early-end",
            "json-for-stream",
            "only-eos",
            "unfinished-think",
            "html-200",
        ),
        _OUTCOME,
    ),
    **dict.fromkeys(
        (
            "missing-done",
            "keep-alive-comment",
            "crlf",
            "no-space",
            "event-line",
            "several-data-lines",
            "bom",
            "byte-splits",
            "two-events-in-one-packet",
            "interleaved-miners",
            "gzip",
            "usage-only-chunk",
        ),
        _WIRE,
    ),
}
