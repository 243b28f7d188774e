"""The routes we load: what a request looks like on the wire and how its answer is read.

Adding a route is adding one class with what `Route` says, and its line in ROUTES.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from loadtest.client.answers import Answer, read_answer
from loadtest.client.exchange import Exchange
from loadtest.records import Target

ROUTER_INFO = "/api/v1/info"  # tells more than the cheap route that a run asks first
PROMPT_TYPE_RAW = 1  # the client supplies the model's own template
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


class Call(NamedTuple):
    """One turn to send. `timeout_s` is our own total deadline; `host_header` is host and port of the target."""

    messages: tuple[tuple[str, str], ...]  # (role, content), the last one is the user's
    output_tokens_max: int
    stream: bool
    session: str | None
    client_reference: str
    timeout_s: float
    host_header: str
    closes: bool = False  # the connection is closed after the answer, and the peer is told so


class Route(Protocol):
    """What a class here must offer."""

    @property
    def name(self) -> str: ...

    @property
    def keyed_path(self) -> str:
        """A cheap GET of the same API that asks for the key."""

    @property
    def has_tasks(self) -> bool:
        """Each answer is a task of a router's session, which can be looked up afterwards."""

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        """The whole HTTP request. ValueError when a value cannot be sent; the text never shows the key."""

    def read(self, call: Call, exchange: Exchange) -> Answer:
        """The answer, whatever came. Never raises for what the peer sent."""


@dataclass(frozen=True, slots=True)
class Cortensor:
    """A router's own completion route. It keeps no conversation memory, so the history is flattened into the prompt.

    Versions 2 and 3 take and give the same; they keep the prompt off the chain. Stock reverse proxies know no
    version 3: it is their 404 that one gets.
    """

    name: str
    version: int = 1
    session_in_body: bool = False  # else in the path
    keyed_path: str = "/api/v1/status"
    has_tasks: bool = True

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        path = f"/api/v{self.version}/completions"
        body: dict[str, Any] = {
            "prompt": flatten(call.messages),
            "prompt_type": PROMPT_TYPE_RAW,
            "prompt_template": "",
            "stream": call.stream,
            "timeout": router_timeout_s(call.timeout_s),
            "max_tokens": call.output_tokens_max,
            "client_reference": call.client_reference,
        }
        if call.session is not None and self.session_in_body:
            # Sessions are numbers on the chain, and some routers refuse the number as text.
            body["session_id"] = int(call.session) if _WHOLE_NUMBER.fullmatch(call.session) else call.session
        elif call.session is not None:
            path += f"/{quote(call.session, safe='')}"
        return _post(path, body, target, call, key)

    def read(self, call: Call, exchange: Exchange) -> Answer:
        return read_answer(exchange, stream=call.stream)


class OpenAIChat:
    """Chat completions as OpenAI, vLLM and most gateways serve them."""

    name = "openai-chat"
    keyed_path = "/v1/models"
    has_tasks = False

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        messages = [{"role": role, "content": content} for role, content in call.messages]
        body = {"model": target.model, "messages": messages, **_openai_fields(call)}
        return _post("/v1/chat/completions", body, target, call, key)

    def read(self, call: Call, exchange: Exchange) -> Answer:
        return read_answer(exchange, stream=call.stream)


class OpenAICompletions:
    """Text completions as OpenAI and vLLM serve them: the history is flattened into the prompt."""

    name = "openai-completions"
    keyed_path = "/v1/models"
    has_tasks = False

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        body = {"model": target.model, "prompt": flatten(call.messages), **_openai_fields(call)}
        return _post("/v1/completions", body, target, call, key)

    def read(self, call: Call, exchange: Exchange) -> Answer:
        return read_answer(exchange, stream=call.stream)


class CortensorGateway:
    """The hosted gateway: it picks a router and a session by model and puts their answer into an envelope.

    Documented: the request's fields (`stream_options` is none of them) and the envelope. Not documented: what is
    in the envelope's `data`, and how a stream looks. We read `data` as the completion a router gives, and an event
    of a stream as an envelope or as the bare chunk. That is a guess until somebody has seen it.
    """

    name = "cortensor-gateway"
    keyed_path = "/v1/models"
    has_tasks = False

    def build(self, target: Target, call: Call, key: str | None) -> bytes:
        body = {
            "model": target.model,
            "prompt": flatten(call.messages),
            "max_tokens": call.output_tokens_max,
            "stream": call.stream,
        }
        return _post("/v1/completions", body, target, call, key)

    def read(self, call: Call, exchange: Exchange) -> Answer:
        return read_answer(exchange, stream=call.stream, enveloped=True)


ROUTES: dict[str, Route] = {
    "cortensor": Cortensor("cortensor"),
    "cortensor-body": Cortensor("cortensor-body", session_in_body=True),
    "cortensor-v2": Cortensor("cortensor-v2", version=2),
    "cortensor-v3": Cortensor("cortensor-v3", version=3),
    "cortensor-gateway": CortensorGateway(),
    "openai-chat": OpenAIChat(),
    "openai-completions": OpenAICompletions(),
}


def _openai_fields(call: Call) -> dict[str, Any]:
    fields: dict[str, Any] = {"max_tokens": call.output_tokens_max, "stream": call.stream}
    if call.stream:
        fields["stream_options"] = {"include_usage": True}
    return fields


def info_path(route: Route) -> str:
    """The GET that tells most of what stands there; an OpenAI-style API tells its models."""
    return ROUTER_INFO if route.has_tasks else route.keyed_path


def flatten(messages: tuple[tuple[str, str], ...]) -> str:
    """A chat as one prompt: a single message verbatim, several as "User: …" lines and an open "Assistant:"."""
    if len(messages) == 1:
        return messages[0][1]
    lines = [f"{SPEAKERS.get(role, role.capitalize())}: {content}" for role, content in messages]
    return "\n".join([*lines, "Assistant:"])


def router_timeout_s(timeout_s: float) -> int:
    """The router's deadline in whole seconds: below ours, so that it is the router who gives up and says so."""
    return max(1, int(max(timeout_s - 5, timeout_s * 0.8)))


def _post(path: str, body: dict[str, Any], target: Target, call: Call, key: str | None) -> bytes:
    if target.extra_body:
        # What the plan decides is refused when the profile is read; a route's other fields may be replaced.
        body = {**body, **msgspec.json.decode(target.extra_body)}
    payload = msgspec.json.encode(body)
    headers = {
        "Host": call.host_header,
        "User-Agent": "router-loadtest",
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if call.stream else "application/json",
        "Accept-Encoding": "identity",
        "X-Request-ID": call.client_reference,
        "Content-Length": str(len(payload)),
        **dict(target.headers),
    }
    if call.closes:
        headers["Connection"] = "close"
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"header {name}: holds a character that cannot be sent; use printable ASCII only")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + payload
