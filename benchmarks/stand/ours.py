"""Our client as a worker runs it: turns over the reactor, rows into a spool that is shipped, Locust's live table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment

from loadtest.client.exchange import Endpoint
from loadtest.client.reactor import Reactor
from loadtest.client.routes import ROUTES, Call
from loadtest.clock import cpu_ns, mono_ns
from loadtest.records import Target
from loadtest.swarm.ledger import Ledger
from loadtest.swarm.live import CpuShare, LiveStats
from loadtest.swarm.recorder import Recorder
from loadtest.swarm.tally import Tally
from loadtest.swarm.turns import Access, Prepared, Turns
from loadtest.traffic.conversations import ConversationShape, TurnShape
from loadtest.traffic.plan import Plan
from loadtest.traffic.profile import load_profile
from loadtest.traffic.tokens import count_tokens, load_encoding
from stand.task import Memory, Task, Told, calm_garbage_collector

REPORT_S = 3.0  # a worker looks at its CPU this often
HORIZON_US = 1_000_000_000


def run(task: Task) -> Told:
    target = Target(name="mock", route="openai-chat", model="mock", stream=task.stream, timeout_s=60.0)
    profile = load_profile("smoke")
    plan = Plan(
        run="b",
        profile_text=profile.text,
        profile_source=profile.source,
        seed=1,
        host=f"{'https' if task.tls else 'http'}://127.0.0.1:{task.port}",
        workers=1,
        warmup_us=0,
        horizon_us=HORIZON_US,
    )
    environment = Environment()
    environment.create_local_runner()  # it feeds Locust's table
    encoding = load_encoding("cl100k_base")
    reactor, ledger = Reactor(), Ledger()
    recorder = Recorder(Path(task.rows), task.collector)
    tally = Tally()
    turns = Turns(
        plan,
        plan.schedule(),
        worker=0,
        reactor=reactor,
        recorder=recorder,
        ledger=ledger,
        access={"mock": Access(Endpoint("127.0.0.1", task.port, task.tls), None)},
        count_tokens=lambda text: count_tokens(encoding, text),
        began=tally.began,
        seen=LiveStats(environment, tally).seen,
        clock_offset_ns=lambda: 0,
    )
    route, shape_of_turn = ROUTES[target.route], (TurnShape(1, 1, 100, 0),)

    def one(stream: int) -> None:
        for number in range(task.requests):
            index = stream * 1000 + number
            shape = ConversationShape(index, "p", target, None, task.stream, shape_of_turn)
            call = Call((("user", "hi"),), 100, task.stream, None, f"b.{index}.0", 60.0, f"127.0.0.1:{task.port}")
            prepared = Prepared(call, route.build(target, call, None))
            turns.converse(shape, mono_ns(), prepared, lambda _: None, lambda: False)

    def look() -> None:
        while True:
            gevent.sleep(REPORT_S)
            share.look()

    calm_garbage_collector()
    memory, share = Memory(), CpuShare()
    started_ns, used_ns = mono_ns(), cpu_ns()
    turns.begin(plan, started_ns)
    looking = gevent.spawn(look)
    gevent.joinall([gevent.spawn(one, stream) for stream in range(task.streams)], raise_error=True)
    elapsed_ns, used_ns = mono_ns() - started_ns, cpu_ns() - used_ns
    share.look()
    looking.kill()
    figures: dict[str, Any] = reactor.figures() | ledger.figures()
    figures |= {"cpu_share_max": share.highest, "rows_overflowed": recorder.rows_overflowed}
    told = Told(used_ns, elapsed_ns, memory.idle_kb, memory.peak_kb(), figures)
    _keep_spool(recorder, Path(task.rows))
    reactor.close()
    return told


def _keep_spool(recorder: Recorder, path: Path) -> None:
    """The recorder removes its spool when all has arrived; the stand reads it afterwards."""
    kept = path.with_suffix(".kept")
    kept.hardlink_to(path)
    recorder.finish(10.0)
    kept.rename(path)
