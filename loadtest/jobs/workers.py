"""`loadtest workers`: what to install and start on which machine, and whether it is installed on this one."""

from __future__ import annotations

import shlex
import socket
from typing import NamedTuple

from loadtest import __version__
from loadtest.jobs.swarm import locustfile
from loadtest.swarm.versions import DECIDING_PACKAGES, deciding_versions, difference
from loadtest.traffic.profile import ProfileError, load_profile, profile_hash

MASTER_PORT, COLLECTOR_PORT = 5557, 5558
CONNECT_S = 3.0
WHEEL = f"router_loadtest-{__version__}-py3-none-any.whl"

__all__ = ["Finding", "check_here", "instructions", "locustfile", "versions_text"]


class Finding(NamedTuple):
    """One thing that was looked at, in one line."""

    good: bool
    text: str


def versions_text() -> str:
    """The versions that must be equal everywhere, as one argument of a command line."""
    return " ".join(f"{name}={version}" for name, version in deciding_versions().items())


def instructions(master: str, count: int, profile: str) -> str:
    """The commands, ready to paste: for every machine, for the master, for each worker."""
    versions = deciding_versions()
    pins = " ".join(f"{name}=={versions[name]}" for name in DECIDING_PACKAGES)
    start = '.venv/bin/locust -f "$(.venv/bin/loadtest workers --locustfile)"'
    listen = f"--master-bind-host {master} --encrypted-path NAME " if master != "127.0.0.1" else ""
    check = f"--check --master {master} --profile {shlex.quote(profile)} --versions {shlex.quote(versions_text())}"
    return f"""\
# On every machine, master and workers (`pip wheel --no-deps -w dist .` in the repository makes the wheel):
python{versions["python"]} -m venv .venv
.venv/bin/python -m pip install {WHEEL} {pins}

# On the master:
{start} --headless --master {listen}\\
    --collector-port {COLLECTOR_PORT} --expect-workers {count} --profile {shlex.quote(profile)} --host URL

# On each worker machine, once: has it what the master has, and does it reach it?
.venv/bin/loadtest workers {check}

# On the worker machines, {count} processes in all, at most one for each core:
{start} --worker --master-host {master}

# Keys of the targets ({", ".join(_keys(profile)) or "none"}) must be in the environment of master and workers.
# The master listens on {MASTER_PORT} (orders) and {COLLECTOR_PORT} (rows); neither is encrypted:
# see docs/many-machines.md.
# Workers must be able to open sockets: ulimit -n above 1.2 times the streams of one worker."""


def _keys(profile: str) -> list[str]:
    try:
        return sorted({target.key_env for target in load_profile(profile).targets if target.key_env})
    except ProfileError:
        return []


def check_here(master: str, profile: str, versions: str) -> list[Finding]:
    """Look at this machine: versions against those the master printed, locustfile, profile, the way to the master."""
    return [_versions(versions), _locustfile(), _profile(profile), _reach(master)]


def _versions(text: str) -> Finding:
    here = deciding_versions()
    if not text:
        return Finding(True, f"versions here: {versions_text()} (not compared: give the master's with --versions)")
    there = dict(part.partition("=")[::2] for part in text.split())
    differs = difference(there, here)
    return Finding(differs is None, f"versions: {differs or 'as on the master'}")


def _locustfile() -> Finding:
    path = locustfile()
    return Finding(path.is_file(), f"locustfile: {path}{'' if path.is_file() else ' is missing; install the wheel'}")


def _profile(name: str) -> Finding:
    """A worker gets the profile from its master; that it reads here shows that the packages work."""
    try:
        profile = load_profile(name)
    except ProfileError as error:
        return Finding(False, f"profile: {error}")
    return Finding(True, f"profile {profile.name}: hash {profile_hash(profile)}")


def _reach(master: str) -> Finding:
    try:
        socket.create_connection((master, MASTER_PORT), CONNECT_S).close()
    except OSError as error:
        text = f"master: {master}:{MASTER_PORT} does not answer ({error}); is it started, is the tunnel up?"
        return Finding(False, text)
    return Finding(True, f"master: {master}:{MASTER_PORT} answers")
