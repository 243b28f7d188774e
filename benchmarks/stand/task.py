"""What a client process is asked for, and what it writes: one file of rows and one line of figures."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

PATH = "/v1/chat/completions"
CLIENTS = ("ours", "fasthttp", "requests", "httpx")
TIMEOUT_S = 120.0


class Task(msgspec.Struct, frozen=True):
    """`streams` connections, each sending `requests` requests one after the other."""

    client: str
    core: int
    port: int
    streams: int
    requests: int
    stream: bool
    rows: str  # the file to write
    collector: str  # where ours ships its rows, as a worker does
    tls: bool = False  # ours only; SSL_CERT_FILE names the authority


class Told(msgspec.Struct, frozen=True):
    """What a client process says of itself. CPU is user and system of the load phase, imports excluded."""

    cpu_ns: int
    elapsed_ns: int
    idle_kb: int  # resident before the first request
    peak_kb: int
    figures: dict[str, Any]


class Row(msgspec.Struct, frozen=True, array_like=True):
    """What a peer's client records of one request, monotonic ns; as many arrivals as content chunks."""

    reference: str
    sent_ns: int
    done_ns: int
    arrivals_ns: list[int]


_encoder = msgspec.msgpack.Encoder()


def reference(stream: int, number: int) -> str:
    """The id of a request: ours gives it the form run.arrival.turn, so all do."""
    return f"b.{stream * 1000 + number}.0"


def stream_of(name: str) -> int:
    """The stream that sent a request."""
    return int(name.split(".")[1]) // 1000


def request_body(stream: bool) -> bytes:
    """The same for every Python client: what our openai-chat route sends."""
    body: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    return msgspec.json.encode(
        body | {"stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})
    )


def pack_row(row: Row) -> bytes:
    data = _encoder.encode(row)
    return len(data).to_bytes(4, "big") + data


def unpack_rows(data: bytes) -> Iterator[Row]:
    decoder, offset = msgspec.msgpack.Decoder(Row), 0
    while offset < len(data):
        end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
        yield decoder.decode(data[offset + 4 : end])
        offset = end


def calm_garbage_collector() -> None:
    """After the imports, as a worker of ours does it, and the peers get the same."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def allow_descriptors() -> None:
    """2,000 streams need more than the usual 1,024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Memory:
    """Resident kB: `idle_kb` when made, the peak since then when asked."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self.idle_kb = self._read("VmRSS")

    def peak_kb(self) -> int:
        return self._read("VmHWM")

    def _read(self, name: str) -> int:
        lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))
