"""Stock Locust commands leave a complete run folder, joined and reported."""

from __future__ import annotations

from collections.abc import Callable

from conftest import Ended, Network, assert_complete

FIT_OR_SLOW_MACHINE = (0, 4)  # on a crowded machine a run may call itself unfit; it must never be wrong


def test_the_command_of_the_readme(network: Network, locust: Callable[..., Ended]) -> None:
    result = locust("--headless", "-u", "50", "-r", "50", "-t", "20s", "--host", network.url)
    assert result.code in FIT_OR_SLOW_MACHINE
    assert_complete(result, workers=1)
    assert result.manifest()["profile"]["name"] == "community"
    assert result.manifest()["users"] == 50
    assert result.manifest()["offered_s"] == 20.0, "--run-time is how long arrivals are offered, whatever the start-up"


def test_processes_and_profile(network: Network, locust: Callable[..., Ended]) -> None:
    result = locust("--headless", "--processes", "2", "--profile", "smoke", "--host", network.url)
    assert result.code in FIT_OR_SLOW_MACHINE
    assert_complete(result, workers=2)
    assert result.manifest()["profile"]["name"] == "smoke"


def test_closed_members(network: Network, locust: Callable[..., Ended]) -> None:
    result = locust("--headless", "--profile", "members", "-u", "8", "-t", "12s", "--host", network.url)
    assert result.code in FIT_OR_SLOW_MACHINE
    assert_complete(result, workers=1)
    assert result.manifest()["mode"] == "closed"
    assert result.summary()["account"]["outcomes"]["ok"] > 0
