"""The last night in Prometheus's text format, for a textfile collector: one point of the nightly history.

Prometheus makes a history of it by scraping it every night; history.parquet stays the one that is exact and complete.
A median over the night's runs is a figure of the night, never one of requests: the unit is the run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from loadtest.analysis.run_figures import RunFigures

_LATENCIES = (("ttft", "p50"), ("ttft", "p95"), ("tpot", "p50"), ("e2e", "p50"), ("e2e", "p95"))
_OTHERS = {
    "loadtest_nightly_error_ratio": ("error_share", "Failed of the requests due, median of the night's runs."),
    "loadtest_nightly_attainment_ratio": ("attainment", "Requests that kept every limit, of those due; median."),
    "loadtest_nightly_goodput_per_second": ("goodput_per_s", "Requests per second that kept every limit; median."),
}


def history_metrics(runs: Mapping[str, Sequence[RunFigures]], *, exit_code: int, finished_s: float) -> str:
    """The text of one night. `runs` are figures by kind ("target", "control"), `finished_s` is Unix time.

    Only fit runs enter the medians. A latency is +Inf where the median falls among failed turns; what no run has is
    left out, so that its line ends instead of going on.
    """
    registry = CollectorRegistry()
    registry.register(_Night(runs, exit_code, finished_s))
    return generate_latest(registry).decode()


class _Night:
    def __init__(self, runs: Mapping[str, Sequence[RunFigures]], exit_code: int, finished_s: float) -> None:
        self._exit_code, self._finished_s = exit_code, finished_s
        self._runs = {
            (run.profile, kind): [one for one in of_kind if one.profile == run.profile]
            for kind, of_kind in runs.items()
            for run in of_kind
        }

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("loadtest_nightly_exit_code", "How the night ended.", self._exit_code)
        finished = "loadtest_nightly_finished_timestamp_seconds"
        yield GaugeMetricFamily(finished, "When it ended, Unix time.", self._finished_s)
        yield self._counts("loadtest_nightly_runs", "Runs of the night.", fit_only=False)
        yield self._counts("loadtest_nightly_fit_runs", "Of these, those that could measure.", fit_only=True)
        latency = GaugeMetricFamily(
            "loadtest_nightly_latency_seconds",
            "Service time, median of the night's runs.",
            labels=("profile", "kind", "metric", "level"),
        )
        for key, runs in self._runs.items():
            for metric, level in _LATENCIES:
                value_ms = _median(runs, f"{metric}_ms_{level}")
                if value_ms is not None:
                    latency.add_metric([*key, metric, level], value_ms / 1e3)
        yield latency
        for name, (figure, text) in _OTHERS.items():
            family = GaugeMetricFamily(name, text, labels=("profile", "kind"))
            for key, runs in self._runs.items():
                value = _median(runs, figure)
                if value is not None:
                    family.add_metric([*key], value)
            yield family

    def _counts(self, name: str, text: str, *, fit_only: bool) -> Metric:
        family = GaugeMetricFamily(name, text, labels=("profile", "kind"))
        for key, runs in self._runs.items():
            family.add_metric([*key], sum(run.fit or not fit_only for run in runs))
        return family


def _median(runs: Sequence[RunFigures], figure: str) -> float | None:
    """Over the fit runs that have it; the lower of the two in the middle, since half of +Inf is no figure."""
    values = [value for run in runs if run.fit and (value := run.value(figure)) is not None]
    return statistics.median_low(values) if values else None
