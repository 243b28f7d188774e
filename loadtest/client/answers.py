"""What a model said in one response: text by read, how it ended, what it cost, who said it.

One reader for all routes: text completions (`choices[0].text`) and chat (`delta` or `message`), streamed or not.
The payload decides the shape, not the request: routers answer plain JSON where a stream was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from loadtest.client.exchange import End, Exchange
from loadtest.client.sse import Decoder

NODE_HEADERS = (b"x-node", b"x-node-address", b"x-miner", b"x-miner-address")
_new = tuple.__new__
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


class Piece(NamedTuple):
    """Text of one chunk and the index of the read that completed it."""

    text: str
    reasoning: str  # told in a field of its own
    visible: bool  # `text` has something outside <think> blocks
    read: int


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
    error: str | None = None  # the text of an error object inside a 200
    problem: str = ""  # "not_json", "no_choices", "json_for_stream", "sse_for_json"
    text: str = ""  # the answer as the router tells it, <think> blocks included, separate reasoning fields not
    visible_text: str = ""
    thinking_unfinished: bool = False
    chunks_ignored: int = 0  # of other miners, interleaved in the same response
    events_unreadable: int = 0
    data_left: bool = False  # an event was begun and never finished


# Decoded JSON has no cycles, so the garbage collector need not look at it.


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Named(msgspec.Struct, gc=False):
    miner_address: str | None = None
    miner_address_camel: str | None = msgspec.field(default=None, name="minerAddress")
    address: str | None = None

    def node(self) -> str | None:
        return self.miner_address or self.miner_address_camel or self.address


class _Choice(_Named, gc=False):
    text: str | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Payload(_Named, gc=False):
    id: str | int | None = None
    task_id: str | int | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Payload).decode


def read_answer(exchange: Exchange, *, stream: bool) -> Answer:
    """The answer in an exchange, whatever its end; an empty one for a status but 2xx. Never raises for what came."""
    answer = Answer()
    told = dict(reversed(exchange.headers))  # the first of a name counts
    answer.node_hint = next((value for name in NODE_HEADERS if (value := _text(told.get(name)))), None)
    if exchange.status is None or not 200 <= exchange.status < 300:
        return answer
    start = exchange.body.lstrip()[:1]
    events_announced = b"event-stream" in told.get(b"content-type", b"").lower()
    if start == b"{" or not (events_announced or stream):
        _read_document(answer, exchange)
        if stream and not answer.problem:
            answer.problem = "json_for_stream"
    elif stream or events_announced:
        _read_stream(answer, exchange)
        if not stream:
            answer.problem = "sse_for_json"
    _tell_thinking(answer)
    return answer


def error_message(payload: Any) -> str | None:
    """The readable part of an error as routers and gateways send it, or None when there is none."""
    if not payload:
        return None
    if isinstance(payload, dict):
        inner = payload.get("error") or payload.get("detail")
        if isinstance(inner, (dict, str)):
            return error_message(inner)
        told = [payload[key] for key in ("code", "type", "message") if isinstance(payload.get(key), (str, int))]
        if told:
            return ": ".join(str(part) for part in told)
    return payload if isinstance(payload, str) else msgspec.json.encode(payload).decode()


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1").strip() or None if value else None


def _read_document(answer: Answer, exchange: Exchange) -> None:
    if exchange.end is not End.COMPLETE:
        return
    payload = _payload(exchange.body)
    if payload is None:
        answer.problem = "not_json"
        return
    answer.error = error_message(payload.error)
    if not payload.choices:
        answer.problem = "" if answer.error else "no_choices"
    _take(answer, payload, exchange.read_at(len(exchange.body)))


def _read_stream(answer: Answer, exchange: Exchange) -> None:
    answer.streamed = True
    decoder = Decoder()
    read = 0
    ends = [each.body_end for each in exchange.reads]
    payloads: list[tuple[int, _Payload]] = []
    for event in decoder.feed(exchange.body):
        end_offset = event.end_offset
        while ends[read] < end_offset:
            read += 1
        if answer.first_event_read is None:
            answer.first_event_read = read
        payload = _payload(event.data)
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
    answer.data_left = decoder.flush()
    for read, payload in _of_one_miner(answer, payloads):
        _take(answer, payload, read)
    if not answer.stream_end:
        if answer.finish_reason:
            answer.stream_end = "finish_reason"
        else:
            answer.stream_end = "body_end" if exchange.end is End.COMPLETE else "cut"


def _of_one_miner(answer: Answer, payloads: list[tuple[int, _Payload]]) -> list[tuple[int, _Payload]]:
    """Streams of several miners may be interleaved in one response: follow the first and count the rest."""
    keys = [payload.id if payload.task_id is None else payload.task_id for _, payload in payloads]
    if len(set(keys)) < 2:
        return payloads
    named = [key for key in keys if key is not None]
    several = len(set(named)) > 1
    if several and all(payload.task_id is None for _, payload in payloads) and len(set(named)) == len(named):
        several = False  # a server that gives every chunk an id of its own
    if not several:
        return payloads
    ours = [pair for pair, key in zip(payloads, keys, strict=True) if key is None or key == named[0]]
    answer.chunks_ignored = len(payloads) - len(ours)
    return ours


def _payload(data: bytes) -> _Payload | None:
    try:
        return _decode(data)
    except UnicodeDecodeError:
        # A model that cuts a character in two is read as browsers read it, with a replacement character.
        return _payload(data.decode("utf-8", "replace").encode())
    except msgspec.MsgspecError:
        return None


def _take(answer: Answer, payload: _Payload, read: int) -> None:
    if payload.task_id is not None:
        answer.task_id = str(payload.task_id)
    if payload.usage is not None:
        answer.usage_prompt_tokens = payload.usage.prompt_tokens
        answer.usage_completion_tokens = payload.usage.completion_tokens
    choice = payload.choices[0] if payload.choices else None
    if answer.node_hint is None and not answer.pieces:
        # Told with the first text or not at all; asking every chunk would cost a fifth of the reading.
        answer.node_hint = payload.node() or (choice.node() if choice is not None else None)
    if choice is None:
        return
    said = choice.delta or choice.message or _Delta()
    text = choice.text or said.content or ""
    reasoning = said.reasoning_content or said.reasoning or ""
    if text or reasoning:
        # Piece(...) would cost twice as much, and there is one for each chunk.
        answer.pieces.append(_new(Piece, (text, reasoning, bool(text), read)))
    if choice.finish_reason and answer.finish_reason is None:
        answer.finish_reason = choice.finish_reason
        if answer.end_read is None:
            answer.end_read = read


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
