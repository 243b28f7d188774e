"""What the live views cost: a worker's counts, and the master's tabs and charts with 16 workers and 500 nodes.

Run: PYTHONPATH=. python benchmarks/live_views.py [--rounds 5]. CPU only, one process, no sockets: Locust's own tables
and its HTTP server come on top. A worker has 1,000 streams of ten seconds each, so 100 turns of 100 chunks end in a
second. The master's second is the reports of 16 workers every 3 s, one look at the run, live.json of 500 nodes every
2 s, a point of the charts every 3 s (with the merging of a long run), and what one browser on Locust's page and one on
the charts ask for every 2 s; with and without the views in the same run. The reference is `json.loads` of live.json as
plain JSON. Exit code 1 when a worker pays 2 % of a core, the master 10 % more than without, or an answer has 100 KB.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgpack
import msgspec
from master import report
from msgspec.structs import replace
from stand.rows import a_row

from loadtest import observed, runfolder
from loadtest.clock import cpu_ns, mono_ns, wall_ns
from loadtest.observed import Observed, ObservedNode, fitting
from loadtest.records import RequestRecord
from loadtest.swarm import history as history_module
from loadtest.swarm.history import POINTS_MAX, History
from loadtest.swarm.master import MasterRun
from loadtest.swarm.pages import live_figures
from loadtest.swarm.reports import Reports
from loadtest.swarm.shelf import Shelf
from loadtest.swarm.standing import Clerk, Standing
from loadtest.swarm.tally import Tally
from loadtest.swarm.webui import dumped, tables

WORKERS, NODES, PLACES = 16, 500, 12
TURNS_PER_S = 100
REPORT_S, ASK_S = 3.0, 2.0
WORKER_SHARE_MAX, MASTER_SHARE_MAX, PAYLOAD_MAX = 0.02, 0.10, 100_000


def timed(do: Callable[[], Any], times: int) -> float:
    """CPU seconds of one call."""
    before = cpu_ns()
    for _ in range(times):
        do()
    return (cpu_ns() - before) / 1e9 / times


def placed(row: RequestRecord, n: int) -> RequestRecord:
    place = n % PLACES
    return replace(row, target=f"target-{place % 4}", session=str(place // 4))


def worker_share(rows: list[RequestRecord]) -> float:
    """Of a core, for all that a worker does for the views: it counts turns, and packs the counts with every report."""
    tally = Tally()

    def three_seconds() -> None:
        for n in range(int(TURNS_PER_S * REPORT_S)):
            row = rows[n % len(rows)]
            tally.began(row)
            tally.seen(row)
        msgpack.dumps(tally.delta())

    return timed(three_seconds, 20) / REPORT_S


def live_json(folder: Path) -> None:
    nodes = [
        ObservedNode(
            node=f"0x{i:040x}", requests=i, failures=1, ttft_ms_p50=123.4, ttft_ms_p95=1234.0, e2e_ms_p50=4321.0,
            e2e_ms_p95=9876.0, tokens_per_s=41.25, precommit_rate=0.987, commit_rate=0.9123, age_s=12.345,
        )
        for i in range(NODES)
    ]  # fmt: skip
    live = Observed(
        schema_version=observed.VERSION,
        written_wall_ns=wall_ns(),
        state="running",
        nodes_known=NODES,
        nodes=fitting(nodes),
    )
    runfolder.write_text(folder / observed.FILE, msgspec.json.encode(live).decode())


def master(rows: list[RequestRecord], views: bool) -> dict[str, float]:
    """CPU seconds in a second, by part, and bytes of what is sent."""
    tallies = [Tally() for _ in range(WORKERS)]
    rounds = 20
    messages = []
    for round_ in range(rounds):
        for worker, tally in enumerate(tallies):
            for i in range(int(TURNS_PER_S * REPORT_S)):
                row = rows[(round_ * 7919 + worker * 131 + i) % len(rows)]
                tally.began(row)
                tally.seen(row)
            messages.append(msgpack.dumps(report(worker, tally, (round_ + 1) * 300)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        reports, history = Reports("r", range(WORKERS), keeps_fresh=views), History()
        clerk = Clerk("r", reports, folder)
        t0_ns = mono_ns()
        took = {"reports": 0.0, "points": 0.0}
        waiting = iter(messages)

        def look() -> Standing:
            return clerk.standing(t0_ns=t0_ns, warmup_s=0, planned_s=60, ended=False, received=0, stored=0)

        def one_round(n: int) -> None:
            before = cpu_ns()
            for _ in range(WORKERS):
                assert reports.take(msgpack.loads(next(waiting), strict_map_key=False))
            took["reports"] += (cpu_ns() - before) / 1e9
            if views:
                for worker in reports._reported_ns:  # the reports of a round come three seconds after those before
                    reports._reported_ns[worker] = t0_ns + int((n + 1) * REPORT_S * 1e9)
                standing = look()
                before = cpu_ns()
                history.take(standing, reports, t0_ns)
                took["points"] += (cpu_ns() - before) / 1e9

        history_module.POINTS_MAX = 5  # reached at once, so that pairs are merged as in a long run
        for n in range(rounds):
            one_round(n)
        history_module.POINTS_MAX = POINTS_MAX
        parts = {name: seconds / rounds / REPORT_S for name, seconds in took.items()}
        live_json(folder)
        parts["look"] = timed(look, 50)
        if not views:
            return parts

        def read_again() -> None:
            clerk._live_file._stamp = None
            clerk._live_file.look()

        parts["live.json"] = timed(read_again, 50) / ASK_S
        standing = look()
        locusts = json.dumps({"stats": [{"name": f"target-{i}", "x": list(range(30))} for i in range(13)]})

        def tabs() -> str:
            return dumped({**json.loads(locusts), "extended_stats": tables(standing)})

        parts["tabs"] = timed(tabs, 50) / ASK_S
        points = (history.points * POINTS_MAX)[:POINTS_MAX]
        history.points = [msgspec.structs.replace(point, n=n) for n, point in enumerate(points, start=1)]
        shelf = Shelf()
        run = SimpleNamespace(
            plan=SimpleNamespace(run="r"), folder=folder, exit_code=None, history=history, standing=standing
        )
        shelf.add(cast(MasterRun, run))
        last = POINTS_MAX - 1  # the page asks for the one that it does not have

        def charts(since: int) -> str:
            return dumped(live_figures(shelf, "", ("all", ""), since))

        parts["charts"] = timed(lambda: charts(last), 50) / ASK_S
        parts["whole course ms"] = 1e3 * timed(lambda: charts(0), 20)
        parts["tabs bytes"], parts["charts bytes"] = float(len(tabs())), float(len(charts(0)))
        text = json.dumps(msgspec.to_builtins(observed.read(folder)))
        parts["json.loads ms"] = 1e3 * timed(lambda: json.loads(text), 50)
        return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="each figure is the median of so many")
    rounds = parser.parse_args().rounds
    draw = random.Random(1)
    rows = [placed(a_row(draw, seq, 100), seq) for seq in range(2_000)]
    worker = statistics.median(worker_share(rows) for _ in range(rounds))
    with_views = [master(rows, True) for _ in range(rounds)]
    without = [master(rows, False) for _ in range(rounds)]

    def middle(runs: list[dict[str, float]], name: str) -> float:
        return statistics.median(run[name] for run in runs)

    bound = f"bound {100 * WORKER_SHARE_MAX:.0f} %"
    print(f"worker, 1,000 streams, {TURNS_PER_S} turns/s: {100 * worker:.2f} % of a core ({bound})")
    names = ("reports", "look", "points", "live.json", "tabs", "charts")
    share = sum(middle(with_views, name) for name in names)
    bare = middle(without, "reports") + middle(without, "look")
    for name in names:
        print(f"  master, {name:10} {100 * middle(with_views, name):6.2f} % of a core")
    print(
        f"master with the views {100 * share:.2f} % of a core, without {100 * bare:.2f} %: "
        f"they add {100 * (share - bare):.2f} % (bound {100 * MASTER_SHARE_MAX:.0f} %)"
    )
    reference = middle(with_views, "json.loads ms")
    tabs_ms, whole_ms = 1e3 * ASK_S * middle(with_views, "tabs"), middle(with_views, "whole course ms")
    print(f"tabs {tabs_ms:.2f} ms, {tabs_ms / reference:.1f} times json.loads; {POINTS_MAX} points {whole_ms:.1f} ms")
    sizes = (middle(with_views, "tabs bytes"), middle(with_views, "charts bytes"))
    print(f"bytes: tabs {sizes[0]:,.0f}, charts with all points {sizes[1]:,.0f} (bound {PAYLOAD_MAX:,})")
    kept = worker < WORKER_SHARE_MAX and share - bare < MASTER_SHARE_MAX and max(sizes) < PAYLOAD_MAX
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
