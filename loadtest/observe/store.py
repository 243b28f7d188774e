"""Where observations go: Parquet parts of the run folder every few seconds, and live.json for those who watch now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from loadtest import runfolder
from loadtest.observe.rows import COLUMNS, Row
from loadtest.observe.serving import Served, Serving, scaled
from loadtest.observe.sources import Source
from loadtest.observed import FILE, Observed, ObservedNode, Router
from loadtest.records import NodeDescription, NodeSnapshot, RequestRecord, RouterSample, SessionSample, TaskRecord

ROWS_MAX = 20_000  # per table before it is written at once
# What live.json shows at most beside its nodes.
ROUTERS_SHOWN = 20
TARGETS_SHOWN = 20  # of one router
SOURCES_SHOWN = 40
ERROR_LETTERS_MAX = 160


Observation = NodeSnapshot | NodeDescription | RouterSample | SessionSample | TaskRecord


class Store:
    """Buffers records and writes them as parts named by this observer's start, so that two never overwrite."""

    def __init__(self, run: Path, started_wall_ns: int) -> None:
        self._run = run
        self._name = f"observe-{started_wall_ns}"
        self._parts = 0
        self._rows: dict[str, list[msgspec.Struct]] = {table: [] for table in _TABLE.values()}

    def add(self, records: Iterable[Observation]) -> None:
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
    NodeDescription: "descriptions",
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

    def table(self, serving: Serving, wall_ns: int) -> list[ObservedNode]:
        """Every node that was heard of or has served: what it did, and the newest word on its reputation."""
        names = {node for node, _ in self._newest} | serving.nodes.keys()
        return [self._node(node, serving.nodes.get(node), wall_ns) for node in names]

    def _node(self, node: str, served: Served | None, wall_ns: int) -> ObservedNode:
        board, network, user = (
            self._newest.get((node, s), []) for s in ("leaderboard", "reputation", "session-reputation")
        )
        observed_ns = max((s.observed_wall_ns for s in (*board, *network, *user)), default=None)
        served = served or Served()
        return ObservedNode(
            node=node,
            requests=served.requests,
            failures=served.failures,
            ttft_ms_p50=scaled(served.ttft, 0.50, 1e6),
            ttft_ms_p95=scaled(served.ttft, 0.95, 1e6),
            e2e_ms_p50=scaled(served.e2e, 0.50, 1e6),
            e2e_ms_p95=scaled(served.e2e, 0.95, 1e6),
            tokens_per_s=served.tokens_per_s(),
            precommit_rate=_rate(board, "precommit_points", "precommit_counter"),
            commit_rate=_rate(board, "commit_points", "commit_counter"),
            network_precommit_rate=_rate(network, "precommit_success", "precommit_all"),
            network_commit_rate=_rate(network, "commit_success", "commit_all"),
            session_precommit_rate=_rate(user, "precommit_success", "precommit_all"),
            session_commit_rate=_rate(user, "commit_success", "commit_all"),
            pending=sum((s.precommit_pending or 0) + (s.commit_pending or 0) for s in (*network, *user)),
            last_active_s=max((s.last_active_s for s in board if s.last_active_s is not None), default=None),
            age_s=None if observed_ns is None else round((wall_ns - observed_ns) / 1e9, 3),
        )


def _rate(snapshots: list[NodeSnapshot], successes: str, entries: str) -> float | None:
    """Successes over entries of all rows that tell both; None without an entry: no data is not a rate of zero."""
    told = [(getattr(s, successes), getattr(s, entries)) for s in snapshots]
    pairs = [(good, total) for good, total in told if good is not None and total]
    return round(sum(g for g, _ in pairs) / sum(t for _, t in pairs), 4) if pairs else None


class LiveRouters:
    """The newest status of each router, for live.json."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, ...], RouterSample] = {}

    def add(self, targets: tuple[str, ...], sample: RouterSample) -> None:
        known = self._newest.get(targets)
        if sample.error and known is not None:
            # The figures stay, with their age; the error says why they are not newer.
            sample = msgspec.structs.replace(known, error=sample.error)
        self._newest[targets] = sample

    def table(self, wall_ns: int) -> list[Router]:
        return [
            Router(
                targets=list(targets)[:TARGETS_SHOWN],
                connected_miners=sample.connected_miners,
                active_sessions=sample.active_sessions,
                age_s=round((wall_ns - sample.observed_wall_ns) / 1e9, 3),
                error=sample.error[:ERROR_LETTERS_MAX],
            )
            for targets, sample in list(self._newest.items())[:ROUTERS_SHOWN]
        ]


def source_table(sources: Iterable[Source], wall_ns: int) -> list[dict[str, Any]]:
    """One object per kind of source: how often it answered and failed, its last error, the age of its oldest word."""
    table: dict[str, dict[str, Any]] = {}
    for source in sources:
        label = f"{source.name} {', '.join(source.targets[:TARGETS_SHOWN])}".strip()
        row = table.setdefault(
            label,
            {"source": label, "polled": 0, "answers": 0, "errors": 0, "failing": 0, "last_error": "", "age_s": None},
        )
        row["polled"] += 1
        row["answers"] += source.answers
        row["errors"] += source.errors
        row["failing"] += source.failures > 0
        row["last_error"] = source.last_error[:ERROR_LETTERS_MAX] or row["last_error"]
        if source.answered_wall_ns is not None:
            age_s = round((wall_ns - source.answered_wall_ns) / 1e9, 3)
            row["age_s"] = age_s if row["age_s"] is None else max(row["age_s"], age_s)
    return list(table.values())[:SOURCES_SHOWN]


def write_live(run: Path, live: Observed) -> None:
    """Replace live.json whole: a reader sees the old one or the new one."""
    runfolder.write_text(run / FILE, msgspec.json.encode(live).decode() + "\n")
