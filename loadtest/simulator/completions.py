"""From a completion request to an answer under way: reads the body, submits the task, starts the truth of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from loadtest.clock import mono_ns
from loadtest.records import TruthRecord
from loadtest.simulator.answers import Stream, Whole
from loadtest.simulator.control import pieces_of
from loadtest.simulator.formats import (
    TIMEOUT_S_DEFAULT,
    ChatAnswer,
    ChatBody,
    CompletionBody,
    RouterAnswer,
    Usage,
    completion_id,
    error_body,
    estimate_tokens,
    invalid_body,
)
from loadtest.simulator.network import Network, Refusal, Submitted
from loadtest.simulator.pace import Pace
from loadtest.simulator.sessions import Session
from loadtest.simulator.tasks import SECOND_NS
from loadtest.simulator.wire import Request

Parameters = list[str]  # of a path, in order

_COMPLETION = msgspec.json.Decoder(CompletionBody)
_CHAT = msgspec.json.Decoder(ChatBody)


def no_session(session_id: str) -> bytes:
    """The body of a 404. What a real router answers to an unknown session is not documented."""
    return error_body(f"session {session_id} not found", "session_not_found")


class Desk:
    """Takes completion requests of both routes. `wall_offset_ns` turns monotonic instants into the machine's."""

    def __init__(
        self,
        network: Network,
        pace: Pace,
        wall_offset_ns: int,
        record: Callable[[TruthRecord], None],
        *,
        tell_task_id: bool,
    ) -> None:
        self._network = network
        self._pace = pace
        self._wall_offset_ns = wall_offset_ns
        self._record = record
        self._tell_task_id = tell_task_id

    def router(self, request: Request, parameters: Parameters) -> None:
        try:
            body = _COMPLETION.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._refuse(request, "cortensor", 422, invalid_body(str(error)))
        session_id = parameters[0] if parameters else body.session_id
        if session_id is None:
            reason = "session_id: required in the body or in the path"
            return self._refuse(request, "cortensor", 422, invalid_body(reason))
        session = self._network.sessions.get(str(session_id))
        if session is None:
            return self._refuse(request, "cortensor", 404, no_session(str(session_id)), body.client_reference)
        try:
            submitted = self._network.submit(
                request.received_ns + self._wall_offset_ns,
                session.session_id,
                prompt_tokens=estimate_tokens(len(body.prompt)),
                tokens_max=body.max_tokens,
                precommit_timeout_s=body.precommit_timeout,
                stream=body.stream,
            )
        except Refusal as refusal:
            return self._refuse(
                request, "cortensor", refusal.status, error_body(str(refusal), refusal.code), body.client_reference
            )
        task = submitted.task
        answer = RouterAnswer(
            completion_id("cmpl", session.session_id, task.task_id),
            task.created_ns // SECOND_NS,
            task.task_id if self._tell_task_id else None,
            task.finish_reason,
        )
        truth = self._truth(request, "cortensor", submitted, body.client_reference)
        usage = Usage(estimate_tokens(len(body.prompt)), task.tokens_told)
        if body.stream:
            pieces = self._pieces(submitted)
            Stream(
                self._pace,
                request.connection,
                truth,
                answer.frames(),
                pieces,
                submitted.offsets_ns,
                body.timeout,
                self._record,
            )
        else:
            whole = answer.whole(self._pieces(submitted), usage)
            Whole(self._pace, request.connection, truth, whole, submitted.offsets_ns[-1], body.timeout, self._record)

    def chat(self, request: Request) -> None:
        """The gateway in front of routers: it picks a session by model, and has no task id to tell."""
        try:
            body = _CHAT.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._refuse(request, "openai-chat", 422, invalid_body(str(error)))
        session = self._session_for(body.model)
        if session is None:
            message = f"model {body.model!r} does not exist; GET /v1/models lists them"
            refusal = error_body(message, "model_not_found")
            return self._refuse(request, "openai-chat", 404, refusal, body.client_reference)
        prompt_tokens = estimate_tokens(body.text_length())
        try:
            submitted = self._network.submit(
                request.received_ns + self._wall_offset_ns,
                session.session_id,
                prompt_tokens=prompt_tokens,
                tokens_max=body.tokens_max(),
                stream=body.stream,
            )
        except Refusal as refusal:
            return self._refuse(
                request, "openai-chat", refusal.status, error_body(str(refusal), refusal.code), body.client_reference
            )
        task = submitted.task
        answer = ChatAnswer(
            completion_id("chatcmpl", session.session_id, task.task_id),
            task.created_ns // SECOND_NS,
            task.model,
            task.finish_reason,
        )
        usage = Usage(prompt_tokens, task.tokens_told)
        truth = self._truth(request, "openai-chat", submitted, body.client_reference)
        if body.stream:
            told = usage if body.stream_options is not None and body.stream_options.include_usage else None
            pieces = self._pieces(submitted)
            Stream(
                self._pace,
                request.connection,
                truth,
                answer.frames(told),
                pieces,
                submitted.offsets_ns,
                TIMEOUT_S_DEFAULT,
                self._record,
            )
        else:
            whole = answer.whole(self._pieces(submitted), usage)
            Whole(
                self._pace, request.connection, truth, whole, submitted.offsets_ns[-1], TIMEOUT_S_DEFAULT, self._record
            )

    def _refuse(
        self, request: Request, route: str, status: int, refusal: bytes, client_reference: str | None = None
    ) -> None:
        """Answer at once, and leave a row in the truth log: it accounts for every request that had the key."""
        at_ns = mono_ns()
        request.connection.send(status, refusal)
        self._record(
            TruthRecord(
                client_reference=client_reference or _request_id(request),
                route=route,
                session=None,
                task_id=None,
                received_ns=request.received_ns,
                headers_ns=at_ns,
                done_ns=mono_ns(),
                http_status=status,
            )
        )

    def _session_for(self, model: str) -> Session | None:
        """The least used session of a model; "" and "default" mean any model."""
        able = [s for s in self._network.sessions.values() if model in ("", "default", s.model)]
        return min(able, key=lambda s: s.tasks_started, default=None)

    def _pieces(self, submitted: Submitted) -> tuple[str, ...]:
        """The pieces that will come; after the last of them there may be a wait for one that does not."""
        returned = submitted.task.returned
        pieces = ("",) if returned is None else pieces_of(self._network, submitted.task, returned)
        return pieces[: len(submitted.offsets_ns)]

    def _truth(self, request: Request, route: str, submitted: Submitted, client_reference: str) -> TruthRecord:
        """The truth known at acceptance; the answer adds its instants."""
        task = submitted.task
        return TruthRecord(
            client_reference=client_reference or _request_id(request),
            route=route,
            session=task.session,
            task_id=str(task.task_id),
            received_ns=request.received_ns,
            tokens=task.tokens,
            assigned=tuple(work.node.key for work in task.works),
            returned_node=None if task.returned is None else task.returned.node.key,
            chosen_because=task.chosen_because,
            charge=submitted.charge,
            faults=task.faults,
        )


def _request_id(request: Request) -> str:
    return request.header(b"x-request-id").decode("latin-1")
