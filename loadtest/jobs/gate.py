"""`loadtest gate`: may these runs pass? For CI: a verdict, its reasons, and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis import gate_baseline
from loadtest.analysis.gate import GateRefused, Judgement, Side, judge, series_text, side_of
from loadtest.analysis.gate_limits import LimitsError, limits_names, read_limits
from loadtest.analysis.run_figures import RunFigures, read_runs
from loadtest.arguments import whole
from loadtest.report.gate_text import gate_console, gate_markdown, gate_suite
from loadtest.report.junit import render_junit
from loadtest.runfolder import write_asked

EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the runs, print and write what was found. RunFolderError when a run or the baseline cannot be read."""
    args = _parser().parse_args(argv)
    try:
        found = _judged(args)
    except (GateRefused, LimitsError) as error:
        print("\n".join(f"loadtest gate: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return EXIT_USAGE
    notes = _updated(args, found) if args.update_baseline else []
    if args.junit is not None:
        write_asked(args.junit, render_junit([gate_suite(found)]))
    if args.markdown is not None:
        write_asked(args.markdown, gate_markdown(found, notes))
    print(gate_console(found, notes), end="")
    return found.exit_code


def _judged(args: argparse.Namespace) -> Judgement:
    if args.slo is None and args.baseline is None:
        raise GateRefused("there is nothing to judge by: give --slo NAME_OR_FILE, --baseline DIR, or both")
    if args.update_baseline and args.baseline is None:
        raise GateRefused("--update-baseline needs --baseline DIR")
    limits = [] if args.slo is None else read_limits(args.slo)
    known: list[RunFigures] = []
    known_control: list[RunFigures] = []
    if args.baseline is not None:
        if not args.baseline.is_dir() and not args.update_baseline:
            raise GateRefused(f"{args.baseline}: no baseline is here; --update-baseline begins one with these runs")
        known = gate_baseline.read_baseline(args.baseline)
        known_control = gate_baseline.read_baseline(args.baseline / gate_baseline.CONTROL)
    side = side_of(read_runs(args.runs), known, "run")
    _refuse_other_series(side, known, args, "run")
    control = side_of(read_runs(args.control), known_control, "control run") if args.control else None
    if control is not None:
        _refuse_other_series(control, known_control, args, "control run")
    return judge(side, limits, control, asked_baseline=args.baseline is not None, beginning=bool(args.update_baseline))


def _refuse_other_series(side: Side, known: Sequence[RunFigures], args: argparse.Namespace, what: str) -> None:
    if side.new_series and not args.update_baseline:
        raise GateRefused(
            f"{args.baseline} has only {what}s of {series_text(known[-1])}, and these are of "
            f"{series_text(side.runs[0])}: they cannot be compared. --update-baseline begins a new series with them"
        )


def _updated(args: argparse.Namespace, found: Judgement) -> list[str]:
    """Put the runs into the baseline if they may: what was done, in words."""
    if found.word not in ("pass", "begun"):
        return ["The baseline was not updated: it takes fit runs that passed."]
    forgotten = gate_baseline.add_runs(args.baseline, found.side.runs, args.keep)
    if found.control is not None:
        gate_baseline.add_runs(args.baseline / gate_baseline.CONTROL, found.control.runs, args.keep)
    text = f"The baseline {args.baseline} has these {len(found.side.runs)} runs now"
    return [f"{text}, and has forgotten {len(forgotten)} older ones." if forgotten else f"{text}."]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest gate",
        description="Judge runs by fixed limits and against a baseline of earlier runs. The unit is the run: 5 a side "
        "are the least that can prove a change, 6 are advised. docs/gate.md says what is decided how.",
        epilog="examples: loadtest gate runs/2026* --slo chat --baseline baseline --junit gate.xml; "
        "the first night: loadtest gate runs/2026* --baseline baseline --update-baseline. "
        "exit codes: 0 pass, or the baseline was begun; 3 a limit was missed, or a figure is worse or missing; "
        "4 a run or the control is unfit, the control moved, or nothing could be judged: proves nothing; "
        "1 a file cannot be read or written; 2 usage, or runs that cannot be compared",
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="run folders of one profile, joined")
    add("--slo", metavar="NAME_OR_FILE", help=f"fixed limits: {', '.join(limits_names())}, or a .toml file")
    add("--baseline", type=Path, metavar="DIR", help="earlier runs to compare with, one JSON file each")
    add(
        "--control",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs against a fixed reference endpoint of the same session; if they moved, the night is void",
    )
    add("--update-baseline", action="store_true", help="add these runs if they are fit and pass; begins a new series")
    add(
        "--keep",
        type=whole(1),
        default=gate_baseline.KEEP,
        metavar="N",
        help="newest runs of a series that the baseline keeps (default %(default)s)",
    )
    add("--junit", type=Path, metavar="FILE", help="also write JUnit XML")
    add("--markdown", type=Path, metavar="FILE", help="also write Markdown")
    return parser
