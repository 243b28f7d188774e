"""Rows for tests that do not care what is in them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from loadtest.records import RequestRecord


def made_row(seq: int, **changes: Any) -> RequestRecord:
    """A good first turn of worker 0, arrival `seq`; `changes` are its other fields."""
    row = RequestRecord(
        run="r",
        worker=0,
        seq=seq,
        arrival=seq,
        conversation=f"c{seq}",
        turn=0,
        turns_planned=1,
        persona="p",
        target="t",
        route="cortensor",
        model="",
        session=None,
        client_reference=f"r.{seq}.0",
        phase="measure",
        scheduled_ns=seq,
        prompt_tokens_planned=1,
        output_tokens_max=1,
        stream=True,
        outcome="ok",
    )
    return replace(row, **changes)
