"""Before anything is sent: may we load these targets, are they there, do they take our key?"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from msgspec.structs import replace

from loadtest.client.control import ControlClient, ControlError
from loadtest.client.exchange import Endpoint
from loadtest.client.routes import ROUTES
from loadtest.records import Target
from loadtest.swarm.turns import Access
from loadtest.traffic.profile import Profile

EXIT_USAGE = 2
EXIT_NOT_RUN = 1


class SetupError(Exception):
    """The run cannot start. One line for the user, and the exit code it means."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def resolve_targets(profile: Profile, host: str | None) -> tuple[Target, ...]:
    """The profile's targets with their addresses; those without a `url` are at `--host`."""
    resolved = []
    for target in profile.targets:
        if target.route not in ROUTES:
            raise SetupError(
                f"{profile.source}: target {target.name!r}: no route {target.route!r}; there are {', '.join(ROUTES)}",
                EXIT_USAGE,
            )
        url = target.url or host
        if not url:
            raise SetupError(
                f"target {target.name!r} has no url: give --host http://HOST:PORT or url in {profile.source}",
                EXIT_USAGE,
            )
        endpoint_of(url)
        resolved.append(replace(target, url=url.rstrip("/")))
    return tuple(resolved)


def endpoint_of(url: str) -> Endpoint:
    """Scheme, host and port of a target address; SetupError when it is not one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SetupError(f"{url!r} is not an address: {error}; write http://HOST:PORT", EXIT_USAGE) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SetupError(f"{url!r} is not an address: write http://HOST:PORT", EXIT_USAGE)
    if parts.path.strip("/") or parts.query or parts.username:
        raise SetupError(f"{url!r}: scheme, host and port only, as in http://HOST:PORT", EXIT_USAGE)
    tls = parts.scheme == "https"
    return Endpoint(parts.hostname, port or (443 if tls else 80), tls)


def check_permission(
    targets: Sequence[Target], profile: Profile, allowed_hosts: Sequence[str], rate_ceiling: float | None
) -> None:
    """A target that is not loopback must be named with --allow-host and be under a stated rate ceiling."""
    check_allowed(targets, allowed_hosts)
    for target in targets:
        host = endpoint_of(target.url or "").host
        if _is_loopback(host):
            continue
        if rate_ceiling is None:
            raise SetupError(
                f"target {target.name!r}: loading {host} needs a ceiling, as in --rate-ceiling 2 (conversations/s)",
                EXIT_USAGE,
            )
        if profile.load.mode != "open":
            raise SetupError(
                f"{profile.source}: a closed profile has no rate that --rate-ceiling could bound; use an open one",
                EXIT_USAGE,
            )
        if profile.load.peak_per_s > rate_ceiling:
            raise SetupError(
                f"{profile.source}: its rate reaches {profile.load.peak_per_s:g} conversations/s, "
                f"above --rate-ceiling {rate_ceiling:g}",
                EXIT_USAGE,
            )


def check_allowed(targets: Sequence[Target], allowed_hosts: Sequence[str]) -> None:
    """A target that is not loopback must be named with --allow-host, whatever is to be sent."""
    for target in targets:
        host = endpoint_of(target.url or "").host
        if not _is_loopback(host) and host not in allowed_hosts:
            raise SetupError(
                f"target {target.name!r}: {host} is not this machine; if you may load it, say --allow-host {host}",
                EXIT_USAGE,
            )


def check_listening(
    master_host: str | None,
    web_host: str | None,
    metrics_host: str | None = None,
    *,
    encrypted: str,
    insecure: bool,
    login: bool,
) -> None:
    """What listens beyond this machine needs an encrypted path, and a page a login too, or --insecure.

    An address is None for what does not listen at all. The metrics are figures only: they start nothing.
    """
    if insecure:
        return
    listening = ((master_host, "--master-bind-host"), (web_host, "--web-host"), (metrics_host, "--metrics-host"))
    for host, option in listening:
        if host is not None and not _is_loopback(host) and not encrypted:
            raise SetupError(
                f"{option} {host} is open to other machines and nothing there is encrypted: use an SSH tunnel, name "
                "the encrypted network it is on with --encrypted-path, or say --insecure",
                EXIT_USAGE,
            )
    if web_host is not None and not _is_loopback(web_host) and not login:
        raise SetupError(
            f"--web-host {web_host} lets other machines start load: add --web-login, or say --insecure", EXIT_USAGE
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_reachable(targets: Sequence[Target]) -> None:
    """Ask each target's API for something cheap: is it there, and does it take our key?"""
    asked = set()
    for target in targets:
        path = ROUTES[target.route].keyed_path
        if (target.url, path) in asked:
            continue
        asked.add((target.url, path))
        try:
            with ControlClient(target.url or "", key_of(target)) as control:
                control.get_json(path)
        except ControlError as error:
            if error.kind == "auth":
                named = f"the environment variable {target.key_env}" if target.key_env else "key_env in the profile"
                raise SetupError(
                    f"target {target.name!r}: {target.url} refused the key ({error}); set {named}", EXIT_NOT_RUN
                ) from None
            if error.kind == "connect":
                raise SetupError(
                    f"target {target.name!r}: cannot reach {target.url} ({error}); is it running, is --host right?",
                    EXIT_NOT_RUN,
                ) from None
            # Any other answer is an answer: the run will show and count it.


def key_of(target: Target) -> str | None:
    """The target's bearer key, from the environment only."""
    return os.environ.get(target.key_env) or None if target.key_env else None


def access_to(targets: Sequence[Target]) -> Mapping[str, Access]:
    return {target.name: Access(endpoint_of(target.url or ""), key_of(target)) for target in targets}
