"""docs/accuracy.md and its picture, from the figures of one run."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stand.cells import Flow
from stand.errors import Figures, Spread

NAMES = {
    "ours": "this harness",
    "ours-tls": "this harness over TLS",
    "fasthttp": "FastHttpUser, readline",
    "requests": "requests, iter_lines",
    "httpx": "httpx, iter_lines",
    "c": "C client",
}
COLOURS = {
    "ours": "#0b6e4f",
    "ours-tls": "#6bb392",
    "fasthttp": "#c44536",
    "requests": "#e09f3e",
    "httpx": "#7d4e9e",
    "c": "#555555",
}


class Aim(NamedTuple):
    """A bound the client is held to, and what was measured."""

    text: str
    bound: float
    measured: float
    at_least: bool = False

    def met(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


class Facts(NamedTuple):
    """What the reader must know to judge the figures."""

    machine: str
    date: str
    command: str
    rounds: int
    load: str


def machine() -> str:
    told = Path("/proc/cpuinfo").read_text()
    models = (line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name"))
    model, cores = next(models, platform.machine()), told.count("processor\t")
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


def slopes(figures: Sequence[Figures]) -> dict[str, tuple[float, str]]:
    """CPU us per chunk at a steady pace, by client: the slope between two stream counts, so that start-up drops out.

    From 200 to 1,000 streams, or between the two largest counts that a client was given.
    """
    found = {}
    for client in dict.fromkeys(each.client for each in figures):
        cells = {each.streams: each for each in figures if each.client == client}
        low, high = (200, 1000) if {200, 1000} <= cells.keys() else sorted(cells)[-2:]
        chunks = cells[high].chunks - cells[low].chunks
        found[client] = ((cells[high].cpu_us - cells[low].cpu_us) / chunks, f"{low:,} to {high:,}")
    return found


def aims(figures: Sequence[Figures], flows: dict[str, tuple[Flow, Flow]]) -> list[Aim]:
    """The targets of the client at 1,000 streams and without delays; empty when those were not measured."""
    cells = {each.client: each for each in figures if each.streams == 1000}
    ours, over_tls = cells.get("ours"), cells.get("ours-tls")
    slope = {client: value for client, (value, _) in slopes(figures).items()}
    found: list[Aim] = []
    if ours is not None:
        found = [
            *_accuracy(ours, ""),
            Aim("CPU per chunk, times the C client's", 2.2, slope["ours"] / slope["c"]),
            Aim("CPU per chunk, times FastHttpUser's", 0.7, slope["ours"] / slope["fasthttp"]),
            Aim("memory above the idle process, MB", 110, ours.memory_mb),
        ]
    if ours is not None and over_tls is not None:
        found += [
            *_accuracy(over_tls, "over TLS: "),
            Aim("over TLS: CPU per chunk, times that without", 1.4, slope["ours-tls"] / slope["ours"]),
        ]
    if flows:
        (stream, whole), (stream_peer, whole_peer) = flows["ours"], flows["fasthttp"]
        chunks = stream.chunks_per_s / stream_peer.chunks_per_s
        requests = whole.requests_per_s / whole_peer.requests_per_s
        found += [
            Aim("no delay, chunks/s over FastHttpUser's", 1.3, chunks, True),
            Aim("no delay, requests/s over FastHttpUser's", 3, requests, True),
        ]
    return found


def _accuracy(cell: Figures, where: str) -> list[Aim]:
    return [
        Aim(f"{where}TTFT error, p50, ms", 0.05, cell.ttft.p50),
        Aim(f"{where}TTFT error, p99, start burst included, ms", 0.8, cell.ttft.p99),
        Aim(f"{where}TTFT error, p99, after the burst, ms", 0.25, cell.ttft_after.p99),
        Aim(f"{where}ITL error, p99, ms", 0.1, cell.itl.p99),
        Aim(f"{where}share of the offered rate", 0.99, cell.rate_share, True),
    ]


def markdown(
    facts: Facts, figures: Sequence[Figures], flows: dict[str, tuple[Flow, Flow]], left_out: Sequence[str], picture: str
) -> str:
    lines = [
        "# Accuracy of the client",
        "",
        "Made by `benchmarks/accuracy.py`; do not edit. Both sides run on one machine and one clock: a C server",
        "(`benchmarks/native/mocksse.c`) logs the instant of every chunk it writes, and each client's own figures are",
        "compared with that log, request by request. Errors are absolute, in ms.",
        "",
        f"- Machine: {facts.machine}.",
        f"- Date: {facts.date}. Command: `{facts.command}`.",
        f"- Every figure is the median of {facts.rounds} rounds; all clients take turns in each round.",
        f"- {facts.load}",
        "- Client on one core, server on another; loopback. Streams of 50 chunks/s (first after 100 ms, then every 20",
        "  ms with 10 % jitter, 80 to 120 chunks), all begun at once; three requests per stream, one after the other.",
        "  *After the burst* is what was sent at least 2 s after the first request.",
        "- The Python clients run on gevent; ours is the worker's whole path (rows into a spool that is shipped,",
        "  Locust's live table); the others stamp each line, decode its JSON after the end and write a row as well.",
        "- Over TLS every connection makes a whole handshake (1.3, P-256); its CPU is in the figures.",
        "- CPU is user and system; *others* is what other processes took of the busier of the two cores.",
        *[f"- {each}" for each in left_out],
        "",
        f"![Errors and CPU by number of streams]({picture})",
        "",
        *_errors(figures),
        *_cpu(figures),
        *_self_told(figures),
        *_flows(flows),
        *_aims(aims(figures, flows)),
    ]
    return "\n".join(lines) + "\n"


def _errors(figures: Sequence[Figures]) -> list[str]:
    lines = [
        "## Errors against the server's log",
        "",
        "p50 / p99 / worst.",
        "",
        "| streams | client | rate | TTFT | TTFT after the burst | ITL | E2E | others |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {each.streams:,} | {NAMES[each.client]} | {each.rate_share:.1%} | {_text(each.ttft)}"
        f" | {_text(each.ttft_after)} | {_text(each.itl)} | {_text(each.e2e)} | {each.others:.0%} |"
        for each in sorted(figures, key=lambda each: each.streams)
    ]
    return [*lines, ""]


def _cpu(figures: Sequence[Figures]) -> list[str]:
    found = slopes(figures)
    lines = [
        "## CPU and memory",
        "",
        "At a steady pace: the slope between two numbers of streams. At most: of a whole run, start-up included.",
        "",
        "| client | us/chunk, steady | between streams | times C | us/chunk at most (streams) | MB above idle |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for client, (slope, between) in found.items():
        most = max((each for each in figures if each.client == client), key=lambda each: each.streams)
        times = f"{slope / found['c'][0]:.2f}" if "c" in found else "–"
        cell = f"{most.cpu_us / most.chunks:.1f} ({most.streams:,})"
        lines.append(f"| {NAMES[client]} | {slope:.1f} | {between} | {times} | {cell} | {most.memory_mb:.0f} |")
    return [*lines, ""]


def _self_told(figures: Sequence[Figures]) -> list[str]:
    lines = [
        "## What ours says of itself",
        "",
        "*In bound*: chunks whose stated interval (arrival - bound, arrival] holds the server's instant, 0.1 ms",
        "allowed for its write. *Coalesced*: chunks that came in one read with an earlier one. The verdict is unfit",
        "when one round was.",
        "",
        "| streams | client | in bound | coalesced | kernel stamps | verdict of its own |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for each in figures:
        if each.in_bound is not None and each.coalesced is not None and each.kernel is not None:
            verdict = "unfit: " + "; ".join(each.unfit) if each.unfit else "fit"
            lines.append(
                f"| {each.streams:,} | {NAMES[each.client]} | {each.in_bound:.3%} | {each.coalesced:.3%}"
                f" | {each.kernel:.1%} | {verdict} |"
            )
    return [*lines, ""]


def _flows(flows: dict[str, tuple[Flow, Flow]]) -> list[str]:
    if not flows:
        return []
    lines = [
        "## No delay",
        "",
        "64 connections, a server that waits for nothing, rows recorded.",
        "",
        "| client | streaming, chunks/s | non-streaming, requests/s |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {NAMES[client]} | {stream.chunks_per_s:,.0f} | {whole.requests_per_s:,.0f} |"
        for client, (stream, whole) in flows.items()
    ]
    return [*lines, ""]


def _aims(found: list[Aim]) -> list[str]:
    if not found:
        return []
    lines = ["## Targets", "", "At 1,000 streams.", "", "| target | bound | measured | |", "|---|---:|---:|---|"]
    for aim in found:
        sign = "≥" if aim.at_least else "≤"
        lines.append(
            f"| {aim.text} | {sign} {aim.bound:g} | {aim.measured:.3g} | {'met' if aim.met() else '**missed**'} |"
        )
    return [*lines, ""]


def _text(spread: Spread) -> str:
    return " / ".join(f"{value:.3f}" if value < 1 else f"{value:,.1f}" for value in spread)


def draw(figures: Sequence[Figures], path: Path) -> None:
    """TTFT error, ITL error and CPU against the number of streams."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "accuracy"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    titles = ("TTFT error, ms (p50 dashed, p99)", "ITL error, ms (p99)", "CPU, us per chunk")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="streams of 50 chunks/s", xscale="log", yscale="log")
        panel.grid(alpha=0.3)
    for client in dict.fromkeys(each.client for each in figures):
        cells = sorted((each for each in figures if each.client == client), key=lambda each: each.streams)
        streams = [each.streams for each in cells]
        look = {"color": COLOURS[client], "marker": "o", "markersize": 4}
        panels[0].plot(streams, [each.ttft.p99 for each in cells], label=NAMES[client], **look)
        panels[0].plot(streams, [each.ttft.p50 for each in cells], linestyle="--", **look)
        panels[1].plot(streams, [each.itl.p99 for each in cells], label=NAMES[client], **look)
        panels[2].plot(streams, [each.cpu_us / each.chunks for each in cells], label=NAMES[client], **look)
    ticks = sorted({each.streams for each in figures})
    for panel in panels:
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.minorticks_off()
    panels[2].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
