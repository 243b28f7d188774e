"""A scenario: what kind of network is simulated. TOML files in `scenarios/`, or any file of the same form.

Every field has a default, that of `small`; a file states what differs. What the documentation does not say is a field
here rather than a constant in the machine, and the comment at the field says that it is our guess.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from loadtest.simulator.faults import Faults, check_targets

FOLDER = Path(__file__).parent / "scenarios"

Count = Annotated[int, msgspec.Meta(ge=0)]
Some = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Period = Annotated[float, msgspec.Meta(gt=0)]


class ScenarioError(ValueError):
    """What is wrong with a scenario: one line for the user."""


class SessionRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session as created on chain. The documented example has 1 to 3 nodes, redundant 1, 300 s, 5 tasks."""

    id: str
    redundancy: Some = 1  # nodes that ack, precommit and commit each task
    min_nodes: Some = 1  # with fewer it accepts no task
    max_nodes: Count = 0  # nodes it reserves; 0: half of those that can serve its model
    reserve_s: Period = 300.0
    reserve_tasks: Some = 60  # the example's 5 would empty a small pool in seconds at the rates of a load test


class Clocks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The slow clocks of the network, at `--speed 1`."""

    ping_s: Period = 301.0  # nodes ping just over every five minutes
    alive_s: Period = 360.0  # a node not heard for longer is offline at the next tick of the pool oracle
    pool_tick_s: Period = 5.0  # documented: five minutes
    round_s: Period = 10.0  # a network task is created this often; not documented
    round_miners: Some = 3
    round_cooldown_s: Seconds = 20.0  # a node gets no further network task for so long; value not documented
    user_cooldown_s: Seconds = 0.0  # the same for user tasks, as long as others have room; not documented
    refresh_s: Period = 2.0  # the leaderboard is rebuilt this often; not documented


class Churn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes come and go. No figure is published."""

    up_h_mean: Seconds = 0.0  # exponential; 0: nodes are always there
    away_min_median: Period = 30.0  # lognormal, with a tail of hours
    restart_share: Share = 0.5  # of the absences that are restarts of about 90 s, which the pool does not notice


class RouterRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Queues inside the router. Both exist as switches; how long things take in them is our guess."""

    tx_queue: bool = False  # chain transactions one after the other; on in a real router by default
    tx_s: Seconds = 0.1
    stream_queue_blocking: bool = False  # a stream waits for a free lane; a real router blocks by default
    stream_lanes: Some = 8


class PaymentRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prices in the smallest unit of COR. No price is published; 0.001 a call is that of the x402 routes in USD."""

    price_task: Count = 10**15
    price_1000_tokens: Count = 10**15
    balance: Count = 10**24  # deposited for each session at the start
    on_empty: Literal["refuse", "serve"] = "refuse"  # "serve": payment is not enforced, the balance goes below zero
    empty_status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 402  # what the router answers then is not known


class Variants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shapes for which sources conflict. The first of each is the better evidenced one."""

    task_results: Literal["pairs", "flat"] = "pairs"  # of one task: {"data", "miners"}, or aligned with the assigned
    miners: Literal["map", "list", "bare-list"] = "map"  # {"nodes": {}}, {"miners": []}, []
    session_key: Literal["id", "session_id"] = "id"
    leaderboard: Literal["devnet5", "devnet7"] = "devnet5"  # devnet7 adds "qualitative" and "quantitive"
    network_tasks: Literal["stats", "data", "bare"] = "stats"


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """User tasks of the history before the start, and of a contest: Poisson, spread evenly over the sessions."""

    task_every_s: Period = 45.0
    prompt_tokens_max: Some = 800
    tokens_max: Some = 512


class LevelRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A level up needs so many successes in a row and such a rate; the real thresholds are not published."""

    top: Count = 5  # levels were capped at 5 in July 2025
    consecutive: Some = 12
    success_rate: Share = 0.8
    fall_rate: Share = 0.5  # over the last `window` network tasks: a level down
    window: Some = 20


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checked scenario."""

    name: str = "small"
    nodes: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 24
    history_s: Seconds = 8 * 3600.0  # played before the start, so that there is a reputation to join with
    pace: Period = 4.0  # times faster than the documented network, deadlines included; slow clocks are not
    flaky_share: Share = 0.15  # nodes that lose work whatever their hardware
    share_when_short: bool = True  # with an empty pool sessions share nodes rather than refuse
    sessions: Annotated[list[SessionRule], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [SessionRule("11", 1), SessionRule("12", 2), SessionRule("21", 3)]
    )
    clocks: Clocks = Clocks()
    churn: Churn = Churn()
    router: RouterRule = RouterRule()
    payment: PaymentRule = PaymentRule()
    variants: Variants = Variants()
    load: Load = Load()
    levels: LevelRule = LevelRule()
    faults: list[str] = []


def scenario_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_scenario(name_or_path: str) -> Scenario:
    """A scenario by name, or from a path that ends in .toml. ScenarioError: one line with file, field and fault."""
    named = not name_or_path.endswith(".toml")
    path = FOLDER / f"{name_or_path}.toml" if named else Path(name_or_path)
    if named and name_or_path not in scenario_names():
        known = ", ".join(scenario_names())
        raise ScenarioError(f"scenario {name_or_path!r}: not known; there are {known}, or give a path to a .toml file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ScenarioError(f"scenario {name_or_path}: {reason}; give a name or a readable .toml file") from None
    return read_scenario(text, path.stem)


def read_scenario(text: str, name: str) -> Scenario:
    """A scenario from the text of a file."""
    try:
        scenario = msgspec.convert({"name": name, **tomllib.loads(text)}, Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"scenario {name}: {str(error).splitlines()[0]}; see the README for the fields") from None
    ids = [session.id for session in scenario.sessions]
    if len(set(ids)) < len(ids):
        raise ScenarioError(f"scenario {name}: sessions: two have the same id; give each its own")
    for session in scenario.sessions:
        if not (session.id.isascii() and session.id.isdigit()):
            raise ScenarioError(f"scenario {name}: sessions: id {session.id!r} is no number; a router's ids are")
        if session.max_nodes and session.max_nodes < max(session.min_nodes, session.redundancy):
            raise ScenarioError(f"scenario {name}: session {session.id}: max_nodes is below min_nodes or redundancy")
    return scenario


def read_faults(scenario: Scenario, given: list[str], seed: int) -> Faults:
    """The scenario's faults and those of the command line; one given there replaces the scenario's of that name.

    FaultError: a switch cannot be understood, is given twice, or its target is nobody.
    """
    replaced = {text.partition("=")[0].strip() for text in given}
    kept = [text for text in scenario.faults if text.partition("=")[0].strip() not in replaced]
    faults = Faults.read([*kept, *given], seed)
    check_targets(faults, [node_id(i) for i in range(scenario.nodes)], [rule.id for rule in scenario.sessions])
    return faults


def node_id(position: int) -> str:
    """Nodes are called node-001, node-002, ..."""
    return f"node-{position + 1:03d}"
