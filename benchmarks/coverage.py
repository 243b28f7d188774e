"""How often intervals of percentiles hold what they say, on heavy tails and on turns that depend on each other.

    python benchmarks/coverage.py            some minutes; writes docs/intervals.md

A run is simulated, the interval is computed as the report does it (`loadtest.analysis.intervals`), and the percentile
of the distribution behind it is known in closed form. Nominal is 95 %; beside it stands what the binomial interval
alone, which takes turns for independent, would have held, and how wide both are: half the width over the percentile,
median.

Dependence is put into the normal score z of each turn, which keeps its distribution, and so its percentiles, exact: the
value is F^-1(Phi(z)) with z = a * conversation + b * time + rest, a^2 and b^2 the shares of the variance. Time is an
effect of each minute, or an AR(1) of 1 s steps with a correlation time of 20 s. Conversations arrive at random over
the run, with turns and think times of the community profile (method: mean 2.55 turns, think time 70 s).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from loadtest.analysis.intervals import Clusters, intervals
from loadtest.quantiles import rank_interval

Floats = npt.NDArray[np.float64]
LEVELS = (0.5, 0.95, 0.99)
DOC = Path(__file__).resolve().parent.parent / "docs" / "intervals.md"


class Shape(NamedTuple):
    """A distribution of latencies by its inverse; `of_score` turns normal scores into values."""

    name: str
    of_score: Callable[[Floats], Floats]


class Dependence(NamedTuple):
    """Shares of the variance of the scores."""

    name: str
    conversation: float
    minute: float = 0.0
    ar: float = 0.0
    ar_s: float = 20.0


def pareto(z: Floats) -> Floats:
    """Pareto with tail index 1.5: no variance."""
    return np.asarray(special.ndtr(-z) ** (-1 / 1.5))


SHAPES = (
    Shape("lognormal, sigma 1", lambda z: np.exp(z)),
    Shape("Pareto, index 1.5", pareto),
)
DEPENDENCES = (
    Dependence("independent", 0.0),
    Dependence("conversation 30 %", 0.3),
    Dependence("minute 10 %", 0.0, minute=0.1),
    Dependence("conversation 20 %, minute 10 %", 0.2, minute=0.1),
    Dependence("AR(1) 20 s, 20 %", 0.0, ar=0.2),
    Dependence("conversation 20 %, AR(1) 20 s, 10 %", 0.2, ar=0.1),
)


class Cell(NamedTuple):
    """Of one percentile in many runs: shares of intervals that held, and of runs without an interval; half widths."""

    held: float
    binomial_held: float
    withheld: float
    half_width: float
    binomial_half_width: float


def simulate(rng: np.random.Generator, dependence: Dependence, run_s: float, per_s: float) -> tuple[Floats, ...]:
    """Scores, conversations and due times of the turns of a run of `run_s` seconds at about `per_s` turns a second."""
    lead_s = 900.0  # conversations that began before are under way, as in the middle of a long run
    count = rng.poisson((run_s + lead_s) * per_s / 2.55)
    turns = np.minimum(50, np.ceil(np.exp(rng.normal(-0.336, 1.477, count)))).astype(np.int64)
    conversation = np.repeat(np.arange(count), turns)
    first = np.cumsum(turns) - turns
    think_s = np.clip(np.exp(rng.normal(3.8, 1.0, len(conversation))), 2, 600)
    think_s[first] = 0.0
    elapsed = np.cumsum(think_s)
    due_s = np.repeat(rng.uniform(-lead_s, run_s, count) - elapsed[first], turns) + elapsed
    kept = (due_s >= 0) & (due_s < run_s)
    conversation, due_s = conversation[kept], due_s[kept]
    rest = 1 - dependence.conversation - dependence.minute - dependence.ar
    score = math.sqrt(rest) * rng.normal(size=len(due_s))
    score += math.sqrt(dependence.conversation) * rng.normal(size=count)[conversation]
    score += math.sqrt(dependence.minute) * rng.normal(size=int(run_s // 60) + 1)[(due_s // 60).astype(np.int64)]
    if dependence.ar:
        score += math.sqrt(dependence.ar) * ar1(rng, int(run_s) + 1, dependence.ar_s)[due_s.astype(np.int64)]
    return score, conversation.astype(np.float64), due_s


def ar1(rng: np.random.Generator, n: int, correlation_s: float) -> Floats:
    """Of unit variance, in steps of 1 s."""
    rho = math.exp(-1 / correlation_s)
    shocks = rng.normal(size=n) * math.sqrt(1 - rho**2)
    path = np.empty(n)
    path[0] = rng.normal()
    for i in range(1, n):
        path[i] = rho * path[i - 1] + shocks[i]
    return path


def coverage(
    shape: Shape, dependence: Dependence, *, run_s: float, per_s: float, runs: int, seed: int
) -> dict[float, Cell]:
    """Simulate so many runs and count."""
    rng = np.random.default_rng(seed)
    truth = {q: float(shape.of_score(np.array([special.ndtri(q)]))[0]) for q in LEVELS}
    told: dict[float, list[tuple[bool, float]]] = {q: [] for q in LEVELS}
    binomial: dict[float, list[tuple[bool, float]]] = {q: [] for q in LEVELS}
    for _ in range(runs):
        score, conversation, due_s = simulate(rng, dependence, run_s, per_s)
        values = shape.of_score(score)
        ordered = np.sort(values)
        for q, found in zip(LEVELS, intervals(values, Clusters.of(conversation, due_s), LEVELS), strict=True):
            ranks = rank_interval(len(values), q)
            if ranks is not None:
                low, high = float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1])
                binomial[q].append((low <= truth[q] <= high, (high - low) / 2 / truth[q]))
            if found.low is not None and found.high is not None:
                half = (found.high - found.low) / 2 / truth[q]
                told[q].append((found.low <= truth[q] <= found.high, half))
    return {q: _cell(told[q], binomial[q], runs) for q in LEVELS}


def _cell(told: list[tuple[bool, float]], binomial: list[tuple[bool, float]], runs: int) -> Cell:
    nan = float("nan")
    return Cell(
        held=float(np.mean([held for held, _ in told])) if told else nan,
        binomial_held=float(np.mean([held for held, _ in binomial])) if binomial else nan,
        withheld=1 - len(told) / runs,
        half_width=float(np.median([half for _, half in told])) if told else nan,
        binomial_half_width=float(np.median([half for _, half in binomial])) if binomial else nan,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated runs for each line")
    parser.add_argument("--seed", type=int, default=20221)
    parser.add_argument("--print", action="store_true", help="print the tables, leave docs/intervals.md alone")
    args = parser.parse_args()
    began = time.monotonic()
    tables = []
    for run_s, per_s in ((600.0, 5.0), (3600.0, 5.0)):
        # A tail changes widths and hardly coverage, so the second shape is measured on the shorter run.
        shapes = SHAPES if run_s == 600 else SHAPES[:1]
        lines = []
        for shape in shapes:
            for dependence in DEPENDENCES:
                runs = args.runs if run_s == 600 else args.runs // 2
                cells = coverage(shape, dependence, run_s=run_s, per_s=per_s, runs=runs, seed=args.seed)
                lines.append(line(shape, dependence, cells))
                print(lines[-1], file=sys.stderr, flush=True)
        tables.append(
            f"### Runs of {run_s:,.0f} s at {per_s:g} turns a second, {runs:,} of each\n\n{head()}" + "".join(lines)
        )
    text = "\n".join(tables) + f"\nCommand: `python benchmarks/coverage.py`, {time.monotonic() - began:.0f} s.\n"
    if args.print:
        print(text)
        return
    before, mark, _ = DOC.read_text(encoding="utf-8").partition("## Measured\n")
    DOC.write_text(before + mark + "\n" + text, encoding="utf-8")


def head() -> str:
    cells = "".join(
        f" {name} held | half width | no interval | binomial held, half width |" for name in ("p50", "p95", "p99")
    )
    return f"| values, dependence |{cells}\n|---|{'---|' * 12}\n"


def line(shape: Shape, dependence: Dependence, cells: dict[float, Cell]) -> str:
    parts = [
        f" **{100 * c.held:.1f} %** | {100 * c.half_width:.1f} % | {100 * c.withheld:.0f} % | "
        f"{100 * c.binomial_held:.1f} %, {100 * c.binomial_half_width:.1f} % |"
        for c in cells.values()
    ]
    return f"| {shape.name}; {dependence.name} |{''.join(parts)}\n"


if __name__ == "__main__":
    main()
