"""Whatever a peer sends, the row that comes of it fits into the spool and into Parquet."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from exchanges import JSON, SSE, call, exchange, started
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import spool
from loadtest.client.exchange import End, Exchange
from loadtest.client.outcomes import CHUNKS_LISTED_MAX, COUNTED_CHARACTERS_MAX, finish
from loadtest.client.routes import ROUTES
from loadtest.records import RequestRecord
from loadtest.runfolder import arrow_schema

# Halves of surrogate pairs, which json.dumps escapes; NUL; markup that changes what is visible.
ODD_PIECES = st.sampled_from(["a", "é", "\ud83d", "\ude00", "\0", "<think>", "</think>", "\\", "\n"])
ODD_TEXT = st.lists(ODD_PIECES, max_size=6).map("".join)
ODD_NUMBERS = st.integers(-(2**70), 2**70) | st.sampled_from([2**63 - 1, 2**63, 2**64, 10**30, 1e300, -0.0, 1.5])
SCALARS = st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXT
FIELDS = st.sampled_from(
    [
        *(
            "id",
            "task_id",
            "choices",
            "usage",
            "error",
            "miner_address",
            "address",
            "status",
            "data",
            "code",
            "message",
        ),
        *("index", "text", "delta", "message", "finish_reason", "content", "reasoning", "tool_calls", "function"),
        *("name", "arguments", "prompt_tokens", "completion_tokens", "detail"),
    ]
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner), max_leaves=8
)
PLAUSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "id": ODD_TEXT | ODD_NUMBERS,
        "task_id": ODD_TEXT | ODD_NUMBERS,
        "miner_address": ODD_TEXT,
        "error": SCALARS | st.dictionaries(FIELDS, SCALARS),
        "usage": st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens"]), ODD_NUMBERS | ODD_TEXT),
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "text": ODD_TEXT,
                    "finish_reason": ODD_TEXT,
                    "delta": st.fixed_dictionaries(
                        {},
                        optional={
                            "content": ODD_TEXT,
                            "reasoning": ODD_TEXT,
                            "tool_calls": st.lists(
                                st.fixed_dictionaries({"function": st.fixed_dictionaries({"arguments": ODD_TEXT})}),
                                max_size=2,
                            ),
                        },
                    ),
                },
            ),
            max_size=2,
        ),
    },
)


def row(made: Exchange, route: str = "cortensor", *, stream: bool = True) -> RequestRecord:
    asked = call(stream=stream)
    return finish(started(), asked, made, ROUTES[route].read(asked, made), len)


def store(record: RequestRecord) -> None:
    """Through the spool and into the types of Parquet; raises where the run would have lost it."""
    packed = spool.pack(spool.Finished(record))
    assert list(spool.unpack(packed)) == [spool.Finished(record)]
    schema = arrow_schema(RequestRecord)
    pa.table({name: [getattr(record, name)] for name in schema.names}, schema=schema)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(PLAUSIBLE | ANYTHING, max_size=3),
    st.sampled_from(["cortensor", "cortensor-gateway"]),
    st.booleans(),
    st.sampled_from([200, 204, 404, 500]),
)
def test_any_json_gives_a_row_that_can_be_stored(payloads: list[Any], route: str, stream: bool, status: int) -> None:
    texts = [json.dumps(payload) for payload in payloads]
    events = "".join(f"data: {text}\n\n" for text in texts)
    body = (events if stream else "".join(texts[:1])).encode()
    store(row(exchange(body, kind=SSE if stream else JSON, status=status), route, stream=stream))


@given(st.text(st.characters(), max_size=50), st.sampled_from(list(End)))
def test_any_error_text_can_be_stored(text: str, end: End) -> None:
    store(row(exchange(status=None, end=end, error_text=text + "\udc80")))


@pytest.mark.parametrize("header", [b"x-node", b"retry-after", b"content-encoding", b"content-type"])
def test_any_header_can_be_stored(header: bytes) -> None:
    for value in (b"\xff\xfe\0", b"9" * 100_000, b""):
        store(row(exchange(b"{}", status=429, headers=((header, value),))))


def test_more_chunks_than_an_entry_of_the_spool_can_hold() -> None:
    chunk = b'data: {"choices":[{"text":"a"}]}\n\n'
    for count, listed in ((CHUNKS_LISTED_MAX, CHUNKS_LISTED_MAX), (CHUNKS_LISTED_MAX + 1, 0)):
        record = row(exchange(chunk * count + b"data: [DONE]\n\n"))
        assert (record.content_chunks, record.choice_chunks, sum(record.itl_counts)) == (count, count, count - 1)
        assert len(record.chunk_ns) == len(record.chunk_bound_ns) == len(record.chunk_bytes) == listed
        assert len(spool.pack(spool.Finished(record))) < spool.ENTRY_BYTES_MAX


def test_a_text_beyond_reason_is_not_counted() -> None:
    for length, counted in ((COUNTED_CHARACTERS_MAX, COUNTED_CHARACTERS_MAX), (COUNTED_CHARACTERS_MAX + 1, None)):
        body = b'{"choices":[{"text":"%s"}]}' % (b"a" * length)
        assert row(exchange(body, kind=JSON), stream=False).counted_tokens == counted
