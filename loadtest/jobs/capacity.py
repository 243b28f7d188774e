"""`loadtest capacity`: the highest arrival rate that holds the objectives, by ordinary runs, step by step.

The folder of a search holds `runs/` with a run folder for every step, the profile they share, `state.json`, written
after each step, and at the end capacity.json, .md, .html and .svg. Interrupted at any moment, the same command goes on:
a run that did not end is left where it is and made again with another seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from loadtest.analysis.capacity import End, Step, StepResult, capacity, misses_bound, next_step, step_verdict
from loadtest.analysis.capacity_step import Interrupted, judge_step
from loadtest.arguments import number, whole
from loadtest.jobs.capacity_question import Question, QuestionError, counted, read_question
from loadtest.jobs.lock import Held, hold
from loadtest.jobs.run import new_run_folder
from loadtest.jobs.swarm import run_swarm
from loadtest.report.capacity_report import capacity_json, capacity_text, write_capacity
from loadtest.runfolder import RunFolderError, write_text
from loadtest.swarm.preflight import SetupError
from loadtest.traffic.profile import Profile

STATE = "state.json"
REST_S = 60.0
EFFECT_SUPPOSED = 4.0  # of the design, before a step has told: no step is given up for what chance may do
EXIT_NOT_RUN, EXIT_USAGE, EXIT_MISSED, EXIT_UNFIT, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
EXITS = {"found": 0, "ceiling": 0, "none passes": EXIT_MISSED}  # of others nothing is proven


class State(msgspec.Struct, kw_only=True):
    """What a search knows so far. `abandoned` are runs that did not end."""

    question: Question
    results: list[StepResult] = []
    abandoned: list[str] = []
    running: str = ""


Run = Callable[[str, str, int, Path, str, Sequence[str]], int]


def main(argv: Sequence[str] | None = None, run: Run = run_swarm) -> int:
    """Search, or go on with a search, to its end; returns the exit code. `run` makes one run folder."""
    args = _parser().parse_args(argv)
    try:
        question, profile = read_question(args)
        folder = args.dir or Path("runs") / f"capacity-{question.profile}-{question.digest}"
        with hold(folder / "lock") as left:
            if left:
                print(f"loadtest capacity: {left}", file=sys.stderr)
            return _search(folder, _state(folder, question), profile, args, run)
    except (QuestionError, SetupError) as error:
        print("\n".join(f"loadtest capacity: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return getattr(error, "exit_code", EXIT_USAGE)
    except Held as error:
        print(f"loadtest capacity: {error}", file=sys.stderr)
        return EXIT_NOT_RUN
    except (Interrupted, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        print(f"loadtest capacity: {why}; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        print(f"loadtest capacity: {error.filename}: {error.strerror}; give another --dir", file=sys.stderr)
        return EXIT_NOT_RUN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest capacity",
        description="Find the highest arrival rate (new conversations per second) that holds the SLOs: a ladder by 1.5 "
        "until one does not pass, bisection to 5 %, and a confirmation three times as long. Every step is a run with "
        "its own folder and report. Interrupted, the same command goes on.",
        epilog="example: loadtest capacity single-shot --host http://127.0.0.1:5010 --slo ttft_ms_p95:2000. "
        "exit codes: 0 found, 3 no rate passed, 4 unfit or not confirmed (proves nothing), 1 could not run, 2 usage, "
        "130 interrupted",
    )
    add = parser.add_argument
    add("profile", help="name of an open profile in profiles/, or a .toml file; its rate is taken flat")
    add("--host", required=True, metavar="URL", help="where the router is, as in http://127.0.0.1:5010")
    add("--slo", action="append", default=[], metavar="M:LIMIT", help="as in ttft_ms_p95:2000; default: the profile's")
    above_0 = number(1e-6, 1e6)
    add("--step-s", type=above_0, default=600.0, metavar="S", help="measured seconds of a step (default %(default)g)")
    add("--rate-from", type=above_0, metavar="R", help="first rate, which should pass (default: the profile's)")
    add("--rate-max", type=above_0, metavar="R", help="never offer more; required unless the target is this machine")
    rest = number(0, 86_400)
    add("--rest-s", type=rest, default=REST_S, metavar="S", help="pause between steps (default %(default)g)")
    add("--workers", type=whole(1, 1000), default=2, metavar="N", help="worker processes (default %(default)s)")
    add("--seed", type=whole(0), default=1, metavar="N", help="of the first step; each has the next one")
    add("--dir", type=Path, metavar="DIR", help="folder of the search (default: runs/capacity-PROFILE-DIGEST)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a host that is not this machine")
    return parser


def _state(folder: Path, question: Question) -> State:
    """The state of this search, or a new one. QuestionError: the folder holds another search or a damaged file."""
    path = folder / STATE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State(question=question)
    except msgspec.DecodeError as error:
        raise QuestionError(f"{path}: damaged ({error}); delete it to begin again") from None
    if state.question != question:
        raise QuestionError(f"{folder}: holds a search with another question (rates, SLOs, ...); give another --dir")
    if state.running:
        state.abandoned.append(state.running)
        state.running = ""
    return state


def _search(folder: Path, state: State, profile: Profile, args: argparse.Namespace, run: Run) -> int:
    profile_path = folder / f"{profile.name}.toml"
    write_text(profile_path, profile.text)
    if state.results:
        print(f"{folder}: going on after {len(state.results)} steps", file=sys.stderr)
    rests = False
    while isinstance(step := next_step(state.question.rules, state.results), Step):
        if rests and args.rest_s:
            print(f"resting {args.rest_s:g} s", file=sys.stderr)
            time.sleep(args.rest_s)
        result = _step(folder, state, profile_path, step, args, run)
        if result is None:
            return EXIT_NOT_RUN
        state.results.append(result)
        _write_state(folder, state)
        print(f"step {len(state.results)}: {_line(result)}", file=sys.stderr)
        rests = True
    return _finish(folder, state, step)


def _step(
    folder: Path, state: State, profile: Path, step: Step, args: argparse.Namespace, make_run: Run
) -> StepResult | None:
    """One step as an ordinary run; None when it could not run."""
    question, runs = state.question, folder / "runs"
    # A run that did not end has had its seed: the texts of this one must be new to the target's caches.
    seed = step.seed + 10_000 * len(state.abandoned)
    step = msgspec.structs.replace(step, seed=seed)
    run = new_run_folder(runs)
    state.running = run.name
    _write_state(folder, state)
    # The warm-up of a run is at most a quarter of it.
    duration_s = step.seconds + min(question.warmup_s, step.seconds / 3)
    options = ["--request-rate", f"{step.rate_per_s:.6g}", "--duration", f"{duration_s:.6g}", "--seed", str(seed)]
    options += ["--stop-saturated", *_bounds(question, state.results, step)]
    for host in args.allow_host:
        options += ["--allow-host", host]
    if args.rate_max:
        options += ["--rate-ceiling", f"{args.rate_max:g}"]
    print(f"{step.kind}: {step.rate_per_s:.4g}/s for {step.seconds:g} s, seed {seed}: {run}", file=sys.stderr)
    code = make_run(str(profile), args.host, args.workers, runs, run.name, options)
    state.running = ""
    if not (run / "summary.json").exists():
        state.abandoned.append(run.name)
        _write_state(folder, state)
        print(f"loadtest capacity: the step did not run (exit code {code}), see above; {run}", file=sys.stderr)
        return None
    try:
        return judge_step(run, step, question.slos, _turns(question, step))
    except Interrupted:
        state.abandoned.append(run.name)
        _write_state(folder, state)
        raise
    except RunFolderError as error:
        print(f"loadtest capacity: {error}", file=sys.stderr)
        return None


def _turns(question: Question, step: Step) -> float:
    return step.rate_per_s * step.seconds * question.rules.turns_per_conversation


def _bounds(question: Question, done: Sequence[StepResult], step: Step) -> list[str]:
    """After how many misses the step has failed, whatever is still to come."""
    effects = [objective.effect for each in done for objective in each.objectives]
    effect = max(effects, default=EFFECT_SUPPOSED)
    words: list[str] = []
    for slo in question.slos:
        each = counted(slo)
        if each is not None and each.share < 1:
            bound = misses_bound(_turns(question, step), each.share, effect)
            words += ["--misses-max", f"{each.metric}:{each.limit:g}:{bound}"]
    return words


def _line(result: StepResult) -> str:
    figures = result.figures
    verdict = "unfit" if not result.fit else step_verdict(result)
    latency = "ttft" if figures.get("ttft_ms_p95") is not None else "e2e"
    p95 = figures.get(f"{latency}_ms_p95")
    misses = ", ".join(f"{each.name} {each.misses} of {each.n}" for each in result.objectives)
    return (
        f"{result.rate_per_s:.4g}/s {verdict}{' (saturated)' if result.saturated else ''}: {misses}; "
        f"{latency.upper()} p95 {'among the failed' if p95 is None else f'{p95:,.0f} ms'}"
        + (f"; {result.why}" if result.why else "")
    )


def _write_state(folder: Path, state: State) -> None:
    write_text(folder / STATE, msgspec.json.format(msgspec.json.encode(state), indent=1).decode() + "\n")


def _finish(folder: Path, state: State, end: End) -> int:
    found = capacity_json(msgspec.to_builtins(state.question), end, capacity(state.results), state.results)
    write_capacity(folder, found)
    print(capacity_text(found))
    print(f"report: {folder / 'capacity.html'}")
    return EXITS.get(end.state, EXIT_UNFIT)
