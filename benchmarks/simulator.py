"""How many chunks a second the simulator writes, how late each one, and what that costs, against a server in C.

    python benchmarks/simulator.py             # 2,000 streams, with and without the truth log, then the C server
    python benchmarks/simulator.py --quick     # 500 streams for some seconds

The server has one core (its truth writer with it), the C client another. *Late* is the instant just before a chunk's
write minus the instant it was due, from the simulator's own truth log. The C server runs at the pace that the
simulator reached, so that its CPU per chunk is of the same work. Read ratios: absolute figures are of this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from stand import native  # noqa: E402
from stand.native import Instants  # noqa: E402
from stand.task import allow_descriptors  # noqa: E402

from loadtest.processes import end  # noqa: E402
from loadtest.runfolder import read_truth  # noqa: E402

START_S, STOP_S, LOAD_S = 30.0, 120.0, 240.0
TOKENS_MAX = 100
TTFT_MS = 100.0  # of the C server
START_S_CUT = 5.0  # at first all streams ask at once, which no load of ours does; left out of the steady figures
END_S_CUT = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """Closed loop: `streams` connections for `seconds`, each asking for answers of at most TOKENS_MAX chunks."""

    streams: int
    seconds: float
    nodes: int
    speed: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one server under one load. Late in ms; None where no log tells it."""

    name: str
    chunks: int
    chunks_per_s: float  # steady
    streams: float  # open at once, mean, steady
    cpu_us: float  # per chunk, the truth writer included
    cpu_share: float  # of a core, the serving process alone
    peak_mb: float
    late_ms: tuple[float, float, float] | None  # p50, p99, worst; steady
    late_start_ms: float | None  # p99 with the start, when all streams ask at once
    others: float  # share of the server's core that went to anything else, the hypervisor's share included


