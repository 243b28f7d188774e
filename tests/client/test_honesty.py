"""Honesty under stress: whatever keeps the process from its sockets, the truth lies in the stated intervals.

Server and client are processes of their own on cores of their own and share one monotonic clock. The server notes the
instants before and after each write. The bytes arrive between them, within WRITE_NS of the first unless the server
itself was taken off its core; the client's claim, that the chunk arrived in (arrival - bound, arrival], must meet that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from loadtest import fitness
from loadtest.clock import mono_ns
from loadtest.quantiles import nearest_rank

pytestmark = pytest.mark.long

HERE = Path(__file__).resolve().parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]
STREAMS, ITL_MS = 40, 20
WRITE_NS = 100_000  # between the server's look at its clock and the arrival
CLOCK_NS = 50_000  # kernel stamps are turned into monotonic time with an offset that is known this well
HOG = """
import os, time
os.sched_setaffinity(0, {%d})
end = time.monotonic() + %f
while time.monotonic() < end: pass
print(time.process_time())
"""


class Told(NamedTuple):
    sent_ns: dict[str, list[tuple[int, int]]]  # by request, the server's, before and after each write
    rows: list[dict[str, Any]]
    figures: dict[str, Any]


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, str(HERE / "stressed.py"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": str(HERE.parent.parent)},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=20)


@contextmanager
def hearing(chunks: int) -> Iterator[tuple[subprocess.Popen[str], list[Told]]]:
    """The client's process while it hears; what both tell is in the list when the block is left."""
    told: list[Told] = []
    with process("serve", str(STREAMS), str(chunks), str(ITL_MS), str(SERVER_CORE)) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        with process("hear", port, str(STREAMS), str(CLIENT_CORE)) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "hearing\n"
            yield client, told
            heard = json.loads(client.stdout.readline())
            told.append(Told(json.loads(server.stdout.readline()), heard["rows"], heard["figures"]))


def wrong(told: Told) -> list[str]:
    """Chunks whose stated interval does not hold the truth."""
    found = []
    for row in told.rows:
        name, sent_ns = row["client_reference"], told.sent_ns[row["client_reference"]]
        assert row["outcome"] == "ok" and row["content_chunks"] == len(sent_ns), (name, row["error_text"])
        claims = zip(row["chunk_ns"], row["chunk_bound_ns"], sent_ns, strict=True)
        for number, (offset_ns, bound_ns, (true_ns, after_ns)) in enumerate(claims):
            arrival_ns = row["sent_ns"] + offset_ns
            latest_ns = max(true_ns + WRITE_NS, after_ns)
            if not (arrival_ns - bound_ns <= latest_ns and true_ns <= arrival_ns + CLOCK_NS):
                late_ms, bound_ms = (arrival_ns - true_ns) / 1e6, bound_ns / 1e6
                found.append(f"{name}[{number}] is told {late_ms:.3f} ms late with a bound of {bound_ms:.3f} ms")
    return found


def shares(told: Told) -> tuple[float, float]:
    """Of all chunks: those that came in one read with an earlier one; those more than 1 ms from the truth."""
    chunks = sum(row["content_chunks"] for row in told.rows)
    off = sum(
        row["sent_ns"] + offset_ns - true_ns > 1_000_000
        for row in told.rows
        for offset_ns, (true_ns, _) in zip(row["chunk_ns"], told.sent_ns[row["client_reference"]], strict=True)
    )
    return sum(row["chunks_coalesced"] for row in told.rows) / chunks, off / chunks


def reasons(told: Told) -> set[str]:
    """The rules of fitness that this run breaks by its own figures."""
    rows = told.rows

    def p99(values: list[float]) -> float:
        return nearest_rank(sorted(values), 0.99)

    figures = fitness.Figures(
        planned_turns=len(rows),
        stored_turns=len(rows),
        lost_turns=0,
        dropped_turns=0,
        first_turns=len(rows),
        workers_expected=1,
        workers_lost=0,
        rows_overflowed=0,
        send_lag_ms_p99=p99([(row["sent_ns"] - row["scheduled_ns"]) / 1e6 for row in rows]),
        ttft_ms_p50=median((row["first_content_ns"] - row["sent_ns"]) / 1e6 for row in rows),
        receive_error_ms_p99=p99([row["first_content_bound_ns"] / 1e6 for row in rows]),
        loop_overshoot_ms_p99=told.figures["overshoot_ns_p99"] / 1e6,
        worker_cpu_share_max=told.figures["cpu_share"],
        clock_bound_ms_max=0.0,
        measured_requests=len(rows),
    )
    return {reason.rule for reason in fitness.unfit_reasons(figures)}


def test_with_a_hog_of_equal_priority_on_our_core() -> None:
    with hearing(chunks=400) as (client, told):
        hog = [sys.executable, "-c", HOG % (CLIENT_CORE, 5.0)]
        done = subprocess.run(hog, stdout=subprocess.PIPE, timeout=60, check=True)
        assert float(done.stdout) > 1.0, "the hog got no share of the core"
        assert client.poll() is None, "the streams ended before the hog did"
    coalesced, off = shares(told[0])
    late = told[0].figures["passes_late"]
    print(f"hog: {coalesced:.2%} of chunks coalesced, {off:.2%} more than 1 ms late, {late} passes late")
    assert not wrong(told[0])


def test_with_the_process_stopped_for_two_seconds() -> None:
    with hearing(chunks=150) as (client, told):
        client.send_signal(signal.SIGSTOP)
        stopped_ns = mono_ns()
        while mono_ns() - stopped_ns < 2_000_000_000:
            with pytest.raises(subprocess.TimeoutExpired):
                client.wait(0.5)
        client.send_signal(signal.SIGCONT)
    coalesced, off = shares(told[0])
    print(f"stopped: {coalesced:.2%} of chunks coalesced, {off:.2%} more than 1 ms late, unfit: {reasons(told[0])}")
    assert coalesced > 0.3, "nothing was merged by the kernel: it was not stopped"
    assert not wrong(told[0])
    assert reasons(told[0]) & {"loop", "receive_error"}, "a run that stood still for two seconds passes for fit"
