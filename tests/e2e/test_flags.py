"""Flags in the field's names, through stock Locust: the run is the changed profile, and the manifest tells it."""

from __future__ import annotations

from collections.abc import Callable

from conftest import Ended, Network, assert_complete

from loadtest.traffic.profile import parse_profile, profile_hash


def test_the_run_is_the_changed_profile(locust: Callable[..., Ended], network: Network) -> None:
    options = ("--request-rate", "12", "--num-prompts", "40", "--isl", "33", "--osl", "7", "--header", "X-Team=qa")
    limits = ("--goodput", "ttft:60000", "e2el:60000")
    result = locust("--headless", "--profile", "single-shot", "--host", network.url, "-u", "45", *options, *limits)
    assert result.code in (0, 4)
    assert_complete(result, workers=1)
    manifest, rows = result.manifest(), result.rows()
    told = parse_profile(manifest["profile"]["text"], manifest["profile"]["source"])
    assert manifest["profile"]["hash"] == profile_hash(told)
    load = told.load
    assert (load.rate_per_s, load.conversations_max, load.in_flight_max) == (12, 40, 45)
    assert manifest["users"] == 45 and manifest["targets"][0]["headers"] == [["X-Team", "qa"]]
    assert sorted(rows["arrival"].to_pylist()) == list(range(40))
    assert set(rows["prompt_tokens_planned"].to_pylist()) == {33}
    assert set(rows["output_tokens_max"].to_pylist()) == {7}
    goodput = result.summary()["goodput"]
    assert goodput["limits"] == {"ttft_ms": 60_000, "e2e_ms": 60_000} and goodput["n"] > 20
    assert "Goodput" in (result.run / "summary.md").read_text()
    assert {slo["metric"] for slo in manifest["slos"]} == {"ok_share", "ttft_ms_p95", "e2e_ms_p95"}


def test_a_key_on_the_command_line_is_refused(locust: Callable[..., Ended], network: Network) -> None:
    words = ("--header", "Authorization: Bearer sk-secret")
    result = locust("--headless", "--profile", "smoke", "--host", network.url, *words)
    assert result.code == 2
    assert "environment" in result.err and "sk-secret" not in result.err + result.out and "Traceback" not in result.err
