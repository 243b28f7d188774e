"""Records: the fields and Parquet types of schema version 1, and that rows survive the wire and the disk."""

from __future__ import annotations

import tempfile
import types
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.records import (
    NOT_SENT,
    SCHEMA_VERSION,
    TRUTH_VERSION,
    AnswerText,
    NodeDescription,
    NodeSnapshot,
    Outcome,
    Phase,
    RequestRecord,
    RouterSample,
    SessionSample,
    TaskRecord,
    TruthRecord,
)
from loadtest.runfolder import arrow_schema, read_part, write_part

RECORDS = [RequestRecord, AnswerText, TaskRecord, NodeSnapshot, NodeDescription, RouterSample, SessionSample]
RECORDS.append(TruthRecord)
REQUEST_SAMPLE: dict[str, typing.Any] = {
    "run": "20261122T104500Z-ab12",
    "worker": 1,
    "seq": 4,
    "arrival": 4711,
    "conversation": "c4711",
    "turn": 0,
    "turns_planned": 3,
    "persona": "builder",
    "target": "r1",
    "route": "cortensor",
    "model": "",
    "session": None,
    "client_reference": "ab12-4711-0",
    "phase": Phase.MEASURE,
    "scheduled_ns": 93_207_000_000,
    "prompt_tokens_planned": 42,
    "output_tokens_max": 128,
    "stream": True,
    "outcome": Outcome.LOST,
}

# Name and Parquet type in order; "?" marks a column that may be null.
FIELDS = {
    "RequestRecord": """
        run string, worker int64, seq int64, arrival int64, conversation string, turn int64, turns_planned int64,
        persona string, target string, route string, model string, session string?, client_reference string,
        phase string, scheduled_ns int64, prompt_tokens_planned int64, output_tokens_max int64, stream bool,
        outcome string, error_kind string, error_text string, http_status int64?, finish_reason string?,
        stream_end string, usage_prompt_tokens int64?, usage_completion_tokens int64?, counted_tokens int64?,
        bytes_sent int64, bytes_received int64, text_sha256 string?, task_id string?, node_hint string?,
        connecting_ns int64?, connected_ns int64?, secured_ns int64?, sent_ns int64?, sent_last_ns int64?,
        headers_ns int64?, first_chunk_ns int64?,
        first_content_ns int64?, first_visible_ns int64?, last_content_ns int64?, done_ns int64?,
        clock_offset_ns int64, content_chunks int64, chunk_ns list<item: int64>, chunk_bound_ns list<item: int64>,
        chunk_bytes list<item: int64>, itl_keys list<item: int64>, itl_counts list<item: int64>,
        connection_new bool, retried bool, reads int64, reads_kernel int64, chunks_coalesced int64,
        first_content_bound_ns int64?, arrival_bound_ns_p50 int64?, arrival_bound_ns_max int64?,
        choice_chunks int64, last_choice_ns int64?""",
    "AnswerText": """
        worker int64, seq int64, text string, reasoning string, tool_calls string""",
    "TaskRecord": """
        target string, session string, task_id string, client_reference string, looked_up_wall_ns int64,
        complete bool, status int64?, created_s int64?, finished_s int64?, assigned list<item: string>,
        miners list<item: string>, result_sha256 list<item: string>, error string""",
    "NodeSnapshot": """
        source string, node string, node_as_seen string, observed_wall_ns int64, effective_s int64?,
        last_active_s int64?, ping_counter int64?, precommit_points int64?, precommit_counter int64?,
        commit_points int64?, commit_counter int64?, prepare_points int64?, prepare_counter int64?,
        create_points int64?, create_counter int64?, precommit_all int64?, precommit_success int64?,
        precommit_pending int64?, commit_all int64?, commit_success int64?, commit_pending int64?""",
    "NodeDescription": """
        source string, node string, observed_wall_ns int64, operator string?, hardware string?, level int64?""",
    "RouterSample": """
        target string, source string, observed_wall_ns int64, connected_miners int64?, active_sessions int64?,
        cpu_usage double?, memory_usage double?, uptime double?, error string""",
    "SessionSample": """
        target string, session string, observed_wall_ns int64, active bool?, model string?, redundant int64?,
        miners_count int64?, miners list<item: string>, balance string?, created_s int64?, updated_s int64?""",
    "TruthRecord": """
        client_reference string, route string, session string?, task_id string?, received_ns int64,
        headers_ns int64?, first_written_ns int64?, last_written_ns int64?, done_ns int64?,
        chunk_ns list<item: int64>, late_ns list<item: int64>, http_status int64, tokens int64,
        assigned list<item: string>,
        returned_node string?, chosen_because string, charge int64, faults list<item: string>""",
}


