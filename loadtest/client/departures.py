"""From the addresses of a target to the last byte of the request: connect, shake hands, write.

Nothing here waits or switches greenlets: each step is called when its socket is ready, from a pass or from the
greenlet that asked.
"""

from __future__ import annotations

from collections.abc import Callable

from loadtest.client.connection import Connection
from loadtest.client.connections import Connections
from loadtest.client.exchange import End, Ended
from loadtest.client.figures import Figures
from loadtest.client.flight import Flight
from loadtest.client.proxies import forwarded, tunnel_request
from loadtest.client.secure import SecureConnection
from loadtest.clock import mono_ns

HANDSHAKE_STEPS_MAX = 2  # per pass; a handshake takes two, of about 0.1 and 0.4 ms, while streams wait
STALE_NS_MAX = 1_000_000_000  # a pooled connection that dies later than this after the write was not stale


class Departures:
    """`finish` ends a flight that cannot go on."""

    def __init__(self, connections: Connections, counted: Figures, finish: Callable[[Flight, Ended], None]) -> None:
        self._connections = connections
        self._counted = counted
        self._finish = finish

    def open(self, flight: Flight, error: OSError | None = None) -> None:
        """Begin to connect to the next address that does not fail at once."""
        exchange = flight.exchange
        if exchange.connecting_ns is None:
            exchange.connecting_ns = mono_ns()
        endpoint, proxy = exchange.endpoint, flight.proxy
        tunnel = tunnel_request(endpoint, proxy) if proxy is not None and endpoint.tls else b""
        while flight.addresses:
            try:
                connection = self._connections.open(endpoint, flight.addresses.pop(0), tunnel)
            except OSError as failed:
                error = failed
                continue
            self._counted.connections_opened += 1
            flight.connection, connection.flight = connection, flight
            if connection.connected:
                self._connected(flight, connection)
            return
        text = (error.strerror or str(error)) if error else "no address"
        if proxy is not None:
            told = f"proxy {proxy.endpoint.host}:{proxy.endpoint.port}: {text}"
            self._finish(flight, Ended(End.PROXY_ERROR, "proxy_connect", told))
        else:
            self._finish(flight, Ended(End.CONNECT_ERROR, "", f"{endpoint.host}:{endpoint.port}: {text}"))

    def resume(self, flight: Flight, connection: Connection) -> None:
        """The pending connect has succeeded or failed."""
        error = connection.connect_error()
        if error is None:
            self._connected(flight, connection)
        else:
            self._connections.discard(connection)
            self.open(flight, error)

    def shake_hands(self) -> None:
        """The steps of TLS handshakes that are due, but no more than streams can bear in one pass."""
        for connection in self._connections.next_handshakes(HANDSHAKE_STEPS_MAX):
            flight: Flight = connection.flight
            try:
                done = connection.shake_hands()
            except Ended as ended:
                self._finish(flight, ended)
                continue
            if done:
                flight.exchange.secured_ns = mono_ns()
                self.send(flight, connection)
            else:
                self._connections.watch(connection)

    def send(self, flight: Flight, connection: Connection) -> None:
        exchange, request = flight.exchange, flight.exchange.request
        if flight.proxy is not None and not exchange.endpoint.tls:
            request = forwarded(request, exchange.endpoint, flight.proxy)
        connection.unsent = memoryview(request)
        exchange.sent_ns = flight.sent_ns = mono_ns()
        self.write(flight, connection)

    def write(self, flight: Flight, connection: Connection) -> None:
        """Write what the socket takes, and have epoll tell when it takes more."""
        try:
            if connection.write():
                flight.exchange.sent_last_ns = mono_ns()
        except OSError:
            # The peer is gone, but it may have answered before: reading will tell, with the answer or the error.
            connection.unsent = memoryview(b"")
        self._connections.watch(connection)

    def again(self, flight: Flight) -> bool:
        """Once more on a fresh connection, when a pooled one turns out to have been closed by the peer meanwhile.

        Only if not one byte was answered and it died at once: later it may be a server that crashed at work.
        """
        connection, exchange = flight.connection, flight.exchange
        stale = flight.reused and not flight.received and mono_ns() - flight.sent_ns <= STALE_NS_MAX
        if connection is None or exchange.retried or not stale:
            return False
        self._counted.retried += 1
        exchange.retried = True
        exchange.sent_ns = exchange.sent_last_ns = None
        self._connections.discard(connection)
        flight.framing.release()
        flight.reset(reused=False)
        flight.addresses = [connection.address]
        self.open(flight)
        return True

    def _connected(self, flight: Flight, connection: Connection) -> None:
        flight.exchange.connection_new = True
        flight.exchange.connected_ns = mono_ns()
        if isinstance(connection, SecureConnection):
            self._connections.handshakes.append(connection)
            self._connections.watch(connection)
        else:
            self.send(flight, connection)
