"""The clients others use under Locust, each written as its users write it: stamp each line, decode after the end.

FastHttpUser is read with `readline`, requests and httpx with `iter_lines`; each stream has a client of its own.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import msgspec

from loadtest.clock import cpu_ns, mono_ns
from stand.task import (
    PATH,
    TIMEOUT_S,
    Memory,
    Row,
    Task,
    Told,
    calm_garbage_collector,
    pack_row,
    reference,
    request_body,
)

Lines = Iterator[tuple[int, bytes]]
# Sends one request and yields (arrival, line) of its body; without streaming one pair, the whole body.
Send = Callable[[dict[str, str], bytes], Lines]


def run(task: Task) -> Told:
    open_client = CLIENTS[task.client](task)
    body = request_body(task.stream)
    file = os.open(task.rows, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def one(stream: int) -> None:
        send = open_client()
        for number in range(task.requests):
            name = reference(stream, number)
            headers = {"Content-Type": "application/json", "X-Request-Id": name}
            sent_ns = mono_ns()
            lines = list(send(headers, body))
            done_ns = mono_ns()
            os.write(file, pack_row(Row(name, sent_ns, done_ns, _arrivals(lines, task.stream))))

    calm_garbage_collector()
    memory = Memory()
    started_ns, used_ns = mono_ns(), cpu_ns()
    gevent.joinall([gevent.spawn(one, stream) for stream in range(task.streams)], raise_error=True)
    elapsed_ns, used_ns = mono_ns() - started_ns, cpu_ns() - used_ns
    os.close(file)
    return Told(used_ns, elapsed_ns, memory.idle_kb, memory.peak_kb(), {})


def _arrivals(lines: list[tuple[int, bytes]], stream: bool) -> list[int]:
    """Of the chunks that carry text."""
    if not stream:
        msgspec.json.decode(lines[0][1])
        return [lines[0][0]]
    events = [(at_ns, msgspec.json.decode(line[6:])) for at_ns, line in lines if line.startswith(b"data: {")]
    return [at_ns for at_ns, event in events if event["choices"]]


def _fasthttp(task: Task) -> Callable[[], Send]:
    from locust import FastHttpUser
    from locust.env import Environment

    class Chatter(FastHttpUser):  # type: ignore[misc]
        host = f"http://127.0.0.1:{task.port}"
        abstract = True
        network_timeout = connection_timeout = TIMEOUT_S

    environment = Environment(user_classes=[Chatter])
    environment.create_local_runner()  # it feeds Locust's table

    def open_client() -> Send:
        client = Chatter(environment).client

        def stream(headers: dict[str, str], body: bytes) -> Lines:
            with client.post(PATH, data=body, headers=headers, stream=True, catch_response=True) as response:
                while line := response.stream.readline(b"\n"):
                    yield mono_ns(), line
                response.success()

        def whole(headers: dict[str, str], body: bytes) -> Lines:
            content = client.post(PATH, data=body, headers=headers).content
            yield mono_ns(), content

        return stream if task.stream else whole

    return open_client


def _requests(task: Task) -> Callable[[], Send]:
    import requests

    url = f"http://127.0.0.1:{task.port}{PATH}"

    def open_client() -> Send:
        session = requests.Session()
        session.trust_env = False

        def send(headers: dict[str, str], body: bytes) -> Lines:
            with session.post(url, data=body, headers=headers, stream=task.stream, timeout=TIMEOUT_S) as response:
                if not task.stream:
                    yield mono_ns(), response.content
                    return
                for line in response.iter_lines():
                    yield mono_ns(), line

        return send

    return open_client


def _httpx(task: Task) -> Callable[[], Send]:
    import httpx

    url = f"http://127.0.0.1:{task.port}{PATH}"
    context = ssl.create_default_context()  # one for all: loading the authorities costs 20 ms each time

    def open_client() -> Send:
        client = httpx.Client(verify=context, timeout=TIMEOUT_S, trust_env=False)

        def send(headers: dict[str, str], body: bytes) -> Lines:
            if not task.stream:
                content = client.post(url, content=body, headers=headers).content
                yield mono_ns(), content
                return
            with client.stream("POST", url, content=body, headers=headers) as response:
                for line in response.iter_lines():
                    yield mono_ns(), line.encode()

        return send

    return open_client


CLIENTS: dict[str, Callable[[Task], Any]] = {"fasthttp": _fasthttp, "requests": _requests, "httpx": _httpx}
