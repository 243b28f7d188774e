"""What a night was, and the history of all nights: one row per run, in one Parquet file.

    DIR/history.parquet          every run of every night that could be measured, target and control
    DIR/nights/NIGHT/night.json  one night: pieces, runs with their figures, the verdict

The history is what trend pages are drawn from: it outlives run folders. It has a version of its own; a file of another
version is left as it is, and one line says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from loadtest.analysis.run_figures import METRICS, RunFigures
from loadtest.runfolder import RunFolderError, arrow_schema, write_table

HISTORY_VERSION = 1
NIGHT_VERSION = 1
_VERSION_KEY = b"loadtest_history"
Kind = Literal["target", "control"]
TARGET: Kind = "target"
CONTROL: Kind = "control"

PieceState = Literal["ok", "failed", "skipped"]


class Piece(msgspec.Struct, frozen=True):
    """One step of a night and how it ended. `text` is one line."""

    name: str
    state: PieceState
    seconds: float
    text: str = ""


class NightRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a night, used or not. `number` counts from 1; a run that is made again keeps its number and seed."""

    kind: Kind
    number: int
    seed: int
    run: str
    folder: str  # from the night's own folder, as links go
    exit_code: int | None  # None: it was ended because its time was over
    used: bool  # the night is judged by it; of runs made again only the last is used
    text: str  # why it is not used, or "" when it is
    figures: RunFigures | None = None  # None: it left no summary


class Night(msgspec.Struct, kw_only=True):
    """One night. `word` is the verdict in one word, `sentences` say why."""

    night: str
    started_utc: str
    host: str
    profile: str
    control_profile: str
    command: str
    ended_utc: str = ""
    word: str = "failed"
    exit_code: int = 1
    target_versions: str = ""  # as the last run told that is used and told any
    pieces: list[Piece] = []
    runs: list[NightRun] = []
    sentences: list[str] = []
    run_to_run_sd: dict[str, float] = {}

    def used(self, kind: str) -> list[RunFigures]:
        """The figures by which the night is judged."""
        return [run.figures for run in self.runs if run.kind == kind and run.used and run.figures is not None]

    @property
    def failed_pieces(self) -> list[Piece]:
        return [piece for piece in self.pieces if piece.state == "failed"]

    def as_json(self) -> dict[str, Any]:
        """For night.json; what is infinite in the figures is "inf" there, as in a baseline."""
        plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, runs=[]))
        runs = [
            {**msgspec.to_builtins(msgspec.structs.replace(run, figures=None)), "figures": _figures_json(run.figures)}
            for run in self.runs
        ]
        return {"night_version": NIGHT_VERSION, **plain, "runs": runs}


class HistoryRow(RunFigures, frozen=True, kw_only=True):
    """One run of a night: its figures, which night and which side it belongs to, and what became of that night."""

    night: str
    kind: str  # target or control
    host: str  # what the night was pointed at
    word: str  # the night's verdict; a night that is void or failed has its rows here and is no part of a trend
    exit_code: int  # of the run


def run_to_run_sd(runs: Sequence[RunFigures]) -> dict[str, float]:
    """How much runs of one night differ among themselves: the sd of the logarithm of a ratio (0.05 is about 5 %), and
    the sd of a share. Figures that fewer than two runs have, or that are infinite in one, are left out.
    """
    found = {}
    for metric in METRICS:
        values = [value for run in runs if (value := run.value(metric.name)) is not None]
        if metric.scale == "ratio":
            values = [math.log(value) if value > 0 else math.inf for value in values]
        if len(values) >= 2 and all(math.isfinite(value) for value in values):
            found[metric.name] = statistics.stdev(values)
    return found


def history_rows(night: Night) -> list[HistoryRow]:
    """The rows a night adds: every fit run that it is judged by, with what its target said of itself."""
    rows = []
    for run in night.runs:
        if not run.used or run.figures is None or not run.figures.fit:
            continue
        fields: dict[str, Any] = msgspec.structs.asdict(run.figures)
        fields |= {"night": night.night, "kind": run.kind, "host": night.host, "word": night.word}
        fields |= {"folder": f"nights/{night.night}/{run.folder}", "exit_code": run.exit_code or 0}
        if run.kind == TARGET and not run.figures.target_versions:
            fields["target_versions"] = night.target_versions
        rows.append(HistoryRow(**fields))
    return rows


def read_history(path: Path) -> list[HistoryRow]:
    """All rows, in the order they came; none when there is no file. RunFolderError: damaged, or of another version."""
    if not path.exists():
        return []
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0][:160]
        raise RunFolderError(f"{path}: not a readable history ({reason}); restore it or move it away") from None
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode("utf-8", "replace")
    if version != str(HISTORY_VERSION):
        raise RunFolderError(
            f"{path}: history version {version}, this version reads {HISTORY_VERSION}; use the loadtest version that "
            "wrote it, or move the file away to begin another"
        )
    wanted = arrow_schema(HistoryRow)
    for field in wanted:
        # A figure that is newer than the file is absent in its rows, as in any run that does not have it.
        if field.nullable and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    if set(table.column_names) == set(wanted.names):
        table = table.select(wanted.names)
    if not table.schema.equals(wanted):
        raise RunFolderError(f"{path}: not the columns of a history; restore it or move it away to begin another")
    return [HistoryRow(**row) for row in table.to_pylist()]


def append_history(path: Path, added: Sequence[HistoryRow]) -> list[HistoryRow]:
    """Add rows and return all. The file appears whole or not at all; a run that is in it already is not added twice."""
    before = read_history(path)
    known = {(row.night, row.run) for row in before}
    rows = [*before, *(row for row in added if (row.night, row.run) not in known)]
    schema = arrow_schema(HistoryRow)
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    metadata = {**(schema.metadata or {}), _VERSION_KEY: str(HISTORY_VERSION).encode()}
    write_table(path, pa.table(columns, schema=schema.with_metadata(metadata)))
    return rows


def _figures_json(figures: RunFigures | None) -> dict[str, Any] | None:
    return None if figures is None else figures.as_json()
