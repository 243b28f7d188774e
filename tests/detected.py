"""Which faults of the simulator each network check must find, at which sizes; and which nobody can see from outside."""

from __future__ import annotations

from dataclasses import dataclass

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


CASES = [
    case("biased-shuffle=0.1", "10 % of the tasks", "shuffling"),
    case("biased-shuffle=0.25", "25 % of the tasks", "shuffling"),
    case("biased-shuffle=1", "all tasks", "shuffling"),
    case("sticky-node=0.05", "one node in 20", "shuffling"),
    case("starved-node=0.05", "one node in 20", "starvation"),
]

BLIND: dict[str, str] = {}
