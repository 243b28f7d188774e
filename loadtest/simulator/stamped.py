"""Accepted sockets that know when the kernel had the bytes they read.

`received_ns` of the truth log is the arrival of a request at this machine. Our own loop may get to it milliseconds
later on a busy core, and that delay would look like an error of the client that is being checked.
"""

from __future__ import annotations

import socket
import struct

from loadtest.client.stamps import SO_TIMESTAMPNS, STAMP_SPACE_BYTES, KernelClock
from loadtest.clock import mono_ns

_timespec = struct.Struct("qq").unpack


class StampedSocket(socket.socket):
    """A connection. After each `recv`, `received_ns` is the kernel's receive time of those bytes (monotonic)."""

    clock: KernelClock
    received_ns = 0

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        data, ancillary, _, _ = self.recvmsg(bufsize, STAMP_SPACE_BYTES, flags)
        now_ns = mono_ns()
        self.received_ns = now_ns
        if ancillary and self.clock.trusted(now_ns):
            seconds, nanoseconds = _timespec(ancillary[0][2])
            # Never later than now: the offset between the clocks is itself known to a microsecond only.
            self.received_ns = min(now_ns, seconds * 1_000_000_000 + nanoseconds - self.clock.offset_ns)
        return data


class StampedListener(socket.socket):
    """A listening socket that takes over another one and accepts `StampedSocket`s."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        # Set here it is inherited, so that even the first packets of a connection are stamped.
        self.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._clock = KernelClock()

    def take(self) -> StampedSocket:
        """Accept one connection; errors as `accept`."""
        plain, _ = self.accept()
        connection = StampedSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        connection.clock = self._clock
        return connection
