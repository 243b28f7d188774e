"""The two processes of the tests of honesty: `python stressed.py serve ...` and `python stressed.py hear ...`.

Both write one JSON line; the parent compares what was sent with what is claimed to have arrived.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stream:
    """One answer in the making, at the server."""

    sock: socket.socket
    name: str
    due_ns: int
    sent_ns: list[tuple[int, int]] = field(default_factory=list)  # looks at the clock before and after each write


def serve(streams: int, chunks: int, itl_ms: float, core: int) -> None:
    """One thread, all streams: chunk after chunk when due. Prints the port, and at the end when it wrote what."""
    os.sched_setaffinity(0, {core})
    listener = socket.create_server(("127.0.0.1", 0), backlog=streams)
    print(listener.getsockname()[1], flush=True)
    begun: list[Stream] = []
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        open_streams: list[Stream] = []
        while len(begun) < streams or open_streams:
            next_ns = min((stream.due_ns for stream in open_streams), default=time.monotonic_ns() + 100_000_000)
            for key, _ in selector.select(max(0.0, (next_ns - time.monotonic_ns()) / 1e9)):
                if key.fileobj is listener:
                    stream = _begin(listener)
                    begun.append(stream)
                    open_streams.append(stream)
            for stream in open_streams:
                if time.monotonic_ns() >= stream.due_ns:
                    _write(stream, chunks)
                    stream.due_ns += int(itl_ms * 1e6)
            open_streams = [stream for stream in open_streams if len(stream.sent_ns) < chunks]
    print(json.dumps({stream.name: stream.sent_ns for stream in begun}), flush=True)
    sys.stdin.read()  # sockets stay open until the parent is done


def _begin(listener: socket.socket) -> Stream:
    sock, _ = listener.accept()
    sock.settimeout(20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head or not head.endswith(b"}"):
        head += sock.recv(65536)
    name = head.partition(b"X-Request-ID: ")[2].partition(b"\r\n")[0].decode()
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    return Stream(sock, name, time.monotonic_ns())


def _write(stream: Stream, chunks: int) -> None:
    last = len(stream.sent_ns) == chunks - 1
    event = b'data: {"choices":[{"text":"w","finish_reason":%s}]}\n\n' % (b'"stop"' if last else b"null")
    if last:
        event += b"data: [DONE]\n\n"
    wire = b"%x\r\n%s\r\n" % (len(event), event) + (b"0\r\n\r\n" if last else b"")
    before_ns = time.monotonic_ns()
    stream.sock.sendall(wire)
    stream.sent_ns.append((before_ns, time.monotonic_ns()))


def hear(port: int, streams: int, core: int) -> None:
    """Our client. Prints "hearing" when all requests are out, and at the end what it claims of every chunk."""
    import gevent
    import msgspec
    from exchanges import started

    from loadtest.client.exchange import Deadlines, Endpoint, Exchange
    from loadtest.client.outcomes import finish
    from loadtest.client.reactor import Reactor
    from loadtest.client.routes import ROUTES, Call
    from loadtest.clock import cpu_ns, mono_ns
    from loadtest.records import Target

    os.sched_setaffinity(0, {core})
    route, target, reactor = ROUTES["cortensor"], Target(name="t", route="cortensor"), Reactor()
    rows = []

    def one(number: int) -> None:
        call = Call((("user", "hi"),), 64, True, None, f"s{number}", 60.0, f"127.0.0.1:{port}")
        request = route.build(target, call, None)
        exchange = Exchange(Endpoint("127.0.0.1", port), request, Deadlines(10, 30, 30, 60), 1 << 22)
        scheduled_ns = mono_ns()
        reactor.run(exchange)
        row = msgspec.structs.replace(started(), client_reference=call.client_reference, scheduled_ns=scheduled_ns)
        rows.append(finish(row, call, exchange, route.read(call, exchange), None))

    began_ns, cpu_began_ns = mono_ns(), cpu_ns()
    greenlets = [gevent.spawn(one, number) for number in range(streams)]
    gevent.sleep(0.2)
    print("hearing", flush=True)
    gevent.joinall(greenlets, raise_error=True)
    share = (cpu_ns() - cpu_began_ns) / (mono_ns() - began_ns)
    figures = reactor.figures() | {"cpu_share": share}
    reactor.close()
    print(json.dumps({"rows": [msgspec.structs.asdict(row) for row in rows], "figures": figures}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    else:
        hear(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
