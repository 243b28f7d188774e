"""A server that begins each answer at once and holds the rest until it is told, or for a stated time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNK = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s "}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
STARTED_S = 10

# Every member sends one request, at the same time, and would think for as long again before its next one.
PROFILE = """
[load]
mode = "closed"
members = {members}
duration_s = 100.0
warmup_s = 0.0
drain_s = 30.0

[writing]
system_prompt_tokens = 10
history_tokens_max = 64

[[target]]
name = "held"
route = "openai-chat"
model = "default"
timeout_s = 90.0

[[persona]]
name = "patient"
weight = 1.0
locale = "en_US"
prompt_tokens = {{ dist = "fixed", value = 10 }}
output_tokens = {{ dist = "fixed", value = 20 }}
turns = {{ dist = "fixed", value = 1 }}
think_s = {{ dist = "fixed", value = 5 }}
"""


def write_profile(folder: Path, members: int) -> Path:
    path = folder / "held.toml"
    path.write_text(PROFILE.format(members=members))
    return path


class Holding:
    """`held` requests have had their first chunk and wait for the rest."""

    def __init__(self, hold_s: float | None) -> None:
        self.url, self.held = "", 0
        self._hold_s = hold_s

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._release.set)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if head.startswith(b"post"):
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                await self._held_answer(writer)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                await writer.drain()
        writer.close()

    async def _held_answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + CHUNK % b"first")
        await writer.drain()
        self.held += 1
        try:
            if self._hold_s is None:
                await self._release.wait()
            else:
                await asyncio.sleep(self._hold_s)
        finally:
            self.held -= 1
        writer.write(CHUNK % b"last" + END)
        await writer.drain()

    async def serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._release, self._stop = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0, backlog=1000)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()
            await self._stop.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)


@contextmanager
def holding(hold_s: float | None = None) -> Iterator[Holding]:
    server, started = Holding(hold_s), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(started)), daemon=True)
    thread.start()
    assert started.wait(STARTED_S)
    try:
        yield server
    finally:
        server.stop()
        thread.join(timeout=STARTED_S)
