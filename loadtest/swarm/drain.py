"""A master that quits only when its workers have drained.

Stock Locust sends "quit", sleeps half a second and kills: everything that ends later, the slowest requests first,
is thrown away (measured: 10 of 30). Here the master waits for every worker that is alive, up to the stop timeout.
"""

from __future__ import annotations

from collections.abc import Callable

import gevent
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner

from loadtest.clock import Deadline

MARGIN_S = 30.0  # beyond the stop timeout: the last rows travel and are acknowledged


def drain_before_quit(runner: MasterRunner, drained: Callable[[], None]) -> None:
    """Replace `runner.quit`. `drained` is called once, when the workers have ended and can still be heard.

    A second quit returns at once.
    """
    begun = False

    def quit_when_drained() -> None:
        nonlocal begun
        if begun:
            return
        if gevent.getcurrent() in runner.greenlet:
            # Locust's message loop calls this when the last worker has quit. Draining there would leave nobody to
            # read what the workers still say.
            gevent.spawn(quit_when_drained)
            return
        begun = True
        try:
            runner.stop(send_stop_to_client=False)
            for client in list(runner.clients.all):
                runner.server.send_to_client(Message("quit", None, client.id))
            deadline = Deadline((runner.environment.stop_timeout or 0) + MARGIN_S)
            while not deadline.over() and any(c.state != STATE_MISSING for c in runner.clients.all):
                gevent.sleep(0.1)
            drained()
        finally:
            runner.greenlet.kill(block=True)

    runner.quit = quit_when_drained
