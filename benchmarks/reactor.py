"""CPU per chunk and TTFT error of our reactor beside Locust's FastHttpUser, against a C server's own log.

    python benchmarks/reactor.py [--streams 200] [--requests 2]

Both clients run in the same run on the same core, so read the ratios; the absolute figures are of this machine. The
server writes chunks of one token, 100 per answer, 20 ms apart, the first after 100 ms. TTFT error is the instant
the client gives for the first content minus the instant at which the server wrote it (one machine, one clock);
"in bound" is the share of requests whose stated interval (stamp - bound, stamp] holds the truth.
CPU is of the client's process, request building and decoding included, start-up excluded.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

NATIVE = Path(__file__).parent / "native"
CLIENTS = ("ours", "ours-user-stamps", "locust")
CHUNKS, TTFT_MS, ITL_MS = 100, 100, 20
WRITE_NS = 100_000  # between the server's look at the clock and the arrival
PATH = "/v1/chat/completions"
# CPU us per chunk; first content and its bound, ns, by request; the reactor's figures.
Told = tuple[float, dict[str, tuple[int, int]], dict[str, int]]


def build_server() -> Path:
    binary = NATIVE / "build" / "mocksse"
    source = NATIVE / "mocksse.c"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        binary.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-w", "-o", str(binary), str(source), "-lm"], check=True, timeout=120)
    return binary


def pin(core: int) -> None:
    """Server and client on cores of their own, so that neither waits for the other."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def calm_garbage_collector() -> None:
    """After the imports, as a run does it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def run_ours(port: int, streams: int, requests: int, kernel: bool) -> Told:
    import gevent

    from loadtest.client.exchange import Deadlines, Endpoint, Exchange
    from loadtest.client.reactor import Reactor
    from loadtest.client.routes import ROUTES, Call
    from loadtest.clock import cpu_ns
    from loadtest.records import Target

    route, target = ROUTES["openai-chat"], Target(name="mock", route="openai-chat", model="mock")
    reactor = Reactor(kernel_stamps=kernel)
    firsts: dict[str, tuple[int, int]] = {}
    chunks = [0]

    def one(stream: int) -> None:
        gevent.sleep(stream * 2.0 / streams)
        for number in range(requests):
            call = Call((("user", "hi"),), CHUNKS, True, None, f"{stream}-{number}", 60.0, f"127.0.0.1:{port}")
            exchange = Exchange(
                Endpoint("127.0.0.1", port), route.build(target, call, None), Deadlines(5, 30, 30, 60), 1 << 22
            )
            reactor.run(exchange)
            answer = route.read(call, exchange)
            assert answer.stream_end == "done_marker", exchange
            first = exchange.reads[answer.pieces[0].read]
            firsts[call.client_reference] = (first.stamp_ns, first.bound_ns)
            chunks[0] += len(answer.pieces)

    calm_garbage_collector()
    before = cpu_ns()
    gevent.joinall([gevent.spawn(one, stream) for stream in range(streams)], raise_error=True)
    used = cpu_ns() - before
    figures = reactor.figures()
    reactor.close()
    return used / chunks[0] / 1e3, firsts, figures


def run_locust(port: int, streams: int, requests: int) -> Told:
    import gevent
    import msgspec
    from locust import FastHttpUser
    from locust.env import Environment

    from loadtest.clock import cpu_ns, mono_ns

    class Chatter(FastHttpUser):
        host = f"http://127.0.0.1:{port}"
        abstract = True

    environment = Environment(user_classes=[Chatter])
    firsts: dict[str, tuple[int, int]] = {}
    chunks = [0]
    body = msgspec.json.encode({"model": "mock", "stream": True, "max_tokens": CHUNKS})

    def one(stream: int) -> None:
        gevent.sleep(stream * 2.0 / streams)
        client = Chatter(environment).client
        for number in range(requests):
            reference = f"{stream}-{number}"
            headers = {"Content-Type": "application/json", "X-Request-Id": reference}
            with client.post(PATH, data=body, headers=headers, stream=True, catch_response=True) as response:
                lines: list[tuple[int, bytes]] = []
                while line := response.stream.readline(b"\n"):
                    if line.startswith(b"data: {"):
                        lines.append((mono_ns(), line))
                response.success()
            for _, line in lines:
                msgspec.json.decode(line[6:])
            firsts[reference] = (lines[0][0], 0)
            chunks[0] += len(lines)

    calm_garbage_collector()
    before = cpu_ns()
    gevent.joinall([gevent.spawn(one, stream) for stream in range(streams)], raise_error=True)
    return (cpu_ns() - before) / chunks[0] / 1e3, firsts, {}


def measure(client: str, streams: int, requests: int) -> dict[str, float]:
    """One client against a fresh server: CPU us per chunk and the quantiles of the TTFT error in ms."""
    from loadtest.quantiles import nearest_rank

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = f"{folder}/log"
        shape = ["--chunks", str(CHUNKS), "--ttft", str(TTFT_MS), "--itl", str(ITL_MS), "--log", log]
        server = subprocess.Popen(
            [str(build_server()), "--port", str(port), *shape], preexec_fn=lambda: pin(0), stderr=subprocess.DEVNULL
        )
        try:
            child = [sys.executable, __file__, "--child", client, "--port", str(port)]
            told = subprocess.run(
                [*child, "--streams", str(streams), "--requests", str(requests)],
                check=True,
                stdout=subprocess.PIPE,
                timeout=60 + requests * 10,
            )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
        cpu_us, firsts, figures = json.loads(told.stdout)
        with Path(f"{log}.csv").open() as rows:
            written = {row["id"]: int(row["t_first"]) for row in csv.DictReader(rows)}
    errors = sorted((stamp - written[reference]) / 1e6 for reference, (stamp, _) in firsts.items())
    # The server notes the instant before its write, so the bytes arrive a little later than that.
    held = sum(stamp - bound <= written[reference] + WRITE_NS for reference, (stamp, bound) in firsts.items())
    return {
        "cpu_us": cpu_us,
        "p50": nearest_rank(errors, 0.5),
        "p99": nearest_rank(errors, 0.99),
        "max": errors[-1],
        "held": held / len(firsts),
        "kernel": figures.get("reads_kernel", 0) / max(1, figures.get("reads", 0)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2, help="per stream, one after the other")
    parser.add_argument("--child", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        pin(1)
        told = (
            run_locust(asked.port, asked.streams, asked.requests)
            if asked.child == "locust"
            else run_ours(asked.port, asked.streams, asked.requests, asked.child == "ours")
        )
        print(json.dumps(told))
        return 0
    results = {client: measure(client, asked.streams, asked.requests) for client in CLIENTS}
    print(f"{asked.streams} streams, {asked.streams * 1000 // ITL_MS} chunks/s, ratios to locust in brackets")
    print(
        f"{'client':18}{'CPU us/chunk':>16}{'TTFT error ms p50':>22}{'p99':>18}{'max':>10}{'in bound':>10}{'kernel':>8}"
    )
    theirs = results["locust"]
    for client, found in results.items():
        cells = [f"{found[key]:.3f} ({found[key] / theirs[key]:.2f})" for key in ("cpu_us", "p50", "p99")]
        bound = f"{found['held']:>10.1%}{found['kernel']:>8.0%}" if client != "locust" else f"{'-':>10}{'-':>8}"
        print(f"{client:18}{cells[0]:>16}{cells[1]:>22}{cells[2]:>18}{found['max']:>10.2f}{bound}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
