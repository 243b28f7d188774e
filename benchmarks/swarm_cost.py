"""What a master and its collector cost over real sockets, in shares of a core, and whether its heartbeats keep time.

    python benchmarks/swarm_cost.py                      # 16 and 64 workers, 2,000 requests/s of 100 chunks in all
    python benchmarks/swarm_cost.py --workers 4 --rate 200 --seconds 15

A real headless Locust master with its collector; the workers are real but for their requests, which they play
(`stand/played.py`), up to 32 in one process. One that has a process of its own tells how long the master took to answer
its heartbeats, from its first message to its last. CPU is read from the kernel from `--settle` seconds after the start
of the load to its end; joining and reporting come afterwards and are not in it. Exit code 1 when master and collector
take more than 30 % of a core at 16 workers, when a heartbeat is answered more than a second late, or when a row is
missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "benchmarks")]

from stand.watched import Look, sleep_until, start_of  # noqa: E402

from loadtest import runfolder  # noqa: E402
from loadtest.jobs.swarm import free_port, locustfile  # noqa: E402
from loadtest.processes import end  # noqa: E402

CLOSED_S = 240.0
PLAYERS_MAX = 32  # in one process
ENDS_S = 10.0
SHARE_MAX, SHARE_WORKERS = 0.30, 16
LATE_MS_MAX = 1_000.0

PROFILE = """
[load]
mode = "open"
arrivals = "constant"
rate_per_s = {rate}
duration_s = {seconds}
warmup_s = 2.0
drain_s = 10.0
in_flight_max = {slots}

[[target]]
name = "chat"
route = "openai-chat"
model = "default"

[[persona]]
name = "quick"
weight = 1.0
locale = "en_US"
prompt_tokens = {{ dist = "fixed", value = 200 }}
output_tokens = {{ dist = "fixed", value = {chunks} }}
turns = {{ dist = "fixed", value = 1 }}
think_s = {{ dist = "fixed", value = 0 }}
"""


class Nothing(BaseHTTPRequestHandler):
    """The target that a master asks before it starts."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rate", type=float, default=2_000.0, help="requests/s in all (default %(default)g)")
    parser.add_argument("--chunks", type=int, default=100, help="of each answer (default %(default)d)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load (default %(default)g)")
    parser.add_argument(
        "--settle", type=float, default=10.0, help="of them before the first look (default %(default)g)"
    )
    parser.add_argument("--profiler", default="", metavar="FILE", help="run the master under cProfile, 1 size only")
    asked = parser.parse_args()
    target = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=target.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{target.server_port}"
    print(f"{asked.rate:g} requests/s of {asked.chunks} chunks for {asked.seconds:g} s\n")
    titles = ("workers", "rows/s", "master %", "collector %", "together %", "MB", "MB", "answered p99 ms", "max ms")
    widths = (8, 8, 9, 12, 11, 6, 6, 16, 8)
    print(
        "".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True)) + "   players: CPU %, late ms"
    )
    good = True
    for workers in asked.workers:
        found = measure(asked, url, workers)
        figures = (
            f"{workers}",
            f"{found['rows_per_s']:.0f}",
            f"{100 * found['master']:.1f}",
            f"{100 * found['collector']:.1f}",
            f"{100 * (found['master'] + found['collector']):.1f}",
            f"{found['master_mb']:.0f}",
            f"{found['collector_mb']:.0f}",
            f"{found['answered_ms_p99']:.1f}",
            f"{found['answered_ms_max']:.0f}",
        )
        line = "".join(f"{figure:>{width}}" for figure, width in zip(figures, widths, strict=True))
        busy = " ".join(f"{100 * share:.0f}" for share in found["players_cpu"])
        print(f"{line}   {busy}, {found['played_late_ms_max']:.0f}", flush=True)
        if workers == SHARE_WORKERS and found["master"] + found["collector"] > SHARE_MAX:
            print(f"more than {100 * SHARE_MAX:.0f} % of a core")
            good = False
        if found["answered_ms_max"] > LATE_MS_MAX:
            print(f"a heartbeat was answered more than {LATE_MS_MAX / 1e3:.0f} s late")
            good = False
        if found["missing"]:
            print(f"{found['missing']} planned turns have no row of their worker, {found['mismatches']}")
            good = False
    return 0 if good else 1


