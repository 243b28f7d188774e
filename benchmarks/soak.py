"""Does a swarm grow? Memory and open descriptors of master, workers, collector and observer while a run is on.

    python benchmarks/soak.py                       # 30 minutes, 4 workers, about 16 requests/s in all
    python benchmarks/soak.py --minutes 600 --rate 2

`loadtest run` against the simulated network, profile smoke. After a warm-up (a fifth of the time, at most 5 minutes)
memory is to stay where it is: exit code 1 when a process of the swarm has more in the last tenth than in the tenth
after the warm-up, by more than 5 % and 8 MB, or more than 8 descriptors more. The slope is of a line through all that
follows the warm-up. The simulator is shown and not judged: it keeps tasks by design.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "benchmarks")]

from stand.watched import Look, sleep_until, start_of  # noqa: E402

from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator  # noqa: E402
from loadtest.processes import end  # noqa: E402

LOOKS = 360  # in all
LOOK_S_MIN = 0.5
ROWS_SHOWN = 15
WARM_UP_SHARE, WARM_UP_S_MAX = 0.2, 300.0
PART = 0.1  # of the time after the warm-up, at both of its ends
GROWN_SHARE, GROWN_MB, GROWN_DESCRIPTORS = 0.05, 8.0, 8
CLOSED_S = 300.0

Series = list[Look]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of load (default %(default)g)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=12.0, help="conversations/s in all (default %(default)g)")
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON line at the end")
    asked = parser.parse_args()
    seconds = asked.minutes * 60
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        runs = folder / "runs"
        simulator, url = start_simulator(folder / "port", folder / "truth")
        command = [sys.executable, "-m", "loadtest", "run", "smoke", "--host", url, "--workers", str(asked.workers)]
        command += ["--runs-dir", str(runs), "--request-rate", str(asked.rate), "--duration", str(seconds)]
        with (folder / "log").open("wb") as log:
            run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                t0_ns = start_of(runs, run)
                series = watch(run, simulator, t0_ns, seconds)
                code = run.wait(timeout=CLOSED_S)
            except BaseException:
                print((folder / "log").read_text(errors="replace")[-4000:], file=sys.stderr)
                raise
            finally:
                end(run, CLOSED_S)
                end(simulator, SIMULATOR_END_S)
        (path,) = runs.glob("*/summary.json")
        summary = json.loads(path.read_text())
    found = {name: growth(looks, t0_ns, seconds) for name, looks in series.items()}
    say(series, found, t0_ns)
    grown = [name for name, one in found.items() if name != "simulator" and one["grown"]]
    account = summary["account"]
    print(f"{account['rows']:,} of {account['planned']:,} planned turns have a row, exit code of the run {code}")
    print("grown: " + ", ".join(grown) if grown else "nothing has grown")
    if asked.json:
        print(json.dumps({"processes": found, "account": account, "grown": grown}))
    return 1 if grown or not account["balanced"] else 0


def processes_of(run: subprocess.Popen[bytes], simulator: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """By what they are, workers numbered in the order of their start."""
    named, workers = {"simulator": psutil.Process(simulator.pid)}, 0
    for process in sorted(psutil.Process(run.pid).children(recursive=True), key=lambda child: child.pid):
        command = process.cmdline()
        if "--worker" in command:
            named[f"worker {workers}"] = process
            workers += 1
        else:
            for word, name in (("--master", "master"), ("loadtest.collector", "collector")):
                if word in command:
                    named[name] = process
            if "loadtest.observe" in command:
                named["observer"] = process
    return dict(sorted(named.items()))


def watch(
    run: subprocess.Popen[bytes], simulator: subprocess.Popen[bytes], t0_ns: int, seconds: float
) -> dict[str, Series]:
    """Look at every process, evenly, from the start of the load until shortly before its end."""
    sleep_until(t0_ns)
    processes = processes_of(run, simulator)
    series: dict[str, Series] = {name: [] for name in processes}
    step_ns = int(max(LOOK_S_MIN, seconds / LOOKS) * 1e9)
    last_ns = t0_ns + int((seconds - 1) * 1e9)
    at_ns = t0_ns
    while at_ns < last_ns:
        sleep_until(at_ns)
        for name, process in processes.items():
            series[name].append(Look.at(process))
        at_ns += step_ns
    return series


def growth(series: Series, t0_ns: int, seconds: float) -> dict[str, float | bool]:
    """Medians of the tenth after the warm-up and of the last tenth, and the slope between."""
    at_s = np.array([(look.at_ns - t0_ns) / 1e9 for look in series])
    rss_mb = np.array([look.rss_mb for look in series])
    descriptors = np.array([look.descriptors for look in series])
    warm_s = min(WARM_UP_SHARE * seconds, WARM_UP_S_MAX)
    part_s = PART * (seconds - warm_s)
    after, begin, late = at_s >= warm_s, (at_s >= warm_s) & (at_s < warm_s + part_s), at_s >= at_s[-1] - part_s
    first_mb, last_mb = float(np.median(rss_mb[begin])), float(np.median(rss_mb[late]))
    first_fds, last_fds = float(np.median(descriptors[begin])), float(np.median(descriptors[late]))
    return {
        "first_mb": round(first_mb, 1),
        "last_mb": round(last_mb, 1),
        "slope_mb_per_minute": round(float(np.polyfit(at_s[after], rss_mb[after], 1)[0]) * 60, 3),
        "first_descriptors": first_fds,
        "last_descriptors": last_fds,
        "cpu_share": round(series[0].share_until(series[-1]), 4),
        "grown": last_mb > first_mb * (1 + GROWN_SHARE) + GROWN_MB or last_fds > first_fds + GROWN_DESCRIPTORS,
    }


def say(series: dict[str, Series], found: dict[str, dict[str, float | bool]], t0_ns: int) -> None:
    names = list(series)
    print(f"{'MB, descriptors':>16}" + "".join(f"{name:>14}" for name in names))
    looks = len(series[names[0]])
    for i in range(0, looks, max(1, looks // ROWS_SHOWN)):
        cells = "".join(f"{series[name][i].rss_mb:8.1f}{series[name][i].descriptors:6}" for name in names)
        print(f"{(series[names[0]][i].at_ns - t0_ns) / 1e9:14.0f} s{cells}")
    print(f"\n{'':>12}{'MB after warm-up':>18}{'at the end':>12}{'MB a minute':>13}{'descriptors':>14}{'CPU %':>8}")
    for name, one in found.items():
        fds = f"{one['first_descriptors']:.0f} to {one['last_descriptors']:.0f}"
        cells = f"{one['first_mb']:18.1f}{one['last_mb']:12.1f}{one['slope_mb_per_minute']:+13.3f}{fds:>14}"
        print(f"{name:>12}{cells}{100 * one['cpu_share']:8.1f}{'   GROWN' if one['grown'] else ''}")


if __name__ == "__main__":
    sys.exit(main())
