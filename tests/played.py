"""A run in virtual time: the simulator's machine without HTTP, stored in the run folder that a real run leaves.

Our side is a client that sends at Poisson instants and gets each answer when its tokens are there. What the network
says goes through the shapes of its routes (simulator/control.py) and the observer's own parsers, so the checks read
the same tables as after a run over HTTP and nothing of the simulator's truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from loadtest.observe import parse
from loadtest.observe.lookups import Lookups
from loadtest.observe.rows import Row
from loadtest.records import (
    ChargeRecord,
    NodeDescription,
    NodeSnapshot,
    RequestRecord,
    RouterSample,
    SessionSample,
    TaskRecord,
)
from loadtest.runfolder import write_manifest, write_part
from loadtest.simulator import control
from loadtest.simulator.faults import Faults
from loadtest.simulator.network import Network, Refusal, Submitted
from loadtest.simulator.scenario import Scenario, load_scenario
from loadtest.simulator.tasks import NEVER_NS, SECOND_NS
from loadtest.traffic.tokens import count_tokens, load_encoding

START_NS = 1_750_000_000 * SECOND_NS
WALL_MINUS_MONO_NS = 1_749_000_000_123_456_789
TIMEOUT_NS = 120 * SECOND_NS
TARGET = "main"
URL = "http://127.0.0.1:5010"


@dataclass(frozen=True, slots=True)
class Play:
    """What is played. `settle_s` passes between the last request and the last poll."""

    seconds: float = 1200.0
    rate_per_s: float = 2.5
    poll_s: float = 15.0
    node_poll_s: float = 60.0
    settle_s: float = 400.0
    tokens_max: int = 64
    history_s: float = 1800.0
    scenario: str = "small"
    bill: bool = False  # whether the network's charges are in the folder, as an indexer would tell them
    workers: int = 1  # take turns in sending
    names_models: bool = False  # whether every answer names its model, or says "default"
    changes: dict[str, Any] = field(default_factory=dict)


DEFAULT = Play()


def play(folder: Path, seed: int, faults: Sequence[str] = (), plan: Play = DEFAULT) -> Path:
    """Play a run and store it as a recorded one; returns its folder."""
    Player(folder, seed, faults, plan).play()
    return folder


class Player:
    """One run under way."""

    def __init__(self, folder: Path, seed: int, faults: Sequence[str], plan: Play) -> None:
        self.folder, self.seed, self.plan = folder, seed, plan
        scenario: Scenario = msgspec.structs.replace(
            load_scenario(plan.scenario), history_s=plan.history_s, **plan.changes
        )
        self.network = Network(scenario, seed, START_NS, faults=Faults.read([*scenario.faults, *faults], seed))
        self.rng = Random(f"{seed}/played")
        self.encoding = load_encoding("cl100k_base")
        self.requests: list[RequestRecord] = []
        self.models: Counter[tuple[int, str, str]] = Counter()  # worker, session and model told
        self.snapshots: list[NodeSnapshot] = []
        self.descriptions: list[NodeDescription] = []
        self.sessions: list[SessionSample] = []
        self.router: list[RouterSample] = []
        self.tasks: list[TaskRecord] = []
        self.lookups = Lookups(seed, 1.0, 3 * SECOND_NS, {TARGET: "cortensor"}, {TARGET: URL})

    def play(self) -> None:
        plan, end_ns = self.plan, START_NS + round(self.plan.seconds * SECOND_NS)
        due: list[tuple[int, int]] = [(0, START_NS), (1, START_NS)]  # kind of poll, next instant
        send_ns = self._next(START_NS)
        last_ns = end_ns + round(plan.settle_s * SECOND_NS)
        while True:
            kind, poll_ns = min(due, key=lambda each: each[1])
            self._look_up(min(send_ns if send_ns < end_ns else last_ns, poll_ns, last_ns))
            if send_ns < end_ns and send_ns <= poll_ns:
                self._send(send_ns)
                send_ns = self._next(send_ns)
            elif poll_ns < last_ns:
                self._poll(poll_ns, nodes=bool(kind))
                period_s = plan.node_poll_s if kind else plan.poll_s
                due[kind] = (kind, poll_ns + round(period_s * SECOND_NS))
            else:
                break
        self.lookups.look_between(last_ns)
        while self.lookups.open_count():
            self._look_up(self.lookups.next_due_ns() or 0)
        self.tasks += self.lookups.give_up("not complete before the look-up deadline", self.network.now_ns)
        end_ns = max(last_ns, self.network.now_ns)
        self._poll(end_ns, nodes=False)
        self._poll(end_ns, nodes=True)
        self._store()

    def _next(self, now_ns: int) -> int:
        return now_ns + round(self.rng.expovariate(self.plan.rate_per_s) * SECOND_NS)

    # Our side.

    def _send(self, now_ns: int) -> None:
        session = self.rng.choice(sorted(self.network.sessions))
        prompt_tokens = self.rng.randint(20, 400)
        seq = len(self.requests)
        worker = seq % self.plan.workers
        common: dict[str, Any] = {
            "run": "r1",
            "worker": worker,
            "seq": seq,
            "arrival": seq,
            "conversation": f"c{seq}",
            "turn": 0,
            "turns_planned": 1,
            "persona": "quick",
            "target": TARGET,
            "route": "cortensor",
            "model": "",
            "session": session,
            "client_reference": f"r1-{worker}-{seq}",
            "phase": "measure",
            "scheduled_ns": now_ns - WALL_MINUS_MONO_NS,
            "prompt_tokens_planned": prompt_tokens,
            "output_tokens_max": self.plan.tokens_max,
            "stream": True,
            "sent_ns": now_ns - WALL_MINUS_MONO_NS,
            "sent_last_ns": now_ns - WALL_MINUS_MONO_NS,
        }
        try:
            submitted = self.network.submit(
                now_ns, session, prompt_tokens=prompt_tokens, tokens_max=self.plan.tokens_max, stream=True
            )
        except Refusal as refusal:
            done = {"done_ns": now_ns + SECOND_NS // 100 - WALL_MINUS_MONO_NS, "http_status": refusal.status}
            self.requests.append(RequestRecord(outcome="server_error", **common, **done))
            return
        row = RequestRecord(**common, **self._answer(submitted, now_ns, prompt_tokens, worker))
        self.requests.append(row)
        done_ns = (row.done_ns or 0) + WALL_MINUS_MONO_NS
        told = Row(row.client_reference, TARGET, session, row.task_id, None, done_ns, 0)
        self.tasks += self.lookups.offer([told], now_ns)

    def _answer(self, submitted: Submitted, now_ns: int, prompt_tokens: int, worker: int) -> dict[str, Any]:
        """The fields of a row that its answer decides."""
        task, offsets = submitted.task, submitted.offsets_ns
        told = {"task_id": str(task.task_id)} if offsets[0] < NEVER_NS else {}
        mono_ns = now_ns - WALL_MINUS_MONO_NS
        if task.returned is None or offsets[-1] > TIMEOUT_NS:
            return {"outcome": "client_timeout", "done_ns": mono_ns + TIMEOUT_NS, "http_status": 200, **told}
        text = control.text_of(self.network, task, task.returned)
        # As the router's route does (simulator/routes.py): a placeholder, unless the fault lets the name slip.
        named = self.plan.names_models or "wrong-model" in task.faults
        self.models[worker, task.session, task.model if named else "default"] += 1
        return {
            **told,
            "outcome": "ok",
            "http_status": 200,
            "finish_reason": task.finish_reason,
            "stream_end": "done_marker",
            "usage_prompt_tokens": prompt_tokens,
            "usage_completion_tokens": task.tokens_told,
            "counted_tokens": count_tokens(self.encoding, text),
            "text_sha256": parse.text_sha256(text),
            "headers_ns": mono_ns + offsets[0],
            "first_chunk_ns": mono_ns + offsets[0],
            "first_content_ns": mono_ns + offsets[0],
            "first_visible_ns": mono_ns + offsets[0],
            "last_content_ns": mono_ns + offsets[-1],
            "last_choice_ns": mono_ns + offsets[-1],
            "done_ns": mono_ns + offsets[-1],
            "content_chunks": len(offsets),
            "choice_chunks": len(offsets),
        }

    # What the network says.

    def _poll(self, now_ns: int, *, nodes: bool) -> None:
        network = self.network
        network.advance(now_ns)
        if not nodes:
            board = parse.leaderboard(_json(control.leaderboard(network)), now_ns)
            self.snapshots += board.rows
            self.sessions += parse.sessions(_json(control.sessions(network)), TARGET, now_ns)
            status = control.status(network, 1, 10.0, 10.0)
            self.router.append(parse.router_status(_json(status), TARGET, now_ns))
            return
        last = {one.node: (one.operator, one.hardware, one.level) for one in self.descriptions}
        entries = parse.miners(_json(control.miners(network)), now_ns).rows
        self.descriptions += [e for e in entries if (e.operator, e.hardware, e.level) != last.get(e.node)]
        told = {row.node_as_seen.lower(): row.node_as_seen for row in self.snapshots}
        for seen in told.values():
            both = (("reputation", network.reputation), ("session-reputation", network.session_reputation))
            for name, series in both:
                body = control.reputation(network, seen, series)
                if body is not None:
                    self.snapshots.append(parse.reputation(body, name, seen, now_ns))

    def _look_up(self, until_ns: int) -> None:
        """Ask for the tasks that are due up to an instant; the observer itself says which, and when."""
        while (due_ns := self.lookups.next_due_ns()) is not None and due_ns <= until_ns:
            lookup = self.lookups.take(due_ns)
            assert lookup is not None and lookup.row.session is not None and lookup.row.task_id is not None
            self.network.advance(due_ns)
            task = self.network.sessions[lookup.row.session].tasks[int(lookup.row.task_id)]
            body = _json(control.task(self.network, task))
            record = self.lookups.answered(lookup, body, "", "", due_ns, due_ns)
            self.tasks += [record] if record is not None else []

    def _store(self) -> None:
        for table, rows, record in (
            ("requests", self.requests, RequestRecord),
            ("tasks", self.tasks, TaskRecord),
            ("snapshots", self.snapshots, NodeSnapshot),
            ("sessions", self.sessions, SessionSample),
            ("descriptions", self.descriptions, NodeDescription),
            ("router", self.router, RouterSample),
            ("charges", self._bill(), ChargeRecord),
        ):
            write_part(self.folder / table / "part-0.parquet", rows, record)
        write_manifest(self.folder, self._manifest())

    def _bill(self) -> list[ChargeRecord]:
        if not self.plan.bill:
            return []
        return [
            ChargeRecord(
                session=one.session,
                task_id=str(one.task_id),
                client_reference=None,
                amount=str(one.amount),
                charged_wall_ns=one.at_ns,
                completion_tokens=one.tokens,
            )
            for one in self.network.payment.ledger
        ]

    def _manifest(self) -> dict[str, Any]:
        plan = self.plan
        outcomes = dict(Counter(row.outcome for row in self.requests))
        alike = {"clock_offset_ns": 0, "clock_bound_ns": 1000, "lost": False}
        models: dict[int, list[Any]] = {worker: [] for worker in range(plan.workers)}
        for (worker, session, told), n in self.models.items():
            models[worker].append([TARGET, session, "", told, n])
        clock = {
            "wall_minus_mono_ns": WALL_MINUS_MONO_NS,
            "bound_ns": 1000,
            "wall_minus_mono_end_ns": WALL_MINUS_MONO_NS,
        }
        return {
            "schema_version": 1,
            "state": "recorded",
            "run": "r1",
            "seed": self.seed,
            "mode": "open",
            "profile": {"name": "played", "source": "", "hash": "0", "text": ""},
            "encoding": "cl100k_base",
            "time_scale": 1.0,
            "history": "scripted",
            "offered_s": plan.seconds,
            "warmup_s": 0.0,
            "t0_ns": START_NS - WALL_MINUS_MONO_NS,
            "started_wall_ns": START_NS,
            "stopped_early_s": None,
            "clock": clock,
            "workers": [{"worker": worker, **alike, "models": models[worker]} for worker in models],
            "workers_expected": plan.workers,
            "targets": [{"name": TARGET, "route": "cortensor", "url": URL, "model": "", "stream": True}],
            "host": URL,
            "slos": [],
            "observed": True,
            "observe": {"poll_s": plan.poll_s, "grace_s": 3.0, "lookup_share_max": 1.0, "lookup_deadline_s": 400.0},
            "ledger": {"planned_turns": len(self.requests), "rows": len(self.requests), "outcomes": outcomes},
            "users": 10,
            "versions": {},
            "command": "played",
        }


def _json(body: Any) -> Any:
    """As it comes through HTTP."""
    return msgspec.json.decode(msgspec.json.encode(body))
