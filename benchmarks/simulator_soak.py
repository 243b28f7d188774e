"""Does the simulator grow under load? Resident memory and open descriptors over time, as a series.

    python benchmarks/simulator_soak.py                # 4 minutes on the scenario phase4, 200 times as fast
    python benchmarks/simulator_soak.py --seconds 3600 --speed 1      # the hour

The C client keeps `--streams` connections busy. What is kept by design fills up first (tasks of a session, timestamps
of a node); growth is the slope after that: a line through the second half of the series.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))
sys.path.insert(0, str(REPO / "benchmarks"))

from simulator import TOKENS_MAX, simulating  # noqa: E402
from stand import native  # noqa: E402
from stand.task import allow_descriptors  # noqa: E402

from loadtest.clock import mono_ns  # noqa: E402

SAMPLES = 24


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0, help="of load (default %(default)g)")
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--speed", type=float, default=200.0, help="of the simulated network (default %(default)g)")
    parser.add_argument("--scenario", default="phase4")
    asked = parser.parse_args()
    server, client = native.cores()
    allow_descriptors()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        options = ["--scenario", asked.scenario, "--seed", "7", "--speed", str(asked.speed)]
        with simulating(server, folder, *options, "--truth", str(folder / "truth")) as (port, process):
            watched = psutil.Process(process.pid)
            load = _load(port, client, asked.streams, asked.seconds)
            series = _watch(watched, load, asked.seconds)
            told, _ = load.communicate(timeout=asked.seconds + 60)
    print(told.decode().strip())
    _say_slope(series)
    return load.returncode


def _load(port: int, core: int, streams: int, seconds: float) -> subprocess.Popen[bytes]:
    command = [str(native.build("cclient")), str(port), str(streams), str(streams * 100_000), "1", str(TOKENS_MAX)]
    command += ["-", "default", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=lambda: native.pin(core))


def _watch(watched: psutil.Process, load: subprocess.Popen[bytes], seconds: float) -> list[tuple[float, float, int]]:
    """Seconds, resident MB and descriptors, printed as they come, until the load ends."""
    series: list[tuple[float, float, int]] = []
    began = mono_ns() / 1e9
    print("    s    RSS MB  descriptors")
    while load.poll() is None and mono_ns() / 1e9 - began < seconds + 30:
        series.append((mono_ns() / 1e9 - began, watched.memory_info().rss / 2**20, watched.num_fds()))
        print(f"{series[-1][0]:5.0f}  {series[-1][1]:8.1f}  {series[-1][2]:11}", flush=True)
        try:
            load.wait(seconds / SAMPLES)
        except subprocess.TimeoutExpired:
            continue
    return series


def _say_slope(series: list[tuple[float, float, int]]) -> None:
    later = np.array(series[len(series) // 2 :])
    slope = np.polyfit(later[:, 0], later[:, 1], 1)[0] * 60
    print(f"second half: {slope:+.2f} MB a minute, descriptors {int(later[:, 2].min())} to {int(later[:, 2].max())}")


if __name__ == "__main__":
    sys.exit(main())
