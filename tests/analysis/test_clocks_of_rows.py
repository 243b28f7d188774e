"""How far each row's instants may be off: what its worker told, or the worst that a fit run allows."""

from __future__ import annotations

from pathlib import Path

from loadtest.analysis.frames import Clocks
from loadtest.fitness import CLOCK_BOUND_MS_MAX

from .run_factory import frame, manifest, turn


def test_a_worker_that_told_no_bound_has_the_worst_that_is_allowed(tmp_path: Path) -> None:
    rows = [turn(0, 1, worker=0), turn(1, 2, worker=1), turn(2, 3, worker=2)]
    told = manifest(rows)
    told["workers"][1]["clock_bound_ns"] = None  # lost before its first report
    told["workers"] = told["workers"][:2]  # never heard of at all
    requests = frame(tmp_path, rows)
    clocks = Clocks.of(tmp_path, told, requests)
    worst_ns = int(CLOCK_BOUND_MS_MAX * 1e6) + clocks.wall_bound_ns
    bounds = dict(zip(requests["worker"], clocks.bound_ns(requests), strict=True))
    assert bounds == {0: 50_000 + clocks.wall_bound_ns, 1: worst_ns, 2: worst_ns}
