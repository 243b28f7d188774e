"""What /metrics exposes: every metric with its type, labels and meaning, and what bounds every label. The one list.

Names are those of OpenTelemetry's GenAI conventions, as OTel's rules translate them for Prometheus, where the
convention has the thing with the same definition; all others begin with `loadtest_`. docs/watching-prometheus.md
explains what is behind the choices.
"""

from __future__ import annotations

from typing import NamedTuple

from loadtest.fitness import RULES
from loadtest.observed import STAGES
from loadtest.records import Outcome, Phase

NODES_PLACED = 50  # counted under their own name
LOWEST_SHOWN = 20  # those of the lowest reputation, whose reputation and latencies are shown in any case
REST = "other"  # the label of all nodes that have no place of their own
STATES = ("starting", "warm-up", "measuring", "draining", "ended")
FAILED = "failed"
LATENCIES = ("ttfc", "ttft", "tpot", "itl", "e2e", "send_lag", "first_content_bound")

# Labels whose values are known beforehand.
CLOSED: dict[str, tuple[str, ...]] = {
    "state": STATES,
    "phase": tuple(phase.value for phase in Phase),
    "outcome": tuple(outcome.value for outcome in Outcome),
    "rule": RULES,
    "stage": STAGES,
    "waiting_for": ("first_byte", "rest"),
    "error_type": ("", FAILED),
    "metric": LATENCIES,
    "level": ("p50", "p95", "p99", "max"),
    "gen_ai_token_type": ("input", "output"),
    "gen_ai_operation_name": ("chat", "text_completion"),
    "gen_ai_provider_name": ("cortensor", "openai"),
    "series": ("lifetime", "network", "session"),
    "step": ("precommit", "commit"),
    "result": ("complete", "incomplete", "failed"),
    "mode": ("open", "closed"),
}
# Labels whose values are not, and what there are at most of them in one exposition.
BOUNDED = {
    "run": "1: the run that is on, or the last one",
    "target": "the profile's targets",
    "gen_ai_request_model": "one of each target",
    "server_address": "one of each target",
    "server_port": "one of each target",
    "route": "one of each target",
    "worker": "the swarm's workers",
    "host": "one of each worker",
    "source": "the kinds of source, times the targets",
    "node": f"{NODES_PLACED} and {REST!r}; where reputation and latencies are told, {LOWEST_SHOWN} more",
    "le": "the bounds of each histogram",
    "profile": "1",
    "profile_hash": "1",
    "seed": "1",
    "version": "1",
}

TEXT_MAX = 80  # letters of a label value; longer ones are cut and told apart by a hash


class Name(NamedTuple):
    kind: str  # "counter", "gauge" or "histogram"
    text: str
    labels: tuple[str, ...]  # besides `run`, which all have but those of the process


