"""`loadtest contest`: what a contest pays, by a rules file, as text, JSON, CSV and HTML."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis.contest import payouts
from loadtest.analysis.contest_flags import flagged_by_run
from loadtest.analysis.contest_rules import Rules, RulesError, load_rules, rules_names
from loadtest.analysis.entrants import Entrants, EntrantsError, read_entrants, with_registry
from loadtest.analysis.observed_standing import observed_entrants
from loadtest.report.contest_tables import contest_csv, contest_html, contest_json, contest_text
from loadtest.runfolder import write_asked

EXIT_PASS, EXIT_USAGE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Print the payouts and write the files that were asked for. RunFolderError: a run unread, a file unwritten."""
    args = _parser().parse_args(argv)
    given = {path.resolve() for path in (args.source, args.nodes) if path is not None}
    for path in (args.csv, args.html):
        if path is not None and path.resolve() in given:
            print(f"loadtest: {path}: is read, and would be written over; name another file", file=sys.stderr)
            return EXIT_USAGE
    try:
        rules = load_rules(args.rules)
        found = payouts(_entrants(args.source, args.nodes, rules), rules)
    except (RulesError, EntrantsError) as error:
        print("\n".join(f"loadtest: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return EXIT_USAGE
    for path, render in ((args.csv, contest_csv), (args.html, contest_html)):
        if path is not None:
            write_asked(path, render(found))
    print(json.dumps(contest_json(found), indent=1) if args.json else contest_text(found))
    return EXIT_PASS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest contest",
        description="Eligibility, places, bonuses and payouts of a contest. What its page leaves open is a key of the "
        "rules file; payouts are shown for the first reading of each, with low and high over all.",
        epilog="exit codes: 0 reckoned, 1 a file cannot be read or written, 2 mistakes in the rules or in the nodes",
    )
    add = parser.add_argument
    add("source", type=Path, metavar="RUN_OR_CSV", help="run folder with leaderboards, or a CSV file of nodes")
    add("--rules", required=True, metavar="NAME_OR_FILE", help=f"{', '.join(rules_names())}, or a .toml file")
    add("--nodes", type=Path, metavar="CSV", help="stake, operator, roles, ... of a run folder's nodes")
    add("--csv", type=Path, metavar="FILE", help="also write one line per node")
    add("--html", type=Path, metavar="FILE", help="also write a page")
    add("--json", action="store_true", help="print JSON instead of text")
    return parser


def _entrants(source: Path, registry: Path | None, rules: Rules) -> Entrants:
    """A run folder's nodes, or those of a CSV file; the registry says what neither of them knows."""
    nodes = observed_entrants(source, rules.uptime) if source.is_dir() else read_entrants(source)
    nodes = with_registry(nodes, registry) if registry is not None else nodes
    return flagged_by_run(nodes, source) if source.is_dir() else nodes
