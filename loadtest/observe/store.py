"""Where observations go: Parquet parts of the run folder every few seconds, and live.json for those who watch now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from loadtest import runfolder
from loadtest.observe.lookups import COLUMNS, Row
from loadtest.observe.sources import Source
from loadtest.records import NodeSnapshot, RequestRecord, RouterSample, SessionSample, TaskRecord

LIVE = "live.json"
ROWS_MAX = 20_000  # per table before it is written at once
Rates = dict[str, float | None]


class Store:
    """Buffers records and writes them as parts named by this observer's start, so that two never overwrite."""

    def __init__(self, run: Path, started_wall_ns: int) -> None:
        self._run = run
        self._name = f"observe-{started_wall_ns}"
        self._parts = 0
        self._rows: dict[str, list[msgspec.Struct]] = {table: [] for table in _TABLE.values()}

    def add(self, records: Iterable[NodeSnapshot | RouterSample | SessionSample | TaskRecord]) -> None:
        for record in records:
            table = self._rows[_TABLE[type(record)]]
            table.append(record)
            if len(table) >= ROWS_MAX:
                self.flush()

    def flush(self) -> None:
        """Write what is buffered, one part per table that has rows."""
        for table, rows in self._rows.items():
            if rows:
                self._parts += 1
                part = self._run / table / f"{self._name}-{self._parts:05d}.parquet"
                runfolder.write_part(part, rows, runfolder.TABLES[table])
                self._rows[table] = []


_TABLE: dict[type, str] = {
    NodeSnapshot: "snapshots",
    RouterSample: "router",
    SessionSample: "sessions",
    TaskRecord: "tasks",
}


class NewRows:
    """Rows of request parts that were not read before. A part is read once; a damaged one is counted and left."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._read: set[Path] = set()
        self.errors: list[str] = []

    def take(self) -> Iterator[Row]:
        for path in runfolder.part_paths(self._run, "requests"):
            if path in self._read:
                continue
            self._read.add(path)
            try:
                table = runfolder.read_part(path, RequestRecord, COLUMNS)
            except runfolder.RunFolderError as error:
                self.errors.append(str(error))
                continue
            yield from map(Row._make, zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))


class LiveNodes:
    """The newest word on each node, for live.json."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], list[NodeSnapshot]] = {}

    def add(self, snapshots: Iterable[NodeSnapshot]) -> None:
        for new in snapshots:
            key = (new.node, new.source)
            known = self._newest.get(key)
            # Rows of one leaderboard share their instant: a node that owns several keeps them all.
            same = known is not None and known[0].observed_wall_ns == new.observed_wall_ns
            self._newest[key] = [*known, new] if same and known is not None else [new]

    def table(self, wall_ns: int) -> list[dict[str, Any]]:
        """One object per node: success rates of each series, when it was last active, and the age of the word."""
        return [self._row(node, wall_ns) for node in sorted({node for node, _ in self._newest})]

    def _row(self, node: str, wall_ns: int) -> dict[str, Any]:
        board, network, user = (
            self._newest.get((node, s), []) for s in ("leaderboard", "reputation", "session-reputation")
        )
        rows = [*board, *network, *user]
        pending = sum((s.precommit_pending or 0) + (s.commit_pending or 0) for s in (*network, *user))
        return {
            "node": node,
            "precommit_rate": _rate(board, "precommit_points", "precommit_counter"),
            "commit_rate": _rate(board, "commit_points", "commit_counter"),
            "network_precommit_rate": _rate(network, "precommit_success", "precommit_all"),
            "network_commit_rate": _rate(network, "commit_success", "commit_all"),
            "session_precommit_rate": _rate(user, "precommit_success", "precommit_all"),
            "session_commit_rate": _rate(user, "commit_success", "commit_all"),
            "pending": pending,
            "last_active_s": max((s.last_active_s for s in board if s.last_active_s is not None), default=None),
            "age_s": round((wall_ns - max(s.observed_wall_ns for s in rows)) / 1e9, 3),
        }


def _rate(snapshots: list[NodeSnapshot], successes: str, entries: str) -> float | None:
    """Successes over entries of all rows that tell both; None without an entry: no data is not a rate of zero."""
    told = [(getattr(s, successes), getattr(s, entries)) for s in snapshots]
    pairs = [(good, total) for good, total in told if good is not None and total]
    return round(sum(g for g, _ in pairs) / sum(t for _, t in pairs), 6) if pairs else None


def source_table(sources: Iterable[Source], wall_ns: int) -> list[dict[str, Any]]:
    """One object per kind of source: how often it answered and failed, its last error, the age of its oldest word."""
    table: dict[str, dict[str, Any]] = {}
    for source in sources:
        label = f"{source.name} {', '.join(source.targets)}".strip()
        row = table.setdefault(
            label,
            {"source": label, "polled": 0, "answers": 0, "errors": 0, "failing": 0, "last_error": "", "age_s": None},
        )
        row["polled"] += 1
        row["answers"] += source.answers
        row["errors"] += source.errors
        row["failing"] += source.failures > 0
        row["last_error"] = source.last_error or row["last_error"]
        if source.answered_wall_ns is not None:
            age_s = round((wall_ns - source.answered_wall_ns) / 1e9, 3)
            row["age_s"] = age_s if row["age_s"] is None else max(row["age_s"], age_s)
    return list(table.values())


def write_live(run: Path, live: dict[str, Any]) -> None:
    """Replace live.json whole: a reader sees the old one or the new one."""
    runfolder.write_text(run / LIVE, json.dumps({"schema_version": 1, **live}, indent=1) + "\n")
