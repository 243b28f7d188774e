"""A worker's part in one run: the reactor, the recorder and the driver, made after the fork and ended with the run."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from msgspec.structs import replace

from loadtest.client.reactor import Reactor
from loadtest.clock import Deadline, MasterOffset, OffsetFilter, mono_ns
from loadtest.swarm.driver import ClosedDriver, OpenDriver
from loadtest.swarm.ledger import Ledger
from loadtest.swarm.live import CpuShare, LiveStats, calm_garbage_collector
from loadtest.swarm.recorder import Recorder
from loadtest.swarm.tally import Tally
from loadtest.swarm.turns import Access, Turns
from loadtest.traffic.plan import Plan
from loadtest.traffic.tokens import count_tokens, load_encoding

ACKNOWLEDGED_WAIT_S = 15.0
EXCHANGES_AT_START = 8
EXCHANGE_PERIOD_S = 10.0
LOOK_S = 0.01


class WorkerClock:
    """Our offset to the master's monotonic clock, from exchanges over Locust's own messages.

    A standalone run is its own master: its offset is 0 and known exactly. `bound_ns_max` is the bound of the worst
    offset that was used, which is what holds for every row of this worker.
    """

    def __init__(self, ping: Callable[[int], None] | None) -> None:
        self._ping = ping
        self._filter = OffsetFilter()
        self.bound_ns_max: int | None = None
        self._greenlet = gevent.spawn(self._exchange) if ping is not None else None

    def _exchange(self) -> None:
        assert self._ping is not None
        sent = 0
        while True:
            self._ping(mono_ns())
            sent += 1
            gevent.sleep(0.02 if sent < EXCHANGES_AT_START else EXCHANGE_PERIOD_S)

    def answered(self, t1_ns: int, t2_ns: int, t3_ns: int) -> None:
        self._filter.add(t1_ns, t2_ns, t3_ns, mono_ns())

    def offset(self) -> MasterOffset | None:
        return MasterOffset(0, 0) if self._ping is None else self._filter.best(mono_ns())

    def offset_ns(self) -> int:
        """The offset to use now. ValueError before the first exchange, which `known` waits for."""
        offset = self.offset()
        if offset is None:
            raise ValueError("the master's clock is not known yet")
        self.bound_ns_max = max(self.bound_ns_max or 0, offset.bound_ns)
        return offset.offset_ns

    def known(self, seconds: float) -> bool:
        """Wait for the first exchange, at most so long."""
        deadline = Deadline(seconds)
        while self.offset() is None and not deadline.over():
            gevent.sleep(LOOK_S)
        return self.offset() is not None

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill(block=False)


class WorkerRun:
    """Everything one worker process does for one run."""

    def __init__(
        self,
        environment: Environment,
        plan: Plan,
        worker: int,
        *,
        collector: str | None,
        spools: Path,
        access: Mapping[str, Access],
        ping: Callable[[int], None] | None,
    ) -> None:
        self.plan = plan
        self.worker = worker
        profile = plan.profile()
        schedule = plan.schedule()
        schedule.prepare()
        encoding = load_encoding(profile.writing.encoding)
        self.clock = WorkerClock(ping)
        self._ledger = Ledger()
        self._tally = Tally()
        self._cpu = CpuShare()
        self._reactor = Reactor()
        self._recorder = Recorder(spools / f"worker-{worker}-{os.getpid()}.spool", collector)
        self._final_figures: dict[str, Any] | None = None
        turns = self._turns = Turns(
            plan,
            schedule,
            worker=worker,
            reactor=self._reactor,
            recorder=self._recorder,
            ledger=self._ledger,
            access=access,
            count_tokens=lambda text: count_tokens(encoding, text),
            began=self._tally.began,
            seen=LiveStats(environment, self._tally).seen,
            clock_offset_ns=self.clock.offset_ns,
        )
        self.driver: OpenDriver | ClosedDriver = (
            OpenDriver(schedule, turns, self._ledger, worker, profile.load.late_max_s)
            if profile.load.mode == "open"
            else ClosedDriver(schedule, turns, self._ledger, worker)
        )
        calm_garbage_collector()

    def start(self, t0_ns: int, horizon_us: int, warmup_us: int) -> None:
        """Begin at an instant of the master's monotonic clock, with the plan's length as it came to be."""
        self.plan = replace(self.plan, horizon_us=horizon_us, warmup_us=warmup_us)
        self.driver.start(self.plan, t0_ns - self.clock.offset_ns())

    def stop_offering(self) -> None:
        self.driver.stop()

    def finish(self) -> None:
        """After the last request has ended: all acknowledged, all closed. Calling it again does nothing."""
        if self._final_figures is not None:
            return
        self.driver.stop()
        self._recorder.finish(ACKNOWLEDGED_WAIT_S)
        self.clock.stop()
        self._final_figures = {**self._figures(), "final": True}
        self._reactor.close()

    def figures(self) -> dict[str, Any]:
        """For the master, every three seconds and once at the end (`final`). Call it for that only: what it tells of
        the time since the last call is told once."""
        return self._final_figures if self._final_figures is not None else self._figures()

    def _figures(self) -> dict[str, Any]:
        self._cpu.look()
        offset = self.clock.offset()
        reactor = self._reactor.figures()
        return {
            "worker": self.worker,
            "run": self.plan.run,
            "final": False,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "until_us": self.driver.until_us,
            "clock_offset_ns": None if offset is None else offset.offset_ns,
            "clock_bound_ns": self.clock.bound_ns_max,
            "cpu_share_max": self._cpu.highest,
            "ledger": self._ledger.figures(),
            "models": [[*said, n] for said, n in self._turns.models.items()],
            "prompt_tokens": self._tally.prompt_tokens,
            "output_tokens": self._tally.output_tokens,
            "tokens": self._tally.tokens(),
            "live": self._tally.delta(),
            **self._recorder.figures(),
            **reactor,
            "loop_overshoot_ms_p99": reactor["overshoot_ns_p99"] / 1e6,
        }
