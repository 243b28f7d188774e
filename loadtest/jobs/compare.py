"""`loadtest compare`: runs side by side, as text, Markdown and HTML with pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis.comparison import CompareRefused, compare_runs
from loadtest.report.compare_tables import compare_console, compare_markdown
from loadtest.runfolder import write_asked

EXIT_PASS, EXIT_USAGE, EXIT_UNFIT = 0, 2, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print, write what was asked for. RunFolderError when a run cannot be read or a file not be written."""
    args = _parser().parse_args(argv)
    try:
        found = compare_runs(args.runs, args.against, args.different_profiles)
    except CompareRefused as error:
        print(f"loadtest compare: {error}", file=sys.stderr)
        return EXIT_USAGE
    if args.markdown is not None:
        write_asked(args.markdown, compare_markdown(found))
    if args.html is not None:
        from loadtest.report.compare_page import compare_html  # half a second of matplotlib

        write_asked(args.html, compare_html(found))
    print(compare_console(found), end="")
    return EXIT_UNFIT if found.unfit else EXIT_PASS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest compare",
        description="Set runs side by side. Without --against each run stands for itself and differences are from the "
        "first; with it the runs before it are one group and those after it the other, and shifts have an interval.",
        epilog="examples: loadtest compare runs/A runs/B --html compare.html; "
        "loadtest compare runs/new-* --against runs/old-*. "
        "exit codes: 0 compared, 4 a run is unfit (shown, in no shift), 1 a file cannot be read or written, "
        "2 usage, or runs that cannot be compared",
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="run folders, joined")
    add("--against", type=Path, nargs="+", default=[], metavar="RUN", help="the runs to compare them with, as a group")
    add("--different-profiles", action="store_true", help="compare although not the same load was offered")
    add("--markdown", type=Path, metavar="FILE", help="also write Markdown")
    add("--html", type=Path, metavar="FILE", help="also write a page with pictures")
    return parser
