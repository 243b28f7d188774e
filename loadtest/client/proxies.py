"""Proxies as the environment names them: which one a target goes through, and what is said to it.

`http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in lower case or else in upper case, by the scheme of the
target. This machine itself is never reached through a proxy, so that a variable meant for the world outside cannot
carry a local target's key there (Go has the same rule).
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from loadtest.client.exchange import End, Ended, Endpoint

ANSWER_BYTES_MAX = 16_384
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_PORT = 80  # of a proxy whose address has none


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it listens, and the value of its Proxy-Authorization header ("" for none), which no repr shows."""

    endpoint: Endpoint
    authorization: str = field(repr=False)


def proxy_for(endpoint: Endpoint, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for a target, or None for the straight way. Ended when there is one that we cannot use."""
    scheme = "https" if endpoint.tls else "http"
    name, url = _first(environ, f"{scheme}_proxy", "all_proxy")
    if not url or _is_loopback(endpoint.host) or _excepted(endpoint, _first(environ, "no_proxy")[1]):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or _PORT
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        # The address may hold a password, so it is not repeated.
        raise Ended(End.PROXY_ERROR, "proxy_unsupported", f"{name} is not an address like http://HOST:PORT")
    authorization = ""
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return Proxy(Endpoint(parts.hostname, port), authorization)


def forwarded(request: bytes, endpoint: Endpoint, proxy: Proxy) -> bytes:
    """A request to a plain target as its proxy wants it: the whole address in the first line."""
    method, _, rest = request.partition(b" ")
    line, _, rest = rest.partition(b"\r\n")
    return b"%s http://%s%s\r\n%s%s" % (method, _authority(endpoint), line, _authorization(proxy), rest)


def tunnel_request(endpoint: Endpoint, proxy: Proxy) -> bytes:
    """What opens the way to a TLS target (RFC 9110, 9.3.6)."""
    authority = _authority(endpoint)
    return b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (authority, authority, _authorization(proxy))


def tunnel_open(answer: bytes) -> bool:
    """Whether a proxy's answer to that is complete and says yes; Ended when it says anything else."""
    if b"\r\n\r\n" not in answer:
        if len(answer) > ANSWER_BYTES_MAX:
            raise Ended(End.PROXY_ERROR, "proxy_bad_answer", "the proxy's answer to CONNECT has no end")
        return False
    status = _STATUS.match(answer)
    if status is None:
        raise Ended(End.PROXY_ERROR, "proxy_bad_answer", "the proxy does not answer CONNECT with HTTP")
    if not status[1].startswith(b"2"):
        line = answer.partition(b"\r\n")[0].decode("latin-1")
        raise Ended(End.PROXY_ERROR, f"proxy_{int(status[1])}", f"the proxy refused CONNECT: {line}")
    return True


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first variable that is set and not empty, and its value."""
    spellings = [spelling for name in names for spelling in (name, name.upper())]
    return next(((name, environ[name].strip()) for name in spellings if environ.get(name, "").strip()), ("", ""))


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.rstrip(".").lower() == "localhost" if address is None else address.is_loopback


def _excepted(endpoint: Endpoint, listed: str) -> bool:
    """no_proxy: names stand for their subdomains too; also addresses, networks, HOST:PORT and * for all."""
    host = endpoint.host.rstrip(".").lower()
    address = _address(host)
    for entry in filter(None, re.split(r"[\s,]+", listed.lower())):
        name, colon, port = entry.rpartition(":")
        if colon and port.isdigit() and (":" not in name or name.endswith("]")):
            if int(port) != endpoint.port:
                continue
            entry = name
        entry = entry.strip("[]").removeprefix("*").strip(".")
        if not entry or host == entry:
            return True
        if address is None:
            if host.endswith("." + entry):
                return True
            continue
        try:
            if address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _authority(endpoint: Endpoint) -> bytes:
    return endpoint.authority.encode("ascii" if endpoint.host.isascii() else "idna")


def _authorization(proxy: Proxy) -> bytes:
    return f"Proxy-Authorization: {proxy.authorization}\r\n".encode("ascii") if proxy.authorization else b""
