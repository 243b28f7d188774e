"""Each fault by name through a real socket, and what our own client says of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Running, launched

from loadtest.client.exchange import Deadlines, Endpoint, Exchange
from loadtest.client.outcomes import finish
from loadtest.client.reactor import Reactor
from loadtest.client.routes import ROUTES, Call
from loadtest.records import Outcome, RequestRecord, Target

TIMEOUT_S = 20.0
TOKENS = 12


class Form(NamedTuple):
    """A fault, how it was asked, and what the client makes of it."""

    fault: str
    stream: bool
    outcome: str
    kind: str = ""


FORMS = [
    Form("buffering-proxy", True, "ok"),
    Form("reset-before-headers", True, "truncated", "reset_before_headers"),
    Form("reset-before-headers", False, "truncated", "reset_before_headers"),
    Form("connection-reset", True, "truncated", "reset_in_body"),
    Form("connection-reset", False, "truncated", "reset_in_body"),
    Form("bad-gateway", True, "proxy_error", "nginx_502"),
    Form("429-storm", True, "rate_limited", "router_429"),
    Form("429-storm", False, "rate_limited", "router_429"),
    Form("cut-stream", True, "truncated", "eof_in_body"),
    Form("error-in-stream", True, "stream_error", "error_in_stream"),
    Form("early-end", True, "truncated", "no_end_marker"),
    Form("missing-done", True, "ok"),
    Form("json-for-stream", True, "ok", "json_for_stream"),
    Form("keep-alive-comment", True, "ok"),
    Form("crlf", True, "ok"),
    Form("no-space", True, "ok"),
    Form("event-line", True, "ok"),
    Form("several-data-lines", True, "ok"),
    Form("bom", True, "ok"),
    Form("byte-splits", True, "ok"),
    Form("two-events-in-one-packet", True, "ok"),
    Form("only-eos", True, "empty", "only_debris"),
    Form("only-eos", False, "empty", "only_debris"),
    Form("unfinished-think", True, "empty", "unfinished_think"),
    Form("unfinished-think", False, "empty", "unfinished_think"),
    Form("interleaved-miners", True, "ok"),
    Form("gzip", True, "ok"),
    Form("gzip", False, "ok"),
    Form("html-200", True, "malformed", "html_in_200"),
    Form("html-200", False, "malformed", "html_in_200"),
    Form("usage-only-chunk", True, "ok"),
    Form("wrong-model", True, "ok"),
    Form("token-over-count", False, "ok"),
    Form("stuck-task", True, "ok"),
    Form("lost-task", True, "router_timeout", "error_in_200"),
    Form("lost-task", False, "router_timeout", "router_504"),
]
COMBINED = ("crlf", "interleaved-miners", "several-data-lines", "byte-splits", "gzip", "keep-alive-comment")
NAMES = list(dict.fromkeys(form.fault for form in FORMS))
SESSIONS = {name: str(101 + i) for i, name in enumerate([*NAMES, "combined", "none"])}


def scenario() -> str:
    """A session for each fault, and one in which many strike together."""
    sessions = "".join(f'[[sessions]]\nid = "{number}"\n' for number in SESSIONS.values())
    return f"nodes = 24\nhistory_s = 60.0\n{sessions}"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One simulator; each fault strikes its own session only."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty.toml").write_text(scenario())
    switches = [f"{name}=1@{SESSIONS[name]}" for name in NAMES]
    switches += [f"{name}=1@{SESSIONS['combined']}" for name in COMBINED]
    options = [option for switch in switches for option in ("--fault", switch)]
    arguments = ["--seed", "3", "--speed", "20", "--scenario", str(folder / "faulty.toml"), *options]
    with launched(folder, *arguments) as running:
        yield running


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


def ask(
    reactor: Reactor, port: int, session: str, reference: str, *, stream: bool, timeout_s: float = TIMEOUT_S
) -> tuple[RequestRecord, Exchange, str]:
    """One request on a connection of its own, as a run sends it: the row, the exchange, the text."""
    endpoint = Endpoint("127.0.0.1", port)
    target = Target(name="t", route="cortensor", sessions=(session,), stream=stream)
    call = Call((("user", "hello"),), TOKENS, stream, session, reference, timeout_s, endpoint.authority, closes=True)
    deadlines = Deadlines(5.0, TIMEOUT_S, TIMEOUT_S, TIMEOUT_S)
    exchange = Exchange(endpoint, ROUTES["cortensor"].build(target, call, None), deadlines, 1 << 20)
    reactor.run(exchange)
    answer = ROUTES["cortensor"].read(call, exchange)
    row = finish(started(session, reference), call, exchange, answer, lambda text: len(text.split()))
    return row, exchange, answer.text


def started(session: str, reference: str) -> RequestRecord:
    return RequestRecord(
        run="r",
        worker=0,
        seq=1,
        arrival=1,
        conversation="c",
        turn=0,
        turns_planned=1,
        persona="p",
        target="t",
        route="cortensor",
        model="m",
        session=session,
        client_reference=reference,
        stream=True,
        phase="measure",
        scheduled_ns=0,
        prompt_tokens_planned=1,
        output_tokens_max=TOKENS,
        outcome=str(Outcome.LOST),
    )


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.fault}-{'stream' if form.stream else 'whole'}")
def test_our_client_calls_it_by_its_name(faulty: Running, reactor: Reactor, form: Form) -> None:
    timeout_s = 1.25 if form.fault == "lost-task" else TIMEOUT_S  # the router then gives up after 1 s
    reference = f"{form.fault}.{form.stream}"
    row, _, _ = ask(reactor, faulty.port, SESSIONS[form.fault], reference, stream=form.stream, timeout_s=timeout_s)
    assert (row.outcome, row.error_kind) == (form.outcome, form.kind)


def test_what_strikes_a_session_leaves_the_others_alone(faulty: Running, reactor: Reactor) -> None:
    row, _, text = ask(reactor, faulty.port, SESSIONS["none"], "none", stream=True)
    assert (row.outcome, row.error_kind, row.stream_end) == ("ok", "", "done_marker")
    assert text


def test_many_at_once_hide_nothing(faulty: Running, reactor: Reactor) -> None:
    row, exchange, text = ask(reactor, faulty.port, SESSIONS["combined"], "combined", stream=True)
    assert (row.outcome, row.error_kind) == ("ok", "")
    assert exchange.header(b"content-encoding") == b"gzip"
    assert row.content_chunks == row.counted_tokens == len(text.split())


def test_the_truth_names_them_and_agrees_with_the_client(tmp_path: Path, reactor: Reactor) -> None:
    """A run of its own, because the truth is complete when the simulator has ended."""
    (tmp_path / "faulty.toml").write_text(scenario())
    names = [
        "crlf",
        "byte-splits",
        "buffering-proxy",
        "interleaved-miners",
        "early-end",
        "connection-reset",
        "429-storm",
    ]
    options = [option for name in names for option in ("--fault", f"{name}=1@{SESSIONS[name]}")]
    options += ["--seed", "3", "--speed", "20", "--scenario", str(tmp_path / "faulty.toml")]
    with launched(tmp_path, *options) as running:
        rows = {name: ask(reactor, running.port, SESSIONS[name], name, stream=True)[0] for name in names}
        assert running.stop() == 0
        truths: dict[str, dict[str, Any]] = {row["client_reference"]: row for row in running.truth_rows()}
    for name, row in rows.items():
        truth = truths[name]
        assert truth["faults"] == [name]
        assert truth["tokens"] == len(truth["chunk_ns"]) == len(truth["late_ns"]) == row.content_chunks
    assert len(set(truths["buffering-proxy"]["chunk_ns"])) == 1
    assert truths["early-end"]["tokens"] == truths["connection-reset"]["tokens"] > 0
    assert (truths["429-storm"]["http_status"], truths["429-storm"]["task_id"]) == (429, None)


def test_a_connection_accepted_late_is_served_late(tmp_path: Path, reactor: Reactor) -> None:
    with launched(tmp_path, "--seed", "3", "--speed", "20", "--fault", "slow-accept=1") as running:
        row, _, _ = ask(reactor, running.port, "11", "late", stream=True)
        assert running.stop() == 0
        (truth,) = running.truth_rows()
    assert row.outcome == "ok"
    assert row.headers_ns is not None and row.sent_ns is not None
    assert row.headers_ns - row.sent_ns >= 1.9e9
    assert truth["faults"] == ["slow-accept"]
