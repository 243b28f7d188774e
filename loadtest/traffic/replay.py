"""A recorded trace: when each request came and how many tokens went in and out, or what people said.

Read by `Trace.load` from what a file is, not from its name:

    TIMESTAMP,ContextTokens,GeneratedTokens          Azure LLM inference traces (CSV)
    Timestamp,...,Request tokens,Response tokens,...  BurstGPT (CSV, seconds); rows without tokens failed, left out
    {"timestamp": ms, "input_length", "output_length", "hash_ids"}   Mooncake (JSON lines); equal ids are equal text
    [{"conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]}]   ShareGPT (JSON); no instants
    a run folder of ours                              each request that was offered, at its scheduled instant

Instants keep the microsecond of the file's own clock, divided by the speed; equal ones are kept in order, earlier ones
than the row before are refused. A rate above or below 1 makes more or fewer rows of them, over the same time.
Nothing is read beyond the limit of rows, and no line, value or file is held unbounded.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import msgspec

from loadtest.traffic import traces
from loadtest.traffic.traces import Row, Talk, TraceError

__all__ = ["BLOCK_TOKENS", "Trace", "TraceError", "asked_trace"]

BLOCK_TOKENS = traces.BLOCK_TOKENS
ROWS_MAX = 500_000  # of a trace without --limit: about 10 MB in the message to each worker
TALK_CHARACTERS_MAX = 32 << 20
FOLDER_WAIT_S = 120.0


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a trace, in order, column by column; or conversations, which have no instants of their own.

    `due_us` counts from the first row. `blocks` are empty, or each row's ids of 512 tokens of its prompt.
    """

    due_us: list[int] = []
    prompt_tokens: list[int] = []
    output_tokens: list[int] = []
    blocks: list[list[int]] = []
    talks: list[Talk] = []
    left_out: int = 0  # rows or conversations that cannot be replayed

    @classmethod
    def load(cls, path: str | Path, limit: int | None = None, speed: float = 1.0, rate: float = 1.0) -> Trace:
        """Read the first `limit` rows of a file, played `speed` times as fast, `rate` times as many.

        Raises TraceError, one line.
        """
        for name, factor in (("speed", speed), ("trace-rate", rate)):
            if not 0 < factor < math.inf:
                raise TraceError(f"{path}: {name} must be a number > 0, got {factor:g}")
        if limit is not None and limit < 1:
            raise TraceError(f"{path}: limit must be >= 1, got {limit}")
        try:
            if Path(path).is_dir():
                return _at_rate(str(path), _collect(str(path), _of_run(str(path)), limit, speed), rate)
            with Path(path).open(newline="", encoding="utf-8-sig") as file:
                return _at_rate(str(path), _read(str(path), file, limit, speed), rate)
        except OSError as error:
            raise TraceError(f"{path}: cannot be read ({error.strerror}), name a trace file") from None
        except UnicodeDecodeError:
            raise TraceError(f"{path}: is not text in UTF-8, name a trace file") from None

    def rows(self) -> list[tuple[int, int, int]]:
        """(due_us, prompt tokens, output tokens) per row."""
        return list(zip(self.due_us, self.prompt_tokens, self.output_tokens, strict=True))

    def __len__(self) -> int:
        return len(self.talks) or len(self.due_us)

    @property
    def end_us(self) -> int | None:
        """The instant before which every row is due; None for conversations, which arrive as the profile says."""
        return self.due_us[-1] + 1 if self.due_us else None


def asked_trace(args: argparse.Namespace) -> Trace | None:
    """The trace that a command line asks for (`flags.add_trace_options`), None without one. Raises TraceError."""
    return Trace.load(args.trace, args.limit or None, args.speed, args.trace_rate) if args.trace else None


def _read(path: str, file: IO[str], limit: int | None, speed: float) -> Trace:
    start = file.read(1)
    while start.isspace():
        start = file.read(1)
    file.seek(0)
    if start == "[":
        return _collect_talks(path, traces.sharegpt(path, file), limit)
    if start == "{":
        return _collect(path, traces.mooncake(path, traces.bounded_lines(path, file)), limit, speed)
    return _collect(path, traces.table(path, traces.bounded_lines(path, file)), limit, speed)


