"""A real Prometheus scrapes a real run: every query of every panel and rule has data there, what counts never goes
back, and at the end its totals are those of the run folder.

Needs Debian's package `prometheus`, which `make test-long` installs when root.
"""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from board_queries import DASHBOARDS, RULES, filled_in, may_be_empty, rules, written
from conftest import Ended, ended, locust_command, wait_for
from made_runs import figures

from loadtest.clock import wall_ns
from loadtest.jobs.demo import SIMULATOR_END_S, start_simulator
from loadtest.jobs.swarm import free_port
from loadtest.processes import end
from loadtest.report.history_metrics import history_metrics
from loadtest.swarm.metric_names import BOUNDED, CLOSED, NAMES, label_names

pytestmark = pytest.mark.long
RUN_S = 20
ENDS_S = 120
NIGHT_RUN = figures("r")
API_KEY = "prometheus-key-77a1"
# Prometheus's own, and what a run need not have.
NOT_OURS = ("scrape_", "up", "ALERTS", "process_", "loadtest:", "loadtest_nightly_")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: apt-get install prometheus, or make test-long as root")
    return found


@contextmanager
def serving(text: str) -> Iterator[int]:
    """A node_exporter's place: one text at every path of a port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class Prometheus:
    """What one server has scraped."""

    def __init__(self, url: str, run: Ended) -> None:
        self.url, self.run = url, run
        self.name = run.run.name

    def get(self, path: str, **params: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=30)
        content = answer.json()
        assert content["status"] == "success", content
        return content["data"]

    def values(self, expr: str) -> list[dict[str, Any]]:
        """An expression over the whole test, second by second."""
        now_s = wall_ns() // 10**9
        found = self.get("query_range", query=expr, start=now_s - 300, end=now_s, step=1)
        return list(found["result"])

    def last(self, metric: str) -> list[tuple[dict[str, str], float]]:
        """The last value of each series of this run."""
        found = self.get("query", query=f'last_over_time({metric}{{run="{self.name}"}}[10m])')
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def total(self, metric: str, **labels: str) -> float:
        return sum(value for own, value in self.last(metric) if labels.items() <= own.items())


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A run of two workers from its start to its end, scraped each second with the rules of dashboards/."""
    folder = tmp_path_factory.mktemp("prometheus")
    simulator, url = start_simulator(folder / "port", folder / "truth", ["--fault", "cut-stream=0.15"])
    runs = {"target": [NIGHT_RUN, NIGHT_RUN], "control": [NIGHT_RUN]}
    night = history_metrics(runs, exit_code=0, finished_s=1e9)
    metrics, web = free_port(), free_port()
    try:
        with serving(night) as night_port, prometheus(folder, web, metrics, night_port) as server:
            runs_dir, options = folder / "runs", ["--headless", "--processes", "2", "--profile", "smoke"]
            options += ["--duration", str(RUN_S), "--host", url, "--no-screen", "--metrics-port", str(metrics)]
            command = locust_command(runs_dir, *options)
            yield Prometheus(server, ended(command, runs_dir, {"LOADTEST_API_KEY": API_KEY}, ENDS_S))
    finally:
        end(simulator, SIMULATOR_END_S)


