"""The boards of the network: nodes and their reputation, tasks and routers."""

from __future__ import annotations

from description import RATE, RUN, Board, Panel, Query

NODES = Board(
    "loadtest-nodes",
    "Load test: nodes and reputation",
    "What each node did for us and what the network says of it. 50 nodes are counted under their own name, the rest as "
    "other; which node served is known some time after the answer.",
    (
        Panel(
            "Nodes known",
            "short",
            (Query(f"loadtest_nodes_known{{{RUN}}}", "nodes"),),
            "Worry when it falls: nodes leave the network.",
            "stat",
            8,
        ),
        Panel(
            "Requests whose node is known",
            "percentunit",
            (
                Query(
                    f"loadtest_requests_with_node_known_total{{{RUN}}} / "
                    f"(loadtest_requests_observed_total{{{RUN}}} > 0)",
                    "known",
                ),
            ),
            "Look-ups come after a grace time, at no more than a share of the request rate. Below a half the rest of "
            "this page is a sample.",
            "stat",
            8,
        ),
        Panel(
            "Lowest reputation",
            "percentunit",
            (
                Query(
                    f'bottomk(5, loadtest_node_success_ratio{{{RUN},series="lifetime"}})',
                    "{{node}} {{step}}",
                ),
            ),
            "Lifetime share of entries that succeeded. Worry when a node that is low is chosen as often as the others.",
            "stat",
            8,
            red_below=0.9,
        ),
        Panel(
            "Requests by node",
            "reqps",
            (Query(f"topk(15, sum by (node) (rate(loadtest_node_requests_total{{{RUN}}}{RATE})))", "{{node}}"),),
            "The fifteen busiest. Worry when one node gets many times the share of others: see the report's test of "
            "the shuffle, which knows what chance allows.",
        ),
        Panel(
            "Failures by node",
            "percentunit",
            (Query("topk(15, loadtest:node_failures:share{" + RUN + "})", "{{node}}"),),
            "Share of its requests that failed, over the run. Worry when one with ten requests or more stands out.",
        ),
        Panel(
            "TTFT p95 by node",
            "s",
            (Query(f'topk(15, loadtest_node_latency_seconds{{{RUN},metric="ttft",level="p95"}})', "{{node}}"),),
            "Within 1 %, good answers over the run so far, streams only. Worry about a node that is slow and keeps its "
            "reputation.",
        ),
        Panel(
            "E2E p95 by node",
            "s",
            (Query(f'topk(15, loadtest_node_latency_seconds{{{RUN},metric="e2e",level="p95"}})', "{{node}}"),),
            "Within 1 %, good answers over the run so far.",
        ),
        Panel(
            "Tokens per second by node",
            "short",
            (Query(f"bottomk(15, loadtest_node_tokens_per_second{{{RUN}}})", "{{node}}"),),
            "The fifteen slowest at decoding. Worry when one is far below the others on the same model.",
        ),
        Panel(
            "Reputation of the lowest",
            "percentunit",
            (
                Query(
                    f'bottomk(10, min by (node) (loadtest_node_success_ratio{{{RUN},series="lifetime"}}))',
                    "{{node}}",
                ),
            ),
            "The lower of precommit and commit. Worry when it falls while we load the network.",
        ),
        Panel(
            "Age of reputation",
            "s",
            (Query(f"max(loadtest_node_reputation_age_seconds{{{RUN}}})", "oldest"),),
            "The join uses the last word before a request, at most two polling periods old. Worry when it climbs: the "
            "source has stopped answering.",
        ),
        Panel(
            "Entries not settled",
            "short",
            (Query(f"topk(10, loadtest_node_pending{{{RUN}}})", "{{node}}"),),
            "Of a node's reputation: work whose success is not decided. Worry when it grows on a few nodes only.",
        ),
        Panel(
            "Nodes",
            "short",
            (
                Query(f"sum by (node) (loadtest_node_requests_total{{{RUN}}})", "requests"),
                Query(f"sum by (node) (loadtest_node_failures_total{{{RUN}}})", "failures"),
                Query(f'max by (node) (loadtest_node_latency_seconds{{{RUN},metric="e2e",level="p50"}})', "E2E p50 s"),
                Query(f'min by (node) (loadtest_node_success_ratio{{{RUN},series="lifetime"}})', "reputation"),
            ),
            "All that is known of each node.",
            "table",
            24,
        ),
    ),
)

PIPELINE = Board(
    "loadtest-pipeline",
    "Load test: pipeline",
    "How far the tasks of our requests have come, from queued to completed, and what the routers say of themselves.",
    (
        Panel(
            "Tasks in each stage now",
            "short",
            (Query(f"loadtest_tasks_now{{{RUN}}}", "{{stage}}"),),
            "Of those that are looked up and still asked for. Worry when one stage fills and those after it do not.",
        ),
        Panel(
            "Tasks that reached a stage",
            "short",
            (Query(f"loadtest_tasks_reached_total{{{RUN}}}", "{{stage}}"),),
            "The lines should stay close together. A gap that stays is work lost between two stages.",
        ),
        Panel(
            "Oldest task in each stage",
            "s",
            (Query(f"loadtest_task_oldest_seconds{{{RUN}}}", "{{stage}}"),),
            "Worry when it rises second by second.",
        ),
        Panel(
            "Age when first seen in a stage, p95",
            "s",
            (Query(f'loadtest_task_seen_seconds{{{RUN},level="p95"}}', "{{stage}}"),),
            "Since the request left. A look-up sees a stage some time after the task entered it: upper bounds.",
        ),
        Panel(
            "Created to finished",
            "s",
            (Query(f"loadtest_task_took_seconds{{{RUN}}}", "{{level}}"),),
            "On the router's clock, in whole seconds.",
        ),
        Panel(
            "Look-ups",
            "short",
            (
                Query(f"loadtest_lookups_total{{{RUN}}}", "{{result}}"),
                Query(f"loadtest_lookups_open{{{RUN}}}", "open"),
            ),
            "Worry when incomplete or failed ones grow: the node of those requests stays unknown.",
        ),
        Panel(
            "Nodes connected, sessions",
            "short",
            (
                Query(f'loadtest_router_connected_miners{{{RUN},target=~"$target"}}', "{{target}} nodes"),
                Query(f'loadtest_router_active_sessions{{{RUN},target=~"$target"}}', "{{target}} sessions"),
            ),
            "As the router's status says. Worry when nodes disconnect under load.",
        ),
        Panel(
            "Router's status",
            "s",
            (Query(f'loadtest_router_status_age_seconds{{{RUN},target=~"$target"}}', "{{target}} age"),),
            "Worry when it climbs: the router does not answer its own status.",
        ),
        Panel(
            "Questions that failed",
            "short",
            (Query(f"loadtest_observe_errors_total{{{RUN}}}", "{{source}}"),),
            "Of the observer, which asks the network about itself at no more than a tenth of the request rate.",
        ),
        Panel(
            "Age of what the observer knows",
            "s",
            (Query(f"loadtest_observe_age_seconds{{{RUN}}}", "written"),),
            "It writes every two seconds. Worry above ten while the run is on.",
        ),
    ),
)
