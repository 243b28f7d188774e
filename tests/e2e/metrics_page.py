"""Prints one page of /metrics of a made run, whose nodes have hostile names."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "tests"), str(Path(__file__).parents[1] / "swarm")]

from made_standing import made_observed  # noqa: E402
from msgspec.structs import replace  # noqa: E402
from prometheus_client import CollectorRegistry, generate_latest  # noqa: E402
from watched_run import MadeWorker, watched  # noqa: E402

from loadtest.observed import ObservedNode  # noqa: E402
from loadtest.swarm.exposition import Exposition  # noqa: E402
from loadtest.swarm.reports import Reports  # noqa: E402

NAMES = [
    "<script>alert(1)</script>",
    'a"b',
    "back\\slash",
    "line\nend",
    "nul\x00",
    "half \ud800",
    "\u202e",
    "other",
    "",
]

reports = Reports("r-1", [0])
reports.take(MadeWorker(0, host="<b>host</b>").report())
run = watched(reports, Path("/nonexistent"))
nodes = [ObservedNode(node=name, requests=n + 1, commit_rate=0.5, age_s=1.0) for n, name in enumerate(NAMES)]
observed = replace(made_observed(), nodes=nodes[::-1], requests_known=1000)
run = run._replace(standing=replace(run.standing, observed=observed, observed_age_s=1.0))
registry = CollectorRegistry()
registry.register(Exposition(lambda: run))
sys.stdout.buffer.write(generate_latest(registry))
