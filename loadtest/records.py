"""The facts that cross every boundary: one flat row per planned turn, task, snapshot, router sample and truth.

Rules that hold for all of them. Instants are stored and durations are derived (`analysis/metrics.py`).
`*_ns` without another word is the monotonic clock of the process that wrote the row; `*_wall_ns` is Unix time
in nanoseconds; `*_s` is Unix time in seconds as a router reports it. None means "did not happen" or "not told".
A change of any field here is a new `SCHEMA_VERSION`: `tests/facts/test_records.py` holds the list.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

SCHEMA_VERSION = 1
TRUTH_VERSION = 2  # a truth log stands outside run folders; its changes leave these readable


class Outcome(StrEnum):
    """How a planned turn ended. A closed set: planned turns = sum over outcomes, always."""

    OK = "ok"
    NOT_REACHED = "not_reached"  # an earlier turn failed, or the run ended first
    DROPPED = "dropped"  # due, but no conversation slot was free or it was too late to send
    CONNECT_ERROR = "connect_error"
    TLS_ERROR = "tls_error"
    AUTH_ERROR = "auth_error"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    PROXY_ERROR = "proxy_error"
    ROUTER_TIMEOUT = "router_timeout"
    CLIENT_TIMEOUT = "client_timeout"
    TRUNCATED = "truncated"
    STREAM_ERROR = "stream_error"
    EMPTY = "empty"
    MALFORMED = "malformed"
    CANCELLED = "cancelled"  # we stopped it: the run ended before the answer did, or the member broke it off
    LOST = "lost"  # its worker is gone, nobody knows


NOT_SENT = frozenset({Outcome.NOT_REACHED, Outcome.DROPPED})
"""Outcomes of turns for which no request left the harness. `LOST` is apart: it may have."""


CANCELLED_BY_MEMBER = frozenset({"after_chunks", "after_s"})
"""Error kinds of a `cancelled` turn that its persona had planned to break off. The end of a run leaves none."""


def cancelled_by_member(outcome: str, error_kind: str) -> bool:
    """The turn ended as planned: its member broke it off. The conversation goes on, and no limit was missed by it."""
    return outcome == Outcome.CANCELLED and error_kind in CANCELLED_BY_MEMBER


class Phase(StrEnum):
    """The cohort of a turn, by the instant it was scheduled for."""

    WARMUP = "warmup"
    MEASURE = "measure"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A router endpoint under load, as the profile names it.

    `url` is scheme, host and port; None means the run's `--host`. `key_env` names the environment variable that
    holds the bearer key; the key itself is never part of a Target, so a Target can be printed and stored.
    """

    name: str
    route: str
    url: str | None = None
    weight: float = 1.0
    model: str = ""
    key_env: str | None = None
    sessions: tuple[str, ...] = ()
    stream: bool = True
    timeout_s: float = 120.0
    headers: tuple[tuple[str, str], ...] = ()  # on every request, beside the harness's own; never a key
    extra_body: str = ""  # a JSON object whose fields every request's body has too


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One planned turn: who, what was intended, what happened when, and how far to believe it."""

    # Identity.
    run: str
    worker: int
    seq: int  # gapless per worker, given when the turn is started or given up
    arrival: int  # index in the global schedule; decides persona, text and lengths
    conversation: str
    turn: int  # 0 is the first
    turns_planned: int
    persona: str
    target: str
    route: str
    model: str
    session: str | None
    client_reference: str  # sent as client_reference and X-Request-ID
    phase: str

    # Intent.
    scheduled_ns: int
    prompt_tokens_planned: int  # content tokens in the stated encoding, templates of the route excluded
    output_tokens_max: int
    stream: bool

    # What became of it.
    outcome: str
    error_kind: str = ""  # a short closed word within the outcome, such as "nginx_504"
    error_text: str = ""  # normalised: digits (but of Retry-After), ids, addresses replaced; at most 200 characters
    http_status: int | None = None
    finish_reason: str | None = None
    stream_end: str = ""  # "done_marker", "finish_reason", "body_end", "cut" or "" (no stream)
    usage_prompt_tokens: int | None = None
    usage_completion_tokens: int | None = None
    counted_tokens: int | None = None  # our own count of the visible text, the reasoning and tool calls
    bytes_sent: int = 0
    bytes_received: int = 0
    text_sha256: str | None = None  # of the answer, stripped of white space at both ends
    task_id: str | None = None
    node_hint: str | None = None  # a node named by a header or body field of the answer

    # Instants, monotonic ns of the worker.
    connecting_ns: int | None = None  # this and the next two only when this request opened the connection
    connected_ns: int | None = None
    secured_ns: int | None = None  # the TLS handshake was done
    sent_ns: int | None = None  # just before the first write
    sent_last_ns: int | None = None  # just after the last write
    headers_ns: int | None = None
    first_chunk_ns: int | None = None  # first event of any kind
    first_content_ns: int | None = None  # first non-empty text, reasoning and tool calls included
    first_visible_ns: int | None = None  # first non-empty text that is neither
    last_content_ns: int | None = None
    done_ns: int | None = None
    clock_offset_ns: int = 0  # add to any instant of this row: the master's monotonic clock

    # Chunks that carried text. The lists may be left out; the counts and the histogram never are.
    content_chunks: int = 0
    chunk_ns: tuple[int, ...] = ()  # arrival minus sent_ns
    chunk_bound_ns: tuple[int, ...] = ()  # the true arrival lies in (arrival - bound, arrival]
    chunk_bytes: tuple[int, ...] = ()  # UTF-8 bytes of text
    itl_keys: tuple[int, ...] = ()  # quantiles.LogHistogram of the gaps, ns
    itl_counts: tuple[int, ...] = ()

    # How far to believe it.
    connection_new: bool = False
    retried: bool = False  # a pooled connection turned out closed, so the request went out a second time
    reads: int = 0
    reads_kernel: int = 0  # reads that carried a kernel receive timestamp
    chunks_coalesced: int = 0  # content chunks that share their read with an earlier one
    first_content_bound_ns: int | None = None
    arrival_bound_ns_p50: int | None = None
    arrival_bound_ns_max: int | None = None

    # Chunks with a choice in them, text or not: other tools count these.
    choice_chunks: int = 0
    last_choice_ns: int | None = None


class AnswerText(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer said, kept when asked for; (worker, seq) is its row. At most 500,000 characters each."""

    worker: int
    seq: int
    text: str  # as the router tells it, <think> blocks included
    reasoning: str = ""  # told in a field of its own
    tool_calls: str = ""  # JSON: [{"id", "name", "arguments"}], "" for none


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a router said of one task, some time after the answer. `error` is "" or why nothing is known."""

    target: str
    session: str
    task_id: str
    client_reference: str
    looked_up_wall_ns: int
    complete: bool = False
    status: int | None = None
    created_s: int | None = None
    finished_s: int | None = None
    assigned: tuple[str, ...] = ()  # node addresses, lower case
    miners: tuple[str, ...] = ()  # nodes that gave a result, lower case, aligned with result_sha256
    result_sha256: tuple[str, ...] = ()  # of each result, stripped of white space at both ends
    error: str = ""


class NodeSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What one source said of one node at one instant.

    `source` is "leaderboard" (lifetime counters and points per stage, network tasks), "reputation" or
    "session-reputation" (windowed lists of timestamps: network tasks, user tasks). The join uses
    `observed_wall_ns`, when we had it; `effective_s` is what the source says and never decides a join.
    For the two series `*_all` counts settled entries and `*_pending` those younger than 180 s without a success.
    """

    source: str
    node: str  # address, lower case
    node_as_seen: str
    observed_wall_ns: int
    effective_s: int | None = None
    last_active_s: int | None = None
    ping_counter: int | None = None
    precommit_points: int | None = None
    precommit_counter: int | None = None
    commit_points: int | None = None
    commit_counter: int | None = None
    prepare_points: int | None = None
    prepare_counter: int | None = None
    create_points: int | None = None
    create_counter: int | None = None
    precommit_all: int | None = None
    precommit_success: int | None = None
    precommit_pending: int | None = None
    commit_all: int | None = None
    commit_success: int | None = None
    commit_pending: int | None = None


class NodeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said a node is, when it was said first or changed.

    No documented route tells any of it: the entries of a router's `/miners` may, and files that are imported may.
    """

    source: str  # "miners" or "import"
    node: str  # address, lower case
    observed_wall_ns: int
    operator: str | None = None
    hardware: str | None = None  # a class of machines, in the words of who said it
    level: int | None = None


class RouterSample(msgspec.Struct, frozen=True, kw_only=True):
    """One poll of a router's or backend's status route; `error` is "" or why it gave nothing."""

    target: str
    source: str
    observed_wall_ns: int
    connected_miners: int | None = None
    active_sessions: int | None = None
    cpu_usage: float | None = None
    memory_usage: float | None = None
    uptime: float | None = None
    error: str = ""


HOLE_FACTOR = 3  # two leaderboards further apart than so many usual periods have a hole between them


class SessionSample(msgspec.Struct, frozen=True, kw_only=True):
    """What a router said of one session at one instant: who may serve it, what it promises, what it has left.

    Documented are state, owner, counts and times; the rest is what a router may tell and many will not.
    """

    target: str
    session: str
    observed_wall_ns: int
    active: bool | None = None
    model: str | None = None
    redundant: int | None = None  # nodes that each task is given to
    miners_count: int | None = None
    miners: tuple[str, ...] = ()  # nodes eligible now, lower case; empty: not told
    balance: str | None = None  # whole number in the smallest unit, as text: it does not fit 64 bits
    created_s: int | None = None
    updated_s: int | None = None


class ChargeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a bill: what a session paid for one task. No route tells it: `loadtest import --charges`.

    A task that was charged twice has two lines. Tokens are None where the bill does not tell them.
    """

    session: str
    task_id: str | None
    client_reference: str | None
    amount: str  # whole number in the smallest unit, as text: it does not fit 64 bits
    charged_wall_ns: int | None = None
    charge_id: str = ""  # of a transaction or of the line
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class TruthRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulator really did for one request; monotonic ns of the simulator's process."""

    client_reference: str
    route: str
    session: str | None
    task_id: str | None
    received_ns: int  # the kernel had the whole request (user time where it gave no stamp)
    headers_ns: int | None = None  # just before the headers were written
    first_written_ns: int | None = None  # just before the first content was written
    last_written_ns: int | None = None
    done_ns: int | None = None  # just after the last byte was handed to the kernel
    chunk_ns: tuple[int, ...] = ()  # just before each content write, minus received_ns
    late_ns: tuple[int, ...] = ()  # the same instant minus the one at which that write was due
    http_status: int = 0
    tokens: int = 0
    assigned: tuple[str, ...] = ()
    returned_node: str | None = None  # whose text the client got
    chosen_because: str = ""
    charge: int = 0  # smallest unit of COR
    faults: tuple[str, ...] = ()
