"""`loadtest check`: a preflight of seconds. Can this target be measured, and what would a run not see?"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence

from loadtest.client.exchange import Endpoint
from loadtest.client.reactor import Reactor
from loadtest.client.routes import ROUTES, info_path
from loadtest.jobs import verdicts
from loadtest.jobs.buffering import streaming
from loadtest.jobs.certificate import look_at_certificate
from loadtest.jobs.probe import BODY_BYTES, OutOfBudget, Probe
from loadtest.jobs.verdicts import UNREACHED, Level, Row
from loadtest.records import Target
from loadtest.swarm.preflight import SetupError, check_allowed, endpoint_of, key_of, resolve_targets
from loadtest.traffic.profile import ProfileError, load_profile

EXIT_PASS, EXIT_UNREACHABLE, EXIT_USAGE, EXIT_FAILED = 0, 1, 2, 3
WIDTH = 110


class Checked:
    """One target and its rows."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows: list[Row] = []
        self.reached = True
        self.requests = 0

    def failed(self) -> bool:
        return any(row.level is Level.FAIL for row in self.rows)


def check(host: str, profile_name: str, allowed_hosts: Sequence[str], *, as_json: bool) -> int:
    """Check every target of the profile, print a table or JSON, return the exit code."""
    try:
        profile = load_profile(profile_name)
        targets = resolve_targets(profile, host)
        check_allowed(targets, allowed_hosts)
    except ProfileError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return EXIT_USAGE
    except SetupError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return error.exit_code
    checked = []
    for target in targets:
        print(f"checking {target.name}: {target.url} ({target.route}) ...", file=sys.stderr, flush=True)
        one = check_target(target)
        checked.append(one)
        if not as_json:
            print(table(one), flush=True)
    code = exit_code(checked)
    if as_json:
        print(json.dumps(document(checked, code), indent=1))
    return code


def check_target(target: Target) -> Checked:
    """All rows of one target; the first ones only when it cannot be reached or its budget is out."""
    checked = Checked(target)
    reactor = Reactor()
    probe = Probe(reactor, target, endpoint_of(target.url or ""), key_of(target))
    try:
        for row in _ask(target, endpoint_of(target.url or ""), probe):
            checked.rows.append(row)
    except OutOfBudget as error:
        checked.rows.append(Row("the rest", Level.CANNOT_TELL, f"stopped: {error}", "the target is slow to answer"))
    except ValueError as error:  # the route cannot write this into a request, for instance a key with a line break
        checked.rows.append(Row("request", Level.FAIL, str(error), "no request can be sent"))
    finally:
        checked.requests = len(probe.sent)
        checked.reached = not any(heard.exchange.end in UNREACHED for heard in probe.sent[:1])
        reactor.close()
    return checked


def _ask(target: Target, endpoint: Endpoint, probe: Probe) -> Iterator[Row]:
    """In the order of the table. The long answer comes before anything that may disturb the target."""
    if endpoint.tls:
        yield verdicts.tls(look_at_certificate(endpoint))
    route = ROUTES[target.route]
    path = info_path(route)
    info = probe.get(path)
    yield verdicts.reach(info)
    if info.exchange.end in UNREACHED:
        return
    if info.status is None:
        yield verdicts.completion(info)
        return
    answer = probe.long()
    yield verdicts.key((info, answer), target.key_env, key_of(target) is not None)
    if answer.refused_key:
        return
    yield verdicts.wrong_key(probe.with_wrong_key())
    yield verdicts.info(info, path, target.model)
    yield verdicts.completion(answer)
    if answer.accepted:
        yield from _ask_streams(target, probe, answer)
        yield verdicts.usage(answer)
    yield verdicts.body_limit(probe.large(), BODY_BYTES)
    nobody = probe.of_nobody()
    yield verdicts.error_body("no such session" if probe.has_sessions else "no such model", nobody)
    yield verdicts.error_body("malformed", probe.malformed())
    if not probe.has_sessions or not target.sessions:
        yield Row("balance", Level.CANNOT_TELL, "this target names no session")
    else:
        sessions = f"/api/v1/sessions/{target.sessions[0]}"
        yield verdicts.balance(probe.get(sessions), sessions)
    yield verdicts.keep_alive(probe.sent)


def _ask_streams(target: Target, probe: Probe, answer: verdicts.Heard) -> Iterator[Row]:
    if not target.stream:
        yield Row("stream", Level.CANNOT_TELL, "this target is asked for whole answers", "there is no TTFT or ITL")
        probe.short()  # its connection shows whether the one before was kept
        return
    yield streaming(answer)
    yield verdicts.end_marker(answer)
    yield verdicts.cancellation(answer, probe.cut(), probe.short())


def exit_code(checked: Sequence[Checked]) -> int:
    if not all(one.reached for one in checked):
        return EXIT_UNREACHABLE
    return EXIT_FAILED if any(one.failed() for one in checked) else EXIT_PASS


def table(checked: Checked) -> str:
    """One target as plain text, at most WIDTH columns."""
    target = checked.target
    lines = [f"{target.name}: {target.url} ({target.route}), {checked.requests} requests"]
    for row in checked.rows:
        shown = row.level.upper() if row.level is Level.FAIL else row.level
        lines += textwrap.wrap(
            row.seen, WIDTH, initial_indent=f"  {row.check:<16}{shown:<13}", subsequent_indent=" " * 31
        )
        if row.cost:
            lines += textwrap.wrap(row.cost, WIDTH, initial_indent=" " * 31 + "→ ", subsequent_indent=" " * 33)
    return "\n".join(lines) + "\n"


def document(checked: Sequence[Checked], code: int) -> dict[str, object]:
    """The same for programs."""
    return {
        "schema_version": 1,
        "exit_code": code,
        "targets": [
            {
                "target": one.target.name,
                "url": one.target.url,
                "route": one.target.route,
                "reached": one.reached,
                "requests": one.requests,
                "checks": [row._asdict() for row in one.rows],
            }
            for one in checked
        ],
    }
