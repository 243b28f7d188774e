"""`loadtest prune`: keeps the disk bounded. The rows of old runs go; what a person reads of them stays.

A run folder has a heavy part, the tables (`HEAVY`), and a light one: manifest, summary, report, junit.xml. Only heavy
parts are removed, the oldest first, and the manifest says so before they go (`pruned`), so that no later join takes a
run without rows for an empty one. Left alone, always: folders without a manifest of ours, links and what they lead to,
runs that are still written or wait for their join, the night that holds the lock, every baseline.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtest import runfolder
from loadtest.arguments import amount, whole
from loadtest.clock import utc_text, wall_ns
from loadtest.jobs.lock import holder_of
from loadtest.jobs.night_layout import BASELINE, LOCK, NIGHTS
from loadtest.runfolder import MANIFEST, TABLES, RunFolderError

EXIT_PASS, EXIT_NOT_MADE, EXIT_USAGE, EXIT_TOO_LARGE = 0, 1, 2, 3
HEAVY = ("joined", *TABLES, "bodies", "spool")
DEPTH_MAX = 6  # nights/DATE/runs/RUN is 4 deep
GB = 1_000_000_000
# A run that has no report yet is written or joined; when nothing has happened in it for a day, nobody does either.
QUIET_S = 86_400


class Run(NamedTuple):
    """One run folder of ours. `night` orders it: the folder under nights/, else its day (UTC)."""

    path: Path
    night: str
    heavy_bytes: int
    kept_because: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Remove what may go, print each removal, return the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.keep_nights is None and args.max_gb is None:
        parser.error("say how much may stay: --keep-nights N, --max-gb G, or both")
    if not args.dir.is_dir():
        parser.error(f"{args.dir}: no such folder")
    now_ns = wall_ns()
    runs = sorted(find_runs(args.dir, now_ns), key=lambda run: (run.night, run.path))
    for run in runs:
        if run.kept_because:
            print(f"left alone: {run.path} ({run.kept_because})")
    used = bytes_of(args.dir)
    max_bytes = None if args.max_gb is None else int(args.max_gb * GB)
    freed, failed = 0, 0
    for run in chosen(runs, args.keep_nights, max_bytes, used):
        try:
            if not args.dry_run:
                remove_heavy(run.path, now_ns)
        except (OSError, RunFolderError) as error:
            failed += 1
            print(f"loadtest: {run.path}: cannot be pruned ({error}); mend its rights", file=sys.stderr)
            continue
        freed += run.heavy_bytes
        print(f"{'would remove' if args.dry_run else 'removed'} {_size(run.heavy_bytes)}: rows of {run.path}")
    left = used - freed if args.dry_run else bytes_of(args.dir)
    print(
        f"{args.dir}: {_size(used)} used, {_size(freed)} {'would be ' if args.dry_run else ''}freed, {_size(left)} left"
    )
    if failed:
        return EXIT_NOT_MADE
    if max_bytes is not None and left > max_bytes:
        print(
            f"loadtest: {args.dir}: still above --max-gb {args.max_gb:g}: what is left are reports, baselines, runs in "
            "progress and files that are not ours; move some away or allow more",
            file=sys.stderr,
        )
        return EXIT_TOO_LARGE
    return EXIT_PASS


def chosen(runs: Sequence[Run], keep_nights: int | None, max_bytes: int | None, used: int) -> list[Run]:
    """The runs whose rows go, oldest first: those of all but the newest nights, then as many as the size asks for."""
    able = [run for run in runs if run.heavy_bytes and not run.kept_because]
    nights = sorted({run.night for run in runs if run.night})
    old = set() if keep_nights is None else set(nights[: max(0, len(nights) - keep_nights)])
    going = [run for run in able if run.night in old]
    left = used - sum(run.heavy_bytes for run in going)
    for run in able:
        if max_bytes is None or left <= max_bytes:
            break
        if run.night not in old:
            going.append(run)
            left -= run.heavy_bytes
    return going


def find_runs(top: Path, now_ns: int) -> Iterator[Run]:
    """Every run folder below `top`, itself included. Neither links nor baselines are entered, nor runs themselves."""
    at_work = holder_of(top / LOCK) is not None
    newest = max((path.name for path in (top / NIGHTS).glob("*")), default="") if at_work else None
    for path in _folders(top, DEPTH_MAX):
        manifest_path = path / MANIFEST
        if not manifest_path.exists() or manifest_path.is_symlink():
            continue
        try:
            manifest = runfolder.read_manifest(path)
        except RunFolderError as error:
            yield Run(path, "", 0, f"not ours: {error}")
            continue
        night = _night_of(path, top, manifest)
        heavy = sum(bytes_of(path / part) for part in _heavy_parts(path))
        why = _in_progress(path, manifest, now_ns)
        if not why and newest is not None and night == newest:
            why = "its night is not over"
        yield Run(path, night, heavy, why if heavy else "")


def remove_heavy(run: Path, now_ns: int) -> None:
    """Remove the tables of a run. The manifest is marked first: a removal that is cut off is taken up by the next."""
    parts = _heavy_parts(run)
    pruned = runfolder.read_manifest(run).get("pruned") or {"wall_ns": now_ns, "parts": []}
    runfolder.update_manifest(run, pruned=pruned | {"parts": sorted({*pruned["parts"], *parts})})
    for part in parts:
        shutil.rmtree(run / part)


def _heavy_parts(run: Path) -> list[str]:
    return [part for part in HEAVY if (run / part).is_dir() and not (run / part).is_symlink()]


def bytes_of(folder: Path) -> int:
    """What the files below a folder hold; links count for nothing, and what vanishes meanwhile neither."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118
            except FileNotFoundError:
                continue
    return total


