"""The truth log: one row per completion request, written by a child process.

Encoding Parquet holds the interpreter for tens of milliseconds, which a thread would take from every open stream.
So rows go as msgpack frames through a pipe to a child of lower priority, which writes `PATH/part-*.parquet` while
the run goes on and ends, everything written, when the pipe closes; also when the simulator itself was killed.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from loadtest.processes import stand_back
from loadtest.records import TruthRecord

ROWS_PER_PART = 5000
PENDING_BYTES_MAX = 64 * 1024 * 1024  # rows the child has not taken yet; beyond this the disk is not keeping up
CLOSE_S = 60.0

_LENGTH = struct.Struct("<I")


class TruthError(Exception):
    """The truth log cannot be written; the text is one line for the user."""


def check_path(path: Path) -> None:
    """Refuse a path that is taken: two runs in one log could not be told apart."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise TruthError(f"{path}: exists already; give another --truth or remove it")


class TruthLog:
    """The simulator's end of the pipe. `add` never blocks and never raises; a broken log fails the run at close."""

    def __init__(self, path: Path, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._path = path
        self._process = process
        self._pipe = process.stdin
        self._encoder = msgspec.msgpack.Encoder()
        self.rows = 0
        self.lost_rows = 0

    @classmethod
    async def start(cls, path: Path) -> TruthLog:
        """Start the child. It has its own session, so that Ctrl-C reaches the simulator only."""
        check_path(path)
        path.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "loadtest.simulator.truth", str(path)]
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, start_new_session=True, env=environment
        )
        return cls(path, process)

    def add(self, row: TruthRecord) -> None:
        transport = self._pipe.transport
        if transport.is_closing() or transport.get_write_buffer_size() > PENDING_BYTES_MAX:
            self.lost_rows += 1
            return
        data = self._encoder.encode(row)
        self._pipe.write(_LENGTH.pack(len(data)) + data)
        self.rows += 1

    async def close(self) -> None:
        """Wait until everything is on disk. TruthError: it is not."""
        self._pipe.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), CLOSE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise TruthError(
                f"{self._path}: the truth log was not written within {CLOSE_S:g} s; the disk is too slow"
            ) from None
        if code or self.lost_rows:
            lost = f"{self.lost_rows} rows lost, writer ended with {code}"
            raise TruthError(f"{self._path}: truth log incomplete: {lost}; check the disk")


def write_parts(source: BinaryIO, path: Path) -> int:
    """Read frames until the pipe ends and write them as parts of ROWS_PER_PART rows; returns the number of rows."""
    from loadtest.runfolder import write_part

    decoder = msgspec.msgpack.Decoder(TruthRecord)
    rows: list[TruthRecord] = []
    written = parts = 0
    while True:
        frame = _read_frame(source)
        if frame is not None:
            rows.append(decoder.decode(frame))
        if len(rows) >= ROWS_PER_PART or (frame is None and (rows or not parts)):
            write_part(path / f"part-{parts:05d}.parquet", rows, TruthRecord)
            written += len(rows)
            parts += 1
            rows = []
        if frame is None:
            return written


def _read_frame(source: BinaryIO) -> bytes | None:
    """The next whole frame, or None at the end; half a frame is what a killed simulator leaves, and no row."""
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    frame = source.read(length)
    return frame if len(frame) == length else None


def main(argv: list[str]) -> int:
    stand_back()
    write_parts(sys.stdin.buffer, Path(argv[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
