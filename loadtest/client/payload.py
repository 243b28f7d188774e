"""The JSON of one answer or one chunk: its shape, and how it is read when it is not quite JSON.

Every shape a route of ours can give is one struct, because decoding into a known shape is what makes reading chunks
cheap. Fields that are not named here are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
COUNT_MAX = 2**63 - 1  # of Parquet and of the spool
NAME_LENGTH_MAX = 200  # of ids, nodes and reasons, which a peer could make as long as it likes
_ERROR_DEPTH_MAX = 4  # {"error": {"error": ...}}

# A lone half of a surrogate pair, as peers write it that cut text by UTF-16; other escapes are passed over whole.
_SURROGATES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

# Decoded JSON has no cycles, so the garbage collector need not look at it.


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A whole tool call, or a piece of the one with the same index."""

    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class Said(msgspec.Struct, gc=False):
    """The `delta` or `message` of a chat."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class _Named(msgspec.Struct, gc=False):
    miner_address: str | None = None
    miner_address_camel: str | None = msgspec.field(default=None, name="minerAddress")
    address: str | None = None

    def node(self) -> str | None:
        return self.miner_address or self.miner_address_camel or self.address


class Choice(_Named, gc=False):
    index: int | None = None
    text: str | None = None
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct, gc=False):
    # Some servers give counts as 12.0 or "12"; that is no reason to lose the text of the chunk.
    prompt_tokens: int | float | str | None = None
    completion_tokens: int | float | str | None = None


class Payload(_Named, gc=False):
    """A completion, a chat completion, a chunk of either, or an error object."""

    id: str | int | None = None
    task_id: str | int | None = None
    model: Any = None  # a name, where a server keeps to the form; it must not cost the text of a chunk
    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


class _Envelope(msgspec.Struct, gc=False):
    """What the hosted gateway puts around an answer, with `request_id`, `model` and `router_pool` beside."""

    status: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    error: Any = None
    choices: msgspec.Raw = msgspec.Raw(b"")


_decode_payload = msgspec.json.Decoder(Payload).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def bare(data: bytes) -> Payload | None:
    """The payload as it stands; None when it is none."""
    try:
        return _decode_payload(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode(data, _decode_payload)


def enveloped_or_bare(data: bytes) -> Payload | None:
    """The payload in a gateway's envelope, or as it stands when there is no envelope around it.

    An envelope that says `failed` is an error whatever else it holds. The shape of `data` is not documented; it is
    read as a completion (see `routes.CortensorGateway`).
    """
    envelope = _decode(data, _decode_envelope)
    if envelope is None:
        return None
    failed = (envelope.status or "").lower() in ("failed", "error")
    if failed or envelope.error:
        return Payload(error=envelope.error or f"status {named(envelope.status)}")
    if bytes(envelope.choices) or not bytes(envelope.data):
        return bare(data)
    return bare(bytes(envelope.data)) or Payload()


def _decode(data: bytes, decode: Callable[[bytes], T]) -> T | None:
    try:
        return decode(data)
    except UnicodeDecodeError:
        # A model that cuts a character in two is read as browsers read it, with a replacement character.
        return _decode(data.decode("utf-8", "replace").encode(), decode)
    except msgspec.MsgspecError:
        mended = _SURROGATES.sub(lambda match: rb"\ufffd" if match["lone"] else match[0], data)
        return _decode(mended, decode) if mended != data else None
    except RecursionError:
        return None  # thousands of brackets


def count(told: int | float | str | None) -> int | None:
    """A number of tokens as some server tells it; None for what cannot be one or does not fit into a row."""
    if isinstance(told, str):
        told = int(told) if told.isascii() and told.isdigit() and len(told) < 19 else None
    if told is None or not 0 <= told <= COUNT_MAX or told != int(told):
        return None
    return int(told)


def named(told: str | int | None) -> str | None:
    """An id, a node or a reason as a row can hold it; None for nothing."""
    return str(told)[:NAME_LENGTH_MAX] if told not in (None, "") else None


def error_message(payload: Any) -> str | None:
    """The readable part of an error as routers and gateways send it, or None when there is none."""
    for _ in range(_ERROR_DEPTH_MAX):
        inner = (payload.get("error") or payload.get("detail")) if isinstance(payload, dict) else None
        if not isinstance(inner, (dict, str)):
            break
        payload = inner
    if not payload:
        return None
    if isinstance(payload, dict):
        told = [payload[key] for key in ("code", "type", "message") if isinstance(payload.get(key), (str, int))]
        if told:
            return ": ".join(str(part) for part in told)
    try:
        return payload if isinstance(payload, str) else msgspec.json.encode(payload).decode()
    except RecursionError:
        return "an error of thousands of brackets"
