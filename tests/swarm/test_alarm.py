"""The alarm wakes every greenlet at its instant and never before, in their order, whoever is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os
import random

import gevent

from loadtest.clock import mono_ns
from loadtest.swarm.alarm import alarm_of

alarm = alarm_of(os.getpid())
assert alarm_of(os.getpid()) is alarm
woken, draw = [], random.Random(5)

def sleeper(at_ns):
    alarm.sleep_until(at_ns)
    assert mono_ns() >= at_ns, "before its instant"
    woken.append(at_ns)

begin = mono_ns() + 50_000_000
instants = [begin + draw.randrange(200_000_000) for _ in range(200)]
greenlets = [gevent.spawn(sleeper, at_ns) for at_ns in instants]
gevent.sleep(0)
gevent.killall(greenlets[::3])
left = [at_ns for place, at_ns in enumerate(instants) if place % 3]
gevent.joinall(greenlets, timeout=30)
assert woken == sorted(left), (len(woken), len(left))
before = mono_ns()
alarm.sleep_until(before - 1)
with gevent.Timeout(30):
    alarm.sleep_until(mono_ns() + 1)
alarm.close()
print("woken", len(woken))
"""


def test_everybody_is_woken_in_order_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout == "woken 133\n" and not done.stderr, done.stderr
