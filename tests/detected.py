"""Which faults of the simulator each network check must find, at which sizes; and which nobody can see from outside."""

from __future__ import annotations

from dataclasses import dataclass, replace

from played import DEFAULT, Play

from loadtest.simulator.scenario import Churn, Clocks, SessionRule

CLEAN_RUNS = 100
FAULT_RUNS = 20
DEPENDABLE = 18  # of them: each fault is found so often at one of its sizes


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


def other(name: str, size: str, *checks: str, plan: Play) -> Case:
    return Case(name, size, (), checks, plan)


# Counters begin again every thirty minutes: a run must last longer to see it.
LONG = replace(DEFAULT, seconds=1600.0)
RESTING = replace(DEFAULT, changes={"clocks": Clocks(user_cooldown_s=5.0)})
BILLED = replace(DEFAULT, bill=True)
CHURN = {"churn": Churn(up_h_mean=2.0, away_min_median=20.0, restart_share=0.0)}
LEAVING = replace(DEFAULT, changes=CHURN)
KEPT = [
    SessionRule(name, size, reserve_s=20_000.0, reserve_tasks=100_000)
    for name, size in (("11", 1), ("12", 2), ("21", 3))
]
UNNOTICED = replace(
    DEFAULT, seconds=2400.0, rate_per_s=1.0, changes={**CHURN, "clocks": Clocks(alive_s=7200.0), "sessions": KEPT[:2]}
)
LONG_UNNOTICED = replace(UNNOTICED, seconds=7200.0, rate_per_s=0.4, poll_s=60.0, node_poll_s=300.0)
CROWDED = replace(DEFAULT, rate_per_s=8.0, seconds=800.0)
SOURCES = replace(
    DEFAULT,
    seconds=9000.0,
    rate_per_s=0.35,
    poll_s=60.0,
    node_poll_s=300.0,
    bill=True,
    workers=3,
    names_models=True,
    changes={"sessions": KEPT},
)


@dataclass(frozen=True)
class Clean:
    """A plan without a fault. `right` are checks that speak there and should: their promise is not kept."""

    name: str
    what: str
    plan: Play
    right: tuple[str, ...] = ()


CLEAN = [
    Clean("usual", "as above", DEFAULT),
    Clean(
        "every source",
        "2.5 hours at 0.35 requests a second from three workers, sessions that keep their nodes, a model named in "
        "every answer, a bill; polled every minute (nodes: every five)",
        SOURCES,
    ),
    Clean(
        "nodes leave",
        "as usual, but every node leaves after 2 h in the mean, and is missed by the network in its six minutes: "
        "uptime and churn are right to say so, failover has something to look at",
        LEAVING,
        ("uptime", "churn"),
    ),
]

CASES = [
    case("biased-shuffle=0.1", "1 task in 10", "shuffling"),
    case("biased-shuffle=0.25", "1 task in 4", "shuffling"),
    case("biased-shuffle=1", "every task", "shuffling"),
    case("long-prompts-apart=0.25", "1 long prompt in 4", "choice by prompt length"),
    case("long-prompts-apart=0.5", "1 long prompt in 2", "choice by prompt length"),
    case("long-prompts-apart=1", "every long prompt", "choice by prompt length"),
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
    case("double-billing=0.002", "1 task in 500, with a bill", "charges", plan=BILLED),
    case("unbilled-success=0.002", "1 task in 500, with a bill", "charges", plan=BILLED),
    case("billed-failure=0.05", "1 task in 20 without a result, with a bill", "charges", plan=BILLED),
    case("billed-failure=0.25", "1 task in 4 without a result, with a bill", "charges", plan=BILLED),
    case("token-over-count=0.002", "1 task in 500, half as many again", "usage"),
    case("token-over-count=0.05", "1 task in 20, half as many again", "usage"),
    case("wrong-model=0.002", "1 task in 500, named in the answer", "promised model"),
    case("wrong-model=0.05", "1 task in 20, named in the answer", "promised model"),
    # Not faults by name: other rules of the network, each of which one check is there to see.
    other("a node rests after a task", "5 s", "stickiness", plan=RESTING),
    other("nodes leave", "every 2 h, for 20 minutes", "churn", "uptime", plan=LEAVING),
    other("nodes leave unnoticed", "and keep their tasks for 2 h; 40 minutes", "failover", plan=UNNOTICED),
    other("nodes leave unnoticed", "the same; 2 hours", "failover", plan=LONG_UNNOTICED),
    other("overload", "8 requests a second, 24 nodes", "redundancy", plan=CROWDED),
    other("overload", "8 requests a second, 12 nodes", "redundancy", plan=replace(CROWDED, changes={"nodes": 12})),
]

_OUTCOME = "its requests fail and have an outcome and an error kind of their own, which the account of the run counts"
_WIRE = "a form of the answer that the client reads; no fault of the network"

BLIND: dict[str, str] = {
    "buffering-proxy": "seen by `loadtest check`, and in the report as TTFT close to E2E; no check of these",
    "late-first-token": "speed against an earlier run: the nightly comparison sees it; no check of these",
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
