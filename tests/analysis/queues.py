"""Queues in virtual time whose limit is known in closed form: what the search for capacity is held against.

A router with `servers` nodes, arrivals Poisson at rate r, service exponential at rate mu each (M/M/c). The time to
first token is the wait for a node: P(W > t) = C(c, a) exp(-(c mu - r) t), with Erlang's C and a = r / mu. So the rate
at which a share q waits at most `limit_s` is the root of that, without simulating anything.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from loadtest.analysis.capacity import Objective, Step, StepResult
from loadtest.analysis.frames import Floats
from loadtest.analysis.intervals import Clusters, design_effect


def lindley_s(rng: np.random.Generator, rate_per_s: float, service_s: Floats) -> tuple[Floats, Floats]:
    """Arrivals and waits of a queue with one server: W(n+1) = max(0, W(n) + S(n) - A(n)), as a running maximum."""
    gaps = rng.exponential(1 / rate_per_s, len(service_s))
    steps = np.concatenate([[0.0], np.cumsum(service_s[:-1] - gaps[1:])])
    return np.cumsum(gaps), steps - np.minimum.accumulate(steps)


@dataclass(frozen=True)
class Queue:
    """M/M/c. `limit_s` bounds the wait of a share `share` of the turns."""

    servers: int
    mu_per_s: float
    limit_s: float
    share: float = 0.95

    def waits_longer(self, rate_per_s: float) -> float:
        """P(W > limit_s)."""
        offered, c = rate_per_s / self.mu_per_s, self.servers
        if offered >= c:
            return 1.0
        # Erlang's B is the Poisson probability of c over that of at most c.
        blocked = math.exp(c * math.log(offered) - offered - special.gammaln(c + 1)) / float(special.pdtr(c, offered))
        delayed = blocked / (1 - offered / c * (1 - blocked))
        return delayed * math.exp(-(c * self.mu_per_s - rate_per_s) * self.limit_s)

    def limit_per_s(self) -> float:
        """The rate at which exactly the share `share` waits at most `limit_s`."""
        high = self.servers * self.mu_per_s
        return float(optimize.brentq(lambda rate: self.waits_longer(rate) - (1 - self.share), high / 1e6, high))

    def run(self, step: Step, warmup_s: float = 10.0) -> StepResult:
        """One step: everything is offered to an empty queue, what is due after the warm-up is measured."""
        rng = np.random.default_rng([step.seed, 77])
        n = rng.poisson(step.rate_per_s * (step.seconds + warmup_s))
        service_s = rng.exponential(1 / self.mu_per_s, n)
        if self.servers == 1:
            due_s, waits_s = lindley_s(rng, step.rate_per_s, service_s)
        else:
            due_s, waits_s = np.cumsum(rng.exponential(1 / step.rate_per_s, n)), np.empty(n)
            free = [0.0] * self.servers
            for i, (due, service) in enumerate(zip(due_s.tolist(), service_s.tolist(), strict=True)):
                begun = max(due, free[0])
                waits_s[i] = begun - due
                heapq.heapreplace(free, begun + service)
        kept = due_s >= warmup_s
        misses = waits_s[kept] > self.limit_s
        effect = design_effect(misses, Clusters.of(np.arange(len(misses)), due_s[kept]))
        told = Objective(name="ttft_ms_p95", share=self.share, n=len(misses), misses=int(misses.sum()), effect=effect)
        return StepResult(
            kind=step.kind, rate_per_s=step.rate_per_s, seconds=step.seconds, seed=step.seed, objectives=(told,)
        )
