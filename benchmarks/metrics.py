"""What a scrape of /metrics costs a master, beside what prometheus_client itself needs for as many series.

Run: PYTHONPATH=. python benchmarks/metrics.py. A run of 16 workers, 4 targets and 500 nodes, its histograms as full as
a long run leaves them, goes through the code that answers a scrape, as Prometheus asks: OpenMetrics, gzip. The
reference of the ratio is the package's own default, a registry of its own metrics with as many series, in the same run.
CPU only, one process. Exit code 1 when a scrape each five seconds takes more than 10 % of a core.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from master import report
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, make_wsgi_app
from stand.rows import a_row

from loadtest import observed
from loadtest.clock import cpu_ns, wall_ns
from loadtest.observed import STAGES, Observed, ObservedNode, Pipeline, Stage
from loadtest.records import Target
from loadtest.swarm.exposition import Exposition
from loadtest.swarm.otel import DURATION_BOUNDS_S
from loadtest.swarm.prometheus import Watched
from loadtest.swarm.reports import Reports
from loadtest.swarm.standing import Clerk
from loadtest.swarm.tally import Tally

WORKERS, NODES = 16, 500
TARGETS = tuple(Target(name=f"target-{n}", route="openai-chat", model="default") for n in range(4))
ROWS = 4_000
CHUNKS = 100
SCRAPES = 30
SCRAPE_S = 5.0
SHARE_MAX = 0.10
ASKED = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/metrics",
    "QUERY_STRING": "",
    "HTTP_ACCEPT": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "HTTP_ACCEPT_ENCODING": "gzip",
}


def the_run(folder: Path) -> Watched:
    draw = random.Random(1)
    reports = Reports("r", range(WORKERS))
    tallies = [Tally() for _ in range(WORKERS)]
    for seq in range(ROWS):
        phase, target = ("warmup", "measure")[seq % 10 > 0], TARGETS[seq % len(TARGETS)].name
        row = replace(a_row(draw, seq, CHUNKS), target=target, phase=phase, first_chunk_ns=seq * 10_000_000 + 1)
        tallies[seq % WORKERS].seen(row)
    for worker, tally in enumerate(tallies):
        assert reports.take(report(worker, tally, ROWS // WORKERS))
    nodes = [
        ObservedNode(
            node=f"0x{n:040x}",
            requests=NODES - n,
            failures=n % 5,
            ttft_ms_p50=100.0,
            ttft_ms_p95=200.0,
            e2e_ms_p50=900.0,
            e2e_ms_p95=1900.0,
            tokens_per_s=40.0,
            precommit_rate=0.99 - n / 1e4,
            commit_rate=0.98,
            network_precommit_rate=0.9,
            network_commit_rate=0.9,
            session_precommit_rate=0.9,
            session_commit_rate=0.9,
            age_s=3.0,
        )
        for n in range(NODES)
    ]
    stages = [Stage(stage=name, now=3, left=5, reached=900, seen_s_p50=3.0, seen_s_p95=9.0) for name in STAGES]
    found = Observed(
        schema_version=observed.VERSION,
        written_wall_ns=wall_ns(),
        state="running",
        requests=200_000,
        requests_known=150_000,
        nodes_known=NODES,
        nodes=nodes,
        pipeline=Pipeline(tasks=900, stages=stages, ended=800, took_s_p50=4.0, took_s_p95=9.0),
    )
    standing = Clerk("r", reports, folder).standing(
        t0_ns=0, warmup_s=0, planned_s=1e9, ended=False, received=0, stored=0
    )
    standing = replace(standing, observed=found, observed_age_s=1.0)
    return Watched(standing, reports, TARGETS, "made", "0f", "open", 1)


def reference(series: int) -> CollectorRegistry:
    """The package's own objects, three quarters of the series in histograms as ours are."""
    registry = CollectorRegistry()
    per_histogram = len(DURATION_BOUNDS_S) + 3
    names = ["run", "target", "phase", "error_type"]
    histogram = Histogram("h", "text", names, buckets=DURATION_BOUNDS_S, registry=registry)
    for n in range(series * 3 // 4 // per_histogram):
        histogram.labels("r", f"t{n}", "measure", "").observe(0.5)
    counter, gauge = Counter("c", "text", names, registry=registry), Gauge("g", "text", names, registry=registry)
    for n in range(series // 8):
        counter.labels("r", f"t{n}", "measure", "").inc(n)
        gauge.labels("r", f"t{n}", "measure", "").set(n)
    return registry


def series_of(registry: CollectorRegistry) -> int:
    return sum(not line.startswith("#") for line in generate_latest(registry).decode().splitlines())


def scrape_ms(app: Callable[..., object]) -> tuple[float, int]:
    """Median CPU of one scrape, and the bytes that go over the wire."""
    spent, size = [], 0
    for _ in range(SCRAPES):
        before = cpu_ns()
        body = b"".join(app(dict(ASKED), lambda *_: None))  # type: ignore[call-overload]
        spent.append((cpu_ns() - before) / 1e6)
        size = len(body)
    return statistics.median(spent), size


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        watched = the_run(Path(scratch))
    ours = Exposition(lambda: watched)
    registry = CollectorRegistry()
    registry.register(ours)
    series = series_of(registry)
    our_ms, size = scrape_ms(ours.answer)
    their = reference(series)
    their_ms, their_size = scrape_ms(make_wsgi_app(their))
    share = our_ms / 1e3 / SCRAPE_S
    print(f"{'':>28} {'series':>8} {'ms/scrape':>10} {'bytes, gzip':>12}")
    print(f"{'16 workers, 500 nodes':>28} {series:8} {our_ms:10.1f} {size:12,}")
    print(f"{'prometheus_client default':>28} {series_of(their):8} {their_ms:10.1f} {their_size:12,}")
    print(
        f"ratio {our_ms / their_ms:.2f}; a scrape each {SCRAPE_S:.0f} s: {100 * share:.2f} % of a core (at most 10 %)"
    )
    return 0 if share < SHARE_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
