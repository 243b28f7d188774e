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
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from loadtest.clock import Deadline
from loadtest.collector.account import Close, close_account
from loadtest.collector.rows import RowStore
from loadtest.processes import stand_back
from loadtest.runfolder import RunFolderError
from loadtest.spool import SpoolError
from loadtest.writers import sole_writer

FLUSH_S = 3.0
PORT_WAIT_S = 10.0
FRAMES_PER_TURN_MAX = 200  # so that a flood of frames cannot keep the close command waiting


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.collector", description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="run folder to write to")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on for workers")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes any that is free")
    args = parser.parse_args(argv)
    # Ctrl-C reaches the whole process group; the plugin decides when collecting ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Encoding Parquet can wait; the workers that share this machine cannot.
    stand_back()
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    try:
        try:
            port = _bind(socket, args.bind, args.port)
        except zmq.ZMQError as error:
            print(f"collector: cannot listen on {args.bind}:{args.port}: {error}", file=sys.stderr)
            return 1
        _say({"port": port})
        try:
            args.run.mkdir(parents=True, exist_ok=True)
            with sole_writer(args.run):
                account = _collect(socket, RowStore(args.run), args.run / "spool")
        except RunFolderError as error:
            print(f"collector: {error}", file=sys.stderr)
            return 1
        _say({"account": account})
    finally:
        context.destroy(linger=0)
    return 0


def _bind(socket: zmq.Socket[bytes], address: str, port: int) -> int:
    """Listen, and return the port. One that is given may still be held by the run before, which is being stored."""
    if not port:
        return int(socket.bind_to_random_port(f"tcp://{address}"))
    deadline = Deadline(PORT_WAIT_S)
    while True:
        try:
            socket.bind(f"tcp://{address}:{port}")
            return port
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or deadline.over():
                raise
            time.sleep(0.1)


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
    return close_account(store, close, leftover_bytes=leftover_bytes, damaged_frames=damaged)


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
        except (SpoolError, UnicodeDecodeError) as error:
            damaged += 1
            print(f"collector: frame of {name[:80]!r} refused: {error}", file=sys.stderr)
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
