"""The completion routes: what each one takes, which session it means, and the shape in which it answers."""

from __future__ import annotations

import msgspec

from loadtest.simulator.completions import Asked, Desk
from loadtest.simulator.formats import (
    ChatAnswer,
    ChatBody,
    CompletionBody,
    TextAnswer,
    TextBody,
    completion_id,
    envelope,
    error_body,
    estimate_tokens,
    invalid_body,
)
from loadtest.simulator.network import Network
from loadtest.simulator.tasks import SECOND_NS, Task
from loadtest.simulator.wire import Request

Parameters = list[str]  # of a path, in order

_COMPLETION = msgspec.json.Decoder(CompletionBody)
_CHAT = msgspec.json.Decoder(ChatBody)
_TEXT = msgspec.json.Decoder(TextBody)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
X402_USD_MICRO = 1000  # per call: the one price that is published, 0.001 USD


def no_session(session_id: str) -> bytes:
    """The body of a 404. What a real router answers to an unknown session is not documented."""
    return error_body(f"session {session_id} not found", "session_not_found")


class Completions:
    """All routes that make a task."""

    def __init__(self, network: Network, desk: Desk, variants: frozenset[str]) -> None:
        self._network = network
        self._desk = desk
        self._tell_task_id = "no-task-id" not in variants
        self._usage_in_stream = "usage-in-stream" in variants
        self._envelope = "gateway-envelope" in variants

    def router(self, request: Request, parameters: Parameters, route: str = "cortensor") -> None:
        """A router's own route; versions 1 to 3 and the paid one take and give the same."""
        desk = self._desk
        try:
            body = _COMPLETION.decode(request.body)
        except _UNREADABLE as error:
            return desk.refuse(request, route, 422, invalid_body(str(error)))
        named = parameters[0] if parameters else body.session_id
        session_id = None if named is None else str(named)
        if desk.turned_away(request, route, session_id, body.client_reference):
            return
        if session_id is None:
            reason = "session_id: required in the body or in the path"
            return desk.refuse(request, route, 422, invalid_body(reason), body.client_reference)
        session = self._network.sessions.get(session_id)
        if session is None:
            return desk.refuse(request, route, 404, no_session(session_id), body.client_reference)
        asked = Asked(
            request,
            route,
            session,
            body.client_reference,
            estimate_tokens(len(body.prompt)),
            body.max_tokens,
            body.stream,
            body.timeout,
            body.precommit_timeout,
            tell_usage=self._usage_in_stream,
            usage_in_last=True,
        )
        desk.answer(asked, self._of_router)

    def _of_router(self, task: Task) -> TextAnswer:
        name = completion_id("cmpl", task.session, task.task_id)
        task_id = task.task_id if self._tell_task_id else None
        model = task.model if "wrong-model" in task.faults else "default"  # all that real routers say
        return TextAnswer(name, task.created_ns // SECOND_NS, task.finish_reason, model=model, task_id=task_id)

    def paid(self, request: Request, parameters: Parameters) -> None:
        """x402: pay per call. We look whether a payment is there, not at it; the body of the 402 is our guess."""
        if not request.header(b"x-payment"):
            offer = {"scheme": "exact", "maxAmountRequired": str(X402_USD_MICRO), "resource": request.path}
            shape = {"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": [offer]}
            return self._desk.refuse(request, "cortensor-x402", 402, msgspec.json.encode(shape))
        self.router(request, parameters, "cortensor-x402")

    def chat(self, request: Request) -> None:
        """The gateway in front of routers: it picks a session by model, and has no task id to tell."""
        try:
            body = _CHAT.decode(request.body)
        except _UNREADABLE as error:
            return self._desk.refuse(request, "openai-chat", 422, invalid_body(str(error)))

        def shape(task: Task) -> ChatAnswer:
            name = completion_id("chatcmpl", task.session, task.task_id)
            return ChatAnswer(name, task.created_ns // SECOND_NS, task.model, task.finish_reason)

        asked = self._by_model(request, "openai-chat", body)
        if asked is not None:
            self._desk.answer(asked, shape)

    def text(self, request: Request) -> None:
        """`POST /v1/completions`: OpenAI's form, or the hosted gateway's, whose streams we take for the same chunks."""
        route = "cortensor-gateway" if self._envelope else "openai-completions"
        try:
            body = _TEXT.decode(request.body)
        except _UNREADABLE as error:
            return self._desk.refuse(request, route, 422, invalid_body(str(error)))

        def shape(task: Task) -> TextAnswer:
            name = completion_id("cmpl", task.session, task.task_id)
            return TextAnswer(name, task.created_ns // SECOND_NS, task.finish_reason, model=task.model)

        def wrap(data: bytes) -> bytes:
            request_id = request.header(b"x-request-id").decode("latin-1") or "simulated"
            return envelope(request_id, body.model, data) if self._envelope else data

        asked = self._by_model(request, route, body)
        if asked is not None:
            self._desk.answer(asked, shape, wrap)

    def _by_model(self, request: Request, route: str, body: ChatBody | TextBody) -> Asked | None:
        """The request of a route that names a model; None when it has been refused."""
        if self._desk.turned_away(request, route, None, body.client_reference):
            return None
        session = self._desk.session_for(body.model)
        if session is None:
            message = f"model {body.model!r} does not exist; GET /v1/models lists them"
            refusal = self._desk.error(request, route, message, "model_not_found")
            self._desk.refuse(request, route, 404, refusal, body.client_reference)
            return None
        usage = body.stream_options is not None and body.stream_options.include_usage
        return Asked(
            request,
            route,
            session,
            body.client_reference,
            estimate_tokens(body.text_length()),
            body.tokens_max(),
            body.stream,
            tell_usage=usage,
        )
