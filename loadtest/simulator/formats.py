"""Bodies of the two completion routes: what a client may send, and the bytes around each piece of an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from loadtest.simulator.tasks import PRECOMMIT_TIMEOUT_S

# Server-side defaults and limits are not documented; these are ours.
TOKENS_MAX_DEFAULT = 1024
TIMEOUT_S_DEFAULT = 300.0
DONE = b"data: [DONE]\n\n"

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class CompletionBody(msgspec.Struct):
    """Body of `POST /api/v1/completions[/{sid}]`. Fields that clients send and that change nothing here are ignored."""

    prompt: str
    session_id: int | str | None = None
    stream: bool = False
    timeout: Seconds = TIMEOUT_S_DEFAULT
    precommit_timeout: Seconds = PRECOMMIT_TIMEOUT_S
    max_tokens: Positive = TOKENS_MAX_DEFAULT
    client_reference: str = ""


class TextBody(msgspec.Struct):
    """Body of `POST /v1/completions`, of OpenAI's clients and of the hosted gateway's."""

    model: str
    prompt: str | list[str]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    client_reference: str = ""

    def tokens_max(self) -> int:
        return self.max_tokens or TOKENS_MAX_DEFAULT

    def text_length(self) -> int:
        return len(self.prompt) if isinstance(self.prompt, str) else sum(map(len, self.prompt))


class Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class ChatBody(msgspec.Struct):
    """Body of `POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    client_reference: str = ""

    def tokens_max(self) -> int:
        return self.max_completion_tokens or self.max_tokens or TOKENS_MAX_DEFAULT

    def text_length(self) -> int:
        return sum(len(m.content) for m in self.messages if isinstance(m.content, str))


@dataclass(frozen=True, slots=True)
class Frames:
    """How one answer looks on the wire: `before` + JSON string + `after` per piece, `head` once, `tail` at the end."""

    head: bytes
    before: bytes
    after: bytes
    tail: bytes


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int

    def shape(self) -> dict[str, int]:
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


def estimate_tokens(characters: int) -> int:
    """Prompt tokens by rule of thumb. A router's `usage` is not to be trusted either; service times need no more."""
    return max(1, characters // 4)


@lru_cache(maxsize=1024)
def json_string(piece: str) -> bytes:
    """A piece as JSON string. Pieces come from a small vocabulary, so this is nearly always a look-up."""
    return msgspec.json.encode(piece)


def _event(shape: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(shape) + b"\n\n"


_GAP = "\x00piece\x00"
_GAP_JSON = msgspec.json.encode(_GAP)


def _split(shape: dict[str, Any]) -> tuple[bytes, bytes]:
    """The bytes before and after the one string of `shape` that is _GAP."""
    before, _, after = _event(shape).partition(_GAP_JSON)
    return before, after


class TextAnswer:
    """The documented legacy text completion, of a router and of OpenAI alike: the text is in `choices[0].text`.

    `task_id` None: an older router that does not tell it, or a server that has none.
    """

    def __init__(
        self,
        completion_id: str,
        created_s: int,
        finish_reason: str,
        *,
        model: str = "default",
        task_id: int | None = None,
    ) -> None:
        self._finish_reason = finish_reason
        # On real routers "default" is all that the model's field says.
        self._top: dict[str, Any] = {
            "id": completion_id,
            "object": "text_completion",
            "created": created_s,
            "model": model,
        }
        if task_id is not None:
            self._top["task_id"] = task_id

    def _shape(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return {**self._top, "choices": [choice]}

    def frames(self, usage: Usage | None = None, *, usage_in_last: bool = False) -> Frames:
        """With `usage`: in the last chunk, or as OpenAI has it in a chunk of its own and null in those before it."""
        null = {"usage": None} if usage is not None and not usage_in_last else {}
        before, after = _split({**self._shape(_GAP, None), **null})
        last = {**self._shape("", self._finish_reason), **null}
        if usage is None:
            tail = _event(last)
        elif usage_in_last:
            tail = _event({**last, "usage": usage.shape()})
        else:
            tail = _event(last) + b"data: " + self.usage_chunk(usage) + b"\n\n"
        return Frames(b"", before, after, tail + DONE)

    def usage_chunk(self, usage: Usage) -> bytes:
        """A chunk without choices."""
        return msgspec.json.encode({**self._top, "choices": [], "usage": usage.shape()})

    def whole(self, pieces: Sequence[str], usage: Usage) -> bytes:
        shape = self._shape("".join(pieces), self._finish_reason)
        return msgspec.json.encode({**shape, "usage": usage.shape()})

    def of_second_node(self) -> TextAnswer:
        """The same for another node's stream: under an id of its own. Which keys real routers give it is not known."""
        return TextAnswer(f"{self._top['id']}-2", self._top["created"], self._finish_reason, model=self._top["model"])


class ChatAnswer:
    """The OpenAI chat completion, as the hosted gateway is reported to answer."""

    def __init__(self, completion_id: str, created_s: int, model: str, finish_reason: str) -> None:
        self._finish_reason = finish_reason
        self._top: dict[str, Any] = {"id": completion_id, "created": created_s, "model": model}

    def frames(self, usage: Usage | None = None, *, usage_in_last: bool = False) -> Frames:
        """With `usage`: `stream_options.include_usage`, a chunk without choices before [DONE] and null before it."""

        def shape(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            chunk = {**self._top, "object": "chat.completion.chunk", "choices": [choice]}
            return chunk if usage is None else {**chunk, "usage": None}

        before, after = _split(shape({"content": _GAP}, None))
        tail = _event(shape({}, self._finish_reason))
        if usage is not None:
            tail += b"data: " + self.usage_chunk(usage) + b"\n\n"
        return Frames(_event(shape({"role": "assistant", "content": ""}, None)), before, after, tail + DONE)

    def whole(self, pieces: Sequence[str], usage: Usage) -> bytes:
        message = {"role": "assistant", "content": "".join(pieces)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        return msgspec.json.encode(
            {**self._top, "object": "chat.completion", "choices": [choice], "usage": usage.shape()}
        )

    def usage_chunk(self, usage: Usage) -> bytes:
        """A chunk without choices."""
        shape = {**self._top, "object": "chat.completion.chunk", "choices": [], "usage": usage.shape()}
        return msgspec.json.encode(shape)

    def of_second_node(self) -> ChatAnswer:
        return ChatAnswer(f"{self._top['id']}-2", self._top["created"], self._top["model"], self._finish_reason)


Answer = TextAnswer | ChatAnswer


def completion_id(prefix: str, session: str, task_id: int) -> str:
    """An id that says nothing of session and task: else a client of an older router could read the task id here."""
    digest = hashlib.blake2b(f"{session}/{task_id}".encode(), digest_size=12).hexdigest()
    return f"{prefix}-{digest}"


def error_body(message: str, code: str, kind: str = "invalid_request_error") -> bytes:
    """The error object of router and OpenAI routes. Clients read `error.message`; the rest is OpenAI's habit."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def envelope(request_id: str, model: str, data: bytes | None, error: bytes | None = None) -> bytes:
    """The hosted gateway's envelope. Documented are its fields; that `data` is a completion is our guess."""
    shape = {
        "request_id": request_id,
        "status": "ok" if error is None else "failed",
        "model": model,
        "router_pool": "simulated",
        "data": None if data is None else msgspec.Raw(data),
        "error": None if error is None else msgspec.Raw(error),
    }
    return msgspec.json.encode(shape)


def envelope_error(message: str, code: str) -> bytes:
    return msgspec.json.encode({"code": code, "message": message, "details": {}})


def invalid_body(reason: str) -> bytes:
    """422 as FastAPI writes it: what a malformed body got on the gateway."""
    return msgspec.json.encode({"detail": [{"type": "value_error", "loc": ["body"], "msg": reason}]})
