"""Bodies of the network's GET routes as records. Pure: a decoded body in, records out, ParseError on another shape.

The shapes are rebuilt from what community clients read; no router documents them. So each reader takes every shape
that was seen, and says in one line what it met when it meets another.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from loadtest.records import NodeDescription, NodeSnapshot, RouterSample, SessionSample

PENDING_S = 180  # a community watcher waits this long for the success that belongs to an entry
STATUS_ENDED = 4  # of a task: its session has closed it, no further result will come
ADDRESS_LETTERS_MAX = 128
SESSIONS_MAX = 1_000
MINERS_MAX = 5_000
WORDS_MAX = 80  # letters of an operator's or a hardware's name
_INT64_MAX = 2**63 - 1
_COUNTERS = ("precommit", "commit", "prepare", "create")


class ParseError(ValueError):
    """A body of another shape; the text is one line: what was expected, what came."""


class Leaderboard(NamedTuple):
    """`rows` in the order of the body; `errors` says why other rows of it could not be read."""

    rows: tuple[NodeSnapshot, ...]
    errors: tuple[str, ...]


class Miners(NamedTuple):
    """`rows` of the nodes that something is said of; `errors` says why others could not be read."""

    rows: tuple[NodeDescription, ...]
    errors: tuple[str, ...]


class TaskFacts(NamedTuple):
    """What a router says of one task; `miners` and `result_sha256` are aligned, one pair per given result."""

    task_id: str | None
    complete: bool
    status: int | None
    created_s: int | None
    finished_s: int | None
    assigned: tuple[str, ...]
    miners: tuple[str, ...]
    result_sha256: tuple[str, ...]


def leaderboard(body: Any, observed_wall_ns: int) -> Leaderboard:
    """Rows of `/leaderboard`. A node that owns several rows appears several times, at the same instant."""
    if not isinstance(body, list):
        raise ParseError(f"leaderboard: expected a list of nodes, got {kind_of(body)}")
    rows, errors = [], []
    for place, row in enumerate(body):
        try:
            rows.append(_board_row(row, observed_wall_ns))
        except ParseError as error:
            errors.append(f"leaderboard row {place}: {error}")
    return Leaderboard(tuple(rows), tuple(errors))


def _board_row(row: Any, observed_wall_ns: int) -> NodeSnapshot:
    if not isinstance(row, dict):
        raise ParseError(f"expected an object, got {kind_of(row)}")
    stages: dict[str, int | None] = {}
    for stage in _COUNTERS:
        stages[f"{stage}_points"] = whole(row.get(f"{stage}Point"))
        stages[f"{stage}_counter"] = _counter(row.get(f"{stage}Counter"))
    seen = address_as_seen(row.get("miner"))
    return NodeSnapshot(
        source="leaderboard",
        node=seen.lower(),
        node_as_seen=seen,
        observed_wall_ns=observed_wall_ns,
        last_active_s=_counter(row.get("last_active")),
        ping_counter=_counter(row.get("ping_counter")),
        **stages,
    )


def reputation(body: Any, source: str, node: str, observed_wall_ns: int) -> NodeSnapshot:
    """One node's `/reputation/{addr}` or `/session-reputation/{addr}`.

    An entry without its success is a failure only once it is 180 s old; until then it is pending and in no rate.
    Entries and successes meet by equal second, as often as each occurs. A missing stage is None: not told.
    """
    if not isinstance(body, dict) or not any(isinstance(body.get(s), dict) for s in ("precommit", "commit")):
        raise ParseError(f"{source}: expected an object with precommit or commit, got {kind_of(body)}")
    figures: dict[str, int | None] = {}
    newest: list[int] = []
    for stage in ("precommit", "commit"):
        if body.get(stage) is None:
            continue
        entries, successes = (_seconds(body[stage], source, stage, k) for k in ("all_timestamps", "success_timestamps"))
        settled, succeeded, pending = settle(entries, successes, observed_wall_ns // 1_000_000_000)
        figures |= {f"{stage}_all": settled, f"{stage}_success": succeeded, f"{stage}_pending": pending}
        newest += entries[-1:]
    return NodeSnapshot(
        source=source,
        node=node.lower(),
        node_as_seen=node,
        observed_wall_ns=observed_wall_ns,
        effective_s=max(newest, default=None),
        **figures,
    )


def settle(entries: Sequence[int], successes: Sequence[int], now_s: int) -> tuple[int, int, int]:
    """(settled, succeeded, pending) of entries at `now_s`; settled counts the succeeded, pending is in neither.

    A success whose entry has left the window is not counted: its denominator is gone.
    """
    open_successes = Counter(successes)
    succeeded = pending = 0
    for entry in entries:
        if open_successes[entry] > 0:
            open_successes[entry] -= 1
            succeeded += 1
        elif now_s - entry < PENDING_S:
            pending += 1
    return len(entries) - pending, succeeded, pending


def task(body: Any) -> TaskFacts:
    """One task, with results as {data, miners} or as a flat list aligned with assigned_miners."""
    if not isinstance(body, dict) or not ({"assigned_miners", "results"} & body.keys()):
        raise ParseError(f"task: expected an object with assigned_miners or results, got {kind_of(body)}")
    assigned = _addresses(body.get("assigned_miners"), "assigned_miners")
    pairs = _results(body.get("results"), assigned)
    status, finished_s = whole(body.get("status")), _counter(body.get("finished_at"))
    all_given = bool(assigned) and len(pairs) >= len(assigned)
    return TaskFacts(
        task_id=_task_id(body),
        complete=all_given or status == STATUS_ENDED or finished_s is not None,
        status=status,
        created_s=_counter(body.get("created_at")),
        finished_s=finished_s,
        assigned=assigned,
        miners=tuple(miner for miner, _ in pairs),
        result_sha256=tuple(digest for _, digest in pairs),
    )


def tasks(body: Any) -> tuple[TaskFacts, ...]:
    """The list form, `/tasks/{session}`; an entry that cannot be read fails the whole."""
    found = body.get("tasks") if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise ParseError(f"tasks: expected an object with a list of tasks, got {kind_of(body)}")
    return tuple(task(entry) for entry in found)


def _results(results: Any, assigned: Sequence[str]) -> list[tuple[str, str]]:
    """(miner, hash of its text) for each given result; an empty or missing text is no result."""
    if results is None:
        return []
    if isinstance(results, dict):
        texts = results.get("data") or []
        miners = _addresses(results.get("miners"), "results.miners")
    else:
        texts, miners = results, tuple(assigned)
    if not isinstance(texts, list) or not all(text is None or isinstance(text, str) for text in texts):
        raise ParseError(f"task results: expected a list of texts, got {kind_of(texts)}")
    if len(texts) > len(miners):
        raise ParseError(f"task results: {len(texts)} texts for {len(miners)} miners")
    # Fewer texts than miners is a task under way: those that came are the first ones.
    return [(miner, text_sha256(text)) for miner, text in zip(miners, texts, strict=False) if text]


def text_sha256(text: str) -> str:
    """Hash of an answer without white space at its ends, as RequestRecord.text_sha256."""
    return hashlib.sha256(text.strip().encode("utf-8", "replace")).hexdigest()


def router_status(body: Any, target: str, observed_wall_ns: int) -> RouterSample:
    """`/api/v1/status`. Units are not documented; figures are kept as they came."""
    if not isinstance(body, dict):
        raise ParseError(f"status: expected an object, got {kind_of(body)}")
    return RouterSample(
        target=target,
        source="status",
        observed_wall_ns=observed_wall_ns,
        connected_miners=whole(body.get("connected_miners")),
        active_sessions=whole(body.get("active_sessions")),
        cpu_usage=_real(body.get("cpu_usage")),
        memory_usage=_real(body.get("memory_usage")),
        uptime=_real(body.get("uptime")),
    )


def miners(body: Any, observed_wall_ns: int) -> Miners:
    """`/api/v1/miners`, the first MINERS_MAX of it: {"nodes": {key: entry}}, {"miners": [...]} or the bare list.

    What an entry holds is not documented. One that tells an operator, a hardware class or a level gives a row; the
    others say nothing of what their node is.
    """
    found = body
    if isinstance(body, dict):
        found = body.get("nodes", body.get("miners"))
    if not isinstance(found, dict | list):
        raise ParseError(f"miners: expected an object or a list of nodes, got {kind_of(body)}")
    entries = list(found.items() if isinstance(found, dict) else (("", entry) for entry in found))[:MINERS_MAX]
    rows, errors = [], []
    for place, (key, entry) in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        try:
            told = description(entry, entry.get("address") or entry.get("miner") or key, "miners", observed_wall_ns)
        except ParseError as error:
            errors.append(f"miners entry {place}: {error}")
            continue
        rows += [told] if told is not None else []
    return Miners(tuple(rows), tuple(errors))


def description(fields: dict[str, Any], node: Any, source: str, observed_wall_ns: int) -> NodeDescription | None:
    """What an object says its node is; None when it says nothing of it, or of no node."""
    operator, hardware = (_word(fields.get(name)) for name in ("operator", "hardware"))
    level = whole(fields.get("level"))
    if (operator, hardware, level) == (None, None, None) or not isinstance(node, str) or not node.strip():
        return None
    return NodeDescription(
        source=source,
        node=address_as_seen(node).lower(),
        observed_wall_ns=observed_wall_ns,
        operator=operator,
        hardware=hardware,
        level=level,
    )


def _word(value: Any) -> str | None:
    text = " ".join(value.split())[:WORDS_MAX] if isinstance(value, str) else ""
    return text or None


def sessions(body: Any, target: str, observed_wall_ns: int) -> tuple[SessionSample, ...]:
    """`/api/v1/sessions`, the first SESSIONS_MAX of it. Names differ between clients: each is read where it stands."""
    found = body.get("sessions") if isinstance(body, dict) else body
    if not isinstance(found, list):
        raise ParseError(f"sessions: expected an object with a list of sessions, got {kind_of(body)}")
    return tuple(_session(entry, target, observed_wall_ns) for entry in found[:SESSIONS_MAX])


def _session(entry: Any, target: str, observed_wall_ns: int) -> SessionSample:
    if not isinstance(entry, dict):
        raise ParseError(f"sessions: expected an object for each, got {kind_of(entry)}")
    name = entry.get("id", entry.get("session_id"))
    if isinstance(name, bool) or not isinstance(name, int | str) or not str(name).strip():
        raise ParseError(f"sessions: expected an id, got {kind_of(name)}")
    active, model = entry.get("active"), entry.get("model_identifier", entry.get("modelIdentifier"))
    return SessionSample(
        target=target,
        session=str(name).strip()[:ADDRESS_LETTERS_MAX],
        observed_wall_ns=observed_wall_ns,
        active=active if isinstance(active, bool) else None,
        model=model[:ADDRESS_LETTERS_MAX] if isinstance(model, str) and model else None,
        redundant=whole(entry.get("redundant")),
        miners_count=whole(entry.get("miners_count")),
        miners=tuple(sorted(_addresses(entry.get("miners"), "miners"))),
        balance=_amount(entry.get("balance")),
        created_s=_counter(entry.get("created_at")),
        updated_s=_counter(entry.get("updated_at")),
    )


def _amount(value: Any) -> str | None:
    """A whole number of any size, as text. A float has lost digits already, so it is not told."""
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return text if len(text) <= 80 and text.removeprefix("-").isdecimal() else None


def whole(value: Any) -> int | None:
    """A 64-bit integer given as a number or as digits, else None: what cannot be stored was not told."""
    if isinstance(value, str) and len(value) <= 20 and value.strip().lstrip("-").isdecimal():
        value = value.strip()
        value = int(value) if value.count("-") == value.startswith("-") else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -_INT64_MAX <= value <= _INT64_MAX else None


def _counter(value: Any) -> int | None:
    """A counter or an instant: zero is how these routes say "no data"."""
    return whole(value) or None


def _real(value: Any) -> float | None:
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 else None
    )


def _seconds(stage: Any, source: str, name: str, key: str) -> list[int]:
    """Timestamps in ascending order: the sources' lists are windows out of ring buffers, in no promised order."""
    values = stage.get(key) if isinstance(stage, dict) else None
    if values is None and isinstance(stage, dict):
        return []
    if not isinstance(values, list):
        raise ParseError(f"{source}: expected {name}.{key} as a list, got {kind_of(values if stage else stage)}")
    seconds = [whole(value) for value in values]
    known = [second for second in seconds if second is not None]
    if len(known) < len(seconds):
        raise ParseError(f"{source}: {name}.{key} has {len(seconds) - len(known)} values that are not whole seconds")
    return sorted(known)


def _addresses(values: Any, name: str) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list):
        raise ParseError(f"task: expected {name} as a list, got {kind_of(values)}")
    return tuple(address_as_seen(value).lower() for value in values)


def address_as_seen(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ParseError(f"expected a node's address, got {kind_of(value)}")
    if len(value) > ADDRESS_LETTERS_MAX:
        raise ParseError(f"a node's address of {len(value)} letters")
    return value.strip()


def _task_id(body: dict[str, Any]) -> str | None:
    found = body.get("task_id", body.get("id"))
    number = whole(found)
    return str(number) if number is not None else found if isinstance(found, str) and found else None


def kind_of(value: Any) -> str:
    """The shape of a value in a few words; never its content, which may be long or hostile."""
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "nothing" if value is None else f"a {type(value).__name__}"
