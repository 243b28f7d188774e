"""The tables of a run folder as pandas frames, and the clocks that line their rows up.

Integers arrive as nullable Int64: a missing instant stays missing and nanoseconds stay exact (a float64
would round Unix nanoseconds to 256 ns). List columns stay in Arrow and are read only by who needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from loadtest.fitness import CLOCK_BOUND_MS_MAX
from loadtest.records import SCHEMA_VERSION
from loadtest.runfolder import RunFolderError, arrow_schema, printable, read_table

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

JOINED_REQUESTS = "joined/requests.parquet"
JOINED_MINERS = "joined/request_miners.parquet"
_JOINED_VERSION = f"joined/{SCHEMA_VERSION}.1".encode()  # .1: the windowed features
_VERSION_KEY = b"loadtest_schema"
JOINED_METADATA = {_VERSION_KEY: _JOINED_VERSION}  # by which `read_joined` knows a file's version
_TYPES = {pa.int64(): pd.Int64Dtype()}


def use_system_memory() -> None:
    """Let Arrow take its memory from the C library, in this process.

    Its own allocator gives pages back at once and then has to ask for them again: of the time in which a long run's
    rows are read, half was spent on that.
    """
    pa.set_memory_pool(pa.system_memory_pool())


def scalar_columns(record: type) -> list[str]:
    """Names of the columns of a record type that are not lists."""
    return [field.name for field in arrow_schema(record) if not pa.types.is_list(field.type)]


def to_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table as a frame: int64 becomes nullable Int64, text becomes str with missing values."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=_TYPES.get)
    return frame


def descriptions_frame(run: Path) -> pd.DataFrame:
    """What was said of what nodes are: node, observed_wall_ns, operator, hardware, level, in the order of time."""
    columns = ["node", "observed_wall_ns", "operator", "hardware", "level"]
    frame = to_frame(read_table(run, "descriptions", columns))
    frame["node"] = frame["node"].str.lower()
    return frame.sort_values("observed_wall_ns", kind="stable", ignore_index=True)


def read_joined(path: Path) -> pd.DataFrame:
    """A whole joined table as a frame, for people and small runs; RunFolderError when it is missing, damaged or of
    another version. What the report needs of a run of any length is read by `columns.read_turns`.
    """
    with joined_errors(path):
        table = pq.read_table(path, page_checksum_verification=True)
        require_joined_version(path, table.schema.metadata)
    return to_frame(table)


@contextmanager
def joined_errors(path: Path) -> Iterator[None]:
    """What goes wrong in reading a joined table as one line for the user."""
    try:
        yield
    except FileNotFoundError:
        raise RunFolderError(f"{path}: the run is not joined yet; run `loadtest join` first") from None
    except (pa.ArrowException, ValueError, OSError) as error:
        raise RunFolderError(f"{path}: damaged ({str(error).splitlines()[0][:160]}); join the run again") from None


def require_joined_version(path: Path, metadata: dict[bytes, bytes] | None) -> None:
    found = (metadata or {}).get(_VERSION_KEY, b"none")
    if found != _JOINED_VERSION:
        raise RunFolderError(f"{path}: schema {printable(found)} is not ours; join the run again")


class Clocks(NamedTuple):
    """How a run's clocks relate: worker rows to the master's monotonic clock, and that to the wall."""

    t0_ns: int  # master's monotonic
    wall_minus_mono_ns: int
    wall_bound_ns: int  # error of the line above, what the wall moved during the run included
    worker_bound_ns: dict[int, int]

    @classmethod
    def of(cls, run: Path, manifest: dict[str, Any], requests: pd.DataFrame) -> Clocks:
        """From the manifest; a run cut off before t0 was written takes its first scheduled turn as t0."""
        clock = manifest.get("clock") or {}
        wall = clock.get("wall_minus_mono_ns")
        if wall is None:
            raise RunFolderError(f"{run}: the manifest has no clock; rows cannot be placed in time, run again")
        moved = abs((clock.get("wall_minus_mono_end_ns") or wall) - wall)
        t0_ns = manifest.get("t0_ns")
        if t0_ns is None:
            t0_ns = int((requests["scheduled_ns"] + requests["clock_offset_ns"]).min()) if len(requests) else 0
        told = {int(w["worker"]): w.get("clock_bound_ns") for w in manifest.get("workers", [])}
        bounds = {worker: int(bound) for worker, bound in told.items() if bound is not None}
        return cls(t0_ns, wall, max(int(clock.get("bound_ns") or 0), moved), bounds)

    def run_s(self, requests: pd.DataFrame, instant: str) -> Floats:
        """Seconds since t0 of an instant column, on the master's clock; NaN where it did not happen."""
        ns = requests[instant] + requests["clock_offset_ns"] - self.t0_ns
        return ns.to_numpy(dtype=np.float64, na_value=np.nan) / 1e9

    def wall_ns(self, requests: pd.DataFrame, instant: str) -> pd.Series[int]:
        """Unix nanoseconds of an instant column (nullable Int64)."""
        wall: pd.Series[int] = requests[instant] + requests["clock_offset_ns"] + self.wall_minus_mono_ns
        return wall

    def bound_ns(self, requests: pd.DataFrame) -> npt.NDArray[np.int64]:
        """How far each row's wall instants may be off: its worker's bound plus the master's.

        A worker that was lost before it had told its bound has the worst that a fit run allows.
        """
        workers = requests["worker"].to_numpy(dtype=np.int64)
        bounds = np.full(len(workers), int(CLOCK_BOUND_MS_MAX * 1e6), dtype=np.int64)
        for worker, bound in self.worker_bound_ns.items():
            bounds[workers == worker] = bound
        return bounds + self.wall_bound_ns
