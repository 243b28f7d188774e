"""Names to addresses, off the loop and remembered for a minute; literal addresses need no look-up."""

from __future__ import annotations

import socket
from typing import Any

from loadtest.client.connection import Address
from loadtest.client.exchange import Endpoint
from loadtest.clock import mono_ns

REMEMBER_NS = 60_000_000_000  # a burst of new connections asks once


class Resolver:
    """`source.getaddrinfo` is the hub's resolver, which works in threads and lets other greenlets run."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._known: dict[tuple[str, int], tuple[int, list[Address]]] = {}

    def addresses(self, endpoint: Endpoint) -> list[Address]:
        """A fresh list of addresses to try in turn. Raises OSError (socket.gaierror) when the name is not known."""
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, endpoint.host)
            except OSError:
                continue
            return [(family, (endpoint.host, endpoint.port))]
        key = (endpoint.host, endpoint.port)
        expires_ns, known = self._known.get(key, (0, []))
        if mono_ns() >= expires_ns:
            found = self._source.getaddrinfo(endpoint.host, endpoint.port, 0, socket.SOCK_STREAM)
            known = [(family, address) for family, _, _, _, address in found]
            self._known[key] = (mono_ns() + REMEMBER_NS, known)
        return list(known)
