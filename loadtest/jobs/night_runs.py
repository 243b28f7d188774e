"""What a night does with the network: the preflight, and one attempt at a run of the target or of the control.

A target run has its number as its seed, every night; a control run is the same to the last request, against a
simulator of ours that begins anew for each of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from loadtest import runfolder
from loadtest.analysis.gate_limits import Limit
from loadtest.analysis.nights import TARGET, Kind, NightRun
from loadtest.analysis.run_figures import read_run
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import run_swarm
from loadtest.processes import end
from loadtest.traffic.profile import Profile

CHECK_S = 300.0  # about ten requests to each target, most of them short
RUN_MARGIN_S = 300.0  # processes that start, look-ups, join and report
# One node of a fixed seed, at half speed: a TTFT of 0.4 s, so that a few ms of ours are no shift of the control.
CONTROL_NETWORK = ("--scenario", "control", "--seed", "1", "--speed", "0.5")
CONTROL_SEED = 1
USABLE = (0, 3, 4)  # exit codes of runs that were made, whatever they say of the target


class PieceFailed(Exception):
    """A piece of the night did not do its work; one line says why."""


class Interrupted(BaseException):
    """Somebody asked the night to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks of a night, checked."""

    host: str
    profile: Profile
    control_profile: Profile
    profile_name: str
    control_name: str
    top: Path
    runs: int
    spare: int
    workers: int
    limits: tuple[Limit, ...]
    permission: tuple[str, ...]  # --allow-host and --rate-ceiling, as the runs want them
    check_permission: tuple[str, ...]
    command: str


def preflight(asked: Asked, night: Path) -> str:
    """`loadtest check`, kept as check.json; what was seen, in one line. PieceFailed."""
    command = [sys.executable, "-m", "loadtest", "check", "--host", asked.host, "--profile", asked.profile_name]
    command += ["--json", *asked.check_permission]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=CHECK_S)
    except subprocess.TimeoutExpired:
        raise PieceFailed(f"`loadtest check` did not end within {CHECK_S:.0f} s") from None
    try:
        document = json.loads(done.stdout)
    except ValueError:
        raise PieceFailed(f"`loadtest check` ended with code {done.returncode} and told nothing") from None
    runfolder.write_text(night / "check.json", done.stdout.decode("utf-8", "replace"))
    rows = [(one["target"], row) for one in document["targets"] for row in one["checks"]]
    if done.returncode:
        failed = [f"{target}: {row['check']}: {row['seen']}" for target, row in rows if row["level"] == "fail"]
        raise PieceFailed("; ".join(failed) or f"`loadtest check` ended with code {done.returncode}")
    warned = sum(row["level"] == "warn" for _, row in rows)
    return f"{len(rows)} checks, {warned} warnings, see check.json"


def attempt(asked: Asked, night: Path, kind: Kind, number: int) -> NightRun:
    """Make one run in the night's folder. Interrupted: a signal ended it."""
    name = runfolder.new_run_id()
    runs_dir = night / ("runs" if kind == TARGET else "control")
    runs_dir.mkdir(parents=True, exist_ok=True)
    made = NightRun(
        kind=kind,
        number=number,
        seed=number if kind == TARGET else CONTROL_SEED,
        run=name,
        folder=f"{runs_dir.name}/{name}",
        exit_code=None,
        used=False,
        text="",
    )
    signals: list[int] = []
    swarm = _target_run if kind == TARGET else _control_run
    try:
        code = swarm(asked, runs_dir, made, signals.append)
    except subprocess.TimeoutExpired:
        code = None
    if signals:  # it was for the night: the run has drained, and nothing comes after it
        raise Interrupted
    try:
        figures = read_run(runs_dir / name) if code in USABLE else None
    except runfolder.RunFolderError as error:
        return replace(made, exit_code=code, text=str(error))
    return replace(made, exit_code=code, figures=figures)


def useless(made: NightRun) -> str:
    """Why a night cannot be judged by a run, or "": it was not made, or it is unfit."""
    if made.exit_code is None:
        return f"{made.folder} was ended: its time was over"
    if made.figures is None:
        why = made.text or f"exit code {made.exit_code}; its lines are in the log"
        return f"{made.folder} could not be made ({why})"
    return "" if made.figures.fit else f"{made.folder} is unfit ({made.figures.unfit_reasons})"


def _target_run(asked: Asked, runs_dir: Path, made: NightRun, on_signal: Callable[[int], object]) -> int:
    return run_swarm(
        asked.profile_name,
        asked.host,
        asked.workers,
        runs_dir,
        made.run,
        ["--seed", str(made.seed), *asked.permission],
        _limit_s(asked.profile),
        on_signal,
    )


def _control_run(asked: Asked, runs_dir: Path, made: NightRun, on_signal: Callable[[int], object]) -> int:
    options = ["--seed", str(made.seed), "--no-observe"]
    limit_s = _limit_s(asked.control_profile)
    with tempfile.TemporaryDirectory() as scratch:
        simulator, url = start_simulator(Path(scratch) / "port", None, CONTROL_NETWORK)
        try:
            return run_swarm(asked.control_name, url, 1, runs_dir, made.run, options, limit_s, on_signal)
        finally:
            end(simulator, SIMULATOR_END_S)


def _limit_s(profile: Profile) -> float:
    load, observe = profile.load, profile.observe
    return load.duration_s + load.drain_s + observe.grace_s + observe.lookup_deadline_s + RUN_MARGIN_S
