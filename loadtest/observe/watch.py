"""The loop of the observer: ask what is due, take what came, write it down, and know when to end.

    running      polls go on, stored requests are turned into look-ups
    looking_up   the manifest says the run is over: polls go on until the last look-up is done or given up
    last_round   every source is asked once more, for the word after the run
    done

One thread decides and writes; threads of `asking` wait for the network. Nothing here may fail because a host does:
an error is an observation and becomes a RouterSample.
"""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from loadtest import runfolder
from loadtest.client.routes import ROUTES
from loadtest.clock import mono_ns, wall_ns
from loadtest.observe import parse
from loadtest.observe.asking import Answer, Askers, Question
from loadtest.observe.lookups import Lookup, Lookups
from loadtest.observe.parse import ParseError
from loadtest.observe.plan import Clients, read_plan
from loadtest.observe.sources import NODES_MAX, NodeSources, Source
from loadtest.observe.store import LiveNodes, LiveRouters, NewRows, Store, source_table, write_live
from loadtest.observed import VERSION, Observed, fitting
from loadtest.records import NodeSnapshot, RouterSample

_SECOND = 1_000_000_000
FOLDER_EVERY_NS = _SECOND // 2  # the manifest's state and new request parts
FLUSH_EVERY_NS = 3 * _SECOND
LIVE_EVERY_NS = 2 * _SECOND
LATE_EVERY_NS = 60 * _SECOND  # at most one gap a minute says that nodes are asked less often than they should be
LAST_ROUND_NS_MAX = 5 * _SECOND
WAIT_S_MAX = 0.2  # a stop request is heeded at least this often
BOARD_THREADS, NODE_THREADS, LOOKUP_THREADS = 2, 4, 4


