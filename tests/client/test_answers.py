"""Reading answers: miners, keys, hints, thinking."""

from __future__ import annotations

import pytest
from exchanges import JSON, exchange
from streams import STOP, STREAMS, chat_chunk, events, text_chunk

from loadtest.client.answers import Answer, read_answer
from loadtest.client.exchange import End
from loadtest.client.payload import error_message


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


def called(answer: Answer) -> list[tuple[int, str, str, str]]:
    return [(index, call.id, call.name, call.arguments) for index, call in answer.tool_calls.items()]


def test_tool_calls_are_put_together_by_index() -> None:
    answer = read(
        events(
            chat_chunk('{"role":"assistant","content":null}'),
            chat_chunk(
                '{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}'
            ),
            chat_chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"x\\":"}}]}'),
            chat_chunk('{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}'),
            chat_chunk('{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}'),
            chat_chunk("{}", '"tool_calls"'),
            "[DONE]",
        )
    )
    assert called(answer) == [(0, "a", "f", '{"x":1}'), (1, "b", "g", "{}")]
    # What the model wrote is content when it is written, though no text that anybody sees.
    assert [piece.tool_call for piece in answer.pieces] == ["f", '{"x":', "g{}", "1}"]
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    assert not any(piece.visible for piece in answer.pieces)


def test_tool_calls_of_an_answer_in_one_piece() -> None:
    calls = '[{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"name":"g"}},{"id":"c"}]'
    answer = read(f'{{"choices":[{{"message":{{"tool_calls":{calls}}}}}]}}'.encode(), kind=JSON, stream=False)
    assert called(answer) == [(0, "a", "f", "{}"), (1, "b", "g", ""), (2, "c", "", "")]


def test_other_choices_of_the_same_stream_are_not_mixed_in() -> None:
    chunk = '{{"id":"c","choices":[{{"index":{},"text":"{}"}}]}}'
    answer = read(events(chunk.format(0, "a"), chunk.format(1, "Z"), chunk.format(0, "b"), "[DONE]"))
    assert (answer.text, answer.choice_chunks, answer.chunks_ignored) == ("ab", 2, 1)


INNER = '{"id":"c","choices":[{"text":"hi","finish_reason":"stop"}],"usage":{"completion_tokens":3}}'


def enveloped(data: str, status: str = "ok", error: str = "null") -> str:
    return f'{{"request_id":"r","status":"{status}","model":"m","router_pool":"p","data":{data},"error":{error}}}'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (enveloped(INNER).encode(), JSON),
        (INNER.encode(), JSON),  # no envelope after all
        (events(enveloped(INNER), "[DONE]"), "text/event-stream"),
        (events(INNER, "[DONE]"), "text/event-stream"),
    ],
)
def test_the_gateways_envelope_is_taken_off(body: bytes, kind: str) -> None:
    answer = read_answer(exchange(body, kind=kind), stream=kind != JSON, enveloped=True)
    assert (answer.text, answer.finish_reason, answer.usage_completion_tokens) == ("hi", "stop", 3)
    assert (answer.error, answer.problem, answer.events_unreadable) == (None, "", 0)


@pytest.mark.parametrize(
    ("body", "error", "problem"),
    [
        (enveloped("{}", "failed", '{"code":"no_capacity","message":"busy"}'), "no_capacity: busy", ""),
        (enveloped(INNER, "failed", "null"), "status failed", ""),
        (enveloped("null", "ok", '{"message":"odd"}'), "odd", ""),
        (enveloped("{}"), None, "no_choices"),
        (enveloped('"text"'), None, "no_choices"),
        (enveloped("null"), None, "no_choices"),
        ("[1]", None, "not_json"),
        ('{"status":7}', None, "not_json"),
    ],
)
def test_what_else_an_envelope_may_hold(body: str, error: str | None, problem: str) -> None:
    answer = read_answer(exchange(body.encode(), kind=JSON), stream=False, enveloped=True)
    assert (answer.error, answer.problem) == (error, problem)


def test_half_a_surrogate_pair_is_replaced_and_the_rest_kept() -> None:
    # As a peer sends it that cuts an emoji by UTF-16 units; a whole pair and an escaped backslash are left alone.
    text = r"a\ud83db \\ud800 \ud83d\ude00 \uDE00"
    answer = read(f'data: {{"choices":[{{"text":"{text}"}}]}}\n\ndata: [DONE]\n\n'.encode())
    assert answer.text == "a\ufffdb \\ud800 \U0001f600 \ufffd"


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("12", 12),
        ("12.0", 12),
        ('"12"', 12),
        ("0", 0),
        ("-1", None),
        ("1.5", None),
        ('"many"', None),
        ("null", None),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("9" * 30, None),
        ("1e300", None),
        ('"' + "9" * 5000 + '"', None),
        ('"³"', None),
    ],
)
def test_token_counts_that_cannot_be_are_not_told(told: str, known: int | None) -> None:
    answer = read(f'{{"choices":[{{"text":"a"}}],"usage":{{"completion_tokens":{told}}}}}'.encode(), kind=JSON)
    assert (answer.text, answer.usage_completion_tokens) == ("a", known)


def test_names_are_cut_to_what_a_row_should_hold() -> None:
    long = "x" * 100_000
    answer = read(
        f'{{"task_id":"{long}","miner_address":"{long}","choices":[{{"text":"a","finish_reason":"{long}"}}]}}'.encode(),
        kind=JSON,
    )
    assert [len(told or "") for told in (answer.task_id, answer.node_hint, answer.finish_reason)] == [200, 200, 200]


@pytest.mark.parametrize("depth", [10, 900, 5_000, 100_000])
def test_brackets_without_end_stop_nobody(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    errors = '{"error":' * depth + "1" + "}" * depth
    for body in (f'{{"error":{nested}}}', errors, nested):
        answer = read(events(body, "[DONE]"))
        assert answer.stream_end == "done_marker"
        assert read(body.encode(), kind=JSON, stream=False).text == ""


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
