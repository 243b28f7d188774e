"""One TCP connection. With `secure.py`, which puts TLS on it, the one place that touches a socket's bytes."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Any

from loadtest.client.exchange import Endpoint
from loadtest.client.stamps import SO_TIMESTAMPNS

Address = tuple[int, Any]  # address family, socket address


class Connection:
    """A non-blocking socket, registered by its descriptor. `flight` is what waits on it; None means idle.

    `receive(size, ancillary_size)` returns (bytes, ancillary, flags, address) as `socket.recvmsg` does.
    """

    __slots__ = ("address", "connected", "endpoint", "fd", "flight", "mask", "receive", "sock", "unsent")

    def __init__(self, endpoint: Endpoint, address: Address, socket_type: Callable[..., socket.socket], stamps: bool):
        """Opens a socket and begins to connect; OSError when that fails at once."""
        self.endpoint = endpoint
        self.address = address
        self.flight: Any = None
        self.unsent = memoryview(b"")
        self.connected = False
        self.sock = socket_type(address[0], socket.SOCK_STREAM)
        try:
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if stamps:
                self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self.connected = self._connect()
        except BaseException:
            self.sock.close()
            raise
        self.fd = self.sock.fileno()
        self.receive: Callable[[int, int], tuple[bytes, list[Any], int, Any]] = self.sock.recvmsg
        self.mask = self.wanted()  # as registered

    def _connect(self) -> bool:
        try:
            self.sock.connect(self.address[1])
        except BlockingIOError:
            try:
                # Loopback finishes the handshake inside connect() and reports EINPROGRESS all the same.
                self.sock.getpeername()
            except OSError:
                return False
        return True

    def connect_error(self) -> OSError | None:
        """Why the pending connect failed, or None when it succeeded. Only after the socket became writable."""
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            return OSError(number, os.strerror(number))
        self.connected = True
        return None

    def write(self) -> bool:
        """Write what is left of `unsent`. True when nothing is; OSError when the peer is gone."""
        try:
            sent = self.sock.send(self.unsent)
        except BlockingIOError:
            return False
        self.unsent = self.unsent[sent:]
        return not self.unsent

    def wanted(self) -> int:
        """The epoll mask for the state it is in."""
        if not self.connected:
            return int(select.EPOLLOUT)
        return int(select.EPOLLIN | select.EPOLLOUT) if self.unsent else int(select.EPOLLIN)

    def close(self) -> None:
        """Give the descriptor back. The connection is not to be used again."""
        self.sock.close()

    def stale(self) -> bool:
        """An idle connection must be silent: True when the peer has closed it or has sent something unasked."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
