"""Stopping reads no source files: for a debug line Locust would, while nobody reads the streams that are still on."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import inspect
from locust import User, task
from locust.env import Environment
from loadtest.swarm.ending import stop_once

looked = []
stack = inspect.stack
inspect.stack = lambda *args: looked.append(1) or stack(*args)

class Idle(User):
    @task
    def wait(self):
        import gevent
        gevent.sleep(60)

def stopped(prepare):
    runner = Environment(user_classes=[Idle]).create_local_runner()
    prepare(runner)
    runner.start(2, spawn_rate=100)
    runner.spawning_greenlet.join()
    assert runner.user_count == 2
    runner.stop()
    assert runner.user_count == 0 and runner.state == "stopped"
    runner.quit()

stopped(lambda runner: None)
assert looked, "Locust does look: if it no longer does, stop_once need not prevent it"
looked.clear()
stopped(stop_once)
assert not looked
"""


def test_a_stop_does_not_walk_the_stack() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
