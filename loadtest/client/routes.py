"""The routes we load: what a request looks like on the wire and how its answer is read.

Adding a route is adding one class with `name`, `build` and `read`, and its line in ROUTES.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from loadtest.client.answers import Answer, read_answer
from loadtest.client.exchange import Exchange
from loadtest.records import Target

PROMPT_TYPE_RAW = 1  # the client supplies the model's own template
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}
_NOT_FOR_HEADERS = re.compile(r"[^\x20-\x7e]")


class Call(NamedTuple):
    """One turn to send. `timeout_s` is our own total deadline; `host_header` is host and port of the target."""

    messages: tuple[tuple[str, str], ...]  # (role, content), the last one is the user's
    output_tokens_max: int
    stream: bool
    session: str | None
    client_reference: str
    timeout_s: float
    host_header: str


class Route(Protocol):
    """What a class here must offer."""

    @property
    def name(self) -> str: ...

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        """The whole HTTP request. ValueError when a value cannot be sent; the text never shows the key."""

    def read(self, call: Call, exchange: Exchange) -> Answer:
        """The answer, whatever came. Never raises for what the peer sent."""


class Cortensor:
    """A router's own completion route. It keeps no conversation memory, so the history is flattened into the prompt."""

    name = "cortensor"

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        path = "/api/v1/completions" + (f"/{quote(call.session, safe='')}" if call.session is not None else "")
        body = {
            "prompt": flatten(call.messages),
            "prompt_type": PROMPT_TYPE_RAW,
            "prompt_template": "",
            "stream": call.stream,
            "timeout": router_timeout_s(call.timeout_s),
            "max_tokens": call.output_tokens_max,
            "client_reference": call.client_reference,
        }
        return _post(path, body, call, key)

    def read(self, call: Call, exchange: Exchange) -> Answer:
        return read_answer(exchange, stream=call.stream)


class OpenAIChat:
    """Chat completions as OpenAI, vLLM and most gateways serve them."""

    name = "openai-chat"

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        body: dict[str, Any] = {
            "model": target.model,
            "messages": [{"role": role, "content": content} for role, content in call.messages],
            "max_tokens": call.output_tokens_max,
            "stream": call.stream,
        }
        if call.stream:
            body["stream_options"] = {"include_usage": True}
        return _post("/v1/chat/completions", body, call, key)

    def read(self, call: Call, exchange: Exchange) -> Answer:
        return read_answer(exchange, stream=call.stream)


ROUTES: dict[str, Route] = {"cortensor": Cortensor(), "openai-chat": OpenAIChat()}


def flatten(messages: tuple[tuple[str, str], ...]) -> str:
    """A chat as one prompt: a single message verbatim, several as "User: …" lines and an open "Assistant:"."""
    if len(messages) == 1:
        return messages[0][1]
    lines = [f"{SPEAKERS.get(role, role.capitalize())}: {content}" for role, content in messages]
    return "\n".join([*lines, "Assistant:"])


def router_timeout_s(timeout_s: float) -> int:
    """The router's deadline in whole seconds: below ours, so that it is the router who gives up and says so."""
    return max(1, int(max(timeout_s - 5, timeout_s * 0.8)))


def _post(path: str, body: dict[str, Any], call: Call, key: str | None) -> bytes:
    payload = msgspec.json.encode(body)
    headers = {
        "Host": call.host_header,
        "User-Agent": "router-loadtest",
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if call.stream else "application/json",
        "Accept-Encoding": "identity",
        "X-Request-ID": call.client_reference,
        "Content-Length": str(len(payload)),
    }
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for name, value in headers.items():
        if _NOT_FOR_HEADERS.search(value):
            raise ValueError(f"header {name}: holds a character that cannot be sent; use printable ASCII only")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + payload
