"""One conversation's way through its turns: send, wait, think, and one row for every turn whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from loadtest.client.answers import Answer
from loadtest.client.errortext import without_key
from loadtest.client.exchange import Deadlines, End, Endpoint, Exchange
from loadtest.client.outcomes import finish
from loadtest.client.reactor import Reactor
from loadtest.client.routes import ROUTES, Call
from loadtest.records import AnswerText, Outcome, RequestRecord, cancelled_by_member
from loadtest.spool import Body, Finished, Started, Text
from loadtest.swarm.alarm import sleep_until
from loadtest.swarm.ledger import Ledger
from loadtest.swarm.recorder import Recorder
from loadtest.traffic.plan import Plan
from loadtest.traffic.schedule import ConversationShape, Schedule

BODY_BYTES_MAX = 64 << 10
MODELS_MAX = 200  # combinations counted by a worker: a server that names a new model each time must not fill our memory
BODIES_PER_OUTCOME_MAX = 200
RESPONSE_BYTES_MAX = 64 << 20
TEXT_CHARACTERS_MAX = 500_000  # of each field of a kept text: three of them fit into an entry of the spool
CONNECT_S = 10.0
LEAD_NS = 1_000_000  # before a turn is due its greenlet is awake and its row stored: only the send is left to do


class Prepared(NamedTuple):
    """A request built ahead of its time."""

    call: Call
    request: bytes


class Access(NamedTuple):
    """How one target is reached: where, and with which key (never logged, never stored)."""

    endpoint: Endpoint
    key: str | None


class Turns:
    """Sends the turns of conversations over one reactor and writes their rows.

    `began` is told of every turn that is being sent, `seen` of every finished row (live statistics); `clock_offset_ns`
    gives what to add to our monotonic clock to get the master's; `count_tokens` counts the answer's tokens in the
    plan's encoding.
    """

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        *,
        worker: int,
        reactor: Reactor,
        recorder: Recorder,
        ledger: Ledger,
        access: Mapping[str, Access],
        count_tokens: Callable[[str], int],
        began: Callable[[RequestRecord], None],
        seen: Callable[[RequestRecord], None],
        clock_offset_ns: Callable[[], int],
    ) -> None:
        self._plan = plan
        self._schedule = schedule
        self._worker = worker
        self._reactor = reactor
        self._recorder = recorder
        self._ledger = ledger
        self._access = access
        self._count_tokens = count_tokens
        self._began = began
        self._seen = seen
        self._clock_offset_ns = clock_offset_ns
        self._bodies: Counter[str] = Counter()
        self.models: Counter[tuple[str, str, str, str]] = Counter()  # target, session, model asked for, model told
        self.t0_ns = 0
        self.end_ns = 0  # turns due from here on are not reached

    def begin(self, plan: Plan, t0_ns: int) -> None:
        """Fix the start on our monotonic clock, and with it the end."""
        self._plan = plan
        self.t0_ns = t0_ns
        self.end_ns = t0_ns + plan.horizon_us * 1000

    def prepare(self, shape: ConversationShape, turn: int, answers: Sequence[str] = ()) -> Prepared:
        """Build a turn's request. It costs up to milliseconds for a long prompt, so it is done ahead of need.

        `answers` are the texts received so far; only a profile whose history is "received" uses them.
        """
        target = shape.target
        access = self._access[target.name]
        call = Call(
            messages=self._schedule.messages(shape, turn, answers),
            output_tokens_max=shape.turns[turn].output_tokens_max,
            stream=shape.stream,
            session=shape.session,
            client_reference=f"{self._plan.run}.{shape.index}.{turn}",
            timeout_s=target.timeout_s,
            host_header=access.endpoint.authority,
            closes=not shape.keeps_connections,
        )
        return Prepared(call, ROUTES[target.route].build(target, call, access.key))

    def converse(
        self,
        shape: ConversationShape,
        due_ns: int,
        first: Prepared,
        pause_until: Callable[[int], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Send all turns of a conversation whose first one is due at `due_ns`, and write a row for each.

        Later turns are due at the previous done plus the think time, also after an answer that the member broke off.
        `pause_until` sleeps and may be killed; after a failure, at the end of the run or once `stopping`, the
        remaining turns are `not_reached`.
        """
        at_ns, prepared = due_ns, first
        answers: list[str] = []
        reached = 0  # turns that have a row: `_send` writes one even when this greenlet is killed in it
        try:
            while True:
                reached += 1
                record, answer = self._send(shape, reached - 1, at_ns, prepared)
                answers.append(answer.text)
                went_on = record.outcome == Outcome.OK or cancelled_by_member(record.outcome, record.error_kind)
                if reached == len(shape.turns) or not went_on or record.done_ns is None:
                    return
                next_ns = record.done_ns + shape.turns[reached].think_us * 1000
                if next_ns >= self.end_ns or stopping():
                    return
                prepared = self.prepare(shape, reached, answers)
                pause_until(next_ns - LEAD_NS)
                at_ns = next_ns
        finally:
            self.give_up(shape, reached, at_ns)

    def drop(self, shape: ConversationShape, due_ns: int, reason: str) -> None:
        """An arrival that cannot start: its first turn is `dropped`, the others are not reached."""
        self._end(replace(self._row(shape, 0, due_ns), outcome=Outcome.DROPPED.value, error_kind=reason))
        self.give_up(shape, 1, due_ns)

    def give_up(self, shape: ConversationShape, first: int, at_ns: int) -> None:
        """Rows for the turns from `first` on, which will not be sent; `at_ns` is when the conversation was last due."""
        for turn in range(first, len(shape.turns)):
            self._end(replace(self._row(shape, turn, at_ns), outcome=Outcome.NOT_REACHED.value))

    def _row(self, shape: ConversationShape, turn: int, at_ns: int) -> RequestRecord:
        return self._plan.row(
            shape,
            turn,
            worker=self._worker,
            seq=self._ledger.next_seq(),
            t0_ns=self.t0_ns,
            at_ns=at_ns,
            clock_offset_ns=self._clock_offset_ns(),
        )

    def _send(
        self, shape: ConversationShape, turn: int, at_ns: int, prepared: Prepared
    ) -> tuple[RequestRecord, Answer]:
        started = self._row(shape, turn, at_ns)
        self._recorder.write(Started(started))
        self._ledger.started()
        self._began(started)
        timeout_s, planned = shape.target.timeout_s, shape.turns[turn]
        endpoint = self._access[shape.target.name].endpoint
        exchange = Exchange(
            endpoint=endpoint if shape.keeps_connections else endpoint._replace(kept=False),
            request=prepared.request,
            deadlines=Deadlines(connect_s=CONNECT_S, first_byte_s=timeout_s, gap_s=timeout_s, total_s=timeout_s),
            response_bytes_max=RESPONSE_BYTES_MAX,
            cancel_after_chunks=planned.cancel_after_chunks or None if shape.stream else None,
            cancel_after_s=planned.cancel_after_us / 1e6 or None,
        )
        try:
            sleep_until(at_ns)
            self._reactor.run(exchange)
        except BaseException:
            exchange.end = exchange.end or End.CANCELLED  # killed in the last millisecond before its instant
            raise
        finally:
            # Also when this greenlet is being killed: what had arrived by then is the row.
            ended = self._ended(started, prepared.call, exchange)
        return ended

    def _ended(self, started: RequestRecord, call: Call, exchange: Exchange) -> tuple[RequestRecord, Answer]:
        answer = ROUTES[started.route].read(call, exchange)
        record = finish(started, call, exchange, answer, self._count_tokens)
        self._end(record)
        if answer.model is not None:
            said = (record.target, record.session or "", record.model, answer.model)
            if said in self.models or len(self.models) < MODELS_MAX:
                self.models[said] += 1
        key = self._access[started.target].key
        keep_body = record.outcome != Outcome.OK and exchange.body
        if keep_body and self._bodies[record.outcome] < BODIES_PER_OUTCOME_MAX:
            self._bodies[record.outcome] += 1
            # Struck out before it is cut, else a key on the edge would stay in part.
            body = without_key(exchange.body, key)[:BODY_BYTES_MAX]
            self._recorder.write(Body(record.worker, record.seq, record.outcome, body))
        if self._plan.save_text and answer.pieces:
            self._recorder.write(Text(text_of(record, answer, key)))
        return record, answer

    def _end(self, record: RequestRecord) -> None:
        self._recorder.write(Finished(record))
        self._ledger.ended(record.outcome)
        self._seen(record)


def text_of(record: RequestRecord, answer: Answer, key: str | None) -> AnswerText:
    """What the answer said, the key struck out, cut to what an entry of the spool can hold."""

    def kept(text: str) -> str:
        return without_key(text.encode(), key).decode()[:TEXT_CHARACTERS_MAX]

    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.tool_calls.values()]
    return AnswerText(
        worker=record.worker,
        seq=record.seq,
        text=kept(answer.text),
        reasoning=kept("".join(piece.reasoning for piece in answer.pieces)),
        tool_calls=kept(msgspec.json.encode(calls).decode()) if calls else "",
    )
