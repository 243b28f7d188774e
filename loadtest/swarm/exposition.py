"""Where /metrics is served: in Locust's web app, and on a port of its own that needs no page and no login."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
from flask import request
from gevent.pywsgi import WSGIServer
from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import Metric
from werkzeug.wrappers import Response

from loadtest import __version__
from loadtest.clock import Deadline, mono_ns
from loadtest.swarm.network_metrics import Places, put_network
from loadtest.swarm.preflight import EXIT_USAGE, SetupError
from loadtest.swarm.prometheus import Families, Watched, put_run

if TYPE_CHECKING:
    from locust.web import WebUI

PATH = "/metrics"
LAST_SCRAPE_WAIT_S = 30.0  # at most, at the end of a headless run
BACKLOG = 16
ANSWER_S = 0.2  # for the last answer to leave
LATE = 1.5  # a scrape that is later than so many intervals does not come

logger = logging.getLogger(__name__)


class Exposition:
    """Serves what `watched` gives at the moment, or only that the harness is there while it gives nothing."""

    def __init__(self, watched: Callable[[], Watched | None]) -> None:
        self._watched = watched
        self._scraped_ns = self._interval_ns = 0
        self._places: tuple[str, Places] = "", Places()  # of which run
        self._end_seen = False  # the last scrape saw a run that is over
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        self._app = make_wsgi_app(registry)

    def collect(self) -> Iterator[Metric]:
        watched = self._watched()
        self._end_seen = watched is not None and watched.over
        process = Families(None)
        process.put("loadtest_build_info", 1, version=__version__)
        yield from process.all()
        if watched is not None:
            standing = watched.standing
            page = Families(standing.run)
            put_run(page, watched)
            put_network(page, standing.observed, standing.observed_age_s or 0.0, self._places_of(watched))
            # All figures are of one instant by now; writing them takes tens of ms, in which heartbeats wait for us.
            for metric in page.all():
                gevent.sleep(0)
                yield metric

    def _places_of(self, watched: Watched) -> Places:
        run = watched.standing.run
        if self._places[0] != run:
            self._places = run, Places()
        return self._places[1]

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """One scrape, as a WSGI application."""
        now_ns = mono_ns()
        if self._scraped_ns:
            self._interval_ns = now_ns - self._scraped_ns
        self._scraped_ns = now_ns
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    def add_to(self, web_ui: WebUI, base_path: str) -> None:
        """Beside Locust's own pages, and behind their login when there is one."""

        def metrics() -> Response:
            return Response.from_app(self.answer, request.environ)

        web_ui.app.add_url_rule(f"{base_path.rstrip('/')}{PATH}", "loadtest_metrics", metrics)

    def listen(self, host: str, port: int) -> None:
        """Serve on a port of its own. SetupError when it cannot be had."""
        listener = gevent.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if not 0 < port < 65_536:
                raise OSError("no such port")
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            why = error.strerror or error
            text = f"--metrics-port {port} at {host}: {why}; choose a free port and an address of this machine"
            raise SetupError(text, EXIT_USAGE) from None
        WSGIServer(listener, self._on_own_port, log=None, error_log=logger).start()
        logger.info("metrics at http://%s:%d%s", host, port, PATH)

    def _on_own_port(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self.answer(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [f"the metrics are at {PATH}\n".encode()]

    def await_last_scrape(self) -> None:
        """Let whoever scrapes see how the run ended: wait for one more scrape, not longer than one may take to come.

        A process that ends at once leaves Prometheus with figures from before the end, which no ledger agrees with.
        """
        due_s = LATE * self._interval_ns / 1e9
        if (
            self._watched() is None
            or self._end_seen
            or not self._interval_ns
            or (mono_ns() - self._scraped_ns) / 1e9 > due_s
        ):
            return  # there was no run, or its end was seen, or nobody scrapes, or no longer
        deadline = Deadline(min(due_s, LAST_SCRAPE_WAIT_S))
        logger.info("waiting for the last scrape of the metrics, at most %.0f s", deadline.left_s())
        while not self._end_seen and not deadline.over():
            gevent.sleep(0.05)
        gevent.sleep(ANSWER_S)
