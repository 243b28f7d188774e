"""The tabs of Locust's page: every cell has its column, figures are those of the run, and the answer that carries them
stays below 100 KB."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from flask import Flask, jsonify
from made_standing import made_observed, made_report, made_standing, made_totals

from loadtest.fitness import Reason
from loadtest.observed import ObservedNode, Router, fitting
from loadtest.records import Outcome
from loadtest.swarm.standing import PlaceCounts, Row, Standing
from loadtest.swarm.webui import COLUMNS, TABS, add_tabs, tables

PAYLOAD_MAX = 100_000
SCRIPT = "<script>alert('node')</script>"


def by_key(standing: Standing) -> dict[str, list[dict[str, Any]]]:
    return {table["key"].removeprefix("loadtest-"): table["data"] for table in tables(standing)}


def page(standing: Standing | None) -> tuple[Any, Any]:
    """Locust's page as far as it concerns us: an application that answers what the browser polls."""
    app = Flask("page")

    @app.route("/base/stats/requests")
    def stats() -> Any:
        return jsonify({"stats": [1], "state": "running"})

    web_ui = SimpleNamespace(app=app, template_args={})
    add_tabs(web_ui, lambda: standing)  # type: ignore[arg-type]
    return web_ui, app.test_client().get("/base/stats/requests")


def test_the_web_page_gets_our_tables_beside_locusts() -> None:
    web_ui, answer = page(made_standing())
    told = json.loads(answer.data)
    assert told["stats"] == [1] and told["state"] == "running"
    assert [tab["key"] for tab in web_ui.template_args["extended_tabs"]] == list(TABS)
    rows = {table["key"]: table["data"] for table in told["extended_stats"]}
    for table in web_ui.template_args["extended_tables"]:
        columns = {column["key"] for column in table["structure"]}
        assert columns == {name for name, _ in COLUMNS[table["key"]]}
        assert rows[table["key"]] and all(set(row) == columns for row in rows[table["key"]])


def test_without_a_run_locusts_answer_is_left_alone() -> None:
    assert "extended_stats" not in json.loads(page(None)[1].data)


def test_what_the_tabs_say() -> None:
    said = by_key(made_standing())
    overview = {row["what"]: row for row in said["overview"]}
    assert overview["Offered"]["figure"] == "1,005 turns, 20.2/s now"
    assert overview["In flight"]["figure"] == "40: 30 waiting, 10 answering"
    assert overview["In flight, age of the oldest"]["figure"] == "14.2 s"
    ttft = overview["TTFT, chat (measure)"]
    assert (ttft["p50"], ttft["p95"], ttft["p99"]) == ("91 ms", "182 ms", "1234 ms")
    outcomes = {(row["target"], row["session"], row["outcome"]): row for row in said["outcomes"]}
    assert (outcomes["all", "", "ok"]["turns"], outcomes["all", "", "(in flight)"]["turns"]) == (940, 40)
    assert outcomes["whole", "12", "dropped"]["percent"] == round(100 * 5 / 285, 2)
    (of, first, second) = said["nodes"]
    assert of["node"] == "(of 90 requests whose node is known, of 900); 22 nodes are left out" and of["age"] == 1.0
    assert (first["node"], first["requests"], first["failed"], first["ttft_p50"]) == ("0xdef", 60, 3.33, 81.5)
    assert (first["precommit"], first["age"], second["age"]) == (99.0, 3.0, 4.2), "aged since the file was written"
    pipeline = {row["what"]: row for row in said["pipeline"]}
    assert [pipeline[name.capitalize()]["reached"] for name in ("queued", "committed", "completed")] == [95, 91, 88]
    assert (pipeline["Precommitted"]["now"], pipeline["Precommitted"]["oldest"]) == (2, 31.0)
    assert pipeline["Took"]["p50"] == 13.0
    assert pipeline["Router of chat, whole"]["note"] == "24 miners connected, 3 sessions active, heard 5 s ago"
    workers = {row["what"]: row for row in said["workers"]}
    assert workers["Fitness"]["figure"] == "fit so far" and workers["1 (box, 17)"]["figure"] == "lost"
    assert workers["Ledger"]["figure"] == "planned 1,300, started 1,000, ended 965"
    assert workers["2 (box, 17)"]["cpu"] == 80 and workers["0 (box, 17)"]["clock"] == 0.4


def test_an_unfit_run_says_why() -> None:
    reason = Reason("send_lag", 31.0, 20.0, "sends were late by 31 ms, 20 are allowed")
    said = by_key(made_standing(reasons=[reason]))
    assert {row["what"]: row["figure"] for row in said["overview"]}["Fitness"] == f"UNFIT: {reason.text}"
    workers = {row["what"]: row["figure"] for row in said["workers"]}
    assert workers["Fitness"] == "UNFIT" and workers["Unfit: send_lag"] == reason.text


def test_without_an_observer_the_tabs_say_so() -> None:
    said = by_key(made_standing(observed=None, observed_age_s=None))
    assert "no observer" in said["nodes"][0]["node"] and "no observer" in said["pipeline"][0]["what"]


def test_the_largest_swarm_stays_below_100_kb() -> None:
    """256 workers, 5,000 nodes with the longest of names, every outcome of every place, twenty targets."""
    name = SCRIPT + "\u20ac\u0001" * 40
    nodes = [ObservedNode(node=f"{i:05d}{name}", requests=i, precommit_rate=0.5, age_s=1.0) for i in range(5_000)]
    many = {outcome.value: 1_000_000 for outcome in Outcome}
    standing = made_standing()
    largest = made_standing(
        totals=made_totals(outcomes=many),
        rows=[Row(target=f"target-{i}", phase="measure", latencies=standing.rows[1].latencies) for i in range(20)],
        places=[PlaceCounts(target=name, session=str(i), started=9, in_flight=1, outcomes=many) for i in range(25)],
        workers=[made_report(i, host="h" * 60) for i in range(256)],
        observed=made_observed(
            nodes=fitting(nodes),
            nodes_known=5_000,
            routers=[Router(targets=[name] * 20, error=name) for _ in range(20)],
        ),
    )
    size = len(page(largest)[1].data)
    print(f"largest swarm: {size} bytes")
    assert size < PAYLOAD_MAX
    said = by_key(largest)
    assert len(said["nodes"]) > 50
    for table in ("nodes", "workers", "outcomes"):
        shown = len(said[table]) - 1
        (first, *_) = said[table][-1].values()
        assert first.startswith("… and ") and first.endswith(" rows more") and shown > 20


def test_500_nodes_with_addresses() -> None:
    nodes = [
        ObservedNode(
            node=f"0x{i:040x}", requests=i, failures=1, ttft_ms_p50=123.4, ttft_ms_p95=1234.0, e2e_ms_p50=4321.0,
            tokens_per_s=41.25, precommit_rate=0.987, commit_rate=0.9123, age_s=12.345,
        )
        for i in range(500)
    ]  # fmt: skip
    standing = made_standing(
        observed=made_observed(nodes=fitting(nodes), nodes_known=500), workers=[made_report(i) for i in range(16)]
    )
    size = len(page(standing)[1].data)
    print(f"16 workers, 500 nodes: {size} bytes, {len(by_key(standing)['nodes'])} rows of nodes")
    assert size < PAYLOAD_MAX