@pytest.mark.parametrize("record", RECORDS)
def test_the_fields_are_those_of_the_version(record: type[msgspec.Struct]) -> None:
    golden = " ".join(FIELDS[record.__name__].split()).split(", ")
    found = [f"{field.name} {field.type}{'?' if field.nullable else ''}" for field in arrow_schema(record)]
    assert found == golden, (
        f"{record.__name__} changed: raise records.SCHEMA_VERSION, write the new list here, and say it in CHANGELOG.md"
    )
    assert (SCHEMA_VERSION, TRUTH_VERSION) == (1, 2), (
        "a new version: replace the literal lists of this file by the new ones"
    )


def test_the_outcomes_are_a_closed_set() -> None:
    assert set(Outcome) == {
        *("ok", "not_reached", "dropped", "connect_error", "tls_error", "auth_error", "not_found", "rate_limited"),
        *("client_error", "server_error", "proxy_error", "router_timeout", "client_timeout", "truncated"),
        *("stream_error", "empty", "malformed", "cancelled", "lost"),
    }
    assert {"not_reached", "dropped"} == NOT_SENT
    assert set(Phase) == {"warmup", "measure"}


def rows(record: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    """Any row of a record type that its annotations and Parquet's 64 bits allow."""
    hints = typing.get_type_hints(record)
    return st.builds(record, **{name: _values(hint) for name, hint in hints.items()})


def _values(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    scalars: dict[typing.Any, st.SearchStrategy[typing.Any]] = {
        str: st.text(max_size=8),
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False),
        bool: st.booleans(),
        type(None): st.none(),
    }
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return st.one_of([_values(argument) for argument in arguments])
    if typing.get_origin(hint) is tuple:
        return st.lists(_values(arguments[0]), max_size=4).map(tuple)
    return scalars[hint]


@pytest.mark.parametrize("record", RECORDS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_rows_survive_msgpack_and_parquet(record: type[msgspec.Struct], data: st.DataObject) -> None:
    written = data.draw(st.lists(rows(record), max_size=3))

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(written), type=list[record]) == written  # type: ignore[valid-type]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        write_part(path, written, record)
        read = read_part(path, record).to_pylist()
    assert _by_name(record, read) == written


def _by_name(record: type[msgspec.Struct], read: list[dict[str, typing.Any]]) -> list[msgspec.Struct]:
    return [record(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in read]


def test_an_enum_is_stored_as_its_word(tmp_path: Path) -> None:
    row = RequestRecord(**REQUEST_SAMPLE)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=RequestRecord) == row
    write_part(tmp_path / "part.parquet", [row], RequestRecord)
    read = read_part(tmp_path / "part.parquet", RequestRecord, columns=["outcome", "phase"]).to_pylist()
    assert read == [{"outcome": "lost", "phase": "measure"}]


def test_a_null_where_none_is_allowed_only(tmp_path: Path) -> None:
    row = msgspec.structs.replace(RequestRecord(**REQUEST_SAMPLE), persona=None)
    with pytest.raises(ValueError, match="persona"):
        write_part(tmp_path / "part.parquet", [row], RequestRecord)
    assert not (tmp_path / "part.parquet").exists()
