"""The control plane: small GETs with a deadline, an answer in JSON, and errors that fit on one line.

Not for measuring: it is synchronous and lives in the observer's own process.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from loadtest.client.errortext import normalise
from loadtest.client.exchange import Ended, Endpoint
from loadtest.client.proxies import proxy_for
from loadtest.client.secure import tls_context
from loadtest.clock import Deadline

CONNECT_S = 5.0
READ_S = 10.0
TOTAL_S = 20.0
BYTES_MAX = 32 * 1024 * 1024  # the leaderboard of the whole network is about 1 MB


class ControlError(Exception):
    """Why there is no answer. `kind` is one of connect, timeout, auth, not_found, status, too_large, not_json."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class ControlClient:
    """GETs of one base URL with an optional bearer key, which no error and no repr shows."""

    def __init__(self, base_url: str, key: str | None, *, total_s: float = TOTAL_S) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._total_s = total_s
        self._unusable = ""  # why the environment's proxy cannot be used
        self._client = httpx.Client(
            headers={"Accept": "application/json", "User-Agent": "router-loadtest"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(min(READ_S, total_s), connect=min(CONNECT_S, total_s)),
            verify=tls_context(),  # httpx's own knows nothing of SSL_CERT_FILE once it is not to trust the environment
            proxy=self._proxy_to(base_url),
            trust_env=False,  # httpx would send a loopback target's key to a proxy
            follow_redirects=False,
        )

    def __repr__(self) -> str:
        return f"ControlClient({self._base_url!r})"

    def get_json(self, path: str) -> Any:
        """The decoded JSON of a 2xx. `path` begins with a slash. Raises ControlError, within `total_s` and a read."""
        url = self._base_url + path
        if self._unusable:
            raise self._error("connect", url, self._unusable)
        try:
            status, body = self._get(url)
        except httpx.TimeoutException as error:
            raise self._error("timeout", url, type(error).__name__) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._error("connect", url, str(error) or type(error).__name__) from None
        if not 200 <= status < 300:
            kind = {401: "auth", 403: "auth", 404: "not_found"}.get(status, "status")
            raise self._error(kind, url, f"{status} {body[:400].decode('utf-8', 'replace')}")
        try:
            return msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._error("not_json", url, str(error)) from None

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _get(self, url: str) -> tuple[int, bytes]:
        deadline = Deadline(self._total_s)
        body = bytearray()
        with self._client.stream("GET", url) as response:
            for part in response.iter_bytes():
                body += part
                if len(body) > BYTES_MAX:
                    raise self._error("too_large", url, f"more than {BYTES_MAX // 2**20} MB")
                if deadline.over():
                    # httpx limits the wait for each read, so a server that drips would never end.
                    raise self._error("timeout", url, "still sending after the deadline")
            return response.status_code, bytes(body)

    def _proxy_to(self, base_url: str) -> httpx.Proxy | None:
        """As for the load itself."""
        parts = urlsplit(base_url)
        tls = parts.scheme == "https"
        try:
            proxy = proxy_for(Endpoint(parts.hostname or "", parts.port or (443 if tls else 80), tls), os.environ)
        except ValueError:
            return None  # no address: the first request says so
        except Ended as ended:
            self._unusable = ended.text
            return None
        if proxy is None:
            return None
        headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
        host, port = proxy.endpoint.host, proxy.endpoint.port
        return httpx.Proxy(httpx.URL(scheme="http", host=host, port=port), headers=headers)

    def _error(self, kind: str, url: str, text: str) -> ControlError:
        shown = f"GET {url}: "
        return ControlError(kind, shown + normalise(text, (self._key or "",)))
