"""`loadtest nightly`: one night of short runs, judged against the nights before. For CI, cron and systemd."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis.gate_limits import LimitsError, limits_names, read_limits
from loadtest.analysis.nights import Night
from loadtest.arguments import amount, whole
from loadtest.clock import utc_text
from loadtest.jobs.lock import Held, hold
from loadtest.jobs.night import NightJob
from loadtest.jobs.night_layout import LOCK, NIGHTS
from loadtest.jobs.night_runs import Asked, Interrupted
from loadtest.processes import signals_go_to
from loadtest.report.night_text import headlines
from loadtest.swarm.preflight import SetupError, check_permission, resolve_targets
from loadtest.traffic.profile import ProfileError, load_profile

EXIT_NOT_RUN, EXIT_USAGE = 1, 2
NIGHTS_A_DAY_MAX = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Make one night below DIR and return its exit code; a mistake of the user is one line and code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(arguments)
    try:
        asked = _asked(args, shlex.join(["loadtest", "nightly", *arguments]))
    except SetupError as error:
        print(f"loadtest nightly: {error}", file=sys.stderr)
        return error.exit_code
    except (ProfileError, LimitsError) as error:
        print("\n".join(f"loadtest nightly: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return EXIT_USAGE
    try:
        with hold(args.dir / LOCK) as left_behind:
            if left_behind:
                print(f"loadtest nightly: {left_behind}", file=sys.stderr)
            with signals_go_to(_interrupt):
                return _make(asked, args.dir)
    except (Held, OSError) as error:
        print(f"loadtest nightly: {error}", file=sys.stderr)
        return EXIT_NOT_RUN


def _make(asked: Asked, top: Path) -> int:
    job = NightJob(asked, _new_folder(top / NIGHTS))
    night = job.make()
    print("\n".join([*(f"- {line}" for line in headlines(night)), _last_line(night)]))
    print(f"night: {top / NIGHTS / night.night / 'night.md'}")
    return night.exit_code


def _last_line(night: Night) -> str:
    return f"NIGHT {night.night} {night.word.upper()} (exit code {night.exit_code})"


def _new_folder(nights: Path) -> Path:
    """A folder of its own for this night: a second night of one day does not touch the first."""
    day = utc_text()[:10]
    for number in range(1, NIGHTS_A_DAY_MAX):
        folder = nights / (day if number == 1 else f"{day}.{number:02d}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise OSError(f"{nights}: {NIGHTS_A_DAY_MAX - 1} nights of {day} are enough; move some away")


def _interrupt(_: int) -> None:
    """Ctrl-C and SIGTERM between runs; during a run they go to it, and it drains first (`run_swarm`)."""
    raise Interrupted


def _asked(args: argparse.Namespace, command: str) -> Asked:
    """Everything that can be wrong with the command line is found here, before anything is started."""
    profile, control = load_profile(args.profile), load_profile(args.control_profile)
    targets = resolve_targets(profile, args.host)
    check_permission(targets, profile, args.allow_host, args.rate_ceiling)
    allowed = [word for name in args.allow_host for word in ("--allow-host", name)]
    ceiling = [] if args.rate_ceiling is None else ["--rate-ceiling", f"{args.rate_ceiling:g}"]
    return Asked(
        host=args.host,
        profile=profile,
        control_profile=control,
        profile_name=args.profile,
        control_name=args.control_profile,
        top=args.dir,
        runs=args.runs,
        spare=args.spare,
        workers=args.workers,
        limits=tuple(read_limits(args.slo)) if args.slo is not None else (),
        permission=(*allowed, *ceiling),
        check_permission=tuple(allowed),
        command=command,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest nightly",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make one night: preflight, N runs of the target with runs of a control on this machine between\n"
        "them, the gate against DIR/baseline, a row per run in DIR/history.parquet, DIR/trend.html,\n"
        "DIR/nightly.prom for Prometheus. Everything of the night is in DIR/nights/DATE: night.md,\n"
        "junit.xml, night.json, the run folders. docs/nightly.md says how to set it up.",
        epilog="examples:\n"
        "  loadtest nightly --host http://127.0.0.1:5010 --dir /var/lib/loadtest\n"
        "  loadtest nightly --host http://router.example:5010 --dir nightly --allow-host router.example \\\n"
        "      --rate-ceiling 2\n\n"
        "exit codes: 0 pass, or the baseline is being filled; 3 an SLO or limit was missed, or a figure is worse than\n"
        "the baseline; 4 a run is unfit or the control moved: the night proves nothing; 1 a piece of the night failed\n"
        "(night.md says which), or another night is at work here; 2 usage",
    )
    add = parser.add_argument
    add("--host", required=True, metavar="URL", help="where the target is, as in http://127.0.0.1:5010")
    add("--dir", required=True, type=Path, metavar="DIR", help="where nights, history and baseline are kept")
    add("--profile", default="nightly", metavar="NAME", help="what each run offers (default %(default)s)")
    add("--control-profile", default="control", metavar="NAME", help="the same of the control (default %(default)s)")
    add("--runs", type=whole(1, 100), default=6, metavar="N", help="runs of each side (default 6; 5 is the least)")
    add("--spare", type=whole(0, 100), default=2, metavar="N", help="runs that may be made again (default 2)")
    add("--workers", type=whole(1, 256), default=2, metavar="N", help="worker processes (default 2)")
    add("--slo", metavar="NAME_OR_FILE", help=f"fixed limits of every run: {', '.join(limits_names())}, or a file")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a host that is not this machine")
    add("--rate-ceiling", type=amount, metavar="N", help="refuse profiles with more conversations per second")
    return parser
