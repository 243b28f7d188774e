"""A run as a trace: what it offered and when, for another run to replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loadtest.records import Outcome
from loadtest.runfolder import RunFolderError, read_manifest, read_table, require_rows

COLUMNS = [
    *("scheduled_ns", "clock_offset_ns", "outcome", "prompt_tokens_planned"),
    *("usage_completion_tokens", "counted_tokens", "output_tokens_max"),
]


def trace_lines(run: Path) -> Iterator[str]:
    """One line of Mooncake's JSON for each request that was due, in order of its scheduled instant, with fractions of
    a millisecond. An answer is as long as its usage, else our count, else the cap. Raises RunFolderError.
    """
    manifest = read_manifest(run)
    require_rows(run, manifest)
    t0_ns = manifest.get("t0_ns")
    if t0_ns is None:
        raise RunFolderError(f"{run}: the run never began, there is nothing to replay")
    rows = read_table(run, "requests", COLUMNS)
    due = np.isin(rows["outcome"].to_numpy(zero_copy_only=False), [Outcome.NOT_REACHED.value], invert=True)
    at_us = (rows["scheduled_ns"].to_numpy() + rows["clock_offset_ns"].to_numpy() - t0_ns) // 1000
    prompt = rows["prompt_tokens_planned"].to_numpy()
    output = rows["output_tokens_max"].to_numpy().copy()
    for name in ("counted_tokens", "usage_completion_tokens"):
        told = rows[name].fill_null(0).to_numpy()
        output = np.where(told > 0, told, output)
    for place in np.argsort(at_us, kind="stable"):
        if due[place]:
            # A clock's error may put the first arrival a little before t0.
            ms = max(0, int(at_us[place])) / 1000
            yield f'{{"timestamp": {ms:.3f}, "input_length": {prompt[place]}, "output_length": {output[place]}}}'
