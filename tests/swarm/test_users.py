"""Locust's users as slots: a stop in the moment one wakes up lets it begin nothing, and waits for what it has begun."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gevent
import locust
from gevent.event import Event
from gevent.pool import Group
from locust.env import Environment
from loadtest.swarm.users import OpenArrivals

begun, ended = [], []

class Driver:
    def __init__(self):
        self.due, self.answer = Event(), Event()

    def serve(self, person):
        person.waiting()
        self.due.wait()
        person.busy()
        begun.append(person)
        self.answer.wait()
        ended.append(person)

class Run:
    driver = Driver()

class Side:
    run = Run()

def user():
    environment = Environment()
    environment.loadtest_worker = Side()
    Run.driver = Driver()
    one = OpenArrivals(environment)
    group = Group()
    one.start(group)
    gevent.sleep(0.01)
    return one, Run.driver, group

# The arrival wakes it, the stop comes in the same moment: it was waiting when the stop looked.
one, driver, group = user()
driver.due.set()
assert one.stop()
group.join(timeout=10)
assert not begun, "it began what the stop then cut off"

# It is busy: the stop waits for the answer.
one, driver, group = user()
driver.due.set()
gevent.sleep(0.01)
assert not one.stop()
gevent.sleep(0.01)
assert begun == [one] and not ended
driver.answer.set()
group.join(timeout=10)
assert ended == [one]
print("as they should")
"""


def test_a_stop_and_an_arrival_in_the_same_moment() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout == "as they should\n", done.stderr
