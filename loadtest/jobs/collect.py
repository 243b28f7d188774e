"""`loadtest collect`: the run folder of a `--spool-only` run is completed from the spools its workers kept.

For machines from which no rows may travel while the load runs, or that share a disk with the master. The master has
written what was planned and what the workers told (`close.json`, the manifest); the spools come by disk or by copy.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest import runfolder, spool
from loadtest.collector.account import Close, close_account
from loadtest.collector.rows import FRAME_BYTES_MAX, RowStore
from loadtest.fitness import exit_code
from loadtest.runfolder import RunFolderError
from loadtest.swarm.ledger import final_mismatches
from loadtest.writers import require_no_writers, sole_writer

logger = logging.getLogger(__name__)


def collect(run: Path, given: Sequence[Path]) -> dict[str, Any]:
    """Store every row of the spools, fill what is missing, and return the ledger. RunFolderError for a wrong input.

    A worker whose spool is not among them is lost: its whole share of the plan is.
    """
    with sole_writer(run):
        return _collect(run, given)


def _collect(run: Path, given: Sequence[Path]) -> dict[str, Any]:
    manifest = runfolder.read_manifest(run)
    if manifest.get("state") != "spooled":
        raise RunFolderError(
            f"{run}: state {manifest.get('state')!r}, and only a run with --spool-only that has ended can be collected"
        )
    close = _close_of(run)
    own = run / "spool"  # of the workers on the master's machine, or of all on a shared disk
    spools = _spools([*([own] if own.exists() or not given else []), *given])
    named = {worker.get("spool"): worker["worker"] for worker in manifest["workers"] if worker.get("spool")}
    _check(close, spools, set(named))
    require_no_writers(spools.values())
    # What an earlier attempt, cut off in the middle, has left.
    for table in ("requests", "texts"):
        shutil.rmtree(run / table, ignore_errors=True)
    store = RowStore(run)
    torn = sum(_take(store, path) for path in spools.values())
    for worker in manifest["workers"]:
        if worker.get("spool") not in spools and not worker["lost"]:
            logger.error("worker %d: its spool %s is missing, so is its share", worker["worker"], worker.get("spool"))
            worker.update(lost=True, lost_from_s=0.0)
    lost = {worker["worker"] for worker in manifest["workers"] if worker["lost"]}
    account = close_account(store, close, leftover_bytes=torn, damaged_frames=0)
    reports = [worker | {"final": True} for worker in manifest["workers"] if "ledger" in worker]
    mismatches = final_mismatches(reports, lost, account)
    planned = account["planned_turns"]
    told = manifest["ledger"]
    ledger = {
        **told,
        **account,
        "planned_turns": told["planned_turns_by_workers"] if planned is None else planned,
        "mismatches": [{"figure": each.figure, "text": each.text} for each in mismatches],
    }
    runfolder.write_manifest(run, manifest | {"state": "recorded", "ledger": ledger})
    # Those of the run folder are stored now, or a copy of theirs that has more. Copies elsewhere are the user's.
    for path in own.glob("*.spool"):
        if path.name in spools:
            path.unlink()
    return ledger


def _close_of(run: Path) -> Close:
    try:
        return msgspec.json.decode((run / runfolder.CLOSE).read_bytes(), type=Close)
    except (OSError, msgspec.DecodeError) as error:
        raise RunFolderError(f"{run / runfolder.CLOSE}: cannot be read ({error}); copy the whole run folder") from None


def _spools(given: Sequence[Path]) -> dict[str, Path]:
    """The spool files by name; a folder stands for all in it. Of two copies of one that with more to read counts."""
    found: dict[str, Path] = {}
    for path in given:
        if not path.exists():
            raise RunFolderError(f"{path}: no such file or folder; name spools, or folders that hold them")
        for each in sorted(path.rglob("*.spool")) if path.is_dir() else [path]:
            other = found.get(each.name)
            if other is None or _readable_bytes(each) > _readable_bytes(other):
                found[each.name] = each
    return found


def _readable_bytes(path: Path) -> int:
    """Its size does not tell: what lies behind a damaged entry is not read."""
    at = 0
    while data := spool.read_from(path, at, FRAME_BYTES_MAX):
        at += len(data)
    return at


def _check(close: Close, spools: dict[str, Path], known: set[str]) -> None:
    """Before anything is stored: every file belongs to this run and can be read."""
    for name, path in spools.items():
        if name not in known:
            raise RunFolderError(f"{path}: no worker of run {close.plan.run} has a spool of this name")
        try:
            entries = list(spool.unpack(spool.read_from(path, 0, 1)))
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read ({error.strerror})") from None
        except spool.SpoolError as error:
            raise RunFolderError(f"{path}: {error}; collect it with the loadtest version that wrote it") from None
        for entry in entries:
            if isinstance(entry, spool.Started | spool.Finished) and entry.record.run != close.plan.run:
                raise RunFolderError(f"{path}: belongs to run {entry.record.run}, not to {close.plan.run}")


def _take(store: RowStore, path: Path) -> int:
    """Store all whole entries of one spool; return how many bytes at its end are torn or damaged."""
    at = 0
    try:
        while data := spool.read_from(path, at, FRAME_BYTES_MAX):
            at = store.take(path.name, at, data)
    except spool.SpoolError as error:
        raise RunFolderError(f"{path}, from byte {at}: {error}; copy it again") from None
    return path.stat().st_size - at


def judge(run: Path) -> int:
    """Join, summarise and report; the exit code a run's master would have ended with."""
    from loadtest.analysis.join import join_run
    from loadtest.analysis.summary import summarise
    from loadtest.report.write import report_run

    join_run(run)
    summary = summarise(run)
    print(report_run(run))
    return exit_code(summary)
