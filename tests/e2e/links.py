"""Links between machines that can be hurt: two network namespaces and a cable, a relay that is slow, a small disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import wait_for

from loadtest.clock import mono_ns
from loadtest.processes import end

MASTER_ADDRESS, WORKER_ADDRESS = "10.213.7.1", "10.213.7.2"
SIMULATOR_PORT = 8123
SIMULATOR_END_S = 30
COMMAND_S = 20


def cannot(text: str) -> None:
    """Where the faults must be possible (CI=true) it is a failure that they are not, elsewhere the test is skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def need(*programs: str) -> None:
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for program in programs:
        if shutil.which(program) is None:
            cannot(f"{program} is not installed: `make test-long` as root installs it")
    if os.geteuid() != 0:
        cannot("namespaces and mounts need root")


def _do(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S)


def _must(*command: str) -> str:
    done = _do(*command)
    if done.returncode:
        cannot(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Cable:
    """Two namespaces with one link; each has the same simulated network on its own loopback, so that only the swarm's
    own traffic crosses the link."""

    near: str
    far: str
    url: str

    def inside_near(self) -> list[str]:
        return ["ip", "netns", "exec", self.near]

    def inside_far(self) -> list[str]:
        return ["ip", "netns", "exec", self.far]

    def pull_out(self) -> None:
        _must("ip", "-n", self.near, "link", "set", "cable", "down")

    def plug_in(self) -> None:
        _must("ip", "-n", self.near, "link", "set", "cable", "up")

    def lose_every(self, n: int) -> None:
        """Every n-th packet is dropped, in both directions, the first one included."""
        for namespace in (self.near, self.far):
            rule = [
                "-A",
                "INPUT",
                "-i",
                "cable",
                "-m",
                "statistic",
                "--mode",
                "nth",
                "--every",
                str(n),
                "--packet",
                "0",
            ]
            _must("ip", "netns", "exec", namespace, "iptables", *rule, "-j", "DROP")

    def packets_lost(self) -> list[int]:
        """Dropped on the way to the near and to the far end."""
        listed = [
            _must("ip", "netns", "exec", namespace, "iptables", "-nvxL", "INPUT") for namespace in (self.near, self.far)
        ]
        return [int(next(line for line in text.splitlines() if "DROP" in line).split()[0]) for text in listed]


@contextmanager
def cable(scratch: Path) -> Iterator[Cable]:
    """Always taken down again, whatever the test does."""
    need("ip", "iptables")
    near, far = f"near-{os.getpid()}", f"far-{os.getpid()}"
    with ExitStack() as stack:
        for namespace in (near, far):
            _must("ip", "netns", "add", namespace)
            stack.callback(_do, "ip", "netns", "del", namespace)
            _must("ip", "-n", namespace, "link", "set", "lo", "up")
        _must("ip", "-n", near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", far)
        for namespace, address in ((near, MASTER_ADDRESS), (far, WORKER_ADDRESS)):
            _must("ip", "-n", namespace, "address", "add", f"{address}/30", "dev", "cable")
            _must("ip", "-n", namespace, "link", "set", "cable", "up")
        for namespace in (near, far):
            stack.callback(end, _simulate(["ip", "netns", "exec", namespace], scratch / namespace), SIMULATOR_END_S)
        yield Cable(near, far, f"http://127.0.0.1:{SIMULATOR_PORT}")


def _simulate(inside: Sequence[str], port_file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "loadtest", "simulate", "--port", str(SIMULATOR_PORT), "--seed", "7"]
    process = subprocess.Popen(
        [*inside, *command, "--port-file", str(port_file)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    wait_for("the simulator", lambda: port_file.exists() or process.poll() is not None)
    assert process.poll() is None
    return process


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own of so much space."""
    need("mount", "umount")
    folder.mkdir()
    _must("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _must("umount", "-l", str(folder))


class SlowRelay:
    """Passes TCP on from one address to another, each byte `delay_s` later, in both directions."""

    def __init__(self, listen: str, to: str, delay_s: float) -> None:
        self._listen, self._to, self._delay_s = listen, to, delay_s
        self.bytes_passed = 0
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def open(self, port: int) -> None:
        asyncio.run_coroutine_threadsafe(self._serve(port), self._loop).result(COMMAND_S)

    async def _serve(self, port: int) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_connection(self._to, port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

        self._servers.append(await asyncio.start_server(accept, self._listen, port))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

        async def write() -> None:
            data = b"?"
            while data:
                due_ns, data = await waiting.get()
                await asyncio.sleep(max(0.0, (due_ns - mono_ns()) / 1e9))
                try:
                    writer.write(data)
                    await writer.drain()
                except OSError:
                    break
                self.bytes_passed += len(data)
            writer.close()

        writing = asyncio.ensure_future(write())
        data = b"?"
        while data:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            waiting.put_nowait((mono_ns() + int(self._delay_s * 1e9), data))
        await writing

    async def _finish(self) -> None:
        for server in self._servers:
            server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(COMMAND_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(COMMAND_S)
        self._loop.close()


def collector_port(master: subprocess.Popen[bytes]) -> int:
    """Where the collector of a master listens, as soon as it does."""
    found: list[int] = []

    def look() -> bool:
        for child in psutil.Process(master.pid).children(recursive=True):
            if "loadtest.collector" in child.cmdline():
                listening = [each for each in child.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
                found.extend(each.laddr.port for each in listening)
        return bool(found) or master.poll() is not None

    wait_for("the collector", look)
    assert found
    return found[0]
