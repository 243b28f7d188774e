"""Workers that play turns instead of sending them, many in one process: everything else of them is real.

Locust's own worker and messages, our side of it, ledger, tally, clock and recorder with its frames; only the driver is
another one. It gives every planned arrival its row at its time, from a stock of answers made beforehand: a request that
is really sent costs a worker a hundred times more, and one machine could not drive a master to its limit.

Run by `swarm_cost.py`, which reads one JSON line from its output: how long the master took to answer heartbeats, from
the first one on, and how busy and late this process was itself. With one worker it is idle, and so a fair witness.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import locust
from locust.argument_parser import parse_options
from locust.env import Environment
from locust.event import Events
from msgspec.structs import replace

REPO = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(REPO), str(REPO / "benchmarks")]

from loadtest.clock import cpu_ns, mono_ns  # noqa: E402
from loadtest.records import Outcome, RequestRecord  # noqa: E402
from loadtest.spool import Started  # noqa: E402
from loadtest.swarm import worker as worker_run  # noqa: E402
from loadtest.swarm.driver import Person  # noqa: E402
from loadtest.swarm.ending import drain_aside, stop_once  # noqa: E402
from loadtest.swarm.ledger import Ledger  # noqa: E402
from loadtest.swarm.options import add_options  # noqa: E402
from loadtest.swarm.turns import Turns  # noqa: E402
from loadtest.swarm.users import OpenArrivals  # noqa: E402
from loadtest.swarm.worker_side import WorkerSide  # noqa: E402
from loadtest.traffic.plan import Plan  # noqa: E402
from loadtest.traffic.schedule import Schedule  # noqa: E402
from stand.rows import a_row  # noqa: E402

STOCK = 400
LOOK_S = 0.02
late_ns_max = 0  # by which a turn was played after its time: what this process could not keep up with


class Played:
    """In the place of `OpenDriver`: each arrival of the stripe starts at its time and ends when its answer says."""

    stock: list[RequestRecord]

    def __init__(self, schedule: Schedule, turns: Turns, ledger: Ledger, worker: int, late_max_s: float) -> None:
        self._schedule, self._turns, self._ledger, self._worker = schedule, turns, ledger, worker
        self._open: list[tuple[int, int, RequestRecord]] = []
        self._numbers = count()
        self._player: gevent.Greenlet | None = None
        self.until_us = 0

    def start(self, plan: Plan, t0_ns: int) -> None:
        self._player = gevent.spawn(self._play, plan, t0_ns)

    def stop(self) -> None:
        """What is in the air ends now: the benchmark is not about waiting for it."""
        if self._player is not None:
            self._player.kill()
        while self._open:
            self._end(heappop(self._open)[2])

    def serve(self, person: Person) -> None:
        person.waiting()
        gevent.sleep(1e6)

    def _play(self, plan: Plan, t0_ns: int) -> None:
        global late_ns_max
        arrivals = self._schedule.arrivals(plan.horizon_us, self._worker, plan.workers)
        arrival = next(arrivals, None)
        while arrival is not None or self._open:
            now_ns = mono_ns()
            while self._open and self._open[0][0] <= now_ns:
                self._end(heappop(self._open)[2])
            while arrival is not None and t0_ns + arrival.due_us * 1000 <= now_ns:
                at_ns = t0_ns + arrival.due_us * 1000
                late_ns_max = max(late_ns_max, now_ns - at_ns)
                self._begin(plan, arrival.index, at_ns, now_ns)
                self.until_us = arrival.due_us + 1
                arrival = next(arrivals, None)
                if arrival is None:
                    self.until_us = plan.horizon_us
            gevent.sleep(LOOK_S)

    def _begin(self, plan: Plan, index: int, at_ns: int, now_ns: int) -> None:
        answer = self.stock[index % STOCK]
        moved = now_ns - (answer.sent_ns or 0)
        instants = {name: getattr(answer, name) + moved for name in ("first_content_ns", "last_content_ns", "done_ns")}
        ended = replace(
            answer,
            run=plan.run,
            worker=self._worker,
            seq=self._ledger.next_seq(),
            arrival=index,
            conversation=f"c{index}",
            client_reference=f"{plan.run}.{index}.0",
            scheduled_ns=at_ns,
            sent_ns=now_ns,
            clock_offset_ns=self._turns._clock_offset_ns(),
            **instants,
        )
        self._ledger.arrival(1)
        bare = {"outcome": Outcome.LOST.value, "chunk_ns": (), "chunk_bound_ns": (), "chunk_bytes": ()}
        started = replace(ended, **bare, itl_keys=(), itl_counts=(), **dict.fromkeys(instants), sent_ns=None)
        self._turns._recorder.write(Started(started))
        self._ledger.started()
        self._turns._began(started)
        assert ended.done_ns is not None
        heappush(self._open, (ended.done_ns, next(self._numbers), ended))

    def _end(self, record: RequestRecord) -> None:
        self._turns._end(record)


def heard_of(runner: Any, gaps_ns: list[int]) -> None:
    """Note how long the master takes to answer each heartbeat, from before it is sent until its answer is read."""
    sent: list[int] = []
    send = runner.client.send

    def noted(message: Any) -> None:
        if message.type == "heartbeat":
            sent.append(mono_ns())
        send(message)

    def answered(**_: Any) -> None:
        gaps_ns.append(mono_ns() - sent.pop(0))

    runner.client.send = noted
    runner.environment.events.heartbeat_received.add_listener(answered)


def work(options: argparse.Namespace, answers_ns: list[int]) -> gevent.Greenlet:
    """One worker; the greenlet ends when it has quit."""
    parsed = copy.copy(options)
    environment = Environment(events=Events(), user_classes=[OpenArrivals], parsed_options=parsed)
    # Two greenlets of Locust watch CPU and memory of their process, once is enough.
    runner = environment.create_worker_runner(parsed.master_host, parsed.master_port)
    heard_of(runner, answers_ns)
    environment.loadtest_worker = side = WorkerSide(environment)
    environment.events.test_stopping.add_listener(side.on_test_stopping)
    environment.events.test_stop.add_listener(side.on_test_stop)
    environment.events.report_to_master.add_listener(side.on_report_to_master)
    stop_once(runner)
    drain_aside(runner)

    def until_it_quits() -> None:
        runner.greenlet.join()
        environment.events.quitting.fire(environment=environment, reverse=True)

    return gevent.spawn(until_it_quits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="of the master")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--runs-dir", required=True)
    asked = parser.parse_args()
    draw = random.Random(1)
    Played.stock = [a_row(draw, i, asked.chunks) for i in range(STOCK)]
    worker_run.OpenDriver = Played  # type: ignore[misc, assignment]
    locust.events.init_command_line_parser.add_listener(add_options)
    options = parse_options(["--worker", "--master-port", str(asked.port), "--runs-dir", asked.runs_dir, "-f", "-"])
    answers_ns: list[int] = []
    began_ns = mono_ns()
    gevent.joinall([work(options, answers_ns) for _ in range(asked.workers)])
    seconds = (mono_ns() - began_ns) / 1e9
    answers_ns.sort()
    told = {
        "heartbeats": len(answers_ns),
        "answered_ms_p99": answers_ns[int(0.99 * len(answers_ns))] / 1e6,
        "answered_ms_max": answers_ns[-1] / 1e6,
        "played_late_ms_max": late_ns_max / 1e6,
        "cpu_share": cpu_ns() / 1e9 / seconds,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