def _folders(top: Path, depth: int) -> Iterator[Path]:
    if top.absolute().name == BASELINE:
        return
    yield top
    if depth == 0 or (top / MANIFEST).exists():
        return
    for path in sorted(top.iterdir()):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _folders(path, depth - 1)


def _night_of(run: Path, top: Path, manifest: dict[str, Any]) -> str:
    parts = run.relative_to(top).parts
    if len(parts) > 2 and parts[0] == NIGHTS:
        return parts[1]
    return utc_text(manifest.get("started_wall_ns") or 0)[:10]


def _in_progress(run: Path, manifest: dict[str, Any], now_ns: int) -> str:
    """Why a run may not be touched now, or ""."""
    state = manifest.get("state")
    if state == "reported":
        return ""
    if state == "spooled":
        return "its rows wait for `loadtest collect`"
    last_ns = max((_changed_ns(path) for path in run.rglob("*")), default=now_ns)
    return f"in progress: state {state!r}" if now_ns - last_ns < QUIET_S * 1_000_000_000 else ""


def _changed_ns(path: Path) -> int:
    """0 for a file that is gone: parts of a run in progress are renamed under our hands."""
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0


def _size(count: int) -> str:
    return f"{count / GB:.2f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest prune",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Remove the rows of old runs below DIR (requests, joined, bodies, other tables), the oldest\n"
        "first. Summary, report, junit.xml, manifest, history and baselines stay; runs in progress and folders\n"
        "without a manifest of ours are left alone.",
        epilog="examples:\n"
        "  loadtest prune /var/lib/loadtest --keep-nights 14 --max-gb 20\n"
        "  loadtest prune runs --max-gb 5 --dry-run\n\n"
        "exit codes: 0 done, 3 still above --max-gb, 1 something could not be removed, 2 usage",
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder of `loadtest nightly`, or any that holds runs")
    parser.add_argument("--keep-nights", type=whole(0), metavar="N", help="all rows of older nights than the last N go")
    parser.add_argument(
        "--max-gb",
        type=amount,
        metavar="G",
        help="rows go, oldest first and those of kept nights too, until DIR holds at most so many GB (10^9 bytes)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    return parser
