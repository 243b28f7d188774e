"""How often the gate fires: simulated nights, by number of runs, run-to-run scatter and true change of one figure.

    python benchmarks/gate_power.py                 # the tables of docs/gate.md, 1,000 pairs a cell, about 2 minutes
    python benchmarks/gate_power.py --pairs 200     # rough, for a look

Six figures per run, half of whose variance is common to a run; latencies and goodput are log-normal. Only TTFT p50 is
shifted. *Fires*: at least one figure is called worse; *caught*: TTFT p50 is. The second table is of change points: one
night's runs after 20 runs of history, and the histories of one level in which anything at all is found. No clock, no
load: the same seed gives the same table on any machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "tests")]

from made_runs import made_side  # noqa: E402

from loadtest.analysis.regression import compare_sides  # noqa: E402
from loadtest.analysis.run_figures import METRIC  # noqa: E402
from loadtest.analysis.trend import change_points  # noqa: E402

CELLS = ((5, 5, 0.05), (6, 6, 0.05), (8, 8, 0.05), (6, 30, 0.05), (6, 6, 0.10), (8, 8, 0.10), (6, 30, 0.10))
SHIFTS = (0.0, 0.10, 0.15, 0.20)
HISTORY, NIGHT = 20, 6


def fired(after: int, before: int, sd: float, shift: float, pairs: int, draw: np.random.Generator) -> float:
    """The share of pairs in which the gate fires (no shift) or catches the shifted figure."""
    count = 0
    for _ in range(pairs):
        old, new = made_side("b", before, draw, sd), made_side("a", after, draw, sd, ttft_ms_p50=1 + shift)
        worse = [each.metric.name for each in compare_sides(old, new) if each.verdict == "worse"]
        count += bool(worse) if not shift else "ttft_ms_p50" in worse
    return count / pairs


def noticed(sd: float, shift: float, pairs: int, draw: np.random.Generator) -> float:
    """The share of histories in which the last night's shift is a change point; any point at all without one."""
    count = 0
    for _ in range(pairs):
        values = [float(v) for v in 400 * np.exp(draw.normal(0, sd, HISTORY + NIGHT))]
        values[HISTORY:] = [v * (1 + shift) for v in values[HISTORY:]]
        points = change_points(values, METRIC["ttft_ms_p50"])
        count += bool(points) if not shift else any(abs(each.at - HISTORY) <= 1 and each.worse for each in points)
    return count / pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000, help="simulated pairs of a cell (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = np.random.default_rng(args.seed)
    heads = "".join(f" {100 * shift:+.0f} % |" for shift in SHIFTS[1:])
    print(f"| runs, tonight v baseline | run-to-run sd | false alarm |{heads}\n|--:|--:|--:|--:|--:|--:|")
    for after, before, sd in CELLS:
        shares = [fired(after, before, sd, shift, args.pairs, draw) for shift in SHIFTS]
        cells = "".join(f" {100 * share:.1f} % |" for share in shares)
        print(f"| {after} v {before} | {100 * sd:.0f} % |{cells}", flush=True)
    print(f"\n| history, then tonight | run-to-run sd | false alarm |{heads}\n|--:|--:|--:|--:|--:|--:|")
    for sd in (0.05, 0.10):
        shares = [noticed(sd, shift, args.pairs, draw) for shift in SHIFTS]
        cells = "".join(f" {100 * share:.1f} % |" for share in shares)
        print(f"| {HISTORY}, then {NIGHT} | {100 * sd:.0f} % |{cells}", flush=True)


if __name__ == "__main__":
    main()
