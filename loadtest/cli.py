"""The command line: parsing only. Every command imports what it needs when it is called."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from loadtest.arguments import amount, whole

EXIT_CODES = "exit codes: 0 pass, 3 an SLO missed or a ceiling met, 4 unfit (proves nothing), 1 could not run, 2 usage"
# Programs of their own, with their own arguments: where each `main` is, and its line in our help.
PROGRAMS = {
    "simulate": ("loadtest.simulator.__main__", "run a local network to test against"),
    "observe": ("loadtest.observe.__main__", "watch a network while a run goes on"),
    "import": ("loadtest.jobs.import_snapshots", "snapshots that others stored, into a run folder"),
    "compare": ("loadtest.jobs.compare", "runs side by side: tables, pictures, shifts with intervals"),
    "gate": ("loadtest.jobs.gate", "may these runs pass? fixed limits, and a baseline of earlier runs"),
    "capacity": ("loadtest.jobs.capacity", "the highest arrival rate that holds the SLOs, step by step"),
    "contest": ("loadtest.jobs.contest", "what a contest pays, by a rules file: low, paid and high"),
    "nightly": ("loadtest.jobs.nightly", "one night of runs, judged against the nights before, for CI and cron"),
    "export": ("loadtest.jobs.export", "a run folder, or its rows as CSV or Parquet, as one file"),
    "prune": ("loadtest.jobs.prune", "remove the rows of old runs, keep their reports"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake is one line on standard error."""
    from loadtest.runfolder import RunFolderError

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in PROGRAMS:
            return _program(arguments[0])(arguments[1:])
        # argparse forgets a "--" that follows options, so what is meant for Locust is cut off first.
        cut = arguments.index("--") if "--" in arguments else len(arguments)
        args = _parser().parse_args(arguments[:cut], argparse.Namespace(locust_options=arguments[cut + 1 :]))
        command: Callable[[argparse.Namespace], int] = args.command
        return command(args)
    except BrokenPipeError:
        # Whoever read our output, `head` for one, has seen enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RunFolderError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a disk that is full, a folder without the rights, a file where a folder should be
        print(f"loadtest: {error.filename or 'this machine'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _program(name: str) -> Callable[[list[str]], int]:
    program: Callable[[list[str]], int] = importlib.import_module(PROGRAMS[name][0]).main
    return program


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest",
        description="Load testing for AI router nodes: every chunk timed with a stated bound, every result joined "
        "with the reputation of the node that served it.",
        epilog=EXIT_CODES,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_run(commands)
    _add_workers(commands)
    _add_plan(commands)
    _add_profile(commands)
    _add_check(commands)
    _add_collect(commands)
    _add_join(commands)
    _add_report(commands)
    _add_accuracy(commands)
    _add_trace(commands)
    for name, (_, line) in PROGRAMS.items():
        commands.add_parser(name, help=line, add_help=False)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="simulator, master and two workers, about 40 s, ends with a report",
        description="Start the simulated network, load it with the demo profile from two workers, observe, join and "
        "report. Nothing leaves this machine.",
        epilog=EXIT_CODES,
    )
    demo.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where the run folder is made")
    demo.add_argument(
        "--seed", type=int, default=1, help="decides every arrival, text and length (default %(default)s)"
    )
    demo.set_defaults(command=_demo)


def _add_run(commands: Commands) -> None:
    from loadtest.traffic.flags import add_flags

    run = commands.add_parser(
        "run",
        usage="loadtest run [-h] --host URL [--workers N] [--runs-dir DIR] [--seed N] [--request-rate R ...] PROFILE "
        "[-- LOCUST OPTIONS]",
        help="run a profile against a router from this machine",
        description="Run a profile: one master, N worker processes, a run folder with its report at the end.",
        epilog="After a -- come options of Locust or of our plugin, such as: -- -u 200 -t 60s --seed 7 --trace FILE. "
        + EXIT_CODES,
    )
    run.add_argument("profile", help="name of a profile in profiles/, or a .toml file")
    run.add_argument("--host", required=True, metavar="URL", help="where the router is, as in http://127.0.0.1:5010")
    run.add_argument("--workers", type=whole(1), default=2, metavar="N", help="worker processes (default %(default)s)")
    run.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where the run folder is made")
    run.add_argument("--seed", type=int, default=1, help="decides every arrival, text and length (default %(default)s)")
    add_flags(run.add_argument_group("instead of what the profile says").add_argument)
    run.set_defaults(command=_run)