@contextmanager
def prometheus(folder: Path, web: int, metrics: int, night: int) -> Iterator[str]:
    """The example configuration, each second and with these ports."""
    config = yaml.safe_load((DASHBOARDS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    for job, port in zip(config["scrape_configs"], (metrics, night), strict=True):
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        job["scrape_interval"] = "1s"
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    log = (folder / "prometheus.log").open("wb")
    process = subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{web}",
            "--log.level=warn",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{web}"

    def ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            return httpx.get(f"{url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for("Prometheus", ready)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=ENDS_S)
        log.close()
        print((folder / "prometheus.log").read_text()[-3000:])


def test_every_query_of_every_panel_and_rule_has_data(scraped: Prometheus) -> None:
    exceptions, empty = may_be_empty(), []
    queries = [(one.where, one.expr) for one in written()]
    # An alert is its expression without the bound; whether it fires is for rules_test.yml.
    queries += [(str(rule["record"]), rule["expr"]) for rule in rules() if "record" in rule]
    for where, expr in queries:
        found = scraped.values(filled_in(expr, scraped.name))
        numbers = [float(value) for one in found for _, value in one["values"]]
        if all(math.isnan(number) for number in numbers) and expr not in exceptions:
            empty.append(f"{where}: {expr}")
    assert not empty, "\n".join(empty)
    assert len(queries) > 70


def test_rules_are_evaluated_without_an_error(scraped: Prometheus) -> None:
    groups = scraped.get("rules")["groups"]
    evaluated = [rule for group in groups for rule in group["rules"]]
    assert len(evaluated) == len(rules())
    assert {rule["health"] for rule in evaluated} == {"ok"}, evaluated
    firing = Counter(one["metric"]["alertname"] for one in scraped.values('ALERTS{alertstate="firing"}'))
    assert not firing.keys() & {"LoadtestLedgerBroken", "LoadtestWorkerLost", "LoadtestNightlyFailed"}
    assert "LoadtestNightlyMissing" in firing, "the night of the test ended in 2001"


def test_totals_are_those_of_the_ledger_and_of_the_rows(scraped: Prometheus) -> None:
    ledger, rows = scraped.run.manifest()["ledger"], scraped.run.rows().to_pylist()
    outcomes = {own["outcome"]: value for own, value in scraped.last("loadtest_turns_ended_total")}
    assert {name: value for name, value in outcomes.items() if value} == ledger["outcomes"]
    assert ledger["outcomes"].keys() > {"ok"}, "the simulated network was asked to cut some streams"
    assert sum(outcomes.values()) == scraped.total("loadtest_turns_planned_total") == ledger["planned_turns"]
    assert scraped.total("loadtest_turns_started_total") == ledger["started_turns"]
    for name in ("rows_spooled", "rows_sent", "rows_acknowledged"):
        assert scraped.total(f"loadtest_{name}_total") == ledger[name]
    assert scraped.total("loadtest_rows_stored_total") == ledger["rows"] == len(rows)
    ended = Counter((row["target"], row["phase"]) for row in rows if row["outcome"] not in ("dropped", "not_reached"))
    for (target, phase), n in ended.items():
        labels = {"target": target, "phase": phase}
        assert scraped.total("gen_ai_client_operation_duration_seconds_count", **labels) == n
    good = [row for row in rows if row["outcome"] == "ok"]
    seconds = sum(row["done_ns"] - row["sent_ns"] for row in good) / 1e9
    assert scraped.total("gen_ai_client_operation_duration_seconds_sum") == pytest.approx(seconds, rel=0.011)
    usage = sum(row["usage_completion_tokens"] or row["counted_tokens"] or row["content_chunks"] for row in rows)
    assert scraped.total("gen_ai_client_token_usage_sum", gen_ai_token_type="output") == usage
    assert scraped.total("loadtest_run_state", state="ended") == 1, "the run ended before it was scraped a last time"


SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def test_what_counts_never_goes_back(scraped: Prometheus) -> None:
    counting = [name + suffix for name, of in NAMES.items() if of.kind != "gauge" for suffix in SUFFIXES[of.kind]]
    for name in counting:
        found = scraped.values(f'max(resets({name}{{run="{scraped.name}"}}[10m]))')
        assert {float(value) for one in found for _, value in one["values"]} == {0.0}, name


def test_names_labels_and_bounds_are_those_of_the_list(scraped: Prometheus) -> None:
    listed = {name + suffix: name for name, of in NAMES.items() for suffix in SUFFIXES[of.kind]}
    stored = {name for name in scraped.get("label/__name__/values") if not name.startswith(NOT_OURS)}
    assert stored <= listed.keys()
    assert listed.keys() - stored == set()
    for series in scraped.get("series", **{"match[]": f'{{run="{scraped.name}",__name__!~"ALERTS.*|loadtest:.*"}}'}):
        name = listed[series.pop("__name__")]
        own = {label: value for label, value in series.items() if label not in ("job", "instance")}
        assert own.keys() <= label_names(name)
        assert all(value in CLOSED.get(label, (value,)) for label, value in own.items())
        assert own.keys() <= CLOSED.keys() | BOUNDED.keys()
        assert API_KEY not in str(own)


def test_promtool_accepts_rules_their_tests_and_the_configuration() -> None:
    promtool = program("promtool")
    for command in (
        ["check", "config", str(DASHBOARDS / "prometheus.yml")],
        ["check", "rules", str(RULES)],
        ["test", "rules", str(DASHBOARDS / "rules_test.yml")],
    ):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_names_and_format(tmp_path: Path) -> None:
    """A page of its own, with hostile names: the run's was scraped, so it was well formed."""
    script = Path(__file__).with_name("metrics_page.py")
    page = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=60, check=True).stdout
    assert b"<script>" in page
    night = history_metrics(
        {"target": [figures("r", attainment=0.9, goodput_per_s=4.5)]}, exit_code=3, finished_s=1.7e9
    )
    for text in (page, night.encode()):
        done = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