class Watch:
    """One run's observation. `watch` returns when it is over or `stop` was called; what it saw is then written."""

    def __init__(self, run: Path, host: str | None, environ: Mapping[str, str]) -> None:
        plan = read_plan(run)
        self._run, self._plan = run, plan
        self._clients = Clients(plan, environ)
        stats = self._clients.of(host or plan.host)
        board = Source("leaderboard", stats, "/leaderboard", plan.periods_ns["leaderboard"])
        self._sources = [board, *self._router_sources()]
        self._nodes = NodeSources(stats, plan.periods_ns["reputation"])
        self._lookups = Lookups(plan.seed, plan.lookup_share_max, int(plan.grace_s * _SECOND), plan.routes, plan.urls)
        self._answers: queue.Queue[Answer] = queue.Queue()
        self._board_askers, self._node_askers, self._lookup_askers = (
            Askers(threads, self._answers) for threads in (BOARD_THREADS, NODE_THREADS, LOOKUP_THREADS)
        )
        self._new_rows = NewRows(run)
        self._described: dict[str, tuple[str | None, str | None, int | None]] = {}  # what each node was last said to be
        self._store = Store(run, wall_ns())
        self._live_nodes = LiveNodes()
        self._live_routers = LiveRouters()
        self._parent = os.getppid()
        self._state = "running"
        self._ended_ns = self._last_round_ns = 0
        self._last_round: set[int] = set()  # id() of sources still to be asked once more
        self._stopping = False
        self._every = {"folder": 0, "flush": mono_ns() + FLUSH_EVERY_NS, "live": 0, "late": mono_ns() + LATE_EVERY_NS}

    def stop(self) -> None:
        """End soon with what there is. Safe to call from a signal handler."""
        self._stopping = True

    def watch(self) -> None:
        """Observe until the run and its look-ups are over. Raises OSError when the run folder cannot be written."""
        try:
            while self._state != "done" and not self._stopping:
                self._turn()
            self._state = "done"
            self._store.add(self._lookups.give_up("observation was stopped", wall_ns(), asked_too=True))
        finally:
            for askers in (self._board_askers, self._node_askers, self._lookup_askers):
                askers.end()
            self._clients.close()
            self._note_late_nodes()
            self._store.flush()
        self._write_live()
        for error in self._new_rows.errors:
            print(f"observe: {error}", file=sys.stderr)

    def _turn(self) -> None:
        now = mono_ns()
        if self._is_time("folder", now, FOLDER_EVERY_NS):
            self._read_folder(now)
        self._advance(now)
        self._ask(now)
        if self._is_time("flush", now, FLUSH_EVERY_NS):
            self._store.flush()
        if self._is_time("live", now, LIVE_EVERY_NS):
            self._write_live()
        if self._is_time("late", now, LATE_EVERY_NS):
            self._note_late_nodes()
        self._take_answers(self._wait_s())

    def _is_time(self, name: str, now: int, period_ns: int) -> bool:
        if now < self._every[name]:
            return False
        self._every[name] = now + period_ns
        return True

    def _read_folder(self, now: int) -> None:
        """The state first, then the rows: parts that were there when the run ended are then sure to be read."""
        running = runfolder.read_manifest(self._run).get("state") == "running"
        orphaned = os.getppid() != self._parent  # nobody is left who could end the run
        self._store.add(self._lookups.offer(self._new_rows.take(), wall_ns()))
        if self._state == "running" and (not running or orphaned):
            self._state, self._ended_ns = "looking_up", now
            self._lookups.look_between(now)

    def _advance(self, now: int) -> None:
        if self._state == "looking_up":
            late = now - self._ended_ns >= int(self._plan.lookup_deadline_s * _SECOND)
            if late or not self._lookups.open_count():
                self._store.add(self._lookups.give_up("not complete before the look-up deadline", wall_ns()))
                self._state, self._last_round_ns = "last_round", now
                # The next answer of each source is its last, also one that is on its way.
                self._last_round = {id(source) for source in self._all_sources()}
                self._nodes.hurry(now)
                for source in self._sources:
                    source.next_ns = min(source.next_ns, now)
        if self._state == "last_round" and (not self._last_round or now - self._last_round_ns >= LAST_ROUND_NS_MAX):
            self._state = "done"

    def _ask(self, now: int) -> None:
        for source in self._sources:
            if source.due(now) and self._board_askers.free():
                self._ask_source(source, self._board_askers, now)
        while self._node_askers.free() and (node_source := self._nodes.take(now)) is not None:
            self._ask_source(node_source, self._node_askers, now)
        while self._lookup_askers.free() and (lookup := self._lookups.take(now)) is not None:
            client = self._clients.of(self._plan.urls[lookup.row.target])
            self._lookup_askers.ask(Question(lookup, client, lookup.path))

    def _ask_source(self, source: Source, askers: Askers, now: int) -> None:
        source.asked(now)
        askers.ask(Question(source, source.client, source.path))

    def _wait_s(self) -> float:
        """Until something is due that a thread is free for; an answer ends the wait sooner."""
        due = list(self._every.values())
        if self._board_askers.free():
            due += [source.next_ns for source in self._sources if not source.asking]
        if self._node_askers.free():
            due.append(self._nodes.next_due_ns() or due[0])
        if self._lookup_askers.free():
            due.append(self._lookups.next_due_ns() or due[0])
        return min(WAIT_S_MAX, max(0.001, (min(due) - mono_ns()) / 1e9))

    def _take_answers(self, wait_s: float) -> None:
        try:
            self._take(self._answers.get(timeout=wait_s))
            while True:
                self._take(self._answers.get_nowait())
        except queue.Empty:
            return

    def _take(self, answer: Answer) -> None:
        if isinstance(answer.subject, Lookup):
            self._lookup_askers.had_answer()
            record = self._lookups.answered(
                answer.subject, answer.body, answer.error_kind, answer.error, mono_ns(), answer.wall_ns
            )
            self._store.add([record] if record is not None else [])
            return
        source: Source = answer.subject
        (self._node_askers if source.node else self._board_askers).had_answer()
        self._last_round.discard(id(source))
        error = answer.error
        if not error:
            try:
                _READERS[source.name](self, source, answer)
            except ParseError as mistake:
                error = str(mistake)
        source.answered(error, mono_ns(), answer.wall_ns)
        if source.node:
            self._nodes.wait(source)
        if error:
            self._gap(source, error, answer.wall_ns)

    def _gap(self, source: Source, error: str, at_wall_ns: int) -> None:
        """Store that a source gave nothing, or less than it should have."""
        for target in source.targets or (source.path.lstrip("/"),):
            sample = RouterSample(target=target, source=source.name, observed_wall_ns=at_wall_ns, error=error)
            self._store.add([sample])
        if source.name == "status":
            self._live_routers.add(source.targets, sample)

    def _note_late_nodes(self) -> None:
        """A gap when nodes were asked later than a period after they were due: there are too many for the rate."""
        late = self._nodes.take_late()
        if late:
            target, at_ns = self._nodes.name, wall_ns()
            self._store.add([RouterSample(target=target, source=target, observed_wall_ns=at_ns, error=late)])

    def _leaderboard(self, source: Source, answer: Answer) -> None:
        board = parse.leaderboard(answer.body, answer.wall_ns)
        self._snapshots(board.rows)
        self._nodes.know((row.node_as_seen for row in board.rows), mono_ns())
        if board.errors:  # the other rows are good: the source has answered and does not back off
            self._gap(source, f"{len(board.errors)} of {len(answer.body)} rows: {board.errors[0]}", answer.wall_ns)

    def _reputation(self, source: Source, answer: Answer) -> None:
        self._snapshots([parse.reputation(answer.body, source.name, source.node, answer.wall_ns)])

    def _status(self, source: Source, answer: Answer) -> None:
        samples = [parse.router_status(answer.body, target, answer.wall_ns) for target in source.targets]
        self._store.add(samples)
        self._live_routers.add(source.targets, samples[0])

    def _sessions(self, source: Source, answer: Answer) -> None:
        for target in source.targets:
            self._store.add(parse.sessions(answer.body, target, answer.wall_ns))

    def _miners(self, source: Source, answer: Answer) -> None:
        """What nodes are, when it is told first or changes."""
        found = parse.miners(answer.body, answer.wall_ns)
        for one in found.rows:
            said = (one.operator, one.hardware, one.level)
            has_room = one.node in self._described or len(self._described) < NODES_MAX
            if self._described.get(one.node) != said and has_room:
                self._described[one.node] = said
                self._store.add([one])
        if found.errors:
            self._gap(source, f"{len(found.errors)} entries: {found.errors[0]}", answer.wall_ns)

    def _snapshots(self, rows: list[NodeSnapshot] | tuple[NodeSnapshot, ...]) -> None:
        self._store.add(rows)
        self._live_nodes.add(rows)

    def _router_sources(self) -> list[Source]:
        """Status once per host, as targets that share a router share it; sessions where a target has tasks."""
        hosts: dict[str, list[str]] = {}
        for name, url in self._plan.urls.items():
            hosts.setdefault(url.rstrip("/"), []).append(name)
        sources = []
        for url, names in hosts.items():
            client, periods_ns = self._clients.of(url), self._plan.periods_ns
            sources.append(Source("status", client, "/api/v1/status", periods_ns["status"], targets=tuple(names)))
            able = [name for name in names if (route := ROUTES.get(self._plan.routes[name])) and route.has_tasks]
            if able:
                path = "/api/v1/sessions"
                sources.append(Source("sessions", client, path, periods_ns["sessions"], targets=tuple(able)))
                sources.append(Source("miners", client, "/api/v1/miners", self._plan.miners_ns, targets=tuple(able)))
        return sources

    def _all_sources(self) -> list[Source]:
        return [*self._sources, *self._nodes.all()]

    def _write_live(self) -> None:
        now = wall_ns()
        counts, serving = self._lookups.counts, self._lookups.serving
        nodes = self._live_nodes.table(serving, now)
        shown = fitting(nodes)
        live = Observed(
            schema_version=VERSION,
            written_wall_ns=now,
            state=self._state,
            requests=serving.requests,
            requests_known=serving.known,
            requests_looked_up=serving.looked_up,
            nodes_known=len(nodes),
            nodes_left_out=len(nodes) - len(shown),
            nodes=shown,
            pipeline=self._lookups.pipeline(mono_ns()),
            routers=self._live_routers.table(now),
            sources=source_table(self._all_sources(), now),
            lookups={name: getattr(counts, name) for name in counts.__slots__} | {"open": self._lookups.open_count()},
            nodes_refused=self._nodes.refused,
            damaged_parts=len(self._new_rows.errors),
        )
        write_live(self._run, live)


_READERS: dict[str, Callable[[Watch, Source, Answer], None]] = {
    "leaderboard": Watch._leaderboard,
    "status": Watch._status,
    "sessions": Watch._sessions,
    "miners": Watch._miners,
    "reputation": Watch._reputation,
    "session-reputation": Watch._reputation,
}
