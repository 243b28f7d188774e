"""What a model said in one response: text by read, how it ended, what it cost, who said it.

One reader for all routes: text completions (`choices[0].text`) and chat (`delta` or `message`), streamed or not.
The payload decides the shape, not the request: routers answer plain JSON where a stream was asked for.
Everything that goes into a row is bounded here, so that no peer can write what a row cannot hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from loadtest.client.exchange import End, Exchange
from loadtest.client.payload import Payload, ToolCallDelta, bare, count, enveloped_or_bare, error_message, named
from loadtest.client.sse import Decoder

Reader = Callable[[bytes], Payload | None]

NODE_HEADERS = (b"x-node", b"x-node-address", b"x-miner", b"x-miner-address")
_new = tuple.__new__
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


class Piece(NamedTuple):
    """What one chunk said and the index of the read that completed it."""

    text: str
    reasoning: str  # told in a field of its own
    visible: bool  # `text` has something outside <think> blocks
    read: int
    tool_call: str = ""  # names and arguments of functions, as far as this chunk told them


@dataclass(slots=True)
class ToolCall:
    """A function that the model asks for; its arguments are JSON as the model wrote it, whole or not."""

    id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.parts)


@dataclass(slots=True)
class Answer:
    """Everything read from one response. Defaults mean "not told"."""

    pieces: list[Piece] = field(default_factory=list)
    streamed: bool = False  # it came as server-sent events
    first_event_read: int | None = None
    finish_reason: str | None = None
    stream_end: str = ""  # "done_marker", "finish_reason", "body_end", "cut"; "" when it was no stream
    end_read: int | None = None  # the read that brought the [DONE] or the finish reason
    usage_prompt_tokens: int | None = None
    usage_completion_tokens: int | None = None
    task_id: str | None = None
    node_hint: str | None = None
    model: str | None = None  # that says it made this
    error: str | None = None  # the text of an error object inside a 200
    problem: str = ""  # "not_json", "no_choices", "json_for_stream", "sse_for_json"
    text: str = ""  # the answer as the router tells it, <think> blocks included, separate reasoning fields not
    visible_text: str = ""
    thinking_unfinished: bool = False
    tool_calls: dict[int, ToolCall] = field(default_factory=dict)  # by the index that the server gives them
    choice_index: int | None = None  # the choice that is followed: the first one told
    choice_chunks: int = 0  # chunks of it, those without text included
    last_choice_read: int | None = None
    chunks_ignored: int = 0  # of other miners and other choices, interleaved in the same response
    events_unreadable: int = 0


def read_answer(exchange: Exchange, *, stream: bool, enveloped: bool = False) -> Answer:
    """The answer in an exchange, whatever its end; an empty one for a status but 2xx. Never raises for what came.

    `enveloped`: a gateway may have put an envelope around the answer, and around each event of a stream.
    """
    answer = Answer()
    told = dict(reversed(exchange.headers))  # the first of a name counts
    if not told.keys().isdisjoint(NODE_HEADERS):
        answer.node_hint = next((value for name in NODE_HEADERS if (value := _text(told.get(name)))), None)
    read_payload = enveloped_or_bare if enveloped else bare
    if exchange.status is None or not 200 <= exchange.status < 300:
        return answer
    start = exchange.body.lstrip()[:1]
    events_announced = b"event-stream" in told.get(b"content-type", b"").lower()
    if start == b"{" or not (events_announced or stream):
        _read_document(answer, exchange, read_payload)
        if stream and not answer.problem:
            answer.problem = "json_for_stream"
    elif stream or events_announced:
        _read_stream(answer, exchange, read_payload)
        if not stream:
            answer.problem = "sse_for_json"
    _tell_thinking(answer)
    return answer


def _text(value: bytes | None) -> str | None:
    return named(value.decode("latin-1").strip()) if value else None


def _read_document(answer: Answer, exchange: Exchange, read_payload: Reader) -> None:
    if exchange.end is not End.COMPLETE:
        return
    payload = read_payload(exchange.body)
    if payload is None:
        answer.problem = "not_json"
        return
    answer.error = error_message(payload.error)
    if not payload.choices:
        answer.problem = "" if answer.error else "no_choices"
    _take(answer, payload, exchange.read_at(len(exchange.body)))


def _read_stream(answer: Answer, exchange: Exchange, read_payload: Reader) -> None:
    answer.streamed = True
    decoder = Decoder()
    read = 0
    ends = [each.body_end for each in exchange.reads]
    payloads: list[tuple[int, Payload]] = []
    for event in decoder.feed(exchange.body):
        end_offset = event.end_offset
        while ends[read] < end_offset:
            read += 1
        if answer.first_event_read is None:
            answer.first_event_read = read
        payload = read_payload(event.data)
        if payload is None:
            if event.data.strip() == b"[DONE]":
                answer.stream_end, answer.end_read = "done_marker", read
                break
            if event.event == "error":
                answer.error = event.data.decode("utf-8", "replace") or "error event"
            else:
                answer.events_unreadable += 1
        else:
            payloads.append((read, payload))
            if payload.error or event.event == "error":
                answer.error = error_message(payload.error) or event.data.decode("utf-8", "replace")
    for read, payload in _of_one_miner(answer, payloads):
        _take(answer, payload, read)
    if not answer.stream_end:
        if answer.finish_reason:
            answer.stream_end = "finish_reason"
        else:
            answer.stream_end = "body_end" if exchange.end is End.COMPLETE else "cut"


def _of_one_miner(answer: Answer, payloads: list[tuple[int, Payload]]) -> list[tuple[int, Payload]]:
    """Streams of several miners may be interleaved in one response: follow the first and count the rest."""
    keys = [payload.id if payload.task_id is None else payload.task_id for _, payload in payloads]
    if len(set(keys)) < 2:
        return payloads
    given = [key for key in keys if key is not None]
    several = len(set(given)) > 1
    if several and all(payload.task_id is None for _, payload in payloads) and len(set(given)) == len(given):
        several = False  # a server that gives every chunk an id of its own
    if not several:
        return payloads
    ours = [pair for pair, key in zip(payloads, keys, strict=True) if key is None or key == given[0]]
    answer.chunks_ignored = len(payloads) - len(ours)
    return ours


def _take(answer: Answer, payload: Payload, read: int) -> None:
    if payload.task_id is not None:
        answer.task_id = named(payload.task_id)
    if answer.model is None and isinstance(payload.model, str):
        answer.model = named(payload.model)
    if payload.usage is not None:
        answer.usage_prompt_tokens = count(payload.usage.prompt_tokens)
        answer.usage_completion_tokens = count(payload.usage.completion_tokens)
    choice = payload.choices[0] if payload.choices else None
    if answer.node_hint is None and not answer.pieces:
        # Told with the first text or not at all; asking every chunk would cost a fifth of the reading.
        answer.node_hint = named(payload.node() or (choice.node() if choice is not None else None))
    if choice is None:
        return
    if answer.choice_index is None:
        answer.choice_index = choice.index
    elif choice.index is not None and choice.index != answer.choice_index:
        answer.chunks_ignored += 1
        return
    answer.choice_chunks += 1
    answer.last_choice_read = read
    said = choice.delta or choice.message
    text = choice.text or ""
    reasoning = tool_call = ""
    if said is not None:
        text = text or said.content or ""
        reasoning = said.reasoning_content or said.reasoning or ""
        if said.tool_calls:
            tool_call = _take_tool_calls(answer, said.tool_calls)
    if text or reasoning or tool_call:
        # Piece(...) would cost twice as much, and there is one for each chunk.
        answer.pieces.append(_new(Piece, (text, reasoning, bool(text), read, tool_call)))
    if choice.finish_reason and answer.finish_reason is None:
        answer.finish_reason = named(choice.finish_reason)
        if answer.end_read is None:
            answer.end_read = read


def _take_tool_calls(answer: Answer, deltas: list[ToolCallDelta]) -> str:
    """Add what a chunk tells of tool calls to those of the same index; return the text it brought."""
    brought = []
    for place, delta in enumerate(deltas):
        call = answer.tool_calls.setdefault(place if delta.index is None else delta.index, ToolCall())
        call.id = call.id or delta.id or ""
        function = delta.function
        if function is None:
            continue
        if function.name and not call.name:
            call.name = function.name
            brought.append(function.name)
        if function.arguments:
            call.parts.append(function.arguments)
            brought.append(function.arguments)
    return "".join(brought)


def _tell_thinking(answer: Answer) -> None:
    """Text between <think> and </think> is reasoning; the tags may be cut anywhere by chunks."""
    answer.text = answer.visible_text = "".join(piece.text for piece in answer.pieces)
    if "think>" not in answer.text:
        return
    # Some templates open the thinking in the prompt, so that the answer only closes it.
    before, closed, _ = answer.text.partition("</think>")
    opened_before = len(before + closed) if closed and "<think>" not in before else 0
    hidden = [(0, opened_before)]
    hidden += [match.span() for match in _THINKING.finditer(answer.text, opened_before)]
    answer.thinking_unfinished = answer.text.rfind("<think>") > answer.text.rfind("</think>")
    shown = bytearray(b"\1" * len(answer.text))
    for start, end in hidden:
        shown[start:end] = bytes(end - start)
    answer.visible_text = "".join(char for char, show in zip(answer.text, shown, strict=True) if show)
    position = 0
    for index, piece in enumerate(answer.pieces):
        end = position + len(piece.text)
        answer.pieces[index] = piece._replace(visible=any(shown[position:end]))
        position = end
