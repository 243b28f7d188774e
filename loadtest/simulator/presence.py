"""When a node is there: absences and restarts, drawn from the node's own stream as time goes on.

Known ahead, so that everything about a task is decided when it is submitted. Most simulated minutes need one look at
the next absence and no draw.
"""

from __future__ import annotations

from random import Random

from loadtest.simulator.scenario import Churn
from loadtest.simulator.tasks import NEVER_NS, SECOND_NS

RESTART_S = 90.0


class Presence:
    """One node's presence. Ask with instants that do not run backwards."""

    __slots__ = ("_churn", "_rng", "_speed", "away_ns", "back_ns")

    def __init__(self, seed: int, node_id: str, churn: Churn, start_ns: int, speed: float) -> None:
        self._rng = Random(f"{seed}/churn/{node_id}")
        self._churn = churn
        self._speed = speed
        self.away_ns = self.back_ns = NEVER_NS  # the present or next absence
        if churn.up_h_mean:
            self._draw(start_ns)

    def _draw(self, from_ns: int) -> None:
        rng, churn = self._rng, self._churn
        up_s = rng.expovariate(1.0 / (churn.up_h_mean * 3600))
        restarts = rng.random() < churn.restart_share
        away_s = RESTART_S * rng.lognormvariate(0.0, 0.3) if restarts else 0.0
        away_s = away_s or churn.away_min_median * 60 * rng.lognormvariate(0.0, 1.0)
        self.away_ns = from_ns + round(up_s / self._speed * SECOND_NS)
        self.back_ns = self.away_ns + round(away_s / self._speed * SECOND_NS)

    def is_up(self, now_ns: int) -> bool:
        while self.back_ns <= now_ns:
            self._draw(self.back_ns)
        return now_ns < self.away_ns

    def leaves_ns(self, now_ns: int) -> int:
        """From when on work begun at `now_ns` is lost: `now_ns` itself for a node that is away."""
        return self.away_ns if self.is_up(now_ns) else now_ns
