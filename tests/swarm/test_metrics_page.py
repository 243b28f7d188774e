"""What /metrics says is what the workers told: counted once, never going back, with names and labels of the list."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import made_row
from made_standing import made_observed
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from watched_run import TARGETS, MadeWorker, watched

from loadtest.fitness import RULES, Figures, unfit_reasons
from loadtest.observed import Observed, ObservedNode
from loadtest.quantiles import LogHistogram
from loadtest.records import Outcome
from loadtest.swarm import otel
from loadtest.swarm.metric_names import (
    BOUNDED,
    CLOSED,
    LOWEST_SHOWN,
    NAMES,
    NODES_PLACED,
    REST,
    TEXT_MAX,
    label_names,
)
from loadtest.swarm.network_metrics import Places, put_network
from loadtest.swarm.prometheus import Families, Watched, label, put_run
from loadtest.swarm.reports import Reports

MS = 1_000_000
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def turn(seq: int, e2e_ms: int, outcome: str = "ok", target: str = "chat", **changes: Any) -> Any:
    return made_row(
        seq,
        **{
            "target": target,
            "scheduled_ns": 0,
            "sent_ns": MS,
            "first_chunk_ns": MS + e2e_ms * MS // 4,
            "first_content_ns": MS + e2e_ms * MS // 2,
            "last_content_ns": MS + e2e_ms * MS,
            "done_ns": MS + e2e_ms * MS,
            "first_content_bound_ns": 3 * MS,
            "usage_prompt_tokens": 100,
            "usage_completion_tokens": 16,
            "outcome": outcome,
            **changes,
        },
    )


class _Families:
    def __init__(self, page: Families) -> None:
        self._page = page

    def collect(self) -> Iterator[Metric]:
        return self._page.all()


def written(page: Families) -> str:
    registry = CollectorRegistry()
    registry.register(_Families(page))
    return generate_latest(registry).decode()


def text(one: Watched) -> str:
    page = Families(one.standing.run)
    put_run(page, one)
    put_network(page, one.standing.observed, one.standing.observed_age_s or 0.0, Places())
    return written(page)


def samples(page: str) -> Samples:
    read = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    found = {(s.name, frozenset(s.labels.items())): s.value for s in read}
    assert len(found) == len(read), "a series stands there twice"
    return found


def of(found: Samples, name: str, **labels: str) -> float:
    """The sum over the series that have these labels."""
    values = [value for (n, own), value in found.items() if n == name and labels.items() <= dict(own).items()]
    assert values, f"no series {name} {labels}"
    return sum(values)


def test_counts_are_those_of_the_reports_and_a_report_that_comes_twice_counts_once(tmp_path: Path) -> None:
    reports, workers = Reports("r-1", range(2)), [MadeWorker(0), MadeWorker(1)]
    for seq in range(10):
        workers[seq % 2].ends(turn(seq, 100, "ok" if seq < 7 else "truncated"))
    workers[0].ends(made_row(10, outcome="dropped", target="chat"))
    for worker in workers:
        report = worker.report()
        assert reports.take(report)
        assert not reports.take(report)
    found = samples(text(watched(reports, tmp_path)))
    assert of(found, "loadtest_turns_ended_total") == 11
    assert of(found, "loadtest_turns_ended_total", outcome="ok") == 7
    assert of(found, "loadtest_turns_ended_total", outcome="dropped") == 1
    assert of(found, "loadtest_turns_ended_total", outcome="lost") == 0, (
        "a series begins at 0, not with its first count"
    )
    assert of(found, "loadtest_turns_offered_total") == 11
    assert of(found, "loadtest_turns_started_total") == 10
    assert of(found, "loadtest_rows_spooled_total", worker="0") == 6
    duration = "gen_ai_client_operation_duration_seconds"
    assert of(found, f"{duration}_count", target="chat", phase="measure", error_type="") == 7
    assert of(found, f"{duration}_count", target="chat", phase="measure", error_type="failed") == 3
    assert of(found, f"{duration}_bucket", target="chat", phase="measure", le="0.08") == 0
    assert of(found, f"{duration}_bucket", target="chat", phase="measure", le="0.16") == 7
    assert of(found, f"{duration}_bucket", target="chat", phase="measure", le="327.68") == 7
    assert of(found, f"{duration}_bucket", target="chat", phase="measure", le="+Inf") == 10
    assert of(found, f"{duration}_sum", target="chat", phase="measure") == pytest.approx(0.7, rel=0.01)
    assert of(found, "loadtest_time_to_first_token_seconds_sum", target="chat") == pytest.approx(0.35, rel=0.01)
    chunk = "gen_ai_client_operation_time_to_first_chunk_seconds"
    assert of(found, f"{chunk}_sum", target="chat") == pytest.approx(0.175, rel=0.01)
    assert of(found, "gen_ai_client_token_usage_sum", target="chat", gen_ai_token_type="input") == 1000
    assert of(found, "gen_ai_client_token_usage_sum", target="chat", gen_ai_token_type="output") == 160
    assert of(found, "gen_ai_client_token_usage_bucket", target="chat", gen_ai_token_type="output", le="16.0") == 10
    assert of(found, "gen_ai_client_token_usage_count", target="router") == 0


@settings(max_examples=40, deadline=None)
@given(
    rounds=st.lists(
        st.lists(
            st.tuples(st.sampled_from(list(Outcome)), st.integers(1, 400_000), st.sampled_from(["chat", "router"])),
            max_size=8,
        ),
        min_size=2,
        max_size=5,
    )
)
def test_what_counts_never_goes_back_within_a_run(rounds: list[list[tuple[Outcome, int, str]]]) -> None:
    reports, worker, seq = Reports("r-1", [0]), MadeWorker(0), 0
    before: Samples = {}
    for turns in rounds:
        for outcome, e2e_ms, target in turns:
            seq += 1
            not_sent = {"sent_ns": None} if outcome in ("dropped", "not_reached") else {}
            worker.ends(turn(seq, e2e_ms, outcome, target, **not_sent))
        reports.take(worker.report())
        now = samples(text(watched(reports, Path("/nonexistent"))))
        counting = {key: value for key, value in now.items() if re.search("_(total|bucket|count|sum)$", key[0])}
        assert before.keys() <= counting.keys()
        assert all(counting[key] >= value for key, value in before.items())
        before = counting


@given(values=st.lists(st.integers(0, 10**12), max_size=60))
def test_a_value_is_at_most_one_per_cent_from_the_bound_it_is_counted_under(values: list[int]) -> None:
    histogram = LogHistogram()
    histogram.add_all(values)
    counts, total_s = otel.cumulative(histogram, otel.DURATION_BOUNDS_S)
    assert counts == sorted(counts)
    assert counts[-1] == len(values)
    assert total_s == pytest.approx(sum(values) / 1e9, rel=0.0101, abs=1e-9)
    for bound_s, count in zip(otel.DURATION_BOUNDS_S, counts, strict=False):
        assert sum(v < bound_s * 0.98e9 for v in values) <= count <= sum(v <= bound_s * 1.02e9 for v in values)


def test_the_bounds_are_those_of_the_convention() -> None:
    assert otel.DURATION_BOUNDS_S[:14] == (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    )
    assert otel.DURATION_BOUNDS_S[14:] == (163.84, 327.68)
    assert otel.TOKEN_BOUNDS[-1] == 67108864


def full_run(tmp_path: Path) -> Watched:
    reports, workers = Reports("r-1", range(2)), [MadeWorker(0), MadeWorker(1)]
    for seq, outcome in enumerate([*Outcome] * 2):
        workers[seq % 2].ends(turn(seq, 100 + seq, outcome, TARGETS[seq % 3 % 2].name))
    for worker in workers:
        reports.take(worker.report())
    one = watched(reports, tmp_path)
    source = {"source": "status chat", "polled": 1, "answers": 5, "errors": 1, "failing": 0, "age_s": 2.0}
    made = made_observed()
    rates = {f"{series}_{step}_rate": 0.9 for series in ("network", "session") for step in CLOSED["step"]}
    nodes = [replace(each, **rates) for each in made.nodes]
    observed = replace(made, nodes=nodes, sources=[source], lookups={"complete": 88, "open": 2})
    return one._replace(standing=replace(one.standing, observed=observed, observed_age_s=1.5))


def test_names_and_labels_are_those_of_the_list(tmp_path: Path) -> None:
    page = text(full_run(tmp_path))
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert families.keys() == NAMES.keys() - {"loadtest_build_info"}
    for name, family in families.items():
        assert family.type == NAMES[name].kind and family.documentation == NAMES[name].text
        seen = {label for sample in family.samples for label in sample.labels}
        assert seen == label_names(name), name
        for sample in family.samples:
            for label_name, value in sample.labels.items():
                assert value in CLOSED[label_name] if label_name in CLOSED else label_name in BOUNDED
    every = {label for name in NAMES for label in label_names(name)}
    assert every == CLOSED.keys() | BOUNDED.keys(), "the list names a label that no metric has"


def test_every_rule_of_fitness_has_its_place() -> None:
    worst = Figures(
        planned_turns=1,
        stored_turns=0,
        lost_turns=1,
        dropped_turns=1,
        first_turns=1,
        workers_expected=1,
        workers_lost=1,
        rows_overflowed=1,
        send_lag_ms_p99=math.inf,
        ttft_ms_p50=1.0,
        receive_error_ms_p99=math.inf,
        loop_overshoot_ms_p99=math.inf,
        worker_cpu_share_max=2.0,
        clock_bound_ms_max=math.inf,
        measured_requests=0,
        ledger_mismatches=((1, "sums"),),
    )
    assert {reason.rule for reason in unfit_reasons(worst)} == set(RULES)


def test_the_account_of_the_collector_counts_the_turns_that_were_lost_with_a_worker(tmp_path: Path) -> None:
    reports, worker = Reports("r-1", range(2)), MadeWorker(0)
    worker.ends(turn(0, 100))
    reports.take(worker.report(final=True))
    reports.lost.add(1)
    account = {"outcomes": {"ok": 2, "lost": 5}, "planned_turns": 7, "rows": 7}
    one = watched(reports, tmp_path, account=account, judged=["lost", "state"], over=True)
    found = samples(text(one))
    assert of(found, "loadtest_turns_ended_total") == of(found, "loadtest_turns_planned_total") == 7
    assert of(found, "loadtest_rows_stored_total") == 7
    assert of(found, "loadtest_worker_up", worker="1") == 0
    assert of(found, "loadtest_run_state", state="ended") == 1
    assert of(found, "loadtest_fit") == 0 and of(found, "loadtest_unfit") == 1


HOSTILE = [
    '<script>alert("x")</script>',
    "a\nb",
    "back\\slash",
    "nul\x00",
    "half \ud800",
    "é" * 500,
    'quote"}',
    "{",
    "",
]


def test_hostile_texts_stay_one_value_of_one_label(tmp_path: Path) -> None:
    reports = Reports("r-1", range(len(HOSTILE)))
    for n, host in enumerate(HOSTILE):
        reports.take(MadeWorker(n, host=host).report())
    page = text(watched(reports, tmp_path, run="r-1"))
    hosts = {
        sample.labels["worker"]: sample.labels["host"]
        for family in text_string_to_metric_families(page)
        if family.name == "loadtest_worker_info"
        for sample in family.samples
    }
    assert hosts == {str(n): label(host) for n, host in enumerate(HOSTILE)}
    assert hosts["0"] == HOSTILE[0] and hosts["1"].startswith("a�b~") and hosts["3"].startswith("nul�~")


@given(st.text(alphabet=st.characters(), max_size=200), st.text(alphabet=st.characters(), max_size=200))
def test_a_label_is_short_printable_and_different_for_different_texts(one: str, other: str) -> None:
    assert len(label(one)) <= TEXT_MAX
    assert "\x00" not in label(one) and "\n" not in label(one)
    label(one).encode()
    assert (label(one) == label(other)) == (one == other)


# Nodes.


def node(name: str, requests: int, failures: int = 0, **rates: float | None) -> ObservedNode:
    return ObservedNode(node=name, requests=requests, failures=failures, **rates)


def nodes_page(nodes: list[ObservedNode], places: Places) -> Samples:
    ordered = sorted(nodes, key=lambda one: -one.requests)
    known = sum(one.requests for one in nodes)
    found = Observed(
        schema_version=2, written_wall_ns=0, state="running", requests=known, requests_known=known, nodes=ordered
    )
    page = Families("r-1")
    put_network(page, found, 1.5, places)
    return samples(written(page))


def test_nodes_beyond_the_places_are_counted_as_the_rest() -> None:
    nodes = [node(f"0x{n:04d}", 1000 - n, failures=n % 3) for n in range(NODES_PLACED + 30)]
    found = nodes_page(nodes, Places())
    own = {dict(labels)["node"] for name, labels in found if name == "loadtest_node_requests_total"}
    assert own == {one.node for one in nodes[:NODES_PLACED]} | {REST}
    assert of(found, "loadtest_node_requests_total") == sum(one.requests for one in nodes)
    assert of(found, "loadtest_node_failures_total") == sum(one.failures for one in nodes)
    assert of(found, "loadtest_node_requests_total", node=REST) == sum(one.requests for one in nodes[NODES_PLACED:])


def test_reputation_is_told_of_nodes_with_a_place_and_of_the_lowest() -> None:
    busy = [node(f"busy{n}", 10, commit_rate=0.99) for n in range(3)]
    idle = [node(f"idle{n:03d}", 0, commit_rate=n / 1000) for n in range(500)]
    found = nodes_page(busy + idle, Places())
    told = {dict(labels)["node"] for name, labels in found if name == "loadtest_node_success_ratio"}
    assert told == {"busy0", "busy1", "busy2"} | {f"idle{n:03d}" for n in range(LOWEST_SHOWN)}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, NODES_PLACED + 20), st.integers(0, 5), max_size=60), min_size=2, max_size=6)
)
def test_what_nodes_count_never_goes_back(rounds: list[dict[int, int]]) -> None:
    places, requests, before = Places(), dict.fromkeys(range(NODES_PLACED + 21), 0), {}
    for more in rounds:
        for n, count in more.items():
            requests[n] += count
        found = nodes_page([node(f"n{n}", count, failures=count // 2) for n, count in requests.items()], places)
        now = {key: value for key, value in found.items() if key[0] == "loadtest_node_requests_total"}
        assert sum(now.values()) == sum(requests.values())
        assert all(now[key] >= value for key, value in before.items())
        before = now


def test_a_node_may_call_itself_anything() -> None:
    nodes = [node(name, 5, commit_rate=0.5) for name in [*HOSTILE, REST]]
    found = nodes_page(nodes, Places())
    names = {dict(labels)["node"] for name, labels in found if name == "loadtest_node_requests_total"}
    assert names == {label(name) for name in HOSTILE} | {REST}
    assert of(found, "loadtest_node_requests_total", node=REST) == 5
