"""Before a run, each API is asked for something cheap that needs the key; an unknown route is one clear line."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from loadtest.client.routes import ROUTES
from loadtest.records import Target
from loadtest.swarm import preflight
from loadtest.traffic.profile import load_profile, parse_profile

URL = "http://127.0.0.1:5010"


def test_each_api_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Recording:
        def __init__(self, url: str, key: str | None) -> None:
            assert (url, key) == (URL, None)

        def __enter__(self) -> Recording:
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_json(self, path: str) -> Any:
            asked.append(path)

    monkeypatch.setattr(preflight, "ControlClient", Recording)
    preflight.check_reachable([Target(name=route, route=route, url=URL) for route in ROUTES])
    assert sorted(asked) == ["/api/v1/status", "/v1/models"]


def test_a_route_that_does_not_exist_is_named_with_those_that_do() -> None:
    smoke = load_profile("smoke")
    profile = parse_profile(smoke.text.replace('"cortensor"', '"cortensor-v9"'), "mine.toml")
    with pytest.raises(preflight.SetupError, match="no route 'cortensor-v9'") as caught:
        preflight.resolve_targets(profile, URL)
    assert caught.value.exit_code == preflight.EXIT_USAGE
    assert all(route in str(caught.value) for route in ROUTES)
    assert "\n" not in str(caught.value)


def test_every_route_there_is_may_be_a_target() -> None:
    for route in ROUTES:
        smoke = load_profile("smoke")
        text = smoke.text.replace('"cortensor"', f'"{route}"')
        (target, *_) = preflight.resolve_targets(parse_profile(text, "mine.toml"), URL)
        assert target == replace(target, route=route, url=URL)
