"""When requests reach a server: the gaps it sees at a constant rate, ours beside Locust's `constant_throughput`.

Run: chrt -f 5 python benchmarks/wire.py (about 70 s a round). Ours is the whole harness, as `locust -f locustfile.py`
runs it; theirs is one FastHttpUser a request per second with `constant_throughput(1)`, as the manual shows it. Both
are one process on the last core; the C server of benchmarks/native is on the first one and answers at once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from stand.native import Instants, cores, pin, serving  # noqa: E402

from loadtest.runfolder import read_table  # noqa: E402

WARMUP_S = 4  # left out: users start, connections open
MEASURED_S = 12
RATES = (50, 400)
PROFILE = """
[load]
mode = "open"
arrivals = "constant"
rate_per_s = {rate}
duration_s = {duration}
warmup_s = {warmup}
in_flight_max = 100
drain_s = 2
[writing]
system_prompt_tokens = 0
[[target]]
name = "mock"
route = "openai-chat"
[[persona]]
name = "one"
weight = 1
prompt_tokens = {{ dist = "fixed", value = 40 }}
output_tokens = {{ dist = "fixed", value = 4 }}
turns = {{ dist = "fixed", value = 1 }}
think_s = {{ dist = "fixed", value = 1 }}
"""
THEIRS = """
from locust import FastHttpUser, constant_throughput, task

class Asks(FastHttpUser):
    wait_time = constant_throughput(1)

    @task
    def ask(self):
        body = {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": True}
        self.client.post("/v1/chat/completions", json=body)
"""


def locust(core: int, folder: Path, *options: str) -> None:
    """One run of Locust, pinned; its own words are shown when it could not run."""
    done = subprocess.run(
        [sys.executable, "-m", "locust", "--headless", "--only-summary", *options],
        cwd=folder,
        preexec_fn=lambda: pin(core),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    if done.returncode not in (0, 4):
        raise RuntimeError(f"locust ended with {done.returncode}: {done.stderr[-2000:]}")


def ours(rate: int, core: int, folder: Path, host: str) -> None:
    profile = folder / "wire.toml"
    profile.write_text(PROFILE.format(rate=rate, duration=WARMUP_S + MEASURED_S, warmup=WARMUP_S))
    options = ["--no-observe", "--no-report", "--no-screen", "--runs-dir", str(folder / "runs"), "--run-id", "wire"]
    locust(core, folder, "-f", str(REPO / "locustfile.py"), "--profile", str(profile), "--host", host, *options)


def theirs(rate: int, core: int, folder: Path, host: str) -> None:
    file = folder / "theirs.py"
    file.write_text(THEIRS)
    seconds = str(WARMUP_S + MEASURED_S)
    locust(core, folder, "-f", str(file), "--host", host, "-u", str(rate), "-r", str(rate), "-t", f"{seconds}s")


def received(log: Path) -> Instants:
    """When the server had each request whole, monotonic ns, ascending."""
    return np.sort(np.genfromtxt(f"{log}.csv", delimiter=",", skip_header=1, usecols=1, dtype=np.int64))


def measure(run: Any, rate: int, server_core: int, client_core: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, server_core) as server:
            run(rate, client_core, folder, f"http://127.0.0.1:{server.port}")
        instants = received(server.log)
        begin = instants[0] + WARMUP_S * 1_000_000_000
        kept = instants[(instants >= begin) & (instants < begin + (MEASURED_S - 1) * 1_000_000_000)]
        gaps = np.diff(kept) / 1e6
        told = {"requests": float(len(kept)), "gap_cv": float(gaps.std() / gaps.mean())}
        told |= {f"gap_ms_p{level}": float(np.percentile(gaps, level)) for level in (50, 99)}
        told["gap_ms_max"] = float(gaps.max())
        if run is ours:
            rows = read_table(folder / "runs" / "wire", "requests", ["sent_ns", "scheduled_ns", "phase"]).to_pylist()
            lag = [row["sent_ns"] - row["scheduled_ns"] for row in rows if row["sent_ns"] and row["phase"] == "measure"]
            told |= {f"send_lag_ms_p{level}": float(np.percentile(lag, level)) / 1e6 for level in (50, 99)}
        return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is told (default %(default)s)")
    asked = parser.parse_args()
    server_core, client_core = cores()
    pin(server_core)
    priority = "chrt -f" if os.sched_getscheduler(0) == os.SCHED_FIFO else "ordinary priority"
    print(f"{asked.rounds} rounds of {MEASURED_S - 1} s, {priority}, load average {os.getloadavg()[0]:.1f}")
    for rate in RATES:
        medians = {}
        for name, run in (("ours", ours), ("constant_throughput", theirs)):
            rounds = [measure(run, rate, server_core, client_core) for _ in range(asked.rounds)]
            medians[name] = {key: float(np.median([one[key] for one in rounds])) for key in rounds[0]}
            figures = "  ".join(f"{key} {value:.3f}" for key, value in medians[name].items())
            print(f"{rate:4}/s {name:20} {figures}", flush=True)
        ratios = (medians["constant_throughput"][key] / medians["ours"][key] for key in ("gap_ms_p99", "gap_cv"))
        print("       theirs over ours: gap p99 {:.1f} x, CV of the gaps {:.1f} x".format(*ratios), flush=True)


if __name__ == "__main__":
    main()
