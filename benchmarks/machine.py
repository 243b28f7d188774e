"""How fast the simulated network plays without HTTP, and whether it grows: `python benchmarks/machine.py`.

The contest of phase4 (150 nodes, 45 days) beside a bare heap that takes and gives as many events as it has at least:
the ratio is what the decisions cost over the agenda alone. Then an hour of full load in virtual time, with the
resident size every ten minutes.
"""

from __future__ import annotations

import argparse
import gc
import heapq

import psutil

from loadtest.clock import mono_ns
from loadtest.simulator.contest import START_NS, play_contest
from loadtest.simulator.network import Network
from loadtest.simulator.scenario import load_scenario
from loadtest.simulator.tasks import SECOND_NS

EVENTS_PER_TASK = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=45.0)
    parser.add_argument("--tasks-per-s", type=int, default=20, help="full load of the small scenario")
    arguments = parser.parse_args()

    began = mono_ns()
    contest = play_contest(load_scenario("phase4"), 7, arguments.days)
    contest_s = (mono_ns() - began) / SECOND_NS
    tasks = contest.user_tasks + contest.network_tasks
    heap_s = time_heap(EVENTS_PER_TASK * tasks)
    print(f"contest of {arguments.days:g} days: {contest_s:.1f} s, {tasks} tasks, {tasks / contest_s:.0f} tasks/s")
    print(f"bare heap, {EVENTS_PER_TASK * tasks} events: {heap_s:.1f} s; ratio {contest_s / heap_s:.1f}")

    network = Network(load_scenario("small"), 7, START_NS)
    process = psutil.Process()
    began, at_ns = mono_ns(), START_NS
    sessions = sorted(network.sessions)
    for i in range(3600 * arguments.tasks_per_s):
        if i % (600 * arguments.tasks_per_s) == 0:
            tell(process, i // (60 * arguments.tasks_per_s))
        at_ns += SECOND_NS // arguments.tasks_per_s
        network.submit(at_ns, sessions[i % len(sessions)], prompt_tokens=200, tokens_max=512, stream=True)
    tell(process, 60)
    print(f"an hour at {arguments.tasks_per_s} tasks/s: {(mono_ns() - began) / SECOND_NS:.1f} s of real time")


def tell(process: psutil.Process, minute: int) -> None:
    gc.collect()
    print(f"minute {minute:2d}: {process.memory_info().rss / 2**20:.1f} MiB resident")


def time_heap(events: int) -> float:
    heap: list[tuple[int, int]] = [(i, i) for i in range(500)]
    began = mono_ns()
    for i in range(events):
        at, _ = heapq.heappop(heap)
        heapq.heappush(heap, (at + 1 + (i * 7919) % 1000, i))
    return (mono_ns() - began) / SECOND_NS


if __name__ == "__main__":
    main()
