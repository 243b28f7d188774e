"""Which tasks are looked up, when, and until when: a state machine that neither asks nor reads a clock.

A task is due a grace time after its answer, because slower miners deliver later; an incomplete one is asked again up
to 8 times, 1.5 s apart, as the community's client does, and then ever more rarely until it ends: a task that is stuck
shows only by its age. One whose results are all there is asked once more for the instant of its end. Load from
look-ups is bounded by the profile's share of the requests, drawn by a hash so that every observer of the run would
choose the same, and by a rate.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from loadtest.client.routes import ROUTES
from loadtest.observe import parse
from loadtest.observe.parse import STATUS_ENDED, ParseError, TaskFacts
from loadtest.observe.rows import Row
from loadtest.observe.serving import Serving, Stages
from loadtest.observed import STAGES, Pipeline
from loadtest.records import TaskRecord

ATTEMPTS_MAX = 8
RETRY_NS = 1_500_000_000
LATE_MAX = 8  # tries after that, each twice as long after the last: 3 s, 6 s, ... a quarter of an hour in all
PER_S_MAX = 50  # look-ups of all targets together, retries included
WAITING_MAX = 50_000  # about 55 MB; beyond it a task is given up and said to be
_SECOND_NS = 1_000_000_000
GAP_IDS_MAX = 1_000_000  # ids further apart do not count up
BETWEEN_MAX = 200  # ids between those of our tasks that are asked for at the end


@dataclass(slots=True)
class Lookup:
    """One task to be asked for. Without a task id its session's list is asked and searched for the text."""

    row: Row
    path: str
    as_list: bool
    attempts: int = 0
    facts: TaskFacts | None = None
    facts_wall_ns: int = 0  # when the facts were told
    asked_for_end: bool = False
    stage: int | None = None  # the furthest its task was seen at, an index into STAGES
    error: str = ""


@dataclass(slots=True)
class Ids:
    """The task ids of one session that answers told, unless they do not count up: then none are held."""

    low: int
    high: int
    told: set[int]

    def add(self, number: int) -> None:
        self.low, self.high = min(self.low, number), max(self.high, number)
        if self.high - self.low < GAP_IDS_MAX:
            self.told.add(number)
        else:
            self.told.clear()

    def between(self) -> int:
        """How many ids lie between the first and the last and were not told."""
        return self.high - self.low + 1 - len(self.told) if self.told else 0

    def pick(self, places: Iterable[int]) -> Iterator[int]:
        """Of those ids, in order, the ones at `places`."""
        told = sorted(self.told)
        before = [number - self.low - place for place, number in enumerate(told)]  # untold ids below each told one
        return (told[(k := bisect_right(before, place) - 1)] + 1 + place - before[k] for place in places)


@dataclass(slots=True)
class Counts:
    """What became of the stored requests, for live.json."""

    rows: int = 0
    chosen: int = 0
    requests: int = 0
    complete: int = 0
    incomplete: int = 0
    failed: int = 0
    parse_errors: int = 0


