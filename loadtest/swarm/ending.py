"""How a process of the swarm ends when it is told to: by Ctrl-C, by SIGTERM, by its master, at any moment.

The first signal ends the load: nothing more is offered, what is in flight is waited for up to the stop timeout. The
second one cuts that wait: what is in flight then gets its row as `cancelled`. Later ones change nothing; the rows
still travel and are reported.

Three things of Locust stand in the way. A Ctrl-C is raised as KeyboardInterrupt in whatever greenlet runs just then,
the one that reads an answer or ships rows included. A worker says "quit" before it drains, so nobody waits for its
rows. And it drains inside its message loop, where it hears nothing, above all not that it shall not wait.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from locust import runners
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

WAIT_MARGIN_S = 60.0  # beyond the stop timeout: for rows to be acknowledged
FIRST_ENDS_S = 7_200.0  # rows are joined and reported meanwhile
CUT = "loadtest_cut"

logger = logging.getLogger(__name__)


def take_signals(environment: Environment, cut: Callable[[], None]) -> None:
    """In an `init` listener. `cut` is called when a signal comes to a process that is ending already."""
    ending = False

    def interrupted() -> None:
        if ending:
            cut()
        else:
            # Locust waits for it in its main greenlet, and then fires `quitting`.
            gevent.get_hub().handle_system_error(KeyboardInterrupt, KeyboardInterrupt())

    def quitting(**_: Any) -> None:
        # Locust answers every SIGTERM with `quitting`; this one comes before its own listeners, being registered later.
        nonlocal ending
        if ending:
            cut()
            # Locust would end the process a second time, in the middle of the first: with its tables printed twice and
            # a traceback from wherever the first one is. That one goes on alone.
            gevent.sleep(FIRST_ENDS_S)
        ending = True

    environment.events.quitting.add_listener(quitting)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        gevent.signal_handler(signal.SIGINT, interrupted)


def cut_drain(runner: Runner) -> None:
    """Cancel what is in flight here. The users' greenlets write its rows while they are killed."""
    if len(runner.user_greenlets):
        logger.warning("not waiting any longer: %d users are stopped in what they do", len(runner.user_greenlets))
        runner.user_greenlets.kill(block=False)


def stop_once(runner: Runner) -> None:
    """Replace `runner.stop` of a process with users: who asks for a stop while one is under way waits for that one.

    Locust would tell every user a second time to stop, which raises, and fire its events twice.
    """
    # For one debug line Locust reads the source of every frame of the stack: 35 to 55 ms in which no stream is read,
    # the bound on whose chunks then spoils a short run. Without the module it says that it does not know who called.
    runners.inspect = None
    stop = runner.stop
    under_way: Event | None = None

    def stop_or_wait() -> None:
        nonlocal under_way
        if under_way is not None:
            under_way.wait(timeout=(runner.environment.stop_timeout or 0) + WAIT_MARGIN_S)
            return
        under_way = done = Event()
        try:
            stop()
        finally:
            under_way = None
            done.set()

    runner.stop = stop_or_wait


def drain_aside(runner: WorkerRunner) -> None:
    """Let a worker go on listening while it drains, and drain before it says that it quits."""
    handle = runner.handle_message

    def handle_aside(msg: Any) -> None:
        if msg.type in ("stop", "quit"):
            gevent.spawn(handle, msg)
        else:
            handle(msg)

    runner.handle_message = handle_aside
    runner.register_message(CUT, lambda **_: cut_drain(runner))
    runner.environment.events.quitting.add_listener(lambda **_: runner.stop())
