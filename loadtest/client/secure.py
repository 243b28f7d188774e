"""TLS over a connection: ciphertext is read with the kernel's stamp, the plain text it gives carries that stamp.

The handshake is driven in steps by the reactor, a few per pass, because one step costs as much as dozens of chunks:
while it lasts, each readiness is reported once (EPOLLONESHOT) and queues the connection for its next step.

A chunk arrives when the record that holds it is complete, since only then can it be known to be genuine. So the bound
of a read holds for TLS as it is: whatever a read completes, its last byte came with that read.
"""

from __future__ import annotations

import functools
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from loadtest.client.connection import Address, Connection
from loadtest.client.exchange import End, Ended, Endpoint
from loadtest.client.proxies import tunnel_open

RECORD_BYTES = 16_384  # the most plain text in one record
WRITE_BYTES = 262_144  # encrypted in one go, about 0.2 ms; a longer request takes several passes
HANDSHAKE_READ_BYTES = 65_536

# X509_verify_cert codes, openssl/x509_vfy.h.
_KINDS = {
    9: "tls_not_yet_valid",
    10: "tls_expired",
    18: "tls_unknown_ca",
    19: "tls_unknown_ca",
    20: "tls_unknown_ca",
    21: "tls_unknown_ca",
    62: "tls_hostname",
    64: "tls_hostname",
}


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The process's one context: certificates and names are verified against OpenSSL's default authorities, which
    SSL_CERT_FILE and SSL_CERT_DIR replace. Reading them takes 20 ms, so it is made with the first need."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def tls_ended(error: OSError) -> Ended:
    """What went wrong in TLS, as a kind of few values and one readable line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        kind = _KINDS.get(error.verify_code, "tls_certificate")
        more = " (a private authority is named by SSL_CERT_FILE)" if kind == "tls_unknown_ca" else ""
        return Ended(End.TLS_ERROR, kind, f"certificate not accepted: {error.verify_message.rstrip('.')}{more}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or error.strerror or "unknown").replace("_", " ").lower()
        return Ended(End.TLS_ERROR, "tls_protocol", f"TLS: {reason}")
    return Ended(End.TLS_ERROR, "tls_closed", f"during the TLS handshake: {error.strerror or error}")


class SecureConnection(Connection):
    """A connection whose bytes are TLS records. `due(self)` is called when `shake_hands` has something to do.

    `tunnel` is what a proxy must be told first, if we are connected to one; its answer is the first step.
    """

    __slots__ = ("_answer", "_cipher", "_due", "_failed", "_incoming", "_outgoing", "_tls", "_tunnel", "securing")

    def __init__(
        self,
        endpoint: Endpoint,
        address: Address,
        socket_type: Callable[..., socket.socket],
        stamps: bool,
        due: Callable[[SecureConnection], None],
        tunnel: bytes = b"",
    ) -> None:
        self.securing = True
        self._due = due
        self._tunnel = tunnel
        self._answer: bytes | None = None  # to that, once it is asked
        self._cipher = memoryview(b"")  # encrypted and not yet taken by the socket
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._failed: ssl.SSLError | None = None
        super().__init__(endpoint, address, socket_type, stamps)
        self.receive = self._queue

    def shake_hands(self) -> bool:
        """The next step of the handshake. True when it is done and the request may be sent; Ended when it failed."""
        try:
            if self._tunnel and not self._through():
                return False
            if self._tls is None:
                self._begin()
            else:
                data = self.sock.recv(HANDSHAKE_READ_BYTES)
                if not data:
                    raise Ended(End.TLS_ERROR, "tls_closed", "the peer closed during the TLS handshake")
                self._incoming.write(data)
            return self._step()
        except BlockingIOError:
            return False
        except OSError as error:
            if self._tunnel:
                raise Ended(End.PROXY_ERROR, "proxy_closed", f"CONNECT: {error.strerror or error}") from None
            raise tls_ended(error) from None

    def write(self) -> bool:
        """Encrypt and write what is left of `unsent`. True when nothing is; OSError when the peer is gone."""
        if not self._flush():
            return False
        assert self._tls is not None
        piece = self.unsent[:WRITE_BYTES]
        written = 0
        while written < len(piece):
            written += self._tls.write(piece[written:])
        self.unsent = self.unsent[written:]
        return self._flush() and not self.unsent

    def wanted(self) -> int:
        if self.securing and self.connected:
            # What we send meanwhile fits into the empty buffer of a new socket, so writing is never waited for.
            return int(select.EPOLLIN | select.EPOLLONESHOT)
        return super().wanted() | (int(select.EPOLLOUT) if self._cipher else 0)

    def close(self) -> None:
        super().close()
        self._failed = None
        del self.receive  # our own method: nobody would collect that cycle, with all that OpenSSL keeps

    def _queue(self, size: int, ancillary_size: int) -> Any:
        """Stands for `receive` while the handshake lasts: nothing is read in the pass."""
        self.mask = 0  # the kernel has disarmed it
        self._due(self)
        raise BlockingIOError

    def _through(self) -> bool:
        """Ask the proxy, then hear it. True when the way is open."""
        if self._answer is None:
            self._answer = b""
            self._cipher = memoryview(self._tunnel)  # as it is: nothing is encrypted yet
            self._flush()
            return False
        data = self.sock.recv(HANDSHAKE_READ_BYTES)
        if not data:
            raise Ended(End.PROXY_ERROR, "proxy_closed", "the proxy closed before it answered CONNECT")
        self._answer += data
        if not tunnel_open(self._answer):
            return False
        self._tunnel = b""
        return True

    def _begin(self) -> None:
        try:
            self._tls = tls_context().wrap_bio(self._incoming, self._outgoing, server_hostname=self.endpoint.host)
        except ValueError as error:
            raise Ended(End.TLS_ERROR, "tls_hostname", f"{self.endpoint.host}: no name for TLS: {error}") from None

    def _step(self) -> bool:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError:
            with suppress(OSError):
                self._flush()  # the alert that tells the peer why
            raise
        self._flush()
        self.securing = False
        self.receive = self._receive
        return True

    def _flush(self) -> bool:
        """Hand encrypted bytes to the socket; True when it took all."""
        if self._outgoing.pending:
            self._cipher = memoryview(bytes(self._cipher) + self._outgoing.read())
        while self._cipher:
            try:
                sent = self.sock.send(self._cipher)
            except BlockingIOError:
                return False
            self._cipher = self._cipher[sent:]
        return True

    def _receive(self, size: int, ancillary_size: int) -> tuple[bytes, list[Any], int, Any]:
        """As `recvmsg`, with the plain text of all records that the read completed.

        BlockingIOError when it completed none, or only tickets and new keys; ssl.SSLError when one was no TLS.
        """
        data, ancillary, flags, address = self.sock.recvmsg(size, ancillary_size)
        if not data:
            # The end without a close_notify: HTTP's framing knows whether something is missing.
            if self._failed is not None:
                raise self._failed
            return data, ancillary, flags, address
        incoming, tls = self._incoming, self._tls
        assert tls is not None
        incoming.write(data)
        parts: list[bytes] = []
        ended = False
        try:
            plain = tls.read(RECORD_BYTES)
            if plain and not incoming.pending and not self._outgoing.pending:
                return plain, ancillary, flags, address  # nearly always: one record, and nothing to say to it
            parts.append(plain)
            ended = not plain
            while incoming.pending and not ended:
                part = tls.read(RECORD_BYTES)
                parts.append(part)
                ended = not part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._failed, ended = error, True
        if self._outgoing.pending:
            with suppress(OSError):  # whatever was read is no worse for a peer that hears no more
                self._flush()  # what TLS has to say to that; what the socket does not take goes before the next request
        plain = parts[0] if len(parts) == 1 else b"".join(parts)
        if ended:
            if plain:
                # The end is told by the next read: from now on the socket is readable and empty.
                self.sock.shutdown(socket.SHUT_RD)
            elif self._failed is not None:
                raise self._failed
        elif not plain:
            raise BlockingIOError
        return plain, ancillary, flags, address