def drive(port: int, core: int, load: Load, model: str) -> dict[str, Any]:
    """Run the C client to its end and return what it tells."""
    many = str(load.streams * 1000)
    command = [str(native.build("cclient")), str(port), str(load.streams), many, "1", str(TOKENS_MAX)]
    done = subprocess.run(
        [*command, "-", model, str(load.seconds)],
        preexec_fn=lambda: native.pin(core),
        stdout=subprocess.PIPE,
        timeout=LOAD_S,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@contextmanager
def simulating(core: int, folder: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A simulator on the server's core; its children inherit the core."""
    port_file = folder / "port"
    command = [sys.executable, "-m", "loadtest.simulator", "--port", "0", "--port-file", str(port_file), *options]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, preexec_fn=lambda: native.pin(core))
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the simulator ended with {process.wait(START_S)}")
        yield int(port_file.read_text()), process
    finally:
        end(process, STOP_S)


def simulator(load: Load, server: int, client: int, *, log: bool, options: Sequence[str] = ()) -> Figures:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked = ["--seed", "7", "--nodes", str(load.nodes), "--speed", str(load.speed), *options]
        truth = folder / "truth"
        with simulating(server, folder, *asked, *(["--truth", str(truth)] if log else [])) as (port, process):
            watched = psutil.Process(process.pid)
            began, busy_ns = _cpu_s(watched), native.busy_ns(server)
            told = drive(port, client, load, "default")
            ended, busy_ns = _cpu_s(watched), native.busy_ns(server) - busy_ns
            peak_mb = _peak_mb(process.pid)
        late: tuple[float, float, float] | None = None
        late_start = None
        rate, streams = told["chunks_per_s"], float(load.streams)
        if log:
            rows = read_truth(truth)
            received, done = rows["received_ns"].to_numpy(), rows["done_ns"].fill_null(1 << 62).to_numpy()
            lists = rows["chunk_ns"].combine_chunks()
            lengths = lists.value_lengths().to_numpy()
            instants = lists.flatten().to_numpy() + np.repeat(received, lengths)
            lateness = rows["late_ns"].combine_chunks().flatten().to_numpy() / 1e6
            inside, seconds, (low, high) = steady(instants)
            rate = inside.sum() / seconds
            streams = float((np.minimum(done, high) - np.maximum(received, low)).clip(0).sum() / 1e9 / seconds)
            late = (*np.percentile(lateness[inside], [50, 99]), lateness[inside].max())
            late_start = float(np.percentile(lateness, 99))
    chunks = told["chunks"]
    used_s = sum(ended) - sum(began)
    share = (ended[0] - began[0]) / told["elapsed_s"]
    name = "simulator, log on" if log else "simulator, no log"
    others = (busy_ns / 1e9 - used_s) / told["elapsed_s"]
    return Figures(name, chunks, rate, streams, used_s / chunks * 1e6, share, peak_mb, late, late_start, others)


def mock(load: Load, server: int, client: int, chunks_per_s: float) -> Figures:
    """The C server, its log on as well, at the pace given."""
    gap_ms = load.streams / chunks_per_s * 1e3
    gap_ms -= TTFT_MS / TOKENS_MAX
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--logchunks", "--chunks", str(TOKENS_MAX), "--ttft", str(TTFT_MS), "--itl", f"{gap_ms:.6f}"]
        with native.serving(Path(scratch), server, *options) as running:
            busy_ns = native.busy_ns(server)
            told = drive(running.port, client, load, "mock")
            busy_ns = native.busy_ns(server) - busy_ns
        truth = native.read_truth(running.log)
    cpu_s = running.totals["server_cpu_s"]
    due_ms = TTFT_MS + gap_ms * np.arange(TOKENS_MAX)
    instants = np.concatenate([one.chunk_ns for one in truth.values()])
    lateness = np.concatenate(  # answers under way at the end are shorter
        [(one.chunk_ns - one.received_ns) / 1e6 - due_ms[: len(one.chunk_ns)] for one in truth.values()]
    )
    inside, seconds, _ = steady(instants)
    late = (*np.percentile(lateness[inside], [50, 99]), lateness[inside].max())
    chunks = told["chunks"]
    return Figures(
        "C server, log on",
        chunks,
        inside.sum() / seconds,
        float(load.streams),
        cpu_s / chunks * 1e6,
        cpu_s / told["elapsed_s"],
        0.0,
        late,
        float(np.percentile(lateness, 99)),
        (busy_ns / 1e9 - cpu_s) / told["elapsed_s"],
    )


def steady(instants: Instants) -> tuple[Any, float, tuple[int, int]]:
    """Which instants lie after the start and before the end, how many seconds that is, and its bounds."""
    first, last = int(instants.min()), int(instants.max())
    low, high = first + round(START_S_CUT * 1e9), last - round(END_S_CUT * 1e9)
    return (instants >= low) & (instants < high), (high - low) / 1e9, (low, high)


def _cpu_s(process: psutil.Process) -> tuple[float, float]:
    """User and system seconds of the serving process, and of the truth writer beside it."""

    def used(one: psutil.Process) -> float:
        times = one.cpu_times()
        return float(times.user + times.system)

    return used(process), sum(used(child) for child in process.children())


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def say(figures: Figures) -> None:
    late = "late: no log"
    if figures.late_ms is not None:
        p50, p99, worst = figures.late_ms
        late = (
            f"late p50 {p50:.3f}  p99 {p99:.3f}  worst {worst:.1f} ms (p99 with the start {figures.late_start_ms:.3f})"
        )
    print(
        f"{figures.name:18} {figures.chunks_per_s:9,.0f} chunks/s  {figures.streams:6,.0f} streams  "
        f"CPU {figures.cpu_us:5.2f} us/chunk, serving {figures.cpu_share:.0%} of a core"
        f"  {figures.peak_mb:4.0f} MB  {late}  others {figures.others:.0%}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="500 streams for some seconds")
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=25.0, help="of load (default %(default)g)")
    parser.add_argument("--speed", type=float, default=0.2, help="of the simulated nodes (default %(default)s)")
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--no-reference", action="store_true", help="leave out the C server and the run without a log")
    parser.add_argument("options", nargs="*", help="further options of the simulator, after --")
    asked = parser.parse_args()
    streams = 500 if asked.quick else asked.streams
    load = Load(streams, asked.seconds, asked.nodes, asked.speed)
    server, client = native.cores()
    allow_descriptors()
    logged = simulator(load, server, client, log=True, options=asked.options)
    say(logged)
    if asked.no_reference:
        return 0
    unlogged = simulator(load, server, client, log=False, options=asked.options)
    say(unlogged)
    reference = mock(load, server, client, logged.chunks_per_s)
    say(reference)
    print(f"CPU per chunk: {logged.cpu_us / reference.cpu_us:.2f} times the C server's", end=", ")
    print(f"the truth log is {logged.cpu_us / unlogged.cpu_us - 1:.0%} of what it costs without")
    return 0


if __name__ == "__main__":
    sys.exit(main())
