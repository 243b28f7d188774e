"""What the observer knows of nodes, tasks and routers, as families of /metrics, with a bound on how many nodes.

A node that has served gets a place while places are free, those with the most requests first, and keeps it to the end
of the run: what it counts then only grows, and so does the rest, which is counted under one name. Reputation and
latencies do not add up, so the rest has none; they are shown of the nodes with a place and of those that stand lowest.
"""

from __future__ import annotations

from collections.abc import Iterator

from loadtest.observed import Observed, ObservedNode, Pipeline
from loadtest.swarm.metric_names import CLOSED, LOWEST_SHOWN, NODES_PLACED, REST
from loadtest.swarm.prometheus import Families, label


class Places:
    """Which nodes of one run are counted under their own name. `counted` is what each node was last seen with."""

    def __init__(self) -> None:
        self._placed: list[str] = []
        self._counted: dict[str, tuple[int, int]] = {}  # requests, failures; of as many nodes as the observer keeps

    def take(self, nodes: list[ObservedNode]) -> None:
        """The newest word; nodes with the most requests come first."""
        for node in nodes:
            if not node.requests:
                continue
            if node.node not in self._counted and len(self._placed) < NODES_PLACED and node.node != REST:
                self._placed.append(node.node)
            self._counted[node.node] = node.requests, node.failures

    def counts(self, known: int) -> Iterator[tuple[str, int, int]]:
        """Name, requests and failures of each node with a place, then of the rest; `known` is the sum of requests."""
        for name in self._placed:
            requests, failures = self._counted[name]
            known -= requests
            yield label(name), requests, failures
        placed = set(self._placed)
        yield REST, known, sum(failed for name, (_, failed) in self._counted.items() if name not in placed)

    def shown(self, nodes: list[ObservedNode]) -> list[ObservedNode]:
        """Of which nodes reputation and latencies are told."""
        told = [node for node in nodes if node.node != REST]
        lowest = sorted((n for n in told if n.lowest_rate is not None), key=lambda n: n.lowest_rate or 0.0)
        chosen = {*self._placed, *(node.node for node in lowest[:LOWEST_SHOWN])}
        return [node for node in told if node.node in chosen]


def put_network(page: Families, found: Observed | None, age_s: float, places: Places) -> None:
    """All the observer knows. `age_s` is how long ago it wrote it."""
    page.put("loadtest_observe_up", found is not None)
    if found is None:
        return
    page.put("loadtest_observe_age_seconds", age_s)
    places.take(found.nodes)
    _nodes(page, found, age_s, places)
    _tasks(page, found.pipeline)
    _asking(page, found, age_s)


_RATES = {"lifetime": "", "network": "network_", "session": "session_"}


def _nodes(page: Families, found: Observed, age_s: float, places: Places) -> None:
    page.put("loadtest_nodes_known", found.nodes_known)
    page.put("loadtest_requests_with_node_known", found.requests_known)
    page.put("loadtest_requests_observed", found.requests)
    for name, requests, failures in places.counts(found.requests_known):
        page.put("loadtest_node_requests", requests, node=name)
        page.put("loadtest_node_failures", failures, node=name)
    for node in places.shown(found.nodes):
        name = label(node.node)
        for series, prefix in _RATES.items():
            for step in CLOSED["step"]:
                rate = getattr(node, f"{prefix}{step}_rate")
                if rate is not None:
                    page.put("loadtest_node_success_ratio", rate, node=name, series=series, step=step)
        for metric in ("ttft", "e2e"):
            for level in ("p50", "p95"):
                value_ms = getattr(node, f"{metric}_ms_{level}")
                if value_ms is not None:
                    page.put("loadtest_node_latency_seconds", value_ms / 1e3, node=name, metric=metric, level=level)
        if node.tokens_per_s is not None:
            page.put("loadtest_node_tokens_per_second", node.tokens_per_s, node=name)
        if node.age_s is not None:
            page.put("loadtest_node_reputation_age_seconds", node.age_s + age_s, node=name)
            page.put("loadtest_node_pending", node.pending, node=name)


def _tasks(page: Families, pipeline: Pipeline) -> None:
    for stage in pipeline.stages:
        if stage.stage not in CLOSED["stage"]:
            continue
        page.put("loadtest_tasks_reached", stage.reached, stage=stage.stage)
        page.put("loadtest_tasks_left", stage.left, stage=stage.stage)
        page.put("loadtest_tasks_now", stage.now, stage=stage.stage)
        page.put("loadtest_task_oldest_seconds", stage.oldest_s or 0.0, stage=stage.stage)
        for value_s, level in ((stage.seen_s_p50, "p50"), (stage.seen_s_p95, "p95")):
            if value_s is not None:
                page.put("loadtest_task_seen_seconds", value_s, stage=stage.stage, level=level)
    page.put("loadtest_tasks_finished", pipeline.ended)
    for value_s, level in ((pipeline.took_s_p50, "p50"), (pipeline.took_s_p95, "p95")):
        if value_s is not None:
            page.put("loadtest_task_took_seconds", value_s, level=level)


def _asking(page: Families, found: Observed, age_s: float) -> None:
    for router in found.routers:
        for target in map(label, router.targets):
            page.put("loadtest_router_up", not router.error, target=target)
            for name, value in (
                ("loadtest_router_connected_miners", router.connected_miners),
                ("loadtest_router_active_sessions", router.active_sessions),
                ("loadtest_router_status_age_seconds", None if router.age_s is None else router.age_s + age_s),
            ):
                if value is not None:
                    page.put(name, value, target=target)
    for source in found.sources:
        name = label(source["source"])
        page.put("loadtest_observe_answers", source["answers"], source=name)
        page.put("loadtest_observe_errors", source["errors"], source=name)
        page.put("loadtest_observe_failing", source["failing"], source=name)
        if source["age_s"] is not None:
            page.put("loadtest_observe_source_age_seconds", source["age_s"] + age_s, source=name)
    for result in CLOSED["result"]:
        page.put("loadtest_lookups", found.lookups.get(result, 0), result=result)
    page.put("loadtest_lookups_open", found.lookups.get("open", 0))