def _add_plan(commands: Commands) -> None:
    from loadtest.traffic.flags import add_flags, add_trace_options

    plan = commands.add_parser(
        "plan",
        usage="loadtest plan [-h] [--json] [--picture FILE] [--seed N] [--request-rate R ...] PROFILE",
        help="what a profile will offer; sends nothing",
        description="Work out what a profile will offer: rate over time, requests, tokens, concurrency, sizes, cost, "
        "and how many requests each percentile gets. Nothing is sent.",
        epilog="exit codes: 0 planned (also with warnings), 1 the picture cannot be written, 2 usage",
    )
    plan.add_argument("profile", help="name of a profile in profiles/, or a .toml file")
    plan.add_argument("--json", action="store_true", help="print JSON instead of text")
    plan.add_argument("--picture", metavar="FILE", help="also draw the schedule, as SVG")
    plan.add_argument("--answer-s", type=amount, default=10.0, metavar="S", help="suppose that an answer takes S s")
    plan.add_argument("--workers", type=whole(1), default=2, metavar="N", help="worker processes (default %(default)s)")
    plan.add_argument("--price-in", type=amount, default=0.0, metavar="P", help="price of a million prompt tokens")
    plan.add_argument("--price-out", type=amount, default=0.0, metavar="P", help="price of a million output tokens")
    plan.add_argument(
        "--seed", type=int, default=1, help="decides every arrival, text and length (default %(default)s)"
    )
    add_trace_options(plan.add_argument)
    add_flags(plan.add_argument_group("instead of what the profile says").add_argument)
    plan.set_defaults(command=_plan)


def _add_profile(commands: Commands) -> None:
    profile = commands.add_parser("profile", help="check a profile file", description="What concerns profile files.")
    actions = profile.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = actions.add_parser(
        "check",
        help="every mistake in one pass, with its field and line",
        description="Read a profile and print each of its mistakes as FILE:LINE: field: what is wrong.",
        epilog="exit codes: 0 no mistakes, 2 mistakes",
    )
    check.add_argument("profile", metavar="FILE", help="a .toml file, or the name of a profile in profiles/")
    check.set_defaults(command=_profile_check)


def _add_check(commands: Commands) -> None:
    check = commands.add_parser(
        "check",
        help="can this target be measured? a preflight of seconds",
        description="Send about ten requests to each target of a profile and say what a run would not see: key, "
        "stream or buffer, end marker, usage, cancellation, keep-alive, body limit, error bodies, balance.",
        epilog="exit codes: 0 nothing failed, 3 something failed, 1 a target is unreachable, 2 usage",
    )
    check.add_argument("--host", required=True, metavar="URL", help="where the router is, as in http://127.0.0.1:5010")
    check.add_argument("--profile", default="smoke", metavar="NAME", help="whose targets (default %(default)s)")
    check.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a host that is not this machine"
    )
    check.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check.set_defaults(command=_check)


def _add_workers(commands: Commands) -> None:
    workers = commands.add_parser(
        "workers",
        help="what to install and start on several machines, and is it installed here?",
        description="Print the commands for a master and its worker machines. With --check, say whether this machine "
        "has what the master has and can reach it.",
        epilog="exit codes: 0 printed, or all is well; 1 something is missing or differs, 2 usage",
    )
    workers.add_argument("--master", default="127.0.0.1", metavar="ADDRESS", help="where the workers find the master")
    workers.add_argument("--count", type=whole(1), default=2, metavar="N", help="worker processes in all")
    workers.add_argument("--profile", default="community", metavar="NAME", help="what is to be run")
    workers.add_argument("--check", action="store_true", help="check this machine instead of printing")
    workers.add_argument("--versions", default="", metavar="TEXT", help="with --check: what the master printed")
    workers.add_argument("--locustfile", action="store_true", help="print where our locustfile is, nothing else")
    workers.set_defaults(command=_workers)


def _add_collect(commands: Commands) -> None:
    collect = commands.add_parser(
        "collect",
        usage="loadtest collect [-h] [--no-report] RUN [SPOOL ...]",
        help="complete a run with --spool-only from its workers' spools",
        description="Store the rows of the spools in the master's run folder, fill what is missing, join and report. "
        "A worker whose spool is missing is lost.",
        epilog=EXIT_CODES,
    )
    collect.add_argument("run", type=Path, metavar="RUN", help="run folder of the master")
    collect.add_argument(
        "spools",
        type=Path,
        nargs="*",
        metavar="SPOOL",
        help="spool files or folders; default RUN/spool (shared disk)",
    )
    collect.add_argument("--no-report", action="store_true", help="leave join and report for later")
    collect.set_defaults(command=_collect)


def _add_join(commands: Commands) -> None:
    join = commands.add_parser(
        "join",
        help="join a run's requests with nodes and reputation, and compute its summary",
        description="Attribute each request to the node that served it, join the last reputation known before it was "
        "sent, and write joined/ and summary.json.",
        epilog="exit codes: 0 joined, 1 could not join, or joined without reputation though the run was observed",
    )
    join.add_argument("run", type=Path, metavar="RUN", help="run folder")
    join.add_argument(
        "--partial", action="store_true", help="use the rows of a run that did not end, those in its spools included"
    )
    join.set_defaults(command=_join)


