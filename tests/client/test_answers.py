"""Reading answers: miners, keys, hints, thinking."""

from __future__ import annotations

import pytest
from exchanges import JSON, exchange
from streams import STOP, STREAMS, chat_chunk, events, text_chunk

from loadtest.client.answers import Answer, error_message, read_answer
from loadtest.client.exchange import End


def read(body: bytes, *, kind: str = "text/event-stream", stream: bool = True, **more: object) -> Answer:
    return read_answer(exchange(body, kind=kind, **more), stream=stream)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [name for name in STREAMS if name.startswith(("cort", "no_", "comm", "bom", "unt", "bl"))]
)
def test_the_same_answer_in_every_documented_form(name: str) -> None:
    answer = read(STREAMS[name])
    assert [piece.text for piece in answer.pieces] == [" one", " two"]
    assert (answer.stream_end, answer.finish_reason, answer.events_unreadable) == ("done_marker", "stop", 0)


def test_chat_with_usage() -> None:
    answer = read(STREAMS["chat"])
    assert (answer.text, answer.usage_prompt_tokens, answer.usage_completion_tokens) == ("Hello", 9, 2)


def test_interleaved_miners_are_told_apart_by_task_id_or_id() -> None:
    mine, other = text_chunk("a", key="x"), text_chunk("Z", key="y")
    answer = read(events(mine, other, mine, other, text_chunk("", STOP, key="y"), text_chunk("b", STOP, key="x")))
    assert (answer.text, answer.chunks_ignored, answer.stream_end) == ("aab", 3, "finish_reason")
    chunks = [f'{{"id":"c","task_id":{n},"choices":[{{"text":"{n}"}}]}}' for n in (7, 8, 7)]
    answer = read(events(*chunks, "[DONE]"))
    assert (answer.text, answer.task_id, answer.chunks_ignored) == ("77", "7", 1)


def test_an_id_per_chunk_is_not_interleaving() -> None:
    answer = read(events(*(text_chunk(letter, key=f"k{letter}") for letter in "abc"), "[DONE]"))
    assert (answer.text, answer.chunks_ignored) == ("abc", 0)


@pytest.mark.parametrize(
    ("body", "end", "expected"),
    [
        (events(text_chunk("a", STOP), "[DONE]"), End.COMPLETE, "done_marker"),
        (events(text_chunk("a", STOP)), End.COMPLETE, "finish_reason"),
        (events(text_chunk("a")), End.COMPLETE, "body_end"),
        (events(text_chunk("a")), End.EOF, "cut"),
        (b"", End.TIMEOUT_GAP, "cut"),
    ],
)
def test_how_the_stream_ended(body: bytes, end: End, expected: str) -> None:
    assert read(body, end=end).stream_end == expected


def test_no_stream_end_where_there_was_no_stream() -> None:
    assert read(b'{"choices":[{"text":"a"}]}', kind=JSON, stream=False).stream_end == ""
    assert read(b'{"error":"x"}', kind=JSON, status=500).stream_end == ""


@pytest.mark.parametrize(
    ("text", "visible", "unfinished"),
    [
        ("plain", "plain", False),
        ("<think>a</think>b", "b", False),
        ("a<think>b</think>c<think>d</think>e", "ace", False),
        ("<think>never closed", "", True),
        ("opened in the prompt</think>b", "b", False),
        ("x<think>a", "x", True),
        ("1 < 2 think> so", "1 < 2 think> so", False),
    ],
)
def test_thinking(text: str, visible: str, unfinished: bool) -> None:
    whole = read(events(text_chunk(text, STOP)))
    assert (whole.visible_text, whole.thinking_unfinished, whole.text) == (visible, unfinished, text)
    # The same in chunks of one character: what is visible does not depend on the cuts.
    chunks = read(events(*(text_chunk(char) for char in text), "[DONE]"))
    assert chunks.visible_text == visible
    assert "".join(piece.text for piece in chunks.pieces if piece.visible) == visible


def test_reasoning_fields() -> None:
    answer = read(
        events(
            chat_chunk('{"reasoning_content":"r1"}'),
            chat_chunk('{"reasoning":"r2","content":"c"}'),
            chat_chunk('{"content":null}', STOP),
        )
    )
    assert [(piece.reasoning, piece.text, piece.visible) for piece in answer.pieces] == [
        ("r1", "", False),
        ("r2", "c", True),
    ]
    assert answer.text == "c"


@pytest.mark.parametrize(
    ("body", "headers", "node"),
    [
        (b'{"choices":[{"text":"a","minerAddress":"0xA"}]}', (), "0xA"),
        (b'{"miner_address":"0xB","choices":[{"text":"a"}]}', (), "0xB"),
        (b'{"address":"0xC","choices":[{"text":"a"}]}', (), "0xC"),
        (b'{"choices":[{"text":"a"}]}', ((b"x-miner", b"0xD"),), "0xD"),
        (b'{"choices":[{"text":"a"}]}', (), None),
    ],
)
def test_node_hints(body: bytes, headers: tuple[tuple[bytes, bytes], ...], node: str | None) -> None:
    assert read(body, kind=JSON, headers=headers).node_hint == node


def test_bytes_that_are_no_utf8_are_replaced_and_not_lost() -> None:
    answer = read(b'data: {"choices":[{"text":"a\xff"}]}\n\ndata: [DONE]\n\n')
    assert answer.text == "a\ufffd"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ("boom", "boom"),
        ({"error": "boom"}, "boom"),
        ({"error": {"code": 7, "message": "boom"}}, "7: boom"),
        ({"message": "boom", "type": "t"}, "t: boom"),
        ({"detail": "boom"}, "boom"),
        ({"detail": [{"msg": "m"}]}, '{"detail":[{"msg":"m"}]}'),
        (True, "true"),
    ],
)
def test_error_messages(payload: object, message: str | None) -> None:
    assert error_message(payload) == message
