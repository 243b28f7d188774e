"""The HTTP shell: routes, keys, refusals. All decisions are the state machine's; all waiting is in `answers.py`."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from hmac import compare_digest
from typing import Any

import msgspec

from loadtest.clock import cpu_ns, measure_wall_offset, mono_ns
from loadtest.records import TruthRecord
from loadtest.simulator import control
from loadtest.simulator.answers import PROXY_TIMEOUT_S
from loadtest.simulator.completions import Desk
from loadtest.simulator.faults import Faults
from loadtest.simulator.formats import envelope, envelope_error, error_body
from loadtest.simulator.network import Network
from loadtest.simulator.pace import Pace
from loadtest.simulator.routes import Completions, Parameters, no_session
from loadtest.simulator.statuses import nginx_page
from loadtest.simulator.tasks import SECOND_NS
from loadtest.simulator.wire import HTML, Request

TICK_NS = SECOND_NS // 50
BACKEND_REFRESH_NS = 2 * SECOND_NS  # the stats backend's period is not documented; its bodies are built once in it


class Shell:
    """Serves one Network. `record` takes each finished TruthRecord."""

    def __init__(
        self,
        network: Network,
        pace: Pace,
        record: Callable[[TruthRecord], None],
        *,
        host: str = "127.0.0.1",
        key: str | None = None,
        variants: frozenset[str] = frozenset(),
        faults: Faults | None = None,
        proxy_timeout_s: float = PROXY_TIMEOUT_S,
    ) -> None:
        self.network = network
        self._host = host
        self._key = key
        self._started_ns = mono_ns()
        # Wall time is read once: the machine's time must not jump with the system's clock.
        self._wall_offset_ns = measure_wall_offset().offset_ns
        self._variants = variants
        desk = Desk(network, pace, self._wall_offset_ns, record, faults or Faults(), proxy_timeout_s)
        self._completions = Completions(network, desk, variants)
        self._cached: dict[str, tuple[int, bytes]] = {}
        self._cpu_seen = (self._started_ns, cpu_ns())
        self._cpu_percent = 0.0

    # From request to route.

    def serve(self, request: Request) -> None:
        """Answer one request, now or by leaving a Stream or Whole on its connection."""
        found = find_route(request.method, request.path) if self._is_listed(request.path) else None
        if found is None:
            if self._is_listed(request.path) and any(find_route(method, request.path) for method in ("GET", "POST")):
                return request.connection.send(405, b'{"detail":"Method Not Allowed"}')
            return request.connection.send(404, nginx_page(404), HTML)
        route, parameters = found
        if request.path.startswith(("/api/", "/v1/")) and (status := self._key_status(request)) != 200:
            return request.connection.send(status, self._unauthorized(request.path))
        route(self, request, parameters)

    def _is_listed(self, path: str) -> bool:
        """Whether the proxy in front has the path on its list."""
        if path.startswith("/api/v3/"):
            return "v3" in self._variants
        return not path.startswith("/api/v1/x402") or "x402" in self._variants

    def _key_status(self, request: Request) -> int:
        given = request.header(b"authorization")
        if self._key is None or compare_digest(given, b"Bearer " + self._key.encode()):
            return 200
        return 403 if given and "wrong-key-403" in self._variants else 401

    def _unauthorized(self, path: str) -> bytes:
        message = "missing or wrong API key"
        if path == "/v1/completions" and "gateway-envelope" in self._variants:
            return envelope("simulated", "", None, envelope_error(message, "invalid_api_key"))
        return error_body(message, "unauthorized")

    def now_ns(self) -> int:
        """The machine's time: Unix ns that run with the monotonic clock."""
        return mono_ns() + self._wall_offset_ns

    def tick(self) -> None:
        """Play what is due in the network, for answers that tell what has happened so far."""
        self.network.advance(self.now_ns())

    def play(self) -> int:
        """The same all the time (`Pace`), so that no request has to play a backlog."""
        self.tick()
        return mono_ns() + TICK_NS

    def completions(self, request: Request, parameters: Parameters) -> None:
        self._completions.router(request, parameters)

    def completions_v2(self, request: Request, parameters: Parameters) -> None:
        self._completions.router(request, parameters, "cortensor-v2")

    def completions_v3(self, request: Request, parameters: Parameters) -> None:
        self._completions.router(request, parameters, "cortensor-v3")

    def paid_completions(self, request: Request, parameters: Parameters) -> None:
        self._completions.paid(request, parameters)

    def chat(self, request: Request, parameters: Parameters) -> None:
        self._completions.chat(request)

    def text(self, request: Request, parameters: Parameters) -> None:
        self._completions.text(request)

    # Router control plane.

    def ping(self, request: Request, parameters: Parameters) -> None:
        self._reply(request, {"status": "ok"})

    def info(self, request: Request, parameters: Parameters) -> None:
        self._reply(request, control.info(self.network, self._host))

    def about(self, request: Request, parameters: Parameters) -> None:
        """Public metadata of later routers. Its fields are not documented: those of /info that tell no address."""
        shape = control.info(self.network, self._host)
        self._reply(request, {name: shape[name] for name in ("name", "version", "address")})

    def status(self, request: Request, parameters: Parameters) -> None:
        now_ns = mono_ns()
        seen_ns, seen_cpu_ns = self._cpu_seen
        if now_ns - seen_ns >= SECOND_NS:
            used_ns = cpu_ns()
            self._cpu_percent = round(100 * (used_ns - seen_cpu_ns) / (now_ns - seen_ns), 2)
            self._cpu_seen = (now_ns, used_ns)
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        uptime_s = (now_ns - self._started_ns) // SECOND_NS
        memory_percent = round(100 * peak_bytes / machine_bytes, 3)
        self._reply(request, control.status(self.network, uptime_s, self._cpu_percent, memory_percent))

    def miners(self, request: Request, parameters: Parameters) -> None:
        self._reply_cached(request, "miners", lambda: control.miners(self.network))

    def sessions(self, request: Request, parameters: Parameters) -> None:
        self._reply(request, control.sessions(self.network))

    def session(self, request: Request, parameters: Parameters) -> None:
        session = self.network.sessions.get(parameters[0])
        if session is None:
            return request.connection.send(404, no_session(parameters[0]))
        self._reply(request, control.session(self.network, session))

    def tasks(self, request: Request, parameters: Parameters) -> None:
        session = self.network.sessions.get(parameters[0])
        if session is None:
            return request.connection.send(404, no_session(parameters[0]))
        self.tick()
        self._reply(request, control.tasks(self.network, session))

    def task(self, request: Request, parameters: Parameters) -> None:
        session = self.network.sessions.get(parameters[0])
        if session is None:
            return request.connection.send(404, no_session(parameters[0]))
        number = parameters[1]
        task = session.tasks.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 19 else None
        if task is None:
            message = f"task {number} of session {parameters[0]} not found"
            return request.connection.send(404, error_body(message, "task_not_found"))
        self.tick()
        self._reply(request, control.task(self.network, task))

    def models(self, request: Request, parameters: Parameters) -> None:
        created_s = (self._started_ns + self._wall_offset_ns) // SECOND_NS
        self._reply(request, control.model_list(self.network, created_s))

    # Stats backend.

    def leaderboard(self, request: Request, parameters: Parameters) -> None:
        self._reply_cached(request, "leaderboard", lambda: control.leaderboard(self.network))

    def leaderboard_by_address(self, request: Request, parameters: Parameters) -> None:
        self._reply_cached(request, "by-address", lambda: control.leaderboard_by_address(self.network))

    def reputation(self, request: Request, parameters: Parameters) -> None:
        self._reputation(request, parameters[0], self.network.reputation)

    def session_reputation(self, request: Request, parameters: Parameters) -> None:
        self._reputation(request, parameters[0], self.network.session_reputation)

    def network_stats_tasks(self, request: Request, parameters: Parameters) -> None:
        self._reply(request, control.network_stats_tasks(self.network))

    def _reputation(self, request: Request, address: str, series: dict[str, Any]) -> None:
        self.tick()
        shape = control.reputation(self.network, address, series)
        if shape is None:
            return request.connection.send(404, error_body(f"no node {address}", "node_not_found"))
        self._reply(request, shape)

    # Replies.

    def _reply(self, request: Request, shape: Any) -> None:
        request.connection.send(200, msgspec.json.encode(shape))

    def _reply_cached(self, request: Request, name: str, build: Callable[[], Any]) -> None:
        made_ns, body = self._cached.get(name, (0, b""))
        if not body or mono_ns() - made_ns >= BACKEND_REFRESH_NS:
            self.tick()
            body = msgspec.json.encode(build())
            self._cached[name] = (mono_ns(), body)
        request.connection.send(200, body)


