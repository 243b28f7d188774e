"""`loadtest import`: snapshots or bills that others stored, into a run folder, with an account of every row."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.arguments import whole
from loadtest.clock import wall_ns
from loadtest.observe.bill import DECIMALS_MAX, BillImport
from loadtest.observe.importing import FolderFull, Import, files_of
from loadtest.observe.stored_files import StoredFileError
from loadtest.observe.stored_rows import SERIES
from loadtest.observe.stored_values import instant
from loadtest.runfolder import RunFolderError, printable

EXIT_PASS, EXIT_NOT_MADE, EXIT_SOME_NOT_TAKEN = 0, 1, 3
PRINTED_MAX = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Import, print the mistakes and what was found. Files that cannot be read at all do not keep others from it."""
    args = _parser().parse_args(argv)
    unreadable: list[str] = []
    try:
        account = _import(args, unreadable)
    except OSError as error:
        raise RunFolderError(
            f"{args.run}: cannot be written ({error.strerror}); free the disk or mend its rights"
        ) from None
    for line in unreadable:
        print(f"loadtest: {printable(line)}", file=sys.stderr)
    for line in account["mistakes"][:PRINTED_MAX]:
        print(f"loadtest: {line}", file=sys.stderr)
    if account["mistaken"] > PRINTED_MAX:
        print(f"loadtest: ... {account['mistaken']:,} mistakes in all, see {account['account']}", file=sys.stderr)
    print(json.dumps(account, indent=1) if args.json else import_text(account))
    if unreadable:
        return EXIT_NOT_MADE
    return EXIT_SOME_NOT_TAKEN if account["mistaken"] else EXIT_PASS


def _import(args: argparse.Namespace, unreadable: list[str]) -> dict[str, Any]:
    """Read every file into the run folder; those of which nothing can be read are lines of `unreadable`."""
    files, left_out = files_of(
        args.files
    )  # of all, so that one that cannot be read keeps no others from being finished
    work = BillImport(args.run, wall_ns(), args.decimals) if args.charges else Import(args.run, wall_ns())
    work.unread |= left_out
    for number, path in enumerate(files, start=1):
        try:
            if isinstance(work, BillImport):
                work.add(path)
            else:
                at_ns = path.stat().st_mtime_ns if args.observed_at == "mtime" else args.observed_at
                work.add(path, at_ns, args.source)
        except StoredFileError as error:
            unreadable.append(str(error))
        except FolderFull as error:
            behind = len(files) - number
            unreadable.append(f"{error}{f', nor in the {behind:,} files behind it' if behind else ''}")
            break  # what was taken is finished all the same
        except OSError as error:
            unreadable.append(f"{path}: {error.strerror}; give a readable file")
    return work.finish()


def import_text(account: dict[str, Any]) -> str:
    """The account on a few lines."""
    lines = [
        f"{account['read']:,} rows read = {account['stored']:,} stored + {account['already_there']:,} in the folder "
        f"already + {account['mistaken']:,} mistakes"
        + (f" + {account['described_only']:,} that only describe a node" if account.get("described_only") else ""),
    ]
    if account.get("kind") == "charges":
        lines.append(f"new charges of {account['sessions']:,} sessions: {account['amount']} of the smallest unit")
    else:
        lines.append(_history_text(account))
    lines += [f"{printable(path)}: not read: {', '.join(names)}" for path, names in account["columns_not_read"].items()]
    return "\n".join([*lines, f"account: {account['account']}"])


def _history_text(account: dict[str, Any]) -> str:
    return (
        f"{account['leaderboards']:,} leaderboards of {account['nodes']:,} nodes, {account['first'] or '-'} to "
        f"{account['last'] or '-'}; {account['holes']:,} holes in time, {account['nodes_missing_in_between']:,} nodes "
        f"missing in between, {account['counter_resets']:,} times a counter began again"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest import",
        description="Read snapshots that others stored (JSON, JSON lines, CSV, Parquet, SQLite) into a run folder, "
        "whose join then knows them; with --charges a bill, of whose sessions it should have all lines. Every row that "
        "is not taken is reported with its file and row.",
        epilog="exit codes: 0 all rows stored or there already, 3 some had mistakes, 1 a file cannot be read or the "
        "folder not written, 2 usage",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or an empty folder for snapshots only")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="files, or folders of them")
    parser.add_argument(
        "--observed-at",
        type=_observed,
        metavar="INSTANT",
        help="when snapshots were taken that do not say so: Unix time, 2025-06-15T12:00:00Z, or mtime (each file's)",
    )
    parser.add_argument("--source", choices=SERIES, help="of which series lists of timestamps are that do not say so")
    parser.add_argument("--charges", action="store_true", help="the files are bills: a line for each charge of a task")
    parser.add_argument(
        "--decimals",
        type=whole(0, DECIMALS_MAX),
        default=0,
        metavar="N",
        help="with --charges: digits after the point down to the smallest unit; 18 where amounts are in whole COR "
        "(default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the account as JSON")
    return parser


def _observed(text: str) -> int | str:
    if text == "mtime":
        return text
    try:
        return instant(text, "INSTANT")[1]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
