"""From a completion request to an answer under way: submits the task, starts the truth of it, applies the faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.clock import mono_ns
from loadtest.records import TruthRecord
from loadtest.simulator.answers import Scripted, Stream, Whole
from loadtest.simulator.control import pieces_of
from loadtest.simulator.faults import FAULTS, Faults
from loadtest.simulator.formats import TIMEOUT_S_DEFAULT, Answer, Usage, envelope, envelope_error, error_body
from loadtest.simulator.network import Network, Refusal, Submitted
from loadtest.simulator.pace import Pace
from loadtest.simulator.script import HTML_200, altered_text, lay_out
from loadtest.simulator.sessions import Session
from loadtest.simulator.statuses import nginx_page
from loadtest.simulator.tasks import PRECOMMIT_TIMEOUT_S, Task
from loadtest.simulator.wire import HTML, JSON, Request
from loadtest.simulator.words import answer_pieces

RETRY_AFTER_S = 2
_NAMES = tuple(FAULTS)
# Faults of an answer's way from the router to the client; all others are the network's (`Network.submit`).
WIRE_FAULTS = tuple(
    name
    for name in _NAMES[_NAMES.index("buffering-proxy") :]
    if FAULTS[name].kind == "task" and name not in ("429-storm", "bad-gateway")
)
WHOLE_FAULTS = frozenset(  # those that an answer in one piece can show
    {"connection-reset", "reset-before-headers", "only-eos", "unfinished-think", "gzip", "html-200"}
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A completion request of any route, understood."""

    request: Request
    route: str
    session: Session
    reference: str
    prompt_tokens: int
    tokens_max: int
    stream: bool
    timeout_s: float = TIMEOUT_S_DEFAULT  # of the body
    precommit_timeout_s: float = PRECOMMIT_TIMEOUT_S
    tell_usage: bool = False  # in a stream
    usage_in_last: bool = False  # rather than in a chunk of its own


