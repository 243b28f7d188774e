"""`loadtest export`: a run folder, or its rows, as one file on standard output, written as it is read.

The page's downloads are this program: a load process imports no pyarrow, and its loop must not wait for disks.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from loadtest import runfolder
from loadtest.processes import stand_back
from loadtest.records import RequestRecord

EXIT_PASS, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
FORMS = ("tar", "csv", "parquet")
EPILOG = """\
examples:
  loadtest export runs/ID --as tar > ID.tar.gz          # the whole folder, compressed
  loadtest export runs/ID --as csv > rows.csv           # one line per planned turn, without the lists of chunks
  loadtest export runs/ID --as parquet > rows.parquet   # all columns, all parts in one file

exit codes: 0 all written, 1 it could not be written whole, 2 usage or no run folder
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="loadtest export",
        description="Write a run folder, or its rows, to standard output.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--as", dest="form", choices=FORMS, required=True, help="what to write")
    args = parser.parse_args(argv)
    try:
        manifest = runfolder.read_manifest(args.run)
        if args.form != "tar":
            runfolder.require_rows(args.run, manifest)
    except runfolder.RunFolderError as error:
        print(f"loadtest export: {error}", file=sys.stderr)
        return EXIT_USAGE
    if sys.stdout.isatty():
        print("loadtest export: standard output is a terminal, add > FILE", file=sys.stderr)
        return EXIT_USAGE
    stand_back()
    try:
        export(args.run, args.form, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # who reads it has had enough; the flush at exit must not say so again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (OSError, runfolder.RunFolderError, tarfile.TarError) as error:
        print(f"loadtest export: {args.run}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_PASS


def export(run: Path, form: str, out: BinaryIO) -> None:
    """Write one form of a run. Raises OSError or RunFolderError when something cannot be read or written."""
    if form == "tar":
        _tar(run.resolve(), out)
    elif form == "csv":
        _csv(run, out)
    else:
        _parquet(run, out)


def _tar(run: Path, out: BinaryIO) -> None:
    """The folder under its own name; files on their way (dotted names) are left out."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(member.name).name.startswith(".") or not (member.isfile() or member.isdir()) else member

    # "w|": a stream that is never wound back, so nothing of it stays in memory.
    with (
        gzip.GzipFile(fileobj=out, filename=f"{run.name}.tar", mode="wb", compresslevel=1) as pressed,
        tarfile.open(fileobj=pressed, mode="w|") as archive,
    ):
        archive.add(run, arcname=run.name, filter=kept)


def _parts(run: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    for path in runfolder.part_paths(run, "requests"):
        yield runfolder.read_part(path, RequestRecord, columns)


def _csv(run: Path, out: BinaryIO) -> None:
    schema = runfolder.arrow_schema(RequestRecord)
    flat = pa.schema([field for field in schema if not pa.types.is_list(field.type)])
    with pc.CSVWriter(out, flat) as writer:
        for part in _parts(run, flat.names):
            writer.write_table(part.select(flat.names).cast(flat))


def _parquet(run: Path, out: BinaryIO) -> None:
    schema = runfolder.arrow_schema(RequestRecord)
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for part in _parts(run):
            writer.write_table(part.select(schema.names).cast(schema))