def _collect(path: str, rows: Iterator[Row | None], limit: int | None, speed: float) -> Trace:
    """The rows as columns. None stands for a row that is left out."""
    trace = Trace()
    first = left_out = ids = 0
    latest = -(1 << 62)
    for row in rows:
        if row is None:
            left_out += 1
            continue
        if len(trace.due_us) == (limit or ROWS_MAX):
            if limit is None:
                raise TraceError(f"{path}: has more than {ROWS_MAX:,} rows, say how many with --limit N")
            break
        if not trace.due_us:
            first = row.at_us
        if row.at_us < latest:
            raise TraceError(f"{path}: row {row.number}: is earlier than the row before, sort the file by time")
        latest = row.at_us
        trace.due_us.append(int((row.at_us - first) / speed))
        trace.prompt_tokens.append(row.prompt_tokens)
        trace.output_tokens.append(row.output_tokens)
        if row.blocks is not None:
            trace.blocks.append(row.blocks)
            ids += len(row.blocks)
            if ids > 10 * ROWS_MAX:
                raise TraceError(f"{path}: has more than {10 * ROWS_MAX:,} hash_ids, say how many rows with --limit N")
    if not trace.due_us:
        raise TraceError(f"{path}: there is no row that can be replayed, name a trace with at least one")
    if trace.blocks and len(trace.blocks) != len(trace.due_us):
        raise TraceError(f"{path}: some rows have hash_ids and some have none, give all or none of them")
    return msgspec.structs.replace(trace, left_out=left_out)


def _at_rate(path: str, trace: Trace, rate: float) -> Trace:
    """`rate` times as many rows over the same time, to the row.

    Above 1 the copies of a row stand evenly in the gap to the next one, so that bursts stay where they are; below 1
    rows are kept at even distances. A copy has its row's tokens and blocks, and a text of its own where there are none.
    """
    if rate == 1:
        return trace
    if trace.talks:
        raise TraceError(f"{path}: conversations come at the rate of the profile, say --request-rate")
    exact = Fraction(str(rate))
    edges = [math.ceil(exact * row) for row in range(len(trace.due_us) + 1)]
    if edges[-1] > ROWS_MAX:
        raise TraceError(f"{path}: {edges[-1]:,} rows at trace-rate {rate:g}, the most are {ROWS_MAX:,}; use --limit N")
    due_us: list[int] = []
    rows: list[int] = []
    following = [*trace.due_us[1:], trace.due_us[-1]]
    for row, (at_us, next_us) in enumerate(zip(trace.due_us, following, strict=True)):
        copies = edges[row + 1] - edges[row]
        due_us += [at_us + (next_us - at_us) * copy // copies for copy in range(copies)]
        rows += [row] * copies
    return Trace(
        due_us=due_us,
        prompt_tokens=[trace.prompt_tokens[row] for row in rows],
        output_tokens=[trace.output_tokens[row] for row in rows],
        blocks=[trace.blocks[row] for row in rows] if trace.blocks else [],
        left_out=trace.left_out,
    )


def _collect_talks(path: str, talks: Iterator[Talk | None], limit: int | None) -> Trace:
    kept: list[Talk] = []
    characters = left_out = 0
    for talk in talks:
        if talk is None:
            left_out += 1
            continue
        if len(kept) == limit:
            break
        characters += sum(len(said) + len(answered) for said, answered in talk)
        if characters > TALK_CHARACTERS_MAX:
            raise TraceError(
                f"{path}: has more than {TALK_CHARACTERS_MAX >> 20} MB of text, say how many with --limit N"
            )
        kept.append(talk)
    if not kept:
        raise TraceError(f"{path}: there is no conversation of a person and a model in it")
    return Trace(talks=kept, left_out=left_out)


def _of_run(folder: str) -> Iterator[Row | None]:
    """The requests of a run folder. Another process reads the Parquet: pyarrow must not be in a load process."""
    program = [sys.executable, "-m", "loadtest", "trace", folder]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stderr is not None
        try:
            yield from traces.mooncake(folder, traces.bounded_lines(folder, reader.stdout))
            told = reader.stderr.read(2_000).strip()
            if reader.wait(FOLDER_WAIT_S):
                raise TraceError(f"{folder}: {told.splitlines()[-1] if told else 'cannot be read'}")
        finally:
            reader.kill()  # the limit may have been reached before its end
