"""nginx from the system's packages in front of a server on loopback, configured as routers are documented to be."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtest.clock import Deadline

READY_S = 15
READ_TIMEOUT_S = 300.0  # of the documented configuration
SHORTER = 100  # for running

# The documented prefixes of the completion routes and of what answers at once.
COMPLETIONS = ("/api/v1/completions", "/api/v2/completions", "/api/v1/x402/completions")
OTHERS = (
    "/api/v1/info", "/api/v1/status", "/api/v1/miners", "/api/v1/sessions", "/api/v1/tasks", "/api/v1/ping",
    "/api/v1/about", "/about",
)  # fmt: skip


def nginx_program() -> str:
    """Where nginx is. Where it must be (CI=true) its absence is a failure, elsewhere the test is skipped."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        text = "nginx is not installed: apt-get install nginx (make test-long does it when root)"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


def configuration(folder: Path, port: int, upstream_port: int, *, shorter: float = 1, completions: str = "") -> str:
    """The documented shape. `shorter` divides its timeouts; `completions` replaces "proxy_buffering off;"."""
    temporary = "".join(
        f"    {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Worker processes of a root's nginx are somebody else, who may not read the folder of a test.
    user = f"user {getpass.getuser()};\n" if os.geteuid() == 0 else ""
    streamed = completions or "proxy_buffering off;"
    streamed += f" tcp_nodelay on; proxy_read_timeout {round(1000 * READ_TIMEOUT_S / shorter)}ms;"
    if "proxy_buffer_size" not in streamed:
        streamed += " proxy_buffer_size 4k;"
    locations = [f"location {path} {{ proxy_pass http://router; {streamed} }}" for path in COMPLETIONS]
    locations += [f"location {path} {{ proxy_pass http://router; }}" for path in OTHERS]
    joined = "\n        ".join(locations)
    return f"""{user}daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 1024; }}
http {{
{temporary}    access_log off;
    upstream router {{ server 127.0.0.1:{upstream_port}; }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        location / {{ return 404; }}
        {joined}
    }}
}}
"""


@dataclass
class Proxy:
    """A running nginx."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return (self.folder / "error.log").read_text()

    def reload(self) -> None:
        """Read the configuration again and wait for the new worker process; the old one ends its requests."""
        before = self.log().count("start worker process ")
        self.process.send_signal(signal.SIGHUP)
        deadline = Deadline(READY_S)
        while self.log().count("start worker process ") == before:
            assert not deadline.over(), f"nginx did not reload: {self.log()[-1000:]}"
            time.sleep(0.02)


def accepted_command(folder: Path, text: str) -> list[str]:
    """Write the configuration, have it checked by `nginx -t`, return the command that runs it."""
    folder.mkdir(exist_ok=True)
    path = folder / "nginx.conf"
    path.write_text(text)
    command = [nginx_program(), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path)]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "test is successful" in done.stderr, done.stderr
    return command


@contextmanager
def nginx(folder: Path, upstream: str, *, completions: str = "") -> Iterator[Proxy]:
    """nginx in front of `upstream`, timeouts divided by 100, ended by its process id."""
    port = free_port()
    text = configuration(folder, port, int(upstream.rpartition(":")[2]), shorter=SHORTER, completions=completions)
    process = subprocess.Popen(accepted_command(folder, text), stdin=subprocess.DEVNULL)
    try:
        deadline = Deadline(READY_S)
        while not listens(port):
            assert process.poll() is None and not deadline.over(), (folder / "error.log").read_text()
            time.sleep(0.02)
        yield Proxy(f"http://127.0.0.1:{port}", folder, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=READY_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=READY_S)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
