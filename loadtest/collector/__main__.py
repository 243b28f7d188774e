"""The collector: a process of its own on the master that turns spool frames into the rows of the run folder.

It is started and ended by the swarm's plugin. Standard input carries one JSON line, `{"close": ...}`, and its end
means the same with nothing known; standard output carries `{"port": N}`, every few seconds `{"counts": ...}` of rows
that have come and are stored, and at the end the account. Workers speak to it over ZeroMQ, apart from Locust's own
socket, because large frames there would delay heartbeats.

Wire: DEALER to ROUTER, [b"F", spool name, offset (8 bytes), data]; the answer is [b"A", spool name, offset up to
which everything has arrived]. Whoever gets no answer sends again; a repeated frame changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import zmq

from loadtest.clock import Deadline
from loadtest.collector.rows import RowStore
from loadtest.records import Outcome, RequestRecord
from loadtest.spool import SpoolError
from loadtest.traffic.plan import Plan, PlannedArrival, Stripe, planned_arrivals

FLUSH_S = 3.0
NICENESS = 10
FRAMES_PER_TURN_MAX = 200  # so that a flood of frames cannot keep the close command waiting


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """The last command: what was planned, so that every planned turn can be given a row."""

    plan: Plan
    t0_ns: int
    stripes: list[Stripe]  # empty for closed members: there planned = started


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.collector", description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="run folder to write to")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on for workers")
    args = parser.parse_args(argv)
    # Ctrl-C reaches the whole process group; the plugin decides when collecting ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Encoding Parquet can wait; the workers that share this machine cannot.
    os.nice(NICENESS)
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    try:
        port = socket.bind_to_random_port(f"tcp://{args.bind}")
        _say({"port": port})
        account = _collect(socket, RowStore(args.run), args.run / "spool")
        _say({"account": account})
    finally:
        context.destroy(linger=0)
    return 0


def _collect(socket: zmq.Socket[bytes], store: RowStore, spools: Path) -> dict[str, Any]:
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    damaged = 0
    flush = Deadline(FLUSH_S)
    while True:
        ready = dict(poller.poll(max(1, int(flush.left_s() * 1000))))
        if socket in ready:
            damaged += _take_frames(socket, store)
        if flush.over():
            store.flush()
            _say({"counts": store.counts()})
            flush = Deadline(FLUSH_S)
        if sys.stdin.fileno() in ready:
            break
    line = sys.stdin.readline()
    # A frame may have come in with the command.
    damaged += _take_frames(socket, store)
    leftover_bytes = store.take_leftovers(spools)
    close = msgspec.json.decode(line, type=Close) if line.strip() else None
    open_rows = store.close_open()
    planned, filled = None, 0
    if close is not None and close.stripes:
        planned, filled = _fill_missing(store, close)
    store.flush()
    return {
        "planned_turns": planned,
        "rows": store.outcomes.total(),
        "outcomes": {outcome: store.outcomes[outcome] for outcome in Outcome if store.outcomes[outcome]},
        "open_rows": open_rows,
        "filled_rows": filled,
        "leftover_bytes": leftover_bytes,
        "damaged_frames": damaged,
    }


def _fill_missing(store: RowStore, close: Close) -> tuple[int, int]:
    schedule = close.plan.schedule()

    def row_of(one: PlannedArrival) -> RequestRecord:
        at_ns = close.t0_ns + one.due_us * 1000
        shape = schedule.shape(one.arrival)
        return close.plan.row(shape, 0, worker=one.worker, seq=-1, t0_ns=close.t0_ns, at_ns=at_ns)

    return store.fill_missing(planned_arrivals(close.plan, schedule, close.stripes), row_of)


def _take_frames(socket: zmq.Socket[bytes], store: RowStore) -> int:
    damaged = 0
    for _ in range(FRAMES_PER_TURN_MAX):
        try:
            sender, kind, name, start, data = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            break
        except ValueError:
            damaged += 1
            continue
        if kind != b"F":
            damaged += 1
            continue
        try:
            received = store.take(name.decode(), int.from_bytes(start, "big"), data)
        except SpoolError as error:
            damaged += 1
            print(f"collector: frame of {name.decode()!r} refused: {error}", file=sys.stderr)
            continue
        # A worker that is gone cannot be answered, and need not be.
        socket.send_multipart([sender, b"A", name, received.to_bytes(8, "big")], zmq.NOBLOCK)
    return damaged


def _say(message: dict[str, Any]) -> None:
    # The plugin may be gone; the rows are stored all the same.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
