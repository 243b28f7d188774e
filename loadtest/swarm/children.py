"""The processes that work beside the master: the collector while rows come in, the observer, then join and report.

Each has a process group of its own: a terminal sends Ctrl-C to the whole group of the master, which ends its children
itself when it has no more need of them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import AsyncResult

from loadtest.fitness import exit_code
from loadtest.processes import end
from loadtest.traffic.plan import Plan, Stripe

COLLECTOR_READY_S = 20.0
COLLECTOR_CLOSE_S = 600.0
TERMINATED_WAIT_S = 10.0
JOIN_S = 1800.0

logger = logging.getLogger(__name__)


class ChildError(Exception):
    """A process of ours did not do its part; one line."""


class Collector:
    """The collector process: started with the run, told at the end what was planned, answers with its account."""

    def __init__(self, run: Path, bind: str, port: int = 0) -> None:
        self.received = 0  # rows it has, as it told last
        self.stored = 0  # rows in Parquet
        self._said: dict[str, AsyncResult] = {"port": AsyncResult(), "account": AsyncResult()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.collector", "--run", str(run), "--bind", bind, "--port", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        self._listener = gevent.spawn(self._listen)
        self.port = int(self._answer("port", COLLECTOR_READY_S))

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self, plan: Plan, t0_ns: int, stripes: list[Stripe]) -> dict[str, Any]:
        """Tell it that nothing more comes and wait for its account; ChildError if it fails."""
        command = close_command(plan, t0_ns, stripes) + b"\n"
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(command)
            self._process.stdin.close()
        except OSError:
            raise ChildError("the collector died; the rows it had not stored are in spool/") from None
        account: dict[str, Any] = self._answer("account", COLLECTOR_CLOSE_S)
        self._process.wait(timeout=TERMINATED_WAIT_S)
        return account

    def _listen(self) -> None:
        """Take what it says, line by line, until it ends; whoever still waits for a word then gets none."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                ((word, value),) = json.loads(line).items()
            except (ValueError, AttributeError):
                continue
            if word == "counts":
                self.received, self.stored = value["received"], value["stored"]
            elif word in self._said:
                self._said[word].set(value)
        for answer in self._said.values():
            if not answer.ready():
                answer.set(None)

    def _answer(self, word: str, seconds: float) -> Any:
        value = None
        with contextlib.suppress(gevent.Timeout):
            value = self._said[word].get(timeout=seconds)
        if value is None:
            self.kill()
            raise ChildError(f"the collector did not say its {word} within {seconds:.0f} s") from None
        return value

    def kill(self) -> None:
        end(self._process, TERMINATED_WAIT_S)


class Observer:
    """The observer process: watches the network's own word while the run goes on, ends by itself soon after."""

    def __init__(self, run: Path, host: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.observe", "--run", str(run), "--host", host],
            stdin=subprocess.DEVNULL,
            process_group=0,
        )

    def finish(self, seconds: float) -> None:
        """Wait for its last look-ups; past the deadline it is told to write what it has."""
        try:
            code = self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            logger.warning("observe did not end within %.0f s; it is stopped with what it has", seconds)
            end(self._process, TERMINATED_WAIT_S)
            return
        if code:
            logger.error("observe ended with exit code %d; snapshots or tasks may be missing", code)

    def kill(self) -> None:
        end(self._process, TERMINATED_WAIT_S)


def run_step(arguments: Sequence[str]) -> int:
    """Run one of our own commands over the run folder and return its exit code."""
    command = [sys.executable, "-m", "loadtest", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    try:
        return int(process.wait(timeout=JOIN_S))
    except subprocess.TimeoutExpired:
        end(process, TERMINATED_WAIT_S)
        logger.error("loadtest %s did not end within %.0f s", arguments[0], JOIN_S)
        return 1


def close_command(plan: Plan, t0_ns: int, stripes: list[Stripe]) -> bytes:
    """What was planned, as `collector.account.Close` reads it."""
    return msgspec.json.encode({"plan": plan, "t0_ns": t0_ns, "stripes": stripes})


def judge(folder: Path) -> int:
    """Join, report, and the exit code they lead to: 1 could not, 4 unfit, 3 an SLO missed, 0 pass."""
    # A join that found no reputation says so and ends with 1, but it has written all there is to report.
    run_step(["join", str(folder)])
    path = folder / "summary.json"
    if not path.exists() or run_step(["report", str(folder)]):
        return 1
    return exit_code(json.loads(path.read_text(encoding="utf-8")))


def broken_rules(folder: Path) -> list[str] | None:
    """The rules of fitness that the report found broken; None without a report."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return [reason["rule"] for reason in summary["fit"]["reasons"]]
    except (OSError, ValueError, KeyError):
        return None