@dataclass(slots=True)
class Lookups:
    """Look-ups waiting for their instant. `routes` maps target to route; `grace_ns` passes before the first try."""

    seed: int
    share_max: float
    grace_ns: int
    routes: Mapping[str, str]
    routers: Mapping[str, str] = field(default_factory=dict)  # target to the router behind it
    counts: Counts = field(default_factory=Counts)
    serving: Serving = field(default_factory=Serving)
    _stages: Stages = field(default_factory=Stages)
    _waiting: list[tuple[int, int, Lookup]] = field(default_factory=list)
    _asked: dict[int, Lookup] = field(default_factory=dict)  # given out, not yet answered, by id()
    _ids: dict[tuple[str, str], Ids] = field(default_factory=dict)  # by router and session
    _order: int = 0  # so that the heap never compares two look-ups
    _next_ns: int = 0

    def offer(self, rows: Iterable[Row], wall_ns: int) -> list[TaskRecord]:
        """Take stored requests; returns records of those that cannot be waited for."""
        given_up = []
        for row in rows:
            self.counts.rows += 1
            self._know(row)
            lookup = self._lookup_of(row)
            if lookup is None or row.done_ns is None or not chosen(row.client_reference, self.seed, self.share_max):
                self.serving.came(row, will_be_looked_up=False)
                continue
            self.serving.came(row, will_be_looked_up=True)
            self.counts.chosen += 1
            if len(self._waiting) >= WAITING_MAX:
                lookup.error = f"not looked up: {WAITING_MAX} tasks were waiting"
                given_up.append(self._record(lookup, wall_ns))
            else:
                self._wait(lookup, row.done_ns + row.clock_offset_ns + self.grace_ns)
        return given_up

    def look_between(self, now_ns: int) -> None:
        """At the end: ask for ids between those of our tasks. A task that was lost or queued twice has one of these.

        So have other people's, so no more than BETWEEN_MAX are asked for, nor more than the share allows.
        """
        targets = {router: target for target, router in reversed(list(self.routers.items())) if target in self.routes}
        sessions = [(router, session, ids) for (router, session), ids in sorted(self._ids.items()) if router in targets]
        total = sum(ids.between() for _, _, ids in sessions)
        most = min(BETWEEN_MAX, int(self.share_max * self.counts.rows), total)
        wanted = [i * total // most for i in range(most)]
        first = 0
        for router, session, ids in sessions:
            end = first + ids.between()
            for number in ids.pick(place - first for place in wanted if first <= place < end):
                lookup = self._lookup_of(Row("", targets[router], session, str(number), None, now_ns, 0))
                if lookup is not None:
                    self._wait(lookup, now_ns)
            first = end

    def _know(self, row: Row) -> None:
        if row.session and row.task_id and row.task_id.isdecimal() and len(row.task_id) < 16:
            key, number = (self.routers.get(row.target, ""), row.session), int(row.task_id)
            self._ids.setdefault(key, Ids(number, number, set())).add(number)

    def take(self, now_ns: int) -> Lookup | None:
        """The next look-up that is due, if the rate allows one now. It is out until `answered`."""
        if now_ns < self._next_ns or not self._waiting or self._waiting[0][0] > now_ns:
            return None
        self._next_ns = now_ns + _SECOND_NS // PER_S_MAX
        self.counts.requests += 1
        lookup = heapq.heappop(self._waiting)[2]
        self._asked[id(lookup)] = lookup
        return lookup

    def next_due_ns(self) -> int | None:
        return max(self._waiting[0][0], self._next_ns) if self._waiting else None

    def answered(
        self, lookup: Lookup, body: Any, kind: str, error: str, now_ns: int, wall_ns: int
    ) -> TaskRecord | None:
        """Take an answer; returns the record when there is nothing more to wait for, else it is asked again."""
        del self._asked[id(lookup)]
        lookup.attempts += 1
        lookup.error = error
        if not error:
            self._read(lookup, body, now_ns, wall_ns)
        if lookup.facts is not None and lookup.facts.complete:
            if (
                lookup.asked_for_end
                or lookup.facts.finished_s is not None
                or lookup.facts.status in (None, STATUS_ENDED)
            ):
                return self._record(lookup, wall_ns)
            lookup.asked_for_end = True
        late = lookup.attempts - ATTEMPTS_MAX
        if late >= 0 and not lookup.asked_for_end:
            if lookup.facts is None or late >= LATE_MAX or not lookup.row.client_reference:
                return self._record(lookup, wall_ns)
            self._wait(lookup, now_ns + (RETRY_NS << (late + 1)))
            return None
        if kind == "not_found" and not lookup.as_list:
            _ask_for_list(lookup)
        self._wait(lookup, now_ns + RETRY_NS)
        return None

    def open_count(self) -> int:
        """Waiting and asked, but for those that have had their tries and are asked rarely: nobody waits for them."""
        waiting = (lookup for _, _, lookup in self._waiting)
        return sum(lookup.attempts < ATTEMPTS_MAX for lookup in (*waiting, *self._asked.values()))

    def pipeline(self, now_ns: int) -> Pipeline:
        """Where the tasks stand that were looked up, those that still are included."""
        now, oldest_ns = [0] * len(STAGES), [0] * len(STAGES)
        for lookup in (*(lookup for _, _, lookup in self._waiting), *self._asked.values()):
            if lookup.stage is not None:
                now[lookup.stage] += 1
                oldest_ns[lookup.stage] = max(oldest_ns[lookup.stage], now_ns - _sent_ns(lookup.row))
        return self._stages.pipeline(now, oldest_ns)

    def give_up(self, why: str, wall_ns: int, *, asked_too: bool = False) -> list[TaskRecord]:
        """Records of all that wait, with what is known of them; those asked only when no answer will be taken."""
        left = [lookup for _, _, lookup in self._waiting]
        self._waiting = []
        if asked_too:
            left += self._asked.values()
            self._asked = {}
        for lookup in left:
            lookup.error = lookup.error or why
        return [self._record(lookup, wall_ns) for lookup in left]

    def _lookup_of(self, row: Row) -> Lookup | None:
        if not row.session or row.target not in self.routes:
            return None
        if row.task_id:
            path = f"/api/v1/tasks/{quote(row.session, safe='')}/{quote(row.task_id, safe='')}"
            return Lookup(row, path, as_list=False)
        route = ROUTES.get(self.routes[row.target])
        if route is None or not route.has_tasks or not row.text_sha256:
            return None
        lookup = Lookup(row, "", as_list=True)
        _ask_for_list(lookup)
        return lookup

    def _wait(self, lookup: Lookup, due_ns: int) -> None:
        self._order += 1
        heapq.heappush(self._waiting, (due_ns, self._order, lookup))

    def _read(self, lookup: Lookup, body: Any, now_ns: int, wall_ns: int) -> None:
        try:
            lookup.facts = _find(lookup.row, body) if lookup.as_list else parse.task(body)
            lookup.facts_wall_ns = wall_ns
        except ParseError as error:
            self.counts.parse_errors += 1
            lookup.error = str(error)
            return
        if lookup.row.client_reference:
            lookup.stage = self._stages.seen(lookup.stage, lookup.facts, now_ns - _sent_ns(lookup.row))

    def _record(self, lookup: Lookup, wall_ns: int) -> TaskRecord:
        facts, row = lookup.facts, lookup.row
        if row.client_reference:
            self.serving.decided(row, facts)
            self._stages.left(lookup.stage)
        complete = facts is not None and facts.complete
        if facts is None:
            self.counts.failed += 1
            facts = TaskFacts(None, False, None, None, None, (), (), ())
        else:
            self.counts.complete += complete
            self.counts.incomplete += not complete
            lookup.error = ""
        return TaskRecord(
            target=row.target,
            session=row.session or "",
            task_id=row.task_id or facts.task_id or "",
            client_reference=row.client_reference,
            looked_up_wall_ns=lookup.facts_wall_ns or wall_ns,
            complete=complete,
            status=facts.status,
            created_s=facts.created_s,
            finished_s=facts.finished_s,
            assigned=facts.assigned,
            miners=facts.miners,
            result_sha256=facts.result_sha256,
            error=lookup.error,
        )


def chosen(client_reference: str, seed: int, share: float) -> bool:
    """Whether a request belongs to the sample: a pure function, uniform over references, nested in `share`."""
    digest = hashlib.sha256(f"{seed}:{client_reference}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _sent_ns(row: Row) -> int:
    """When a request was sent, on the master's clock; at the latest when it was done."""
    return (row.sent_ns or row.done_ns or 0) + row.clock_offset_ns


def _ask_for_list(lookup: Lookup) -> None:
    """Routers that do not know the route of one task may know the list of its session."""
    lookup.as_list = True
    lookup.path = f"/api/v1/tasks/{quote(lookup.row.session or '', safe='')}"


def _find(row: Row, body: Any) -> TaskFacts:
    """The task of a row in its session's list: by id, else the only one that has the text the client got."""
    listed = parse.tasks(body)
    if row.task_id and any(facts.task_id is not None for facts in listed):
        found = [facts for facts in listed if facts.task_id == row.task_id]
    else:
        found = [facts for facts in listed if row.text_sha256 and row.text_sha256 in facts.result_sha256]
    if len(found) == 1:
        return found[0]
    raise ParseError(f"tasks: {len(found) or 'none'} of {len(listed)} listed tasks can be this one")
