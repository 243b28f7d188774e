"""All boards there are."""

from __future__ import annotations

from harness_boards import FITNESS, NIGHTLY
from load_boards import LATENCY, SWARM
from network_boards import NODES, PIPELINE

BOARDS = (SWARM, LATENCY, NODES, PIPELINE, FITNESS, NIGHTLY)
