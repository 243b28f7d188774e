"""Rows of streamed turns that nobody sent, for benchmarks of what comes after a turn has ended."""

from __future__ import annotations

import random

from loadtest.quantiles import LogHistogram
from loadtest.records import RequestRecord


def a_row(draw: random.Random, seq: int, chunks: int) -> RequestRecord:
    """A streamed turn of so many chunks, 20 ms apart more or less."""
    sent = seq * 10_000_000
    first = sent + int(draw.lognormvariate(19.0, 0.5))
    gaps = [int(draw.lognormvariate(16.8, 0.3)) for _ in range(chunks - 1)]
    at = [first]
    histogram = LogHistogram()
    for gap in gaps:
        at.append(at[-1] + gap)
        histogram.add(gap)
    return RequestRecord(
        run="r",
        worker=seq % 64,
        seq=seq,
        arrival=seq,
        conversation=f"c{seq}",
        turn=0,
        turns_planned=1,
        persona="quick",
        target="chat",
        route="openai-chat",
        model="default",
        session=None,
        client_reference=f"r.{seq}.0",
        phase="measure",
        scheduled_ns=sent - 500_000,
        prompt_tokens_planned=200,
        output_tokens_max=chunks,
        stream=True,
        outcome="ok",
        sent_ns=sent,
        first_content_ns=first,
        first_content_bound_ns=80_000,
        last_content_ns=at[-1],
        done_ns=at[-1] + 100_000,
        content_chunks=chunks,
        chunk_ns=tuple(at),
        chunk_bound_ns=(80_000,) * chunks,
        chunk_bytes=(180,) * chunks,
        itl_keys=tuple(histogram.counts.keys()),
        itl_counts=tuple(histogram.counts.values()),
    )
