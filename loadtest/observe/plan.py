"""What the manifest asks of the observer, and the clients to do it with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from loadtest import runfolder
from loadtest.client.control import ControlClient

MINERS_S = 60.0  # what a node is hardly changes, and the list of a large network is long
# Which key of the profile's [observe] says how often a source is asked.
_PERIODS = {
    "leaderboard": "leaderboard_s",
    "reputation": "reputation_s",
    "session-reputation": "reputation_s",
    "status": "status_s",
    "sessions": "sessions_s",
}


class Plan(NamedTuple):
    """What the manifest asks of the observer: `periods_ns` by source; `urls`, `routes`, `key_names` by target."""

    host: str
    seed: int
    periods_ns: dict[str, int]
    miners_ns: int
    grace_s: float
    lookup_share_max: float
    lookup_deadline_s: float
    urls: dict[str, str]
    routes: dict[str, str]
    key_names: dict[str, str]


def read_plan(run: Path) -> Plan:
    """From the manifest; RunFolderError when it is missing, damaged or lacks what a run writes."""
    manifest = runfolder.read_manifest(run)
    try:
        rules, targets, host = manifest["observe"], manifest["targets"], str(manifest["host"])
        return Plan(
            host=host,
            seed=int(manifest["seed"]),
            periods_ns={
                source: max(1, int(float(rules.get(key, rules["poll_s"])) * 1e9)) for source, key in _PERIODS.items()
            },
            miners_ns=max(1, int(max(MINERS_S, float(rules["poll_s"])) * 1e9)),
            grace_s=float(rules["grace_s"]),
            lookup_share_max=float(rules["lookup_share_max"]),
            lookup_deadline_s=float(rules["lookup_deadline_s"]),
            urls={t["name"]: (t.get("url") or host).rstrip("/") for t in targets},
            routes={t["name"]: t["route"] for t in targets},
            key_names={t["name"]: t["key_env"] for t in targets if t.get("key_env")},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise runfolder.RunFolderError(
            f"{run / runfolder.MANIFEST}: not what a run writes ({type(error).__name__}: {error}); run again"
        ) from None


class Clients:
    """One client per host. A key goes to the host of its target only, never to a stats backend elsewhere."""

    def __init__(self, plan: Plan, environ: Mapping[str, str]) -> None:
        self._keys: dict[str, str] = {}
        for target, name in plan.key_names.items():
            if environ.get(name):
                self._keys.setdefault(plan.urls[target], environ[name])
        self._clients: dict[str, ControlClient] = {}

    def of(self, url: str) -> ControlClient:
        url = url.rstrip("/")
        if url not in self._clients:
            self._clients[url] = ControlClient(url, self._keys.get(url))
        return self._clients[url]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
