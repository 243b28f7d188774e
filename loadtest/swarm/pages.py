"""A page of charts beside Locust's, and the downloads of a run: under loadtest/, linked from the tab Download Data.

The page loads nothing from elsewhere and runs no script but its own; it asks `live` for the points it does not have.
Runs are found by their exact name among those of this master, so no path comes from a request. Files are made by
`loadtest export` in a process of its own and sent as they are made.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
from flask import Blueprint, Response, redirect, request, send_from_directory

from loadtest.processes import end
from loadtest.swarm.history import ALL, COLUMNS, History, Key
from loadtest.swarm.lines import when_text
from loadtest.swarm.master import MasterRun
from loadtest.swarm.shelf import Shelf
from loadtest.swarm.standing import Standing
from loadtest.swarm.webui import dumped, known_text, shortened

if TYPE_CHECKING:
    from locust.web import WebUI

ASSETS = Path(__file__).parent / "assets"
ASSET_NAMES = frozenset({"charts.js", "charts.css", "uPlot.iife.min.js", "uPlot.min.css", "LICENCE.uPlot.txt"})
CHUNK_BYTES = 64 << 10
DOWNLOADS_MAX = 2  # at once
DOWNLOAD_S_MAX = 1800.0
ENDS_S = 5.0
NODES_SHOWN = 20
RUNS_SHOWN = 20
SELECTIONS_SHOWN = 100
FORMS = {"folder.tar.gz": ("tar", "application/gzip"), "rows.csv": ("csv", "text/csv"), "rows.parquet": ("parquet", "")}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# A report has its style and scripts inside; it is ours, but made of strangers' words: it gets an origin of its own.
REPORT_POLICY = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
REPORT_POLICY += "img-src data:"

logger = logging.getLogger(__name__)


def add_pages(web_ui: WebUI, shelf: Shelf, base_path: str) -> None:
    """Put our pages under `base_path` and links to them into Locust's. A login that is asked for guards them too."""
    pages = Blueprint("loadtest", __name__, url_prefix=f"{base_path.rstrip('/')}/loadtest")
    downloads = Downloads()
    web_ui.template_args["extended_csv_files"] = [
        {"href": "./loadtest/", "title": "Charts of this run, and downloads of run folder, report and rows"}
    ]

    @pages.route("")
    def bare() -> Any:
        return redirect(f"{base_path.rstrip('/')}/loadtest/")

    @pages.route("/")
    def charts() -> Any:
        return send_from_directory(ASSETS, "charts.html")

    @pages.route("/assets/<name>")
    def asset(name: str) -> Any:
        return send_from_directory(ASSETS, name) if name in ASSET_NAMES else _plain("no such file", 404)

    @pages.route("/live")
    def live() -> Response:
        since = request.args.get("since", "0")
        key = (request.args.get("target", ALL)[:200], request.args.get("session", "")[:200])
        n = int(since) if since.isdecimal() and len(since) < 10 else 0
        return Response(dumped(live_figures(shelf, request.args.get("run", ""), key, n)), mimetype="application/json")

    @pages.route("/runs/<name>/report.html")
    def report(name: str) -> Any:
        run = shelf.get(name) if name else None
        if run is None:
            return _plain("no such run of this master", 404)
        if not (run.folder / "report.html").is_file():
            return _plain("no report: the run is still on, or ran with --no-report", 409)
        answer = send_from_directory(run.folder.resolve(), "report.html")
        answer.headers["Content-Security-Policy"] = REPORT_POLICY
        return answer

    @pages.route("/runs/<name>/<file>")
    def download(name: str, file: str) -> Response:
        run = shelf.get(name) if name else None
        if run is None or file not in FORMS:
            return _plain("no such file of a run of this master", 404)
        if run.exit_code is None:
            return _plain("the run is still on; stop it, or wait until it is stored", 409)
        if request.method == "HEAD":  # its answer has no body, whose end would end the process that makes it
            return Response(mimetype=FORMS[file][1] or "application/octet-stream")
        return downloads.start(run, file)

    @pages.after_request
    def guarded(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @web_ui.app.before_request  # type: ignore[untyped-decorator]  # locust is Any to mypy
    def not_from_other_sites() -> Response | None:
        """Locust lets pages of any origin read its answers and start runs; a browser says where a request is from."""
        navigates = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
        if request.headers.get("Sec-Fetch-Site") != "cross-site" or navigates:
            return None
        logger.warning("web: %s %r from a page of another site refused", request.method, request.path)
        return _plain("asked for by a page of another site", 403)

    web_ui.app.register_blueprint(pages)


def live_figures(shelf: Shelf, name: str, key: Key, since: int) -> dict[str, Any]:
    """What the page draws of one run: figures of now, and the points whose number is above `since`."""
    run = shelf.get(name)
    runs = [
        {"run": each, "over": (found := shelf.get(each)) is not None and found.exit_code is not None}
        for each in shelf.names()[:RUNS_SHOWN]
    ]
    if run is None:
        return {"run": None, "runs": runs}
    history, standing = run.history or History(), run.standing
    figures = {
        "run": run.plan.run,
        "runs": runs,
        "over": run.exit_code is not None,
        "report": (run.folder / "report.html").is_file(),
        "selections": history.keys()[:SELECTIONS_SHOWN],
        "columns": COLUMNS,
        "failures": history.failures(key),
        "points": history.since(since, key),
    }
    return figures | (_now(run, standing) if standing is not None else {})


def _now(run: MasterRun, standing: Standing) -> dict[str, Any]:
    totals = standing.totals
    return {
        "when": "over" if run.exit_code is not None else when_text(standing),
        "state": standing.state,
        "planned_s": standing.planned_s,
        "offered": totals.started_turns + totals.outcomes.get("dropped", 0),
        "completed": totals.ended,
        "in_flight": totals.in_flight,
        "oldest_s": round(totals.oldest_s, 1),
        "outcomes": totals.outcomes,
        "fit": standing.fit,
        "reasons": [reason.text for reason in standing.reasons],
        "workers": [len(standing.workers), standing.workers_expected, len(standing.workers_lost)],
        **_observed(standing),
    }


def _observed(standing: Standing) -> dict[str, Any]:
    observed = standing.observed
    if observed is None:
        return {"nodes": None}
    age_s = standing.observed_age_s or 0.0
    return {
        "nodes": [
            msgspec.to_builtins(msgspec.structs.replace(node, node=shortened(node.node)))
            for node in observed.nodes[:NODES_SHOWN]
        ],
        "nodes_of": f"{known_text(observed)}, {observed.nodes_known:,} nodes known",
        "observed_age_s": round(age_s, 1),
        "pipeline": [
            [stage.stage, stage.reached, stage.now + stage.left if stage.stage != "completed" else 0, stage.oldest_s]
            for stage in observed.pipeline.stages
        ],
    }


class Downloads:
    """Files of runs on their way to browsers, a few at once; each is made by a process that ends with it."""

    def __init__(self) -> None:
        self._open: set[subprocess.Popen[bytes]] = set()

    def start(self, run: MasterRun, file: str) -> Response:
        """The file as a stream; an error as a line of text, if it is known before the first byte."""
        if len(self._open) >= DOWNLOADS_MAX:
            return _plain(f"{DOWNLOADS_MAX} downloads are under way; try again when one has ended", 503)
        form, kind = FORMS[file]
        command = [sys.executable, "-m", "loadtest", "export", str(run.folder), "--as", form]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        self._open.add(process)
        # Who stops reading must not hold the place for ever.
        watchdog = gevent.spawn_later(DOWNLOAD_S_MAX, self._close, process)
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.read(CHUNK_BYTES)
        if not first:
            said = process.stderr.read().decode(errors="replace").strip().splitlines()
            watchdog.kill()
            self._close(process)
            return _plain(said[-1] if said else "nothing was written", 500)
        response = Response(self._chunks(process, first, watchdog), mimetype=kind or "application/octet-stream")
        response.headers.set("Content-Disposition", "attachment", filename=f"{run.plan.run}-{file}")
        return response

    def _chunks(self, process: subprocess.Popen[bytes], first: bytes, watchdog: Any) -> Iterator[bytes]:
        assert process.stdout is not None
        try:
            yield first
            while chunk := process.stdout.read(CHUNK_BYTES):
                yield chunk
            if process.wait(timeout=ENDS_S):
                # The connection is cut: a browser then says that the download failed, as it did.
                raise OSError(f"loadtest export ended with exit code {process.returncode}")
        finally:
            watchdog.kill()
            self._close(process)

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        self._open.discard(process)
        end(process, ENDS_S)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _plain(text: str, status: int) -> Response:
    return Response(text + "\n", status=status, mimetype="text/plain")
