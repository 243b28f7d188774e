"""Snapshots that others stored, into a run folder: rows checked one by one, and an account of all that was found.

Good rows become parts of snapshots/, and what they say their node is, parts of descriptions/. A row that is not good is
a line of the account, with its file and row, so that rows read = stored + already there + mistakes + rows that only
describe a node. The account is imports/<stamp>.json in the run folder; it also has what the stored rows show: holes in
time, nodes missing in some leaderboards, counters that began again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest import runfolder
from loadtest.clock import utc_stamp
from loadtest.observe.history import History
from loadtest.observe.store import ROWS_MAX
from loadtest.observe.stored_files import stored_rows
from loadtest.observe.stored_names import note_unread
from loadtest.observe.stored_rows import Reader, Row
from loadtest.records import NodeDescription, NodeSnapshot, RouterSample

FOLDER_ROWS_MAX = 4_000_000  # of one run folder: the key of each is held
MISTAKES_KEPT = 10_000
FILES_MAX = 10_000


class FolderFull(runfolder.RunFolderError):
    """No more rows go into a run folder; what was taken before can be finished."""


class Import:
    """One import. `run` must exist: a run folder, or an empty folder that is to hold nothing but snapshots."""

    def __init__(self, run: Path, now_wall_ns: int) -> None:
        if not run.is_dir():
            raise runfolder.RunFolderError(f"{run}: no such folder; give a run folder, or make an empty one first")
        self._run = run
        self._now_ns = now_wall_ns
        self._name = f"import-{now_wall_ns}"
        self._codes: dict[tuple[str, str, str], int] = {}
        self._history = History()
        self._there = self._keys_there()
        self._taken: dict[int, int] = {}  # by key what was told
        self._in_file: set[int] = set()  # keys of the file that is read
        self._buffer: list[NodeSnapshot] = []
        self._descriptions: dict[tuple[str, int], NodeDescription] = {}  # by node and instant
        self._last_described: dict[str, NodeDescription] = {}
        self._parts = 0
        self.read = self.stored = self.already = self.mistaken = self.described_only = 0
        self.mistakes: list[str] = []
        self.unread: dict[str, list[str]] = {}

    def add(self, path: Path, observed_wall_ns: int | None, series: str | None) -> None:
        """Read one file. StoredFileError when nothing can be read of it, FolderFull when the folder is."""
        reader, before = Reader(self._now_ns, observed_wall_ns, series), self.read
        self._in_file = set()
        for found in stored_rows(path):
            if found.note:
                reader.unread.setdefault(found.note)
                continue
            for row in reader.rows(found):
                self._take(row, path)
                self.read += 1
        if self.read == before:
            self.read += 1
            self._mistake(f"{path}: no row in it")
        if reader.unread:
            self.unread[str(path)] = [runfolder.printable(name) for name in reader.unread]

    def finish(self) -> dict[str, Any]:
        """Write what is left and the account, which is returned too."""
        self._flush()
        if self._descriptions:
            part = self._run / "descriptions" / f"{self._name}.parquet"
            runfolder.write_part(part, list(self._descriptions.values()), NodeDescription)
        found = self._history.findings()
        for old in (self._run / "router").glob("import-*.parquet"):  # holes of the history as it was
            old.unlink()
        gaps = [
            RouterSample(target="import", source=hole.source, observed_wall_ns=hole.from_wall_ns, error=hole.text)
            for hole in self._history.holes()
        ]
        if gaps:
            runfolder.write_part(self._run / "router" / f"{self._name}.parquet", gaps, RouterSample)
        account = {
            "schema_version": 1,
            "read": self.read,
            "stored": self.stored,
            "already_there": self.already,
            "described_only": self.described_only,
            "descriptions": len(self._descriptions),
            "mistaken": self.mistaken,
            "mistakes": self.mistakes,
            "mistakes_not_listed": self.mistaken - len(self.mistakes),
            "columns_not_read": self.unread,
            **found,
        }
        if (self._run / runfolder.MANIFEST).exists():
            self._tell_manifest(found["usual_period_s"])
        path = self._run / "imports" / f"{utc_stamp()}-{self._now_ns}.json"
        runfolder.write_text(path, json.dumps(account, indent=1) + "\n")
        return {**account, "account": str(path)}

    def _tell_manifest(self, period_s: float) -> None:
        """The join's tolerance follows the period, which is often longer than that of our own polls."""
        told = runfolder.read_manifest(self._run).get("imported") or {}
        longest_s = max(period_s, float(told.get("period_s") or 0))
        runfolder.update_manifest(self._run, imported={"period_s": longest_s})

    def _take(self, row: Row, path: Path) -> None:
        if row.described is not None:
            self._describe(row.described)
        if row.snapshot is None:
            if row.mistake:
                self._mistake(f"{path}, {row.where}: {row.mistake}")
            else:
                self.described_only += 1
            return
        one = row.snapshot
        where, told = f"{path}, {row.where}", _told(one)
        stored = self._there.get(self._key(one.source, one.node, "", one.observed_wall_ns))
        if stored is not None and (told in stored if isinstance(stored, tuple) else told == stored):
            self.already += 1
            return
        if stored is not None:
            self._mistake(f"{where}: {one.node_as_seen[:80]} is in the folder at this instant with other values")
            return
        # A node may own several rows of one leaderboard, each with its own id: it keeps them all.
        key = self._key(one.source, one.node, row.node_id, one.observed_wall_ns)
        taken = self._taken.get(key)
        if taken == told and key not in self._in_file:
            self.already += 1  # files that overlap
            return
        if taken is not None:
            self._mistake(f"{where}: {one.node_as_seen[:80]} is there twice at one instant; the first is kept")
            return
        if len(self._there) + len(self._taken) >= FOLDER_ROWS_MAX:
            raise FolderFull(
                f"{where}: {FOLDER_ROWS_MAX:,} snapshots are the most of one folder; import a shorter time. "
                "From here on nothing was read"
            )
        self._taken[key] = told
        self._in_file.add(key)
        self._history.add(row.snapshot)
        self._buffer.append(row.snapshot)
        self.stored += 1
        if len(self._buffer) >= ROWS_MAX:
            self._flush()

    def _describe(self, one: NodeDescription) -> None:
        """Kept when it says something new: a leaderboard repeats what its nodes are in every row."""
        last = self._last_described.get(one.node)
        if last is not None and _words(last) == _words(one) and last.observed_wall_ns <= one.observed_wall_ns:
            return
        self._last_described[one.node] = one
        self._descriptions[one.node, one.observed_wall_ns] = one

    def _flush(self) -> None:
        if self._buffer:
            self._parts += 1
            part = self._run / "snapshots" / f"{self._name}-{self._parts:05d}.parquet"
            runfolder.write_part(part, self._buffer, NodeSnapshot)
            self._buffer = []

    def _mistake(self, line: str) -> None:
        self.mistaken += 1
        if len(self.mistakes) < MISTAKES_KEPT:
            self.mistakes.append(runfolder.printable(line[:500]))

    def _key(self, source: str, node: str, node_id: str, at_ns: int) -> int:
        return (self._codes.setdefault((source, node, node_id), len(self._codes)) << 64) | at_ns

    def _keys_there(self) -> dict[int, int | tuple[int, ...]]:
        """By key what the stored row tells; several for an owner of several nodes."""
        found: dict[int, int | tuple[int, ...]] = {}
        for part in runfolder.part_paths(self._run, "snapshots"):
            table = runfolder.read_part(part, NodeSnapshot)
            columns = (table[name].to_pylist() for name in NodeSnapshot.__struct_fields__)
            for source, node, _, at_ns, *told in zip(*columns, strict=True):
                if part.name.startswith("import-"):  # polls of our own are far denser than what others store
                    self._history.known(source, node, at_ns)
                key = self._key(source, node, "", at_ns)
                before, says = found.get(key), hash(tuple(told))
                several = before if isinstance(before, tuple) else (before,)
                found[key] = says if before is None else (*several, says)
            if len(found) > FOLDER_ROWS_MAX:
                raise runfolder.RunFolderError(f"{self._run}: more than {FOLDER_ROWS_MAX:,} snapshots already")
        return found


def _told(one: NodeSnapshot) -> int:
    """What it tells beside its key, in 64 bits: all but source, node, spelling and instant."""
    return hash(msgspec.structs.astuple(one)[4:])


def _words(one: NodeDescription) -> tuple[str | None, str | None, int | None]:
    return one.operator, one.hardware, one.level


def files_of(paths: Sequence[Path]) -> tuple[list[Path], dict[str, list[str]]]:
    """Files as given, and of a folder those that lie directly in it, by name; then by folder what else lies there."""
    files: list[Path] = []
    left_out: dict[str, list[str]] = {}
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        taken: list[Path] = []
        others: dict[str, None] = {}
        for each in sorted(path.iterdir()):
            if each.is_file() and not each.name.startswith("."):
                taken.append(each)
            else:
                note_unread(others, f"{each.name}/" if each.is_dir() else each.name)
        if not taken or len(taken) > FILES_MAX:
            raise runfolder.RunFolderError(f"{path}: {len(taken)} files in it; 1 to {FILES_MAX:,} can be imported")
        files += taken
        if others:
            left_out[str(path)] = [runfolder.printable(name) for name in others]
    return files, left_out
