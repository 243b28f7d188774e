"""Who works in the simulated network: nodes of a few hardware classes, drawn from a seed.

Speeds are of the simulated network at `--speed 1`, four times faster than the few measurements published for real
nodes (a 7B q4 model on 10 GPU layers: 76 prompt tokens/s, 9.9 tokens/s), so that a run of minutes shows what
takes an hour there. `network.py` shortens the documented deadlines by the same factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from loadtest.simulator.scenario import node_id

MODELS = ("llama3.1-8b-q4", "qwen2.5-7b-q4", "gemma-3-12b-q4")
STAKE_COR = 4_000  # of Phase #4; some hold more
# Where nodes are: name, there and back in ms, share. No census is published.
REGIONS = (("eu", 15.0, 0.4), ("us-east", 35.0, 0.25), ("us-west", 60.0, 0.15), ("asia", 110.0, 0.2))
FLAKY_SHARE = 0.15  # nodes that lose work whatever their hardware: stale pools, lost transactions
NODES_PER_OPERATOR = 2.5


@dataclass(frozen=True, slots=True)
class Hardware:
    """One class of machines. Speeds are lognormal around these medians: the whole is multi-modal and heavy-tailed."""

    name: str
    share: float
    prefill_tokens_per_s: float
    decode_ms: float
    sigma: float
    slots: int  # requests it serves side by side before it slows down
    reliability: float  # median share of its tasks that it does not lose


HARDWARE = (
    Hardware("cpu", 0.33, 900.0, 34.0, 0.35, 4, 0.95),
    Hardware("gpu", 0.46, 3500.0, 11.0, 0.30, 16, 0.98),
    Hardware("big-gpu", 0.21, 9000.0, 5.5, 0.25, 48, 0.99),
)


@dataclass(frozen=True, slots=True, eq=False)  # a node is itself; comparing all its fields would take time
class Node:
    """An inference node ("miner" in the API). `key`, the lower-case address, is what machine and truth log use."""

    address: str  # mixed case, as the stats backend writes it
    key: str
    node_id: str
    operator: str
    model: str
    hardware: str
    prefill_ns: int  # per prompt token
    decode_ns: int  # per output token
    slots: int
    reliability: float
    region: str
    distance_ns: int  # between the router and the node, there and back
    stake: int  # whole COR


def draw_address(rng: Random) -> str:
    """An address of 40 hex digits in mixed case. Not EIP-55: readers fold the case, nobody checks the checksum."""
    return "0x" + "".join(rng.choice("0123456789abcdefABCDEF") for _ in range(40))


def draw_nodes(seed: int, count: int, flaky_share: float = FLAKY_SHARE) -> tuple[Node, ...]:
    """`count` nodes. Classes are dealt by quota, so that a small network also has slow and fast nodes."""
    rng = Random(f"{seed}/nodes")
    places = Random(f"{seed}/regions")
    classes = _deal_classes(rng, count)
    operators = [f"operator-{i + 1:02d}" for i in range(max(1, round(count / NODES_PER_OPERATOR)))]
    models = MODELS[: min(len(MODELS), count)]
    nodes = []
    for i, hardware in enumerate(classes):
        address = draw_address(rng)
        machine = rng.lognormvariate(0.0, hardware.sigma)  # one factor for both speeds: a slow machine is slow
        prefill_s = machine * rng.lognormvariate(0.0, 0.15) / hardware.prefill_tokens_per_s
        lost = (1.0 - hardware.reliability) * rng.lognormvariate(0.0, 0.5)
        flaky, lost_more = rng.random(), rng.uniform(0.1, 0.3)
        if flaky < flaky_share:
            lost += lost_more
        region, distance_ms, _ = places.choices(REGIONS, [share for _, _, share in REGIONS])[0]
        nodes.append(
            Node(
                address=address,
                key=address.lower(),
                node_id=node_id(i),
                operator=rng.choice(operators),
                model=models[i % len(models)],
                hardware=hardware.name,
                prefill_ns=round(prefill_s * 1e9),
                decode_ns=round(hardware.decode_ms * machine * 1e6),
                slots=hardware.slots,
                reliability=1.0 - min(lost, 0.6),
                region=region,
                distance_ns=round(distance_ms * places.lognormvariate(0.0, 0.2) * 1e6),
                stake=STAKE_COR + (places.randrange(1, 20) * 500 if places.random() < 0.2 else 0),
            )
        )
    return tuple(nodes)


def _deal_classes(rng: Random, count: int) -> list[Hardware]:
    dealt = [hardware for hardware in HARDWARE for _ in range(math.ceil(hardware.share * count))]
    rng.shuffle(dealt)
    return dealt[:count]
