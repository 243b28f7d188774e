"""The as-of join and the quantiles per node, from Parquet to Parquet, beside pandas, polars and DuckDB.

    python benchmarks/join.py                      # 10 million requests x 2.16 million snapshots, all, 3 rounds
    python benchmarks/join.py --rows 50000000 --only ours --rounds 1
    python benchmarks/join.py --run 1000000           # join, checks, summary and report of a made run folder
    python benchmarks/join.py --run 10000000 --month  # the same over 30 days: beside 2.1 million snapshots

500 nodes over 30 days, a snapshot of each every 10 minutes; requests uniform in time, in the order they were sent.
Every contestant is a process of its own on the same files, in page cache: it reads both tables, joins backward by
node (strictly before, tolerance 20 minutes), writes all requests with reputation and instant, and p50/p95/p99 of
e2e_ms per node. Ours does more: one-to-one by (worker, seq), order and duplicate checks, age, reason, nearest ranks.
Wall and CPU run from after the imports to the written files; memory is ru_maxrss of the process, imports included.
That the tables agree is checked. pandas, polars and DuckDB are called as their documentation shows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "tests")]

from loadtest.arguments import whole  # noqa: E402
from loadtest.clock import cpu_ns, mono_ns  # noqa: E402

NODES, DAYS, POLL_S = 500, 30, 600
TOLERANCE_S = 2 * POLL_S
START_NS = 1_790_000_000_123_456_789
SECOND_NS = 1_000_000_000
WORKERS = 4
LEVELS = (0.50, 0.95, 0.99)
CHILD_DEADLINE_S = 900


def ours(requests: Path, snapshots: Path, out: Path) -> Callable[[], None]:
    import pyarrow.parquet as pq

    from loadtest.analysis.bulk import join_parquet, node_quantiles

    def work() -> None:
        with ThreadPoolExecutor(1) as beside:  # both read the requests, neither needs the other
            nodes = beside.submit(node_quantiles, requests, "e2e_ms")
            join_parquet(requests, snapshots, out / "joined.parquet", tolerance_s=TOLERANCE_S)
            pq.write_table(nodes.result(), out / "nodes.parquet", compression="zstd")

    return work


def pandas(requests: Path, snapshots: Path, out: Path) -> Callable[[], None]:
    import pandas as pd

    def work() -> None:
        joined = pd.merge_asof(
            pd.read_parquet(requests),
            pd.read_parquet(snapshots),
            left_on="sent_wall_ns",
            right_on="observed_wall_ns",
            by="node",
            tolerance=TOLERANCE_S * SECOND_NS,
            allow_exact_matches=False,
        )
        joined.to_parquet(out / "joined.parquet", compression="zstd")
        table = joined.groupby("node")["e2e_ms"].quantile(list(LEVELS)).unstack()
        table.columns = ["e2e_ms_p50", "e2e_ms_p95", "e2e_ms_p99"]
        table.reset_index().to_parquet(out / "nodes.parquet", compression="zstd")

    return work


def polars(requests: Path, snapshots: Path, out: Path) -> Callable[[], None]:
    import polars as pl

    def work() -> None:
        right = pl.scan_parquet(snapshots).with_columns(pl.col("observed_wall_ns").alias("snapshot_ns"))
        joined = pl.scan_parquet(requests).join_asof(
            right,
            left_on="sent_wall_ns",
            right_on="snapshot_ns",
            by="node",
            strategy="backward",
            tolerance=TOLERANCE_S * SECOND_NS,
            allow_exact_matches=False,
            check_sortedness=False,
        )
        joined.sink_parquet(out / "joined.parquet", compression="zstd", engine="streaming")
        node = pl.scan_parquet(requests).group_by("node")
        quantiles = [pl.col("e2e_ms").quantile(q).alias(f"e2e_ms_p{round(100 * q)}") for q in LEVELS]
        node.agg(*quantiles).sink_parquet(out / "nodes.parquet", compression="zstd", engine="streaming")

    return work


def duckdb(requests: Path, snapshots: Path, out: Path) -> Callable[[], None]:
    import duckdb as db

    def work() -> None:
        connection = db.connect()
        connection.execute(f"SET temp_directory = '{out}'")
        connection.execute(
            f"""COPY (
                SELECT r.*, s.observed_wall_ns, s.reputation FROM '{requests}' r ASOF LEFT JOIN '{snapshots}' s
                ON r.node = s.node AND r.sent_wall_ns > s.observed_wall_ns
            ) TO '{out}/joined.parquet' (FORMAT parquet, COMPRESSION zstd)"""
        )
        levels = ", ".join(f"quantile_disc(e2e_ms, {q}) AS e2e_ms_p{round(100 * q)}" for q in LEVELS)
        connection.execute(
            f"""COPY (SELECT node, {levels} FROM '{requests}' GROUP BY node)
            TO '{out}/nodes.parquet' (FORMAT parquet, COMPRESSION zstd)"""
        )

    return work


CONTESTANTS = {each.__name__: each for each in (ours, pandas, polars, duckdb)}


def generate(requests: Path, snapshots: Path, rows: int) -> None:
    """Both tables, seeded. The observer was away for an hour on day 10: requests of that time find a stale one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(7)
    names = pa.array([f"0x{random.integers(2**63):040x}" for _ in range(NODES)])
    polls = np.arange(DAYS * 86_400 // POLL_S, dtype=np.int64)
    polls[polls >= 10 * 86_400 // POLL_S] += 3600 // POLL_S
    observed = START_NS + polls[:, None] * POLL_S * SECOND_NS + np.arange(NODES) * 1_000_003
    reputation = np.clip(random.normal(90, 6, observed.shape), 0, 100)
    table = {
        "node": names.take(pa.array(np.tile(np.arange(NODES), len(polls)))),
        "observed_wall_ns": observed.ravel(),
        "reputation": reputation.ravel(),
    }
    pq.write_table(pa.table(table), snapshots, compression="zstd")
    speed = random.lognormal(0, 0.5, NODES)
    at, span = START_NS, DAYS * 86_400 * SECOND_NS
    schema = pa.schema(
        [
            ("worker", pa.int64()),
            ("seq", pa.int64()),
            ("node", pa.string()),
            ("sent_wall_ns", pa.int64()),
            ("e2e_ms", pa.float64()),
        ]
    )
    with pq.ParquetWriter(requests, schema, compression="zstd") as writer:
        for first in range(0, rows, 1 << 20):
            n = min(1 << 20, rows - first)
            gaps = random.integers(0, 2 * span // rows, n)
            sent = at + np.cumsum(gaps)
            at, row, node = int(sent[-1]), np.arange(first, first + n), random.integers(0, NODES, n)
            e2e = speed[node] * random.lognormal(7.5, 0.6, n)
            columns = [row % WORKERS, row // WORKERS, names.take(pa.array(node)), sent, e2e]
            writer.write_table(pa.table(columns, schema=schema))


def measure(name: str, requests: Path, snapshots: Path, out: Path) -> dict[str, float]:
    """One contestant in a process of its own."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--child", name, str(requests), str(snapshots), str(out)]
    return child(command)


def child(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_DEADLINE_S)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-800:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def timed(work: Callable[[], object]) -> None:
    """In the child: do it and print wall, CPU and the peak of resident memory."""
    began, cpu = mono_ns(), cpu_ns()
    work()
    wall_s, cpu_s = (mono_ns() - began) / 1e9, (cpu_ns() - cpu) / 1e9
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak_mb}))


def require_same(outs: dict[str, Path]) -> None:
    """Every contestant found the same snapshot for the same request, and the same quantiles but for their rank rule."""
    script = f"""
import duckdb, sys
outs = { ({name: str(out) for name, out in outs.items()})!r}
for name, out in outs.items():
    if name == "ours":
        continue
    tolerance = {TOLERANCE_S * SECOND_NS} if name == "duckdb" else {2**62}
    differ, rows, found = duckdb.sql(f'''
        SELECT count(*) FILTER (o.reputation IS DISTINCT FROM
            CASE WHEN t.sent_wall_ns - t.observed_wall_ns <= {{tolerance}} THEN t.reputation END), count(*),
            count(o.reputation)
        FROM '{{outs["ours"]}}/joined.parquet' o FULL JOIN '{{out}}/joined.parquet' t USING (worker, seq)
        WHERE hash(seq) % 50 = 0''').fetchall()[0]
    levels = ", ".join(f"abs(o.e2e_ms_{{p}} / t.e2e_ms_{{p}} - 1)" for p in ("p50", "p95", "p99"))
    nodes, apart, medians = duckdb.sql(f'''
        SELECT count(*), max(greatest({{levels}})), max(abs(o.e2e_ms_p50 / t.e2e_ms_p50 - 1))
        FROM '{{outs["ours"]}}/nodes.parquet' o JOIN '{{out}}/nodes.parquet' t USING (node)''').fetchall()[0]
    print(f"{{name}}: of {{rows}} rows compared {{differ}} differ ({{found}} have a value); "
          f"{{nodes}} nodes, medians within {{medians:.2%}}, all quantiles within {{apart:.2%}}")
    sys.exit(1) if differ or not found or nodes != {NODES} or medians > 0.02 else None
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=CHILD_DEADLINE_S)
    print(done.stdout, end="")
    if done.returncode:
        raise SystemExit(f"the contestants disagree: {done.stderr[-800:]}")


def join_run(run: Path) -> Callable[[], object]:
    from loadtest.analysis.join import join_run

    return lambda: join_run(run)


def checks(run: Path) -> Callable[[], object]:
    from loadtest.analysis.checks import check_run
    from loadtest.analysis.evidence import Evidence

    return lambda: check_run(Evidence.of(run))


def summary(run: Path) -> Callable[[], object]:
    """Every table and figure of the report, the checks included."""
    from loadtest.analysis.summary import summarise

    return lambda: summarise(run)


def report(run: Path) -> Callable[[], object]:
    from loadtest.report.write import report_run

    return lambda: report_run(run)


def bare(run: Path) -> Callable[[], object]:
    """What pandas takes for the as-of join alone: the five columns it needs of the rows that ours wrote, sorted."""
    import pandas as pd

    columns = ["worker", "seq", "node", "sent_wall_ns", "e2e_ms"]

    def work() -> None:
        left = pd.read_parquet(run / "joined" / "requests.parquet", columns=columns)
        right = pd.read_parquet(run / "snapshots", columns=["source", "node", "observed_wall_ns", "commit_points"])
        right = right[right["source"] == "leaderboard"].sort_values("observed_wall_ns")
        joined = pd.merge_asof(
            left.sort_values("sent_wall_ns"),
            right,
            left_on="sent_wall_ns",
            right_on="observed_wall_ns",
            by="node",
            tolerance=TOLERANCE_S * SECOND_NS,
            allow_exact_matches=False,
        )
        joined.to_parquet(run.parent / "bare.parquet", compression="zstd")

    return work


STAGES = {"join": join_run, "checks": checks, "summary": summary, "report": report, "pandas, bare": bare}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=whole(1), default=10_000_000)
    parser.add_argument("--rounds", type=whole(1), default=3)
    parser.add_argument("--only", action="append", choices=sorted(CONTESTANTS))
    parser.add_argument("--run", type=whole(1), metavar="ROWS", help="a run folder of so many turns instead, by stage")
    parser.add_argument("--month", action="store_true", help="spread it over 30 days: 2.1 million snapshots")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, *paths = arguments.child
        requests, snapshots, out = map(Path, paths)
        if name in STAGES:
            timed(STAGES[name](requests))
        elif name == "generate":
            generate(requests, snapshots, arguments.rows)
        else:
            timed(CONTESTANTS[name](requests, snapshots, out))
        return
    with tempfile.TemporaryDirectory(prefix="join-") as folder:
        if arguments.run:
            whole_run(Path(folder) / "run", arguments.run, arguments.rounds, arguments.month)
            return
        contest(Path(folder), arguments.rows, arguments.rounds, arguments.only or list(CONTESTANTS))


def contest(folder: Path, rows: int, rounds: int, names: list[str]) -> None:
    requests, snapshots = folder / "requests.parquet", folder / "snapshots.parquet"
    command = [sys.executable, __file__, "--rows", str(rows), "--child", "generate", str(requests), str(snapshots), "-"]
    subprocess.run(command, check=True, timeout=CHILD_DEADLINE_S)
    print(f"{rows:,} requests x {NODES * DAYS * 86_400 // POLL_S:,} snapshots, {os.cpu_count()} cores, {rounds} rounds")
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            results[name].append(measure(name, requests, snapshots, folder / name))
    medians = {
        name: {key: statistics.median(each[key] for each in results[name]) for key in ("wall_s", "cpu_s", "peak_mb")}
        for name in names
    }
    reference = medians.get("pandas")
    for name, median in medians.items():
        size_mb = (folder / name / "joined.parquet").stat().st_size / 1e6
        line = f"{name:8} {median['wall_s']:7.2f} s wall {median['cpu_s']:7.2f} s CPU {median['peak_mb']:8.0f} MB peak"
        if reference:
            wall, peak = (median[key] / reference[key] for key in ("wall_s", "peak_mb"))
            line += f"   {wall:.2f} x wall, {peak:.2f} x memory of pandas"
        print(f"{line}   writes {size_mb:.0f} MB")
    if len(names) > 1 and "ours" in names:
        require_same({name: folder / name for name in names})


def whole_run(run: Path, rows: int, rounds: int, month: bool) -> None:
    """`loadtest join` and `loadtest report` of a made run folder by stage, each in a process of its own."""
    made = [sys.executable, str(REPO / "benchmarks" / "made_run.py"), str(run), "--rows", str(rows)]
    if month:
        made += ["--turns-per-s", str(rows / (DAYS * 86_400)), "--poll-s", str(POLL_S)]
    subprocess.run(made, check=True, timeout=CHILD_DEADLINE_S)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in STAGES}
    for _ in range(rounds):
        for name in STAGES:
            found[name].append(child([sys.executable, __file__, "--child", name, str(run), "-", "-"]))
    print(f"a run of {rows:,} turns{' over 30 days' if month else ''}, {os.cpu_count()} cores, {rounds} rounds, median")
    for name, each in found.items():
        wall, cpu, peak = (statistics.median(one[key] for one in each) for key in ("wall_s", "cpu_s", "peak_mb"))
        print(f"{name:12} {wall:7.2f} s wall {cpu:7.2f} s CPU {peak:7.0f} MB peak")


if __name__ == "__main__":
    main()
