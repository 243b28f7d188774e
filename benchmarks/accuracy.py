"""Every client's TTFT, ITL and E2E against a C server's own log, its CPU per chunk and its memory, in one run.

    python benchmarks/accuracy.py            # several minutes; writes docs/accuracy.md and docs/accuracy.svg
    python benchmarks/accuracy.py --quick    # 50 and 200 streams, ours and FastHttpUser, under a minute; writes nothing

The clients run in processes of their own on one core, the server on another. Read ratios: absolute figures are of
this machine and of what else it is doing (`others`).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from stand import native, page  # noqa: E402
from stand.cells import Cores, Flow, at_once, paced  # noqa: E402
from stand.errors import Figures, median_of  # noqa: E402

# What each can do: httpx needs more than a core for 500 streams, requests for 1,000.
STREAMS: dict[str, tuple[int, ...]] = {
    "ours": (50, 200, 500, 1000, 2000),
    "ours-tls": (200, 1000),
    "fasthttp": (50, 200, 500, 1000, 2000),
    "requests": (50, 200, 500, 1000),
    "httpx": (50, 200),
    "c": (50, 200, 500, 1000, 2000),
}
LEFT_OUT = (
    "httpx is measured up to 200 streams and requests up to 1,000: beyond that each needs more than one core, and the"
    " figures would say only that.",
    "FastHttpUser tests a kept connection with select(), which fails for descriptors above 1,023: with more streams it"
    " connects anew for each request. That is how it comes.",
)
PREEMPTING = (
    " That keeps other jobs out of the errors. It also makes each wake-up dearer, and the C client wakes for nearly"
    " every chunk: at ordinary priority on a quiet machine its CPU is lower, and ours is more times it, than told here."
)
QUICK: dict[str, tuple[int, ...]] = {"ours": (50, 200), "fasthttp": (50, 200)}
REQUESTS = 3  # per stream, one after the other
CONNECTIONS, STREAMED, WHOLE = 64, 60, 500  # without delays: connections, requests of each
ROUNDS = 3


def measure(plan: dict[str, tuple[int, ...]], rounds: int, requests: int, cores: Cores) -> list[Figures]:
    found: dict[tuple[str, int], list[Figures]] = {}
    for number in range(rounds):
        for streams in sorted({count for counts in plan.values() for count in counts}):
            for client in (client for client, counts in plan.items() if streams in counts):
                figures = paced(client, streams, requests, cores)
                found.setdefault((client, streams), []).append(figures)
                say(number, figures)
    clients = list(plan)
    return [median_of(found[key]) for key in sorted(found, key=lambda key: (clients.index(key[0]), key[1]))]


def measure_flows(clients: list[str], rounds: int, cores: Cores) -> dict[str, tuple[Flow, Flow]]:
    """Streaming and non-streaming, as fast as it goes."""
    found: dict[str, list[tuple[Flow, Flow]]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client in clients:
            stream = at_once(client, CONNECTIONS, STREAMED, True, cores)
            whole = at_once(client, CONNECTIONS, WHOLE, False, cores)
            found[client].append((stream, whole))
            told = f"{stream.chunks_per_s:10,.0f} chunks/s {whole.requests_per_s:9,.0f} requests/s"
            print(f"no delay {client:9} {told}", flush=True)
    return {
        client: (
            sorted((stream for stream, _ in flows), key=lambda flow: flow.chunks_per_s)[len(flows) // 2],
            sorted((whole for _, whole in flows), key=lambda flow: flow.requests_per_s)[len(flows) // 2],
        )
        for client, flows in found.items()
    }


def say(number: int, each: Figures) -> None:
    own = "" if each.in_bound is None else f" in bound {each.in_bound:.2%} {'unfit' if each.unfit else 'fit'}"
    print(
        f"{number + 1} {each.client:9}{each.streams:6,} streams  CPU {each.cpu_us / each.chunks:6.2f} us/chunk"
        f"  TTFT error {each.ttft.p50:.3f} / {each.ttft.p99:.3f}  after {each.ttft_after.p99:.3f}"
        f"  ITL {each.itl.p99:.3f} ms  rate {each.rate_share:.1%}  others {each.others:.0%}{own}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look in under a minute; writes nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="medians of so many (default %(default)s)")
    asked = parser.parse_args()
    cores = Cores(*native.cores())
    began = os.getloadavg()
    native.pin(cores.server)
    if asked.quick:
        figures = measure(QUICK, 1, 2, cores)
        flows = measure_flows(["ours", "fasthttp"], 1, cores)
    else:
        figures = measure(STREAMS, asked.rounds, REQUESTS, cores)
        flows = measure_flows(["ours", "fasthttp", "c"], asked.rounds, cores)
    for client, (slope, between) in page.slopes(figures).items():
        print(f"{client:9} {slope:6.2f} us of CPU per chunk, slope from {between} streams")
    for aim in page.aims(figures, flows):
        print(f"{'met   ' if aim.met() else 'MISSED'} {aim.text}: {aim.measured:.3g} (bound {aim.bound:g})")
    if not asked.quick:
        docs = REPO / "docs"
        page.draw(figures, docs / "accuracy.svg")
        words = f"load average {began[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
        priority = os.sched_getscheduler(0)
        share = "the real-time priority of `chrt -f`" if priority == os.SCHED_FIFO else "ordinary priority"
        facts = page.Facts(
            machine=page.machine(),
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            command=shlex.join(["python", "benchmarks/accuracy.py", *sys.argv[1:]]),
            rounds=asked.rounds,
            load=f"Server and clients ran with {share}; {words}.{PREEMPTING if priority == os.SCHED_FIFO else ''}",
        )
        (docs / "accuracy.md").write_text(page.markdown(facts, figures, flows, LEFT_OUT, "accuracy.svg"))
        print(f"written: {docs / 'accuracy.md'} and {docs / 'accuracy.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