def measure(asked: argparse.Namespace, url: str, workers: int) -> dict[str, Any]:
    """One run of so many workers, from start to its last row."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, port = Path(scratch), free_port()
        slots = workers * 20
        profile = folder / "cost.toml"
        profile.write_text(
            PROFILE.format(rate=float(asked.rate), seconds=float(asked.seconds), slots=slots, chunks=asked.chunks)
        )
        python = [sys.executable, *(["-m", "cProfile", "-o", asked.profiler] if asked.profiler else [])]
        command = [*python, "-m", "locust", "-f", str(locustfile()), "--headless", "--master", "--only-summary"]
        command += ["--master-bind-port", str(port), "--profile", str(profile), "--host", url]
        command += ["--expect-workers", str(workers), "--runs-dir", str(folder / "runs"), "--no-observe", "--no-report"]
        play = [sys.executable, str(REPO / "benchmarks/stand/played.py"), "--port", str(port)]
        play += ["--chunks", str(asked.chunks), "--runs-dir", str(folder / "runs"), "--workers"]
        started = []
        with (folder / "log").open("wb") as log:
            try:
                master = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                started.append(master)
                players = [
                    subprocess.Popen([*play, str(some)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
                    for some in (1, *shares_of(workers - 1))
                ]
                started += players
                found = watch(master, folder / "runs", asked)
                told = [json.loads(player.communicate(timeout=CLOSED_S)[0].splitlines()[-1]) for player in players]
                code = master.wait(timeout=CLOSED_S)
            except BaseException:
                print((folder / "log").read_text(errors="replace")[-9000:], file=sys.stderr)
                raise
            finally:
                for process in started:
                    end(process, ENDS_S)
        if code:
            print((folder / "log").read_text(errors="replace")[-9000:], file=sys.stderr)
            raise SystemExit(f"the run ended with {code}")
        (run,) = (folder / "runs").iterdir()
        ledger = runfolder.read_manifest(run)["ledger"]
    missing = ledger["planned_turns"] - ledger["rows"] + ledger["filled_rows"] + ledger["open_rows"]
    found["rows_per_s"] = ledger["rows"] / asked.seconds
    found |= {name: told[0][name] for name in ("answered_ms_p99", "answered_ms_max", "heartbeats")}
    found["players_cpu"] = [one["cpu_share"] for one in told[1:]]
    found["played_late_ms_max"] = max(one["played_late_ms_max"] for one in told)
    return {**found, "missing": missing, "mismatches": ledger["mismatches"]}


def shares_of(workers: int) -> list[int]:
    """So many workers, in as few processes as will do."""
    return [min(PLAYERS_MAX, workers - at) for at in range(0, workers, PLAYERS_MAX)]


def watch(master: subprocess.Popen[bytes], runs: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Wait for the load to have settled, look, wait for its end, look again."""
    t0_ns = start_of(runs, master)
    processes = {"master": psutil.Process(master.pid)}
    processes["collector"] = next(
        child for child in processes["master"].children() if "loadtest.collector" in child.cmdline()
    )
    sleep_until(t0_ns + int(asked.settle * 1e9))
    first = {name: Look.at(process) for name, process in processes.items()}
    sleep_until(t0_ns + int(asked.seconds * 1e9) - 500_000_000)
    last = {name: Look.at(process) for name, process in processes.items()}
    shares: dict[str, Any] = {name: first[name].share_until(last[name]) for name in processes}
    return shares | {f"{name}_mb": look.rss_mb for name, look in last.items()}


if __name__ == "__main__":
    sys.exit(main())
