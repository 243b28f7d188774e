"""A swarm whose processes can be hurt one by one: a master and workers with logs and signals of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import Ended, wait_for

from loadtest import runfolder
from loadtest.clock import Deadline
from loadtest.jobs.swarm import free_port, locustfile

ENDS_S = 120
KILLED_S = 10

# Answers take about a second, so that some are in flight at any instant; every arrival has two turns.
PROFILE = """
[load]
mode = "open"
arrivals = "constant"
rate_per_s = 6.0
duration_s = {seconds}
warmup_s = 1.0
drain_s = 30.0
time_scale = 0.1
in_flight_max = 400

[writing]
system_prompt_tokens = 20
history_tokens_max = 512

[[target]]
name = "chat"
route = "openai-chat"
model = "default"
timeout_s = 60.0

[[persona]]
name = "quick"
weight = 1.0
locale = "en_US"
prompt_tokens = {{ dist = "uniform", min = 8, max = 40 }}
output_tokens = {{ dist = "fixed", value = {tokens} }}
turns = {{ dist = "fixed", value = 2 }}
think_s = {{ dist = "fixed", value = 5 }}
"""


def write_profile(folder: Path, *, seconds: float = 14.0, tokens: int = 60) -> Path:
    path = folder / "faults.toml"
    path.write_text(PROFILE.format(seconds=seconds, tokens=tokens))
    return path


class Swarm:
    """A headless master and its workers. `inside` is put before a command, to run it in a network namespace."""

    def __init__(self, folder: Path, url: str, profile: Path) -> None:
        self.folder, self.runs_dir = folder, folder / "runs"
        self._url, self._profile = url, profile
        self.port = free_port()
        self._started: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_master(
        self, workers: int, *options: str, inside: Sequence[str] = (), observe: bool = False
    ) -> subprocess.Popen[bytes]:
        command = ["--headless", "--master", "--master-bind-port", str(self.port), "--expect-workers", str(workers)]
        command += ["--expect-workers-max-wait", "60", "--profile", str(self._profile), "--host", self._url]
        command += [] if observe else ["--no-observe"]
        command += ["--runs-dir", str(self.runs_dir), "--only-summary", *options]
        self.master = self._start("master", [*inside, *_locust(), *command])
        return self.master

    def start_worker(
        self,
        *options: str,
        master: str = "127.0.0.1",
        inside: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """`--runs-dir` among the options puts its spool elsewhere."""
        command = ["--worker", "--master-host", master, "--master-port", str(self.port)]
        command += ["--runs-dir", str(self.runs_dir), *options]
        worker = self._start(f"worker{len(self.workers)}", [*inside, *_locust(), *command], environment)
        self.workers.append(worker)
        return worker

    def _start(
        self, name: str, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                # A group of its own, so that a signal to it reaches what a terminal's Ctrl-C would; and a shell ignores
                # Ctrl-C for what it runs in the background.
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def rows_stored(self) -> bool:
        return any(self.runs_dir.glob("*/requests/part-*.parquet"))

    def wait_for_rows(self) -> None:
        """Until some turns have ended and are stored: the run is in its middle."""
        wait_for("the first rows", lambda: self.rows_stored() or self.master.poll() is not None)
        assert self.master.poll() is None, self.log("master")

    def t0_ns(self) -> int:
        """The start instant, on the monotonic clock of this machine."""
        (path,) = self.runs_dir.glob("*/manifest.json")
        return int(json.loads(path.read_text())["t0_ns"])

    def end(self) -> Ended:
        """Wait for the master's end, then for that of the workers that still live."""
        code = self.master.wait(timeout=ENDS_S)
        for worker in self.workers:
            worker.wait(timeout=ENDS_S)
        return Ended(code, "", self.log("master"), self.runs_dir)

    def clean_up(self) -> None:
        """Every process that still runs is ended, with what it started, by its own id."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=KILLED_S)
        for path in sorted(self.folder.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-5000:]}")


@contextmanager
def swarm(folder: Path, url: str, profile: Path) -> Iterator[Swarm]:
    one = Swarm(folder, url, profile)
    try:
        yield one
    finally:
        one.clean_up()


def _locust() -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(locustfile())]


def worker_number(swarm: Swarm, process: subprocess.Popen[bytes]) -> int:
    """The stripe of a worker process: its spool is named by it and by its process id."""
    (spool,) = swarm.runs_dir.parent.glob(f"**/spool/worker-*-{process.pid}.spool")
    return int(spool.name.split("-")[1])


def assert_exact(result: Ended) -> Counter[str]:
    """Every planned turn has one row and no more, and every sum of the ledger is that of the rows; the outcomes."""
    manifest, rows = result.manifest(), result.rows().to_pylist()
    ledger, account = manifest["ledger"], result.summary()["account"]
    outcomes = Counter(row["outcome"] for row in rows)
    assert account["planned"] == account["rows"] == ledger["planned_turns"] == ledger["rows"] == len(rows)
    assert account["outcomes"] == ledger["outcomes"] == outcomes
    assert ledger["mismatches"] == [] and ledger["damaged_frames"] == 0
    turns = defaultdict(list)
    for row in rows:
        turns[row["arrival"]].append(row)
        assert row["worker"] == row["arrival"] % len(manifest["workers"])
    for of_arrival in turns.values():
        assert sorted(row["turn"] for row in of_arrival) == list(range(of_arrival[0]["turns_planned"]))
    return outcomes


def sent_references(truth: Path) -> Counter[str]:
    """What the simulator saw come in, once it has stopped."""
    return Counter(runfolder.read_truth(truth)["client_reference"].to_pylist())


def sleep_until(deadline: Deadline, what: str, process: subprocess.Popen[bytes]) -> None:
    """Let a fault last as long as it is said to; the process must not end meanwhile."""
    wait_for(what, lambda: deadline.over() or process.poll() is not None)
    assert process.poll() is None, f"{what}: it ended"


def reasons(result: Ended) -> dict[str, Any]:
    return {reason["rule"]: reason["figure"] for reason in result.summary()["fit"]["reasons"]}
