"""`loadtest demo`: the whole way through the house on one machine, against a simulated network."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis.accuracy import accuracy, accuracy_text
from loadtest.clock import Deadline
from loadtest.jobs.run import new_run_folder, print_result
from loadtest.jobs.swarm import run_swarm
from loadtest.processes import end

SIMULATOR_READY_S = 30.0
SIMULATOR_END_S = 30.0  # it writes its truth log first
SIMULATOR_SEED = 7
WORKERS = 2
EXIT_NOT_MADE = 1


def demo(runs_dir: Path, seed: int) -> int:
    """Simulate, load, observe, join, report, compare with the truth; return the run's exit code."""
    folder = new_run_folder(runs_dir)
    with tempfile.TemporaryDirectory() as scratch:
        truth = Path(scratch) / "truth"
        try:
            simulator, url = start_simulator(Path(scratch) / "port", truth)
        except RuntimeError as error:
            print(f"loadtest demo: {error}; its own lines stand above", file=sys.stderr)
            return EXIT_NOT_MADE
        try:
            print(f"a simulated network listens on {url}; loading it for about 40 s", file=sys.stderr)
            code = run_swarm("demo", url, WORKERS, runs_dir, folder.name, ["--seed", str(seed)])
        finally:
            end(simulator, SIMULATOR_END_S)
        print_result(folder)
        if (folder / "summary.json").exists():
            print("\nerror of this run's measurements, against the simulator's own log:")
            print(accuracy_text(accuracy(folder, truth)))
    return code


def start_simulator(
    port_file: Path, truth: Path | None, options: Sequence[str] = ()
) -> tuple[subprocess.Popen[bytes], str]:
    """Start the simulator as a process and wait until it listens; return it and its address. RuntimeError: it did not.

    `options` may name another seed. Without `truth` it keeps no log.
    """
    command = [sys.executable, "-m", "loadtest", "simulate", "--port", "0", "--port-file", str(port_file)]
    command += ["--seed", str(SIMULATOR_SEED), *(["--truth", str(truth)] if truth is not None else []), *options]
    # A process group of its own: it must outlive a Ctrl-C until the run has drained.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, process_group=0)
    deadline = Deadline(SIMULATOR_READY_S)
    try:
        while not (port_file.exists() and port_file.read_text().strip()):
            if process.poll() is not None or deadline.over():
                raise RuntimeError(f"the simulator did not start within {SIMULATOR_READY_S:.0f} s")
            time.sleep(0.05)
    except BaseException:  # a Ctrl-C too: nobody else knows of the process yet
        end(process, SIMULATOR_END_S)
        raise
    return process, f"http://127.0.0.1:{port_file.read_text().strip()}"