_GEN_AI = ("target", "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_OF_TURNS = (*_GEN_AI, "phase", "error_type")
_FAILED = "Turns that failed are in the series error_type=failed, in the bucket +Inf only: longer than anything."
_REST = f"{NODES_PLACED} nodes under their own name, all others as {REST!r}."
_SHOWN = f"Of these nodes and the {LOWEST_SHOWN} of the lowest reputation."

NAMES: dict[str, Name] = {
    "loadtest_build_info": Name("gauge", "Always 1; the harness that answers.", ("version",)),
    # The run.
    "loadtest_run_info": Name(
        "gauge", "Always 1; what the run was started with.", ("profile", "profile_hash", "mode", "seed")
    ),
    "loadtest_target_info": Name(
        "gauge",
        "Always 1; a router under load.",
        ("target", "route", "gen_ai_request_model", "server_address", "server_port"),
    ),
    "loadtest_run_state": Name("gauge", "1 for the state the run is in, 0 for all others.", ("state",)),
    "loadtest_run_elapsed_seconds": Name("gauge", "Since the common start; below 0 before it.", ()),
    "loadtest_run_planned_seconds": Name("gauge", "How long arrivals are offered.", ()),
    # Turns.
    "loadtest_arrivals": Name("counter", "Conversations that came due.", ()),
    "loadtest_turns_planned": Name("counter", "Turns of the conversations that came due.", ()),
    "loadtest_turns_offered": Name("counter", "Turns that were due: started, or dropped.", ()),
    "loadtest_turns_started": Name("counter", "Turns that were sent.", ()),
    "loadtest_turns_ended": Name("counter", "Planned turns that have ended, by outcome, a closed set.", ("outcome",)),
    "loadtest_turns_in_flight": Name(
        "gauge", "Turns sent and not ended, by what is waited for; of workers that are not lost.", ("waiting_for",)
    ),
    "loadtest_oldest_in_flight_seconds": Name("gauge", "Age of the oldest turn in flight, 0 without one.", ()),
    # Latencies.
    "gen_ai_client_operation_duration_seconds": Name(
        "histogram", f"E2E: from the first write to the end of the answer. {_FAILED}", _OF_TURNS
    ),
    "gen_ai_client_operation_time_to_first_chunk_seconds": Name(
        "histogram", f"Streams: to the first event of any kind, which may hold no text. {_FAILED}", _OF_TURNS
    ),
    "loadtest_time_to_first_token_seconds": Name(
        "histogram", f"TTFT of streams: to the first chunk with text. {_FAILED}", _OF_TURNS
    ),
    "gen_ai_client_operation_time_per_output_chunk_seconds": Name(
        "histogram", "ITL of streams: gaps between chunks with text, pooled over chunks.", (*_GEN_AI, "phase")
    ),
    "loadtest_time_per_output_token_seconds": Name(
        "histogram",
        f"TPOT of streams: first to last text over tokens but one, once for each turn. {_FAILED}",
        _OF_TURNS,
    ),
    "gen_ai_client_token_usage": Name(
        "histogram",
        "Tokens of each request that was sent: as the server tells, else as planned (input) or counted (output).",
        (*_GEN_AI, "gen_ai_token_type"),
    ),
    "loadtest_latency_quantile_seconds": Name(
        "gauge",
        "Quantiles within 1 % since the phase began, failed turns as +Inf; without target: of all targets.",
        ("target", "phase", "metric", "level"),
    ),
    # The harness's own error.
    "loadtest_send_lag_seconds": Name("histogram", "How late requests left.", ("target", "phase")),
    "loadtest_receive_error_seconds": Name(
        "histogram", "Width of the interval in which first content can have arrived.", ("target", "phase")
    ),
    "loadtest_fit": Name("gauge", "1 while no rule of fitness is broken, else 0: the run proves nothing.", ()),
    "loadtest_unfit": Name("gauge", "1 for a rule of fitness that is broken, else 0.", ("rule",)),
    "loadtest_workers_expected": Name("gauge", "Workers the run was dealt to.", ()),
    "loadtest_workers_lost": Name("gauge", "Workers given up for lost.", ()),
    "loadtest_worker_info": Name("gauge", "Always 1; where a worker runs.", ("worker", "host")),
    "loadtest_worker_up": Name("gauge", "0 for a worker that is lost, else 1.", ("worker",)),
    "loadtest_worker_silent_seconds": Name("gauge", "Since the last sign of life, until its last word.", ("worker",)),
    "loadtest_worker_cpu_max_ratio": Name("gauge", "Highest share of a core over a report so far.", ("worker",)),
    "loadtest_worker_loop_late_seconds": Name("gauge", "How late the worker's loop ran so far.", ("worker", "level")),
    "loadtest_worker_clock_bound_seconds": Name(
        "gauge", "To how much the worker's offset to the master's clock is known, worst so far.", ("worker",)
    ),
    "loadtest_worker_in_flight": Name("gauge", "Turns this worker has in flight.", ("worker",)),
    "loadtest_worker_connections": Name("gauge", "Open connections.", ("worker",)),
    "loadtest_worker_connections_opened": Name("counter", "Connections opened.", ("worker",)),
    # The ledger.
    "loadtest_rows_spooled": Name("counter", "Rows of ended turns in the worker's spool.", ("worker",)),
    "loadtest_rows_sent": Name("counter", "Rows sent to the collector.", ("worker",)),
    "loadtest_rows_acknowledged": Name("counter", "Rows the collector has acknowledged.", ("worker",)),
    "loadtest_rows_overflowed": Name(
        "counter", "Entries (rows, texts, bodies) that the worker's disk refused.", ("worker",)
    ),
    "loadtest_rows_refused": Name("counter", "Rows the worker's disk refused.", ("worker",)),
    "loadtest_rows_received": Name("counter", "Rows the collector has.", ()),
    "loadtest_rows_stored": Name("counter", "Rows in Parquet.", ()),
    "loadtest_ledger_mismatches": Name("gauge", "Sums of the ledger that do not hold.", ()),
    "loadtest_live_reports_missed": Name("counter", "Reports of workers that never came.", ()),
    # What the observer knows: nodes.
    "loadtest_observe_up": Name("gauge", "1 when the observer has written something, else 0.", ()),
    "loadtest_observe_age_seconds": Name("gauge", "Since the observer wrote what it knows.", ()),
    "loadtest_nodes_known": Name("gauge", "Nodes the observer knows.", ()),
    "loadtest_requests_observed": Name("counter", "Stored requests that the observer has read.", ()),
    "loadtest_requests_with_node_known": Name("counter", "Of these, those whose node is known.", ()),
    "loadtest_node_requests": Name("counter", f"Requests whose node is known. {_REST}", ("node",)),
    "loadtest_node_failures": Name("counter", f"Of these, those that failed. {_REST}", ("node",)),
    "loadtest_node_success_ratio": Name(
        "gauge", f"Reputation: share of settled entries that succeeded. {_SHOWN}", ("node", "series", "step")
    ),
    "loadtest_node_latency_seconds": Name(
        "gauge",
        f"Quantiles within 1 % over the good answers of a node so far. {_SHOWN}",
        ("node", "metric", "level"),
    ),
    "loadtest_node_tokens_per_second": Name("gauge", f"Decode speed over the run so far. {_SHOWN}", ("node",)),
    "loadtest_node_reputation_age_seconds": Name("gauge", f"Since the newest word on it. {_SHOWN}", ("node",)),
    "loadtest_node_pending": Name("gauge", f"Entries of its series that are not settled. {_SHOWN}", ("node",)),
    # Tasks and routers.
    "loadtest_tasks_reached": Name("counter", "Tasks looked up that were seen in a stage or further on.", ("stage",)),
    "loadtest_tasks_left": Name("counter", "Tasks last seen there that are no longer asked for.", ("stage",)),
    "loadtest_tasks_now": Name("gauge", "Tasks last seen there that are still asked for.", ("stage",)),
    "loadtest_task_oldest_seconds": Name(
        "gauge", "Age of the oldest task that is there now, 0 without one.", ("stage",)
    ),
    "loadtest_task_seen_seconds": Name(
        "gauge", "Age of tasks when first seen there or further on, since the request left.", ("stage", "level")
    ),
    "loadtest_tasks_finished": Name("counter", "Tasks that told when they were created and finished.", ()),
    "loadtest_task_took_seconds": Name("gauge", "From created to finished, on the router's clock.", ("level",)),
    "loadtest_router_up": Name(
        "gauge", "1 when the router's newest status came, 0 when it could not be had.", ("target",)
    ),
    "loadtest_router_connected_miners": Name("gauge", "Nodes connected, as the router says.", ("target",)),
    "loadtest_router_active_sessions": Name("gauge", "Sessions, as the router says.", ("target",)),
    "loadtest_router_status_age_seconds": Name("gauge", "Since the router's newest status.", ("target",)),
    "loadtest_observe_answers": Name("counter", "Answers to the observer's questions.", ("source",)),
    "loadtest_observe_errors": Name("counter", "Questions of the observer that failed.", ("source",)),
    "loadtest_observe_failing": Name("gauge", "Polled things whose last question failed.", ("source",)),
    "loadtest_observe_source_age_seconds": Name("gauge", "Age of the oldest newest answer.", ("source",)),
    "loadtest_lookups": Name("counter", "Look-ups of tasks that are over.", ("result",)),
    "loadtest_lookups_open": Name("gauge", "Look-ups that are not.", ()),
}


def label_names(name: str) -> set[str]:
    """All labels of a metric; a histogram's buckets have `le` too."""
    kind, _, labels = NAMES[name]
    own = set(labels) | ({"le"} if kind == "histogram" else set())
    return own if name == "loadtest_build_info" else own | {"run"}