class Desk:
    """Answers what routes have understood. `wall_offset_ns` turns monotonic instants into the machine's."""

    def __init__(
        self,
        network: Network,
        pace: Pace,
        wall_offset_ns: int,
        record: Callable[[TruthRecord], None],
        faults: Faults,
        proxy_timeout_s: float,
    ) -> None:
        self._network = network
        self._pace = pace
        self._wall_offset_ns = wall_offset_ns
        self._record = record
        self._faults = faults
        self._wire_faults = tuple(name for name in WIRE_FAULTS if faults.is_on(name))
        self._proxy_timeout_s = proxy_timeout_s
        self._requests = 0

    def turned_away(self, request: Request, route: str, session_id: str | None, reference: str) -> bool:
        """The refusals that come before a task is made: answered here, if one strikes."""
        self._requests += 1
        key = reference or _request_id(request) or str(self._requests)
        about = (session_id,) if session_id is not None else ()
        if self._faults.strikes("bad-gateway", key, *about):
            self.refuse(request, route, 502, nginx_page(502), reference, HTML, struck=("bad-gateway",))
        elif self._faults.strikes("429-storm", key, *about):
            body = self.error(request, route, "too many requests", "rate_limit_exceeded")
            headers = b"retry-after: %d\r\n" % RETRY_AFTER_S
            self.refuse(request, route, 429, body, reference, headers=headers, struck=("429-storm",))
        else:
            return False
        return True

    def answer(self, asked: Asked, shape: Callable[[Task], Answer], wrap: Callable[[bytes], bytes] = bytes) -> None:
        """Submit the task and begin its answer. `wrap` is put around a whole answer's JSON."""
        try:
            submitted = self._network.submit(
                asked.request.received_ns + self._wall_offset_ns,
                asked.session.session_id,
                prompt_tokens=asked.prompt_tokens,
                tokens_max=asked.tokens_max,
                precommit_timeout_s=asked.precommit_timeout_s,
                stream=asked.stream,
            )
        except Refusal as refusal:
            body = self.error(asked.request, asked.route, str(refusal), refusal.code)
            self.refuse(asked.request, asked.route, refusal.status, body, asked.reference)
            return
        task = submitted.task
        struck = self._struck(task, asked.stream)
        pieces, offsets_ns = self._pieces(submitted), submitted.offsets_ns
        if struck:
            pieces, offsets_ns = altered_text(struck, pieces, offsets_ns)
        truth = self._truth(asked, submitted, struck)
        usage = Usage(asked.prompt_tokens, task.tokens_told)
        answer = shape(task)
        if asked.stream and not {"json-for-stream", "html-200"}.intersection(struck):
            frames = answer.frames(usage if asked.tell_usage else None, usage_in_last=asked.usage_in_last)
            connection = asked.request.connection
            if not struck:
                Stream(self._pace, connection, truth, frames, pieces, offsets_ns, asked.timeout_s, self._record)
                return
            script = lay_out(
                struck,
                frames,
                pieces,
                offsets_ns,
                lambda name, count: self._faults.choose(name, task.key, count),
                second=answer.of_second_node().frames(),
                second_pieces=answer_pieces(self._network.seed, task.session, str(task.serial), "second", task.tokens),
                usage_chunk=answer.usage_chunk(usage),
            )
            Scripted(self._pace, connection, truth, script, asked.timeout_s, self._record)
            return
        page = "html-200" in struck
        Whole(
            self._pace,
            asked.request.connection,
            truth,
            HTML_200 if page else wrap(answer.whole(pieces, usage)),
            offsets_ns[0] if page or "reset-before-headers" in struck else offsets_ns[-1],
            asked.timeout_s,
            self._record,
            content_type=HTML if page else JSON,
            struck=struck,
            proxy_timeout_s=self._proxy_timeout_s,
        )

    def error(self, request: Request, route: str, message: str, code: str) -> bytes:
        """An error object, in the gateway's envelope where that is asked for."""
        if route != "cortensor-gateway":
            return error_body(message, code)
        return envelope(_request_id(request) or "simulated", "", None, envelope_error(message, code))

    def refuse(
        self,
        request: Request,
        route: str,
        status: int,
        refusal: bytes,
        reference: str = "",
        content_type: bytes = JSON,
        headers: bytes = b"",
        struck: tuple[str, ...] = (),
    ) -> None:
        """Answer at once, and leave a row in the truth log: it accounts for every request that had the key."""
        at_ns = mono_ns()
        request.connection.send(status, refusal, content_type, headers)
        self._record(
            TruthRecord(
                client_reference=reference or _request_id(request),
                route=route,
                session=None,
                task_id=None,
                received_ns=request.received_ns,
                headers_ns=at_ns,
                done_ns=mono_ns(),
                http_status=status,
                faults=(*_of_connection(request), *struck),
            )
        )

    def session_for(self, model: str) -> Session | None:
        """The least used session of a model; "" and "default" mean any model."""
        able = [s for s in self._network.sessions.values() if model in ("", "default", s.model)]
        return min(able, key=lambda s: s.tasks_started, default=None)

    def _struck(self, task: Task, stream: bool) -> tuple[str, ...]:
        """The faults that strike the way of this answer to its client."""
        if not self._wire_faults:
            return ()
        able = self._wire_faults if stream else [name for name in self._wire_faults if name in WHOLE_FAULTS]
        return tuple(name for name in able if self._faults.strikes(name, task.key, task.session))

    def _pieces(self, submitted: Submitted) -> Sequence[str]:
        """The pieces that will come; after the last of them there may be a wait for one that does not."""
        returned = submitted.task.returned
        pieces = ("",) if returned is None else pieces_of(self._network, submitted.task, returned)
        return pieces[: len(submitted.offsets_ns)]

    def _truth(self, asked: Asked, submitted: Submitted, struck: tuple[str, ...]) -> TruthRecord:
        """The truth known at acceptance; the answer adds its instants."""
        task = submitted.task
        return TruthRecord(
            client_reference=asked.reference or _request_id(asked.request),
            route=asked.route,
            session=task.session,
            task_id=str(task.task_id),
            received_ns=asked.request.received_ns,
            tokens=task.tokens,
            assigned=tuple(work.node.key for work in task.works),
            returned_node=None if task.returned is None else task.returned.node.key,
            chosen_because=task.chosen_because,
            charge=submitted.charge,
            faults=(*_of_connection(asked.request), *task.faults, *struck),
        )


def _of_connection(request: Request) -> tuple[str, ...]:
    """What struck the connection struck the first request on it."""
    struck, request.connection.faults = request.connection.faults, ()
    return struck


def _request_id(request: Request) -> str:
    return request.header(b"x-request-id").decode("latin-1")