Route = Callable[[Shell, Request, Parameters], None]

ROUTES: dict[str, Route] = {
    "POST /api/v1/completions": Shell.completions,
    "POST /api/v1/completions/{}": Shell.completions,
    "POST /api/v2/completions": Shell.completions_v2,
    "POST /api/v2/completions/{}": Shell.completions_v2,
    "POST /api/v3/completions": Shell.completions_v3,
    "POST /api/v3/completions/{}": Shell.completions_v3,
    "POST /api/v1/x402/completions": Shell.paid_completions,
    "POST /api/v1/x402/completions/{}": Shell.paid_completions,
    "GET /api/v1/x402/ping": Shell.ping,
    "GET /api/v1/ping": Shell.ping,
    "GET /api/v1/about": Shell.about,
    "GET /about": Shell.about,
    "GET /api/v1/info": Shell.info,
    "GET /api/v1/status": Shell.status,
    "GET /api/v1/miners": Shell.miners,
    "GET /api/v1/sessions": Shell.sessions,
    "GET /api/v1/sessions/{}": Shell.session,
    "GET /api/v1/tasks/{}": Shell.tasks,
    "GET /api/v1/tasks/{}/{}": Shell.task,
    "POST /v1/chat/completions": Shell.chat,
    "POST /v1/completions": Shell.text,
    "GET /v1/models": Shell.models,
    "GET /leaderboard": Shell.leaderboard,
    "GET /leaderboard-by-address": Shell.leaderboard_by_address,
    "GET /reputation/{}": Shell.reputation,
    "GET /session-reputation/{}": Shell.session_reputation,
    "GET /network-stats-tasks": Shell.network_stats_tasks,
}


def find_route(method: str, path: str) -> tuple[Route, Parameters] | None:
    """The route of a path and the parameters in it: as written, or with its last one or two parts as parameters."""
    parts = path.split("/")
    for count in range(min(3, len(parts))):
        kept = parts[: len(parts) - count] + ["{}"] * count
        route = ROUTES.get(f"{method} {'/'.join(kept)}")
        parameters = parts[len(parts) - count :]
        if route is not None and all(parameters):
            return route, parameters
    return None
