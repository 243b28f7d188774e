"""All open connections of a reactor: one epoll set, looked up by descriptor, the idle ones by endpoint."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from loadtest.client.connection import Address, Connection
from loadtest.client.exchange import Endpoint
from loadtest.client.secure import SecureConnection

IDLE_PER_ENDPOINT_MAX = 2048  # a burst of streams may end together; beyond this a connection is closed, not kept


class Connections:
    """`epoll` and `socket_type` are the originals, which Locust's monkey patching hides."""

    def __init__(self, epoll: Any, socket_type: Callable[..., socket.socket], *, stamps: bool) -> None:
        self.by_fd: dict[int, Connection] = {}
        self.poll: Callable[[float, int], list[tuple[int, int]]] = epoll.poll
        self._epoll = epoll
        self._socket_type = socket_type
        self._stamps = stamps
        self._idle: dict[Endpoint, dict[int, Connection]] = {}
        self._held: list[Connection] | None = None
        self.handshakes: deque[SecureConnection] = deque()  # those with a step to do

    def open(self, endpoint: Endpoint, address: Address, tunnel: bytes = b"") -> Connection:
        """Begin to connect. OSError when that fails at once. `tunnel` is for TLS through a proxy at that address."""
        if endpoint.tls:
            queue = self.handshakes.append
            connection: Connection = SecureConnection(endpoint, address, self._socket_type, self._stamps, queue, tunnel)
        else:
            connection = Connection(endpoint, address, self._socket_type, self._stamps)
        self.by_fd[connection.fd] = connection
        self._epoll.register(connection.fd, connection.mask)
        return connection

    def watch(self, connection: Connection) -> None:
        """Tell epoll what the connection waits for, when that has changed."""
        wanted = connection.wanted()
        if wanted != connection.mask:
            self._epoll.modify(connection.fd, wanted)
            connection.mask = wanted

    def next_handshakes(self, most: int) -> Iterator[SecureConnection]:
        """The connections with a handshake step to do, first come, first served; those given up are left out."""
        while self.handshakes and most:
            connection = self.handshakes.popleft()
            if self.by_fd.get(connection.fd) is connection and connection.securing:
                most -= 1
                yield connection

    def take(self, endpoint: Endpoint) -> Connection | None:
        """An idle connection, the one used last: it is the least likely to have been closed by the peer."""
        idle = self._idle.get(endpoint)
        while idle:
            connection = idle.popitem()[1]
            if not connection.stale():
                return connection
            self.discard(connection)
        return None

    def keep(self, connection: Connection) -> None:
        """Idle from now on; closed when there are enough."""
        connection.flight = None
        if not connection.endpoint.kept:
            self.discard(connection)
            return
        idle = self._idle.setdefault(connection.endpoint, {})
        if len(idle) < IDLE_PER_ENDPOINT_MAX:
            idle[connection.fd] = connection
        else:
            self.discard(connection)

    def discard(self, connection: Connection) -> None:
        """Out of the set at once, closed at once or when `release` is called. Idempotent."""
        if self.by_fd.pop(connection.fd, None) is None:
            return
        connection.flight = None
        self._idle.get(connection.endpoint, {}).pop(connection.fd, None)
        self._epoll.unregister(connection.fd)
        if self._held is None:
            connection.close()
        else:
            self._held.append(connection)

    def hold(self) -> None:
        """Until `release` no socket is closed: its number could come back within a batch of events and be taken for
        the old socket."""
        self._held = []

    def release(self) -> None:
        for connection in self._held or ():
            connection.close()
        self._held = None

    def close(self) -> None:
        for connection in list(self.by_fd.values()):
            self.discard(connection)
        self._epoll.close()