def _add_report(commands: Commands) -> None:
    report = commands.add_parser(
        "report",
        help="draw report.html and summary.md from a joined run",
        description="Draw report.html and summary.md from summary.json.",
    )
    report.add_argument("run", type=Path, metavar="RUN", help="run folder")
    report.add_argument(
        "--compat",
        action="append",
        choices=("vllm", "aiperf"),
        default=[],
        help="also write the same rows under that tool's definitions (vllm-bench.json, aiperf.json); may be repeated",
    )
    report.add_argument(
        "--jsonl",
        action="store_true",
        help="also write requests.jsonl, a line for each planned turn (fields: docs/requests-jsonl.md)",
    )
    report.set_defaults(command=_report)


def _add_accuracy(commands: Commands) -> None:
    accuracy = commands.add_parser(
        "accuracy",
        help="compare a run's measurements with a simulator's truth log",
        description="Per request: (first content - sent) against the server's (first written - received), and the "
        "same for the gaps between chunks and for the whole answer.",
    )
    accuracy.add_argument("run", type=Path, metavar="RUN", help="run folder")
    accuracy.add_argument("--truth", type=Path, required=True, metavar="PATH", help="truth log of the simulator")
    accuracy.add_argument("--json", action="store_true", help="print the figures as JSON")
    accuracy.set_defaults(command=_accuracy)


def _add_trace(commands: Commands) -> None:
    trace = commands.add_parser(
        "trace",
        help="print the requests of a run as a trace, to be replayed",
        description="Print one line of Mooncake's JSON for each request that a run offered, in order of its scheduled "
        "instant. `--trace RUN` replays a run folder without this.",
    )
    trace.add_argument("run", type=Path, metavar="RUN", help="run folder")
    trace.set_defaults(command=_trace)


def _demo(args: argparse.Namespace) -> int:
    from loadtest.jobs.demo import demo

    return demo(args.runs_dir, args.seed)


def _run(args: argparse.Namespace) -> int:
    from loadtest.jobs.run import run
    from loadtest.traffic.flags import as_arguments
    from loadtest.traffic.overrides import with_flags
    from loadtest.traffic.profile import ProfileError, load_profile

    try:
        with_flags(load_profile(args.profile), args)  # before any process is started for it
    except ProfileError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    options = [*as_arguments(args), "--seed", str(args.seed), *args.locust_options]
    return run(args.profile, args.host, args.workers, args.runs_dir, options)


def _plan(args: argparse.Namespace) -> int:
    from loadtest.jobs.plan import plan

    return plan(args)


def _profile_check(args: argparse.Namespace) -> int:
    from loadtest.jobs.profile_check import profile_check

    return profile_check(args.profile)


def _check(args: argparse.Namespace) -> int:
    from loadtest.jobs.check import check

    return check(args.host, args.profile, args.allow_host, as_json=args.json)


def _workers(args: argparse.Namespace) -> int:
    from loadtest.jobs.workers import check_here, instructions, locustfile

    if args.locustfile:
        print(locustfile())
        return 0
    if args.check:
        findings = check_here(args.master, args.profile, args.versions)
        print("\n".join(f"{'ok  ' if each.good else 'FAIL'} {each.text}" for each in findings))
        return 0 if all(each.good for each in findings) else 1
    print(instructions(args.master, args.count, args.profile))
    return 0


def _collect(args: argparse.Namespace) -> int:
    from loadtest.jobs.collect import collect, judge

    ledger = collect(args.run, args.spools)
    print(f"{args.run}: {ledger['rows']} rows of {ledger['planned_turns']} planned turns", file=sys.stderr)
    return 0 if args.no_report else judge(args.run)


def _join(args: argparse.Namespace) -> int:
    from loadtest.analysis.join import join_run
    from loadtest.analysis.summary import summarise
    from loadtest.collector.rows import recover
    from loadtest.runfolder import read_manifest, require_rows

    # Before anything is taken: the spools of a run with --spool-only are those `loadtest collect` completes it from.
    require_rows(args.run, read_manifest(args.run))
    if args.partial and (rows := recover(args.run)):
        print(f"{rows} rows were still in spool/ and are stored now", file=sys.stderr)
    print(f"joining {args.run} ...", file=sys.stderr)
    figures = join_run(args.run, partial=args.partial)
    summarise(args.run)
    for warning in figures["warnings"]:
        print(f"loadtest: {warning}", file=sys.stderr)
    return 1 if figures["nothing_observed"] else 0


def _report(args: argparse.Namespace) -> int:
    from loadtest.report.write import report_run

    print(f"drawing {args.run} ...", file=sys.stderr)
    print(report_run(args.run))
    for tool in args.compat:
        from loadtest.analysis.compat import WRITERS

        print(WRITERS[tool](args.run))
    if args.jsonl:
        from loadtest.analysis.jsonl import write_jsonl

        print(write_jsonl(args.run))
    return 0


def _accuracy(args: argparse.Namespace) -> int:
    from loadtest.analysis.accuracy import accuracy, accuracy_text

    figures = accuracy(args.run, args.truth)
    print(json.dumps(figures, indent=1) if args.json else accuracy_text(figures))
    return 0


def _trace(args: argparse.Namespace) -> int:
    from loadtest.analysis.trace import trace_lines

    for line in trace_lines(args.run):
        print(line)
    return 0
