"""How often the gate fires: simulated nights, by number of runs, run-to-run scatter and true change of one figure.

    python benchmarks/gate_power.py                 # the tables of docs/gate.md, 1,000 pairs a cell, 2 minutes of CPU
    python benchmarks/gate_power.py --pairs 200     # rough, for a look

Six figures per run, half of whose variance is common to a run; latencies and goodput are log-normal. Only TTFT p50 is
shifted. *False alarm*: at least one figure is called worse though nothing changed; +x %: TTFT p50 is called worse. The
second table adds what the nights themselves differ by, which no number of runs in one night averages out: TTFT p50 of
every night, tonight's included, scatters with that sd around its level. The third is of change points: one night's
runs after 20 runs of history, and the histories of one level in which anything at all is found. No clock, no load: the
same seed gives the same table on any machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "tests")]

from made_runs import made_side  # noqa: E402

from loadtest.analysis import trend  # noqa: E402
from loadtest.analysis.regression import compare_sides  # noqa: E402
from loadtest.analysis.run_figures import METRIC  # noqa: E402
from loadtest.analysis.trend import change_points  # noqa: E402

CELLS = ((5, 5, 0.05), (6, 6, 0.05), (8, 8, 0.05), (6, 30, 0.05), (6, 6, 0.10), (8, 8, 0.10), (6, 30, 0.10))
SHIFTS = (0.0, 0.10, 0.15, 0.20)
NIGHTS = ((1, 0.03), (5, 0.03), (1, 0.05), (5, 0.05))  # nights of six runs in the baseline, and sd between nights
HISTORY, NIGHT = 20, 6


def fired(after: int, before: int, sd: float, shift: float, pairs: int, draw: np.random.Generator) -> float:
    """The share of pairs in which the gate fires (no shift) or catches the shifted figure."""
    count = 0
    for _ in range(pairs):
        old, new = made_side("b", before, draw, sd), made_side("a", after, draw, sd, ttft_ms_p50=1 + shift)
        worse = [each.metric.name for each in compare_sides(old, new) if each.verdict == "worse"]
        count += bool(worse) if not shift else "ttft_ms_p50" in worse
    return count / pairs


def fired_among_nights(nights: int, between: float, shift: float, pairs: int, draw: np.random.Generator) -> float:
    """As `fired`, 6 runs tonight, a run-to-run sd of 5 %, and nights that differ."""
    count = 0
    for _ in range(pairs):
        old = []
        for night in range(nights):
            old += made_side(f"b{night}-", NIGHT, draw, 0.05, ttft_ms_p50=float(np.exp(draw.normal(0, between))))
        level = (1 + shift) * float(np.exp(draw.normal(0, between)))
        new = made_side("a", NIGHT, draw, 0.05, ttft_ms_p50=level)
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


def both_steps(windows: tuple[int, ...], pairs: int, seed: int) -> tuple[float, float]:
    """With windows of these lengths: in what share of histories with a level that comes (+25 %, 10 runs of 38) and goes
    both steps are found at their runs, and in what share of histories of 40 runs at one level anything is."""
    metric, draw = METRIC["ttft_ms_p50"], np.random.default_rng(seed)
    kept, trend.WINDOWS = trend.WINDOWS, windows
    both = alarms = 0
    for _ in range(pairs):
        levels = np.repeat([400.0, 500.0, 400.0], [14, 10, 14])
        found = change_points([float(v) for v in levels * np.exp(draw.normal(0, 0.03, len(levels)))], metric)
        both += [each.at for each in found] == [14, 24]
        alarms += bool(change_points([float(v) for v in 400 * np.exp(draw.normal(0, 0.05, 40))], metric))
    trend.WINDOWS = kept
    return both / pairs, alarms / pairs


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
    print(f"\n| baseline of nights | sd between nights | false alarm |{heads}\n|--:|--:|--:|--:|--:|--:|")
    for nights, between in NIGHTS:
        shares = [fired_among_nights(nights, between, shift, args.pairs, draw) for shift in SHIFTS]
        cells = "".join(f" {100 * share:.1f} % |" for share in shares)
        print(f"| {nights} | {100 * between:.0f} % |{cells}", flush=True)
    print(f"\n| history, then tonight | run-to-run sd | false alarm |{heads}\n|--:|--:|--:|--:|--:|--:|")
    for sd in (0.05, 0.10):
        shares = [noticed(sd, shift, args.pairs, draw) for shift in SHIFTS]
        cells = "".join(f" {100 * share:.1f} % |" for share in shares)
        print(f"| {HISTORY}, then {NIGHT} | {100 * sd:.0f} % |{cells}", flush=True)
    print("\n| windows, runs | both steps found | false alarm |\n|:--|--:|--:|")
    for windows in ((50,), trend.WINDOWS):
        both, alarms = both_steps(windows, args.pairs, args.seed)
        print(f"| {' and '.join(map(str, windows))} | {100 * both:.1f} % | {100 * alarms:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
